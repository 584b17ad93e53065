"""A checkpoint made of another one and what was learned on top of it. The base is read, changed and never written to,
so that taking a change away again gives the base bit for bit.

    low_rank   W + alpha * factor * b @ a             Hu et al., 2021 (arXiv:2106.09685), equation 3
    weights    (1 - alpha) * W + alpha * tuned        Wortsman et al., 2022 (arXiv:2109.01903), equation 1
    words      rows appended to the table of token embeddings, and a tokenizer that knows their literals
    prompts    weights that the base has not: image.prompts, and text.deep for all new words together

Attention's queries, keys and values lie in one tensor here. NAME/q, NAME/k and NAME/v stand for its three thirds."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.families import Architecture, ExternalTower, TextTransformer, VisionTransformer
from awase.encoding.tokenizers import add_words
from awase.errors import CheckpointError, UsageError

TOKENS = "text.tokens.weight"
THIRDS = "qkv"
PROMPTS = ("image.prompts", "text.deep")


@dataclass(frozen=True)
class LowRank:
    """What is added to a matrix W (O, I), or to the 1 x 1 kernels (O, I, 1, 1): factor * b @ a.

    a: (R, I). b: (O, R). factor: usually alpha / R, or alpha / sqrt(R) in rsLoRA and CLIP-LoRA."""

    a: np.ndarray
    b: np.ndarray
    factor: float = 1.0

    def product(self, alpha: float = 1.0) -> np.ndarray:
        """(O, I), float32."""
        return np.asarray(np.float32(alpha * self.factor) * (self.b @ self.a), np.float32)


@dataclass(frozen=True)
class Changes:
    """What was learned on top of a checkpoint.

    words: literal -> (K, w) rows for the K ids that it stands for. low_rank: name of a tensor, or of a third of one
    (NAME/q) -> what is added to it. weights: name of a tensor -> its tuned values."""

    words: Mapping[str, np.ndarray] = field(default_factory=dict)
    low_rank: Mapping[str, LowRank] = field(default_factory=dict)
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.words or self.low_rank or self.weights)

    def in_order(self) -> list[tuple[str, np.ndarray]]:
        """The words in the order in which their ids are given out, whatever order they are kept in."""
        return sorted(self.words.items())

    def digest(self) -> str:
        """SHA-256 (hex) of all of it."""
        digest = hashlib.sha256()
        arrays = {f"words {name}": rows for name, rows in self.in_order()}
        arrays |= {f"weights {name}": values for name, values in self.weights.items()}
        for name, its in self.low_rank.items():
            arrays |= {f"a {name} {its.factor!r}": its.a, f"b {name}": its.b}
        for name, values in sorted(arrays.items()):
            digest.update(f"{name} {values.shape}".encode(errors="backslashreplace"))
            digest.update(np.ascontiguousarray(values, np.float32).tobytes())
        return digest.hexdigest()


def derive(base: Checkpoint, changes: Changes, alpha: float = 1.0) -> Checkpoint:
    """The changed checkpoint; its tensors are worked out at `load()`. alpha: how far to go from the base's weights to
    the learned ones, 0 to 1; words are there or not, whatever it is.

    Raises UsageError where a change names a tensor that the base has not or is of another shape, CheckpointError for
    numbers that are not finite, and UsageError for new words in a text tower of another library's."""
    if not changes:
        return base
    if alpha != 1 and any(name in PROMPTS for name in changes.weights):
        raise UsageError("learned prompts are there or not: alpha has to be 1")
    _check(base.architecture, changes)
    digest = hashlib.sha256(f"{base.fingerprint} {changes.digest()} {float(alpha)!r}".encode())
    return dataclasses.replace(
        base,
        architecture=_grown(base.architecture, changes),
        fingerprint=digest.hexdigest(),
        load=partial(_load, base, changes, alpha),
    )


def part(tensor: np.ndarray, third: str) -> np.ndarray:
    """The rows of a tensor that "q", "k" or "v" stands for, as a view; all of them for ""."""
    rows = len(tensor) // len(THIRDS)
    return tensor[THIRDS.index(third) * rows :][:rows] if third else tensor


