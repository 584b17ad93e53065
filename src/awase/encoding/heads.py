"""A head: a closed classifier on what the image tower gives, as linear probes and caches learn it. NumPy only.

    logits = (rows @ weights + bias + cache) / temperature          (N, F) -> (N, C), in float64

after each number x of a row has become sign(x) |x|^power (1 for most heads, which changes nothing).

rows are unit vectors of the shared space, pooled features before the projection, or both: the head says what it
reads. The cache is Tip-Adapter's (Zhang et al., 2022, arXiv:2207.09519, equation 5). It knows nothing of pictures,
models or of how its numbers were learned."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from awase.encoding.scoring import softmax
from awase.errors import UsageError

Reads = Literal["vectors", "features", "both"]
"""both: features, then vectors, in one row."""
COLDEST = 1e-6  # temperature: below, logits leave the range of numbers


@dataclass(frozen=True)
class Cache:
    """Pictures of known classes, whose neighbours are taken for the same: adds alpha exp(-beta (1 - rows K')) V.

    keys K: (K, F) unit vectors. values V: (K, C), one-hot. alpha: its weight in logits, from 0. beta: how fast likeness
    fades, from 0."""

    keys: np.ndarray
    values: np.ndarray
    alpha: float
    beta: float

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) unit vectors -> (N, C)."""
        return np.asarray(self.alpha * closeness(rows, self.keys, self.beta) @ self.values)


@dataclass(frozen=True)
class Head:
    """A classifier of C classes. Raises UsageError where its parts do not fit together.

    keys: the classes as the data name them. names: language -> what each is called, C names; the first language is the
    one that answers are given in. weights: (F, C). bias: (C,). temperature: what logits are divided by, so that
    probabilities are true, at least COLDEST. power: above 0, up to 1."""

    keys: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    reads: Reads
    weights: np.ndarray
    bias: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    temperature: float = 1.0
    cache: Cache | None = None
    power: float = 1.0

    def __post_init__(self) -> None:
        if not self.bias.size:
            object.__setattr__(self, "bias", np.zeros(len(self.keys), np.float32))
        for problem in _problems(self):
            raise UsageError(f"a head of {len(self.keys)} classes: {problem}")

    @property
    def labels(self) -> tuple[str, ...]:
        """What the classes are called in the first language; their keys where they have no names."""
        return next(iter(self.names.values()), self.keys)

    @property
    def width(self) -> int:
        """F, of the rows that it reads."""
        return int(self.weights.shape[0])

    @cached_property
    def digest(self) -> str:
        """SHA-256 (hex) of everything that takes part in an answer."""
        digest = hashlib.sha256(repr((self.keys, self.reads, self.temperature, self.power)).encode())
        parts = [self.weights, self.bias]
        if self.cache is not None:
            parts += [self.cache.keys, self.cache.values, np.array([self.cache.alpha, self.cache.beta])]
        for part in parts:
            digest.update(f"{part.shape}".encode() + np.ascontiguousarray(part, np.float32).tobytes())
        return digest.hexdigest()

    def logits(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows -> (N, C) float64: what the softmax is taken of."""
        if rows.ndim != 2 or rows.shape[1] != self.width:
            raise UsageError(f"this head reads {self.reads} of shape (N, {self.width}); given was {rows.shape}")
        rows = raised(np.asarray(rows, np.float64), self.power)
        found = rows @ self.weights + self.bias
        if self.cache is not None:
            found = found + self.cache.logits(rows)
        return np.asarray(found / self.temperature)

    def probabilities(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows -> (N, C) that sum to 1: a picture has one of the classes."""
        return softmax(self.logits(rows))

    def cosines(self, rows: np.ndarray) -> np.ndarray:
        """(N, F) rows -> (N, C) cosines with the weights of each class; 0 where a class has none."""
        rows = raised(rows, self.power)
        lengths = np.linalg.norm(rows, axis=1, keepdims=True) * np.linalg.norm(self.weights, axis=0)
        return np.asarray(rows @ self.weights / np.maximum(lengths, 1e-12))

    def blended(self, other: Head, alpha: float) -> Head:
        """The head whose logits are (1 - alpha) times those of `other` and alpha times these: for linear heads the
        average of the weights (Wortsman et al., 2022, arXiv:2109.01903). `other` has no cache, and the same classes."""
        alike = all(getattr(self, part) == getattr(other, part) for part in ("keys", "reads", "power"))
        if not alike or other.cache is not None:
            raise UsageError("two heads blend where both read the same and have the same classes, the other no cache")
        mine, its = alpha / self.temperature, (1 - alpha) / other.temperature
        cache = self.cache and replace(self.cache, alpha=mine * self.cache.alpha)
        weights = (mine * self.weights + its * other.weights).astype(np.float32)
        bias = (mine * self.bias + its * other.bias).astype(np.float32)
        return replace(self, weights=weights, bias=bias, temperature=1.0, cache=cache)


def raised(rows: np.ndarray, power: float) -> np.ndarray:
    """sign(x) |x|^power of each number: below 1 it evens out numbers that are large in few pictures (Perronnin, Sánchez
    & Mensink, 2010, section 3.2)."""
    return rows if power == 1 else np.asarray(np.sign(rows) * np.abs(rows) ** power)


def closeness(rows: np.ndarray, keys: np.ndarray, beta: float) -> np.ndarray:
    """(N, F) and (K, F) unit vectors -> (N, K) in (0, 1]: exp(-beta (1 - cosine))."""
    return np.asarray(np.exp(-beta * (1 - rows @ keys.T)))


def _problems(head: Head) -> list[str]:
    classes, found = len(head.keys), []
    if head.reads not in get_args(Reads):
        found.append(f"it reads {head.reads!r}, and there are {', '.join(get_args(Reads))}")
    if classes < 1 or len(set(head.keys)) != classes:
        found.append("each class needs a key of its own")
    if any(len(names) != classes for names in head.names.values()):
        found.append(f"it has {[len(names) for names in head.names.values()]} names")
    if head.weights.ndim != 2 or head.weights.shape[1] != classes or head.bias.shape != (classes,):
        found.append(f"its weights are {head.weights.shape} and its bias {head.bias.shape}")
    elif head.cache is not None:
        found += _cache_problems(head.cache, (head.weights.shape[0], classes))
    numbers = [head.weights, head.bias, np.asarray(head.temperature)]
    if head.cache is not None:
        numbers += [head.cache.keys, head.cache.values, np.asarray([head.cache.alpha, head.cache.beta])]
    if not all(np.isfinite(part).all() for part in numbers):
        found.append("some of its numbers are not finite")
    if not head.temperature >= COLDEST:
        found.append(f"its temperature is {head.temperature}, which has to be {COLDEST:g} or more")
    if not 0 < head.power <= 1:
        found.append(f"its power is {head.power}, which has to be above 0 and up to 1")
    return found


def _cache_problems(cache: Cache, shape: tuple[int, int]) -> list[str]:
    width, classes = shape
    if min(cache.alpha, cache.beta) < 0:
        return [f"its cache has alpha {cache.alpha} and beta {cache.beta}, which have to be 0 or more"]
    if cache.keys.ndim == 2 and cache.keys.shape[1] == width and cache.values.shape == (len(cache.keys), classes):
        return []
    return [f"its cache has keys {cache.keys.shape} and values {cache.values.shape}"]