def _load(base: Checkpoint, changes: Changes, alpha: float) -> dict[str, np.ndarray]:
    tensors = dict(base.load())
    for name, tuned in changes.weights.items():
        tensors[name] = tuned if name in PROMPTS else between(tensors[name], tuned, alpha)
    for name in {name.partition("/")[0] for name in changes.low_rank}:
        tensors[name] = tensors[name].copy()  # a base in memory gives its own arrays
    for name, change in changes.low_rank.items():
        whole, _, third = name.partition("/")
        values = part(tensors[whole], third)
        values += change.product(alpha).reshape(values.shape)
    if changes.words:
        tensors[TOKENS] = np.concatenate([tensors[TOKENS], *(rows for _, rows in changes.in_order())], dtype=np.float32)
    return tensors


def between(start: np.ndarray, end: np.ndarray, alpha: float) -> np.ndarray:
    """(1 - alpha) * start + alpha * end; each of the two exactly where alpha is 0 or 1."""
    if alpha in (0.0, 1.0):
        return np.asarray(end if alpha else start, np.float32)
    return np.asarray((1 - alpha) * start + alpha * end, np.float32)


def _grown(architecture: Architecture, changes: Changes) -> Architecture:
    return _with_words(_with_prompts(architecture, changes), changes)


def _with_prompts(architecture: Architecture, changes: Changes) -> Architecture:
    """The architecture with the places that prompts take. Raises UsageError where it has none for them."""
    shapes = {name: changes.weights[name].shape for name in PROMPTS if name in changes.weights}
    image, text = architecture.image, architecture.text
    if shape := shapes.get("image.prompts"):
        if not isinstance(image, VisionTransformer) or any(image.prompts) or len(shape) != 3:
            raise UsageError(f"{architecture.name} has no place for prompts of shape {shape} in its image tower")
        image = dataclasses.replace(image, prompts=shape[:2])
    if shape := shapes.get("text.deep"):
        new = sum(map(len, changes.words.values()))
        if not isinstance(text, TextTransformer) or any(text.deep) or len(shape) != 3 or shape[1] != new:
            raise UsageError(
                f"{architecture.name} has no place for deep words of shape {shape} beside {new} new tokens"
            )
        text = dataclasses.replace(text, deep=(shape[0], text.vocabulary, new))
    return dataclasses.replace(architecture, image=image, text=text)


def _with_words(architecture: Architecture, changes: Changes) -> Architecture:
    if not changes.words:
        return architecture
    text = architecture.text
    if isinstance(text, ExternalTower):
        raise UsageError(f"{architecture.name}: its text tower is another library's, and takes no new words")
    counts = {literal: len(rows) for literal, rows in changes.in_order()}
    return dataclasses.replace(
        architecture,
        text=dataclasses.replace(text, vocabulary=text.vocabulary + sum(counts.values())),
        text_rule=add_words(architecture.text_rule, counts, text.vocabulary),
    )


def _check(architecture: Architecture, changes: Changes) -> None:
    shapes = _with_prompts(architecture, changes).tensors()
    if changes.low_rank or changes.weights:
        refuse_external(architecture)
    for name, tuned in changes.weights.items():
        _refuse_unlike(name, shapes.get(name), tuned.shape)
    for name, change in changes.low_rank.items():
        whole, slash, third = name.partition("/")
        shape = shapes.get(whole)
        if shape and slash:
            its_own = whole.endswith("qkv.weight") and third in tuple(THIRDS)
            shape = (shape[0] // len(THIRDS), *shape[1:]) if its_own else None
        fits = shape and len(shape) > 1 and set(shape[2:]) <= {1} and change.b.shape[1:] == change.a.shape[:1]
        _refuse_unlike(name, shape[:2] if shape and fits else None, (len(change.b), change.a.shape[-1]))
    for literal, rows in changes.words.items():
        _refuse_unlike(f"word {literal!r}", (len(rows), *shapes[TOKENS][1:]) if TOKENS in shapes else None, rows.shape)
    arrays = [*changes.words.values(), *changes.weights.values()]
    arrays += [array for change in changes.low_rank.values() for array in (change.a, change.b)]
    if not all(np.isfinite(array).all() for array in arrays):
        raise CheckpointError("what was learned holds numbers that are not finite; train it again at a lower rate")


def refuse_external(architecture: Architecture) -> None:
    if architecture.external:
        raise UsageError(f"{architecture.name}: a tower is another library's, and awase does not change its weights")


def _refuse_unlike(name: str, wanted: tuple[int, ...] | None, found: tuple[int, ...]) -> None:
    if wanted != found:
        there = f"has shape {wanted}" if wanted else "is not there, or is no matrix"
        raise UsageError(
            f"a change of {name} with shape {found} was learned on another model: in this one it {there}; load it on "
            "its own base"
        )
