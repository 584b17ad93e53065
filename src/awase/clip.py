"""Clip: two encoders and the rule that turns a cosine into a score. Everything else in awase is a function of one.

    clip = awase.load()                                     # the bundled model; or a directory, a file, a hub name
    pictures = clip.encode_images(["a.jpg", pil, array])    # (N, D) float32, unit length
    words = clip.encode_texts(["a photo of a cat", "猫の写真"])
    clip.similarity(pictures, words)                        # (N, M) cosines
    clip.classify("cats.png", ["cat", "dog"])               # scores, best first

It knows nothing of data sets, training or where a checkpoint came from.
"""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from os import PathLike
from typing import Any, Literal

import numpy as np

from awase.encoding import prompts
from awase.encoding.caches import cache_folder, write_atomically
from awase.encoding.checkpoints import Checkpoint
from awase.encoding.engines import (
    Agreement,
    Engine,
    agreement,
    available_engines,
    describe_machine,
    open_engine,
    refuse_meaningless,
)
from awase.encoding.graphs.limits import shares_prefixes
from awase.encoding.heads import Head, Reads
from awase.encoding.pictures import Limits, Picture, name_of
from awase.encoding.pipeline import Encoded, Prepare, encode_stream
from awase.encoding.preprocessing import prepare_source
from awase.encoding.samples import sample_cuts
from awase.encoding.scoring import Scoring
from awase.encoding.sentences import encode_prefixes_once, encode_sentences
from awase.encoding.tokenizers import Tokenizer
from awase.errors import UsageError

NONE_OF_THESE = "none of these"
MANY = 256  # sentences from which looking for beginnings that they share pays
SAME_THING = 0.9  # cosine from which a common thing is what a label means already, and no rival to it
TooLong = Literal["cut", "error"]
Output = Literal["vectors", "patches", "features", "both"]
BOTH = ("features", "vectors")


class TextCutWarning(UserWarning):
    """Sentences were longer than the text tower's context and were cut."""


class LanguageWarning(UserWarning):
    """A sentence is in a language that the model was not trained on."""


@dataclass(frozen=True)
class Score:
    """One label or sentence for one picture. similarity: cosine in [-1, 1], of a head with the weights of the class.
    probability: by the family's rule, or the head's."""

    label: str
    probability: float
    similarity: float


@dataclass(frozen=True)
class Clip:
    """Two encoders and a scoring rule. Make one with `load`.

    fast: decode large JPEG files at reduced size (at most 3 of 255 grey levels from exact).
    batch_size: pictures per run of the tower; small ones cost nothing on a CPU and save memory.
    head: the classes that an adapter taught it, which answer where no labels are given."""

    checkpoint: Checkpoint
    engine: Engine
    tokenizer: Tokenizer
    scoring: Scoring
    limits: Limits = field(default_factory=Limits)
    fast: bool = False
    batch_size: int = 8
    head: Head | None = None

    @property
    def name(self) -> str:
        return self.checkpoint.source

    @property
    def dimension(self) -> int:
        """D, the width of the shared space."""
        return self.checkpoint.architecture.dimension

    @property
    def languages(self) -> tuple[str, ...]:
        return self.checkpoint.architecture.languages

    @property
    def runs_on(self) -> str:
        """Model, engine, precision and device in one line."""
        return f"{self.name} on {self.engine.name} {self.engine.precision}, {self.engine.device}"

    def agreement(self) -> tuple[Agreement, Agreement]:
        """How near the vectors of this precision are to float32's: of pictures (cuts of the sample photographs) and of
        sentences (the background). Measured once on a machine, which opens the model a second time, and remembered."""
        measured_on = json.dumps([self.stamp(), describe_machine(), available_engines()])
        name = hashlib.sha256(measured_on.encode()).hexdigest()[:32]
        remembered = cache_folder() / "agreement" / f"{name}.json"
        try:
            pictures, sentences = json.loads(remembered.read_text())
            return Agreement(**pictures), Agreement(**sentences)
        except (OSError, ValueError, TypeError):
            found = self._measured_agreement()
            write_atomically(remembered, json.dumps([asdict(its) for its in found]).encode())
            return found

    def _measured_agreement(self) -> tuple[Agreement, Agreement]:
        exact = open_engine(self.checkpoint, "auto" if self.engine.name != "torch" else "torch:" + self.engine.device)
        reference = replace(self, engine=exact)
        cuts, sentences = sample_cuts(), prompts.background("sentences")
        return (
            agreement(self.encode_images(cuts), reference.encode_images(cuts)),
            agreement(self.encode_texts(sentences), reference.encode_texts(sentences)),
        )

    def stamp(self) -> dict[str, Any]:
        """What vectors depend on: two stamps are equal exactly when vectors may be compared and mixed."""
        return {
            "family": self.checkpoint.architecture.name,
            "fingerprint": self.checkpoint.fingerprint,
            "tokenizer": self.tokenizer.fingerprint,
            "engine": self.engine.name,
            "precision": self.engine.precision,
            "fast": self.fast,
            "dimension": self.dimension,
        }

    # ---- encoders --------------------------------------------------------------------------------------------------

    def encode_images(self, pictures: Iterable[Picture], *, patches: bool = False) -> np.ndarray:
        """Pictures -> (N, D) unit vectors, float32; with `patches`, (N, P, D): one unit vector per patch or cell,
        rows of the grid from the top left. A picture is a path, bytes, file object, PIL picture, array or address.

        Raises PictureError at the first that cannot be read; `stream` goes on instead."""
        return self._rows(pictures, "patches" if patches else "vectors")

    def _rows(self, pictures: Iterable[Picture], output: Output) -> np.ndarray:
        rows = []
        for encoded in self.stream(pictures, output):
            if encoded.error:
                raise encoded.error
            assert encoded.outputs is not None  # the other half of Encoded's contract
            rows.append(encoded.outputs[output])
        return np.stack(rows) if rows else np.empty((0, self.dimension), np.float32)

    def stream(
        self, pictures: Iterable[Picture], output: Output = "vectors", prepare: Prepare | None = None
    ) -> Iterator[Encoded]:
        """Encodes any number of pictures in bounded memory: one `Encoded` each, in order, the vector or why not.

        output: "features" are pooled but not projected, and not of unit length: what a linear probe is fitted on;
        "both" are features and vectors in one row.
        prepare: takes the place of `Clip.prepare` for whoever wants more of a picture, which is decoded only once."""

        def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
            found = self.engine.images(pixels, BOTH if output == "both" else (output,))
            rows = [refuse_meaningless(values, self.runs_on) for values in found.values()]
            rows = [values if name == "features" else unit(values) for name, values in zip(found, rows, strict=True)]
            return {output: np.concatenate(rows, axis=1) if output == "both" else rows[0]}

        return encode_stream(_many(pictures), prepare or self.prepare, run, self.batch_size)

    def prepare(self, picture: Picture) -> np.ndarray:
        """A picture -> the uint8 (S, S, 3) square that the image tower eats."""
        return prepare_source(picture, self.checkpoint.architecture.preprocessing, self.limits, fast=self.fast)

    def encode_texts(self, texts: Iterable[str], *, too_long: TooLong = "cut") -> np.ndarray:
        """Sentences -> (M, D) unit vectors, float32. Equal sentences are encoded once.

        A sentence past the context is cut, with a TextCutWarning, or raises TextError with too_long="error"."""
        texts = prompts.as_list(texts, "sentence")
        tokens = self.tokenizer(texts, too_long=too_long)
        if tokens.cut:
            first = texts[tokens.cut[0]]
            warnings.warn(
                f"{len(tokens.cut)} of {len(texts)} sentences are longer than {self.tokenizer.context} tokens "
                f"and were cut, the first: {first[:60]!r}",
                TextCutWarning,
                stacklevel=2,
            )
        if not tokens.ids:
            return np.empty((0, self.dimension), np.float32)
        if len(tokens.ids) >= MANY and shares_prefixes(self.checkpoint.architecture):
            vectors = encode_prefixes_once(tokens, self.engine.packed_texts, self.tokenizer.pad)
        else:
            vectors = encode_sentences(tokens, self.engine.texts, self.tokenizer.pad)
        return unit(refuse_meaningless(vectors, self.runs_on))

    # ---- what the space is for -------------------------------------------------------------------------------------

    def similarity(self, images: np.ndarray | Iterable[Picture], texts: np.ndarray | Iterable[str]) -> np.ndarray:
        """(N, M) cosines. Either side may be given as vectors, one array (N, D), or as what they are made from."""
        left = self._vectors(images)
        right = self._vectors(texts)
        left = self.encode_images(images) if left is None else left
        right = self.encode_texts(texts) if right is None else right
        return np.asarray(left @ right.T)

    def _vectors(self, given: object) -> np.ndarray | None:
        """What was given, if it is vectors. Raises UsageError for vectors of another shape, and for NaN in them."""
        expected = f"vectors are one array of shape (N, {self.dimension})"
        if isinstance(given, list | tuple) and given and _is_vector(given[0]):
            raise UsageError(f"{expected}, and a {type(given).__name__} of vectors was given; np.stack makes it one")
        if not isinstance(given, np.ndarray) or given.dtype.kind != "f" or given.ndim > 3:
            return None
        if given.ndim != 2 or given.shape[1] != self.dimension:
            raise UsageError(f"{expected}, and one of shape {given.shape} was given; one vector alone: vector[None]")
        if not np.isfinite(given).all():
            raise UsageError(f"{expected} and finite numbers, and some of these are NaN or infinite; encode them again")
        return given

    def classifier(self, labels: Iterable[str], templates: str | Iterable[str] = "simple") -> np.ndarray:
        """(C, D) unit vectors, one per label: the mean over the templates of the unit vectors of its prompts.

        templates: a name ("simple", "imagenet7", "imagenet80", "none", ...) or sentences with {}. A named set is taken
        in each label's own language. Radford et al., 2021, section 3.1.4."""
        labels = prompts.check_labels(labels)
        self._warn_of_languages(labels)
        if not isinstance(templates, str):
            return prompts.classifier(labels, templates, self.encode_texts)
        weights = np.empty((len(labels), self.dimension), np.float32)
        for language, mine in _by_language(labels).items():
            sentences = prompts.templates(templates, language)
            weights[mine] = prompts.classifier([labels[i] for i in mine], sentences, self.encode_texts)
        return weights

    def judge(
        self,
        labels: Iterable[str] | None = None,
        templates: str | Iterable[str] = "simple",
        none_of_these: bool = False,
    ) -> Callable[[np.ndarray], list[list[Score]]]:
        """A function from (N, D) vectors of pictures to their scores, best first; the labels are encoded once, here.

        labels: None lets the head answer, from what `reads` names. none_of_these: let a background of common things
        compete; what they win together is NONE_OF_THESE."""
        if labels is None:
            return self._head_judge(none_of_these)
        labels = prompts.check_labels(labels)
        if none_of_these and NONE_OF_THESE in (label.strip() for label in labels):
            raise UsageError(f"{NONE_OF_THESE!r} is a label and the answer added to them; leave out one of the two")
        weights = self.classifier(labels, templates)
        rivals = self._rivals(labels, weights) if none_of_these else np.empty((0, self.dimension), np.float32)
        names = [*labels, NONE_OF_THESE] if none_of_these else labels

        def scores(vectors: np.ndarray) -> list[list[Score]]:
            cosines, others = vectors @ weights.T, vectors @ rivals.T
            probabilities = self.scoring.probabilities(cosines)
            if none_of_these:
                probabilities = self.scoring.against_rivals(cosines, others)
                cosines = np.concatenate([cosines, others.max(axis=1, keepdims=True)], axis=1)
            return [_best_first(names, p, c) for p, c in zip(probabilities, cosines, strict=True)]

        return scores

    def _head_judge(self, none_of_these: bool) -> Callable[[np.ndarray], list[list[Score]]]:
        head = self.head
        if head is None:
            raise UsageError("no labels were given and no adapter that brings classes of its own; give one of the two")
        if none_of_these:
            raise UsageError("an adapter's classes are all that it answers with; for none_of_these give labels")

        def scores(rows: np.ndarray) -> list[list[Score]]:
            probabilities, cosines = head.probabilities(rows), head.cosines(rows)
            return [_best_first(head.labels, p, c) for p, c in zip(probabilities, cosines, strict=True)]

        return scores

    def reads(self, labels: Iterable[str] | None) -> Reads:
        """What `judge` with these labels is given of a picture: vectors, or without labels what the head reads."""
        return self.head.reads if labels is None and self.head else "vectors"

    def _rivals(self, labels: Sequence[str], weights: np.ndarray) -> np.ndarray:
        """(B, D) vectors of common things that are not what a label means already."""
        language = prompts.language_of(" ".join(labels))
        rivals = self.classifier(prompts.background("things", language))
        return np.asarray(rivals[(rivals @ weights.T).max(axis=1) < SAME_THING])

    def classify(
        self,
        picture: Picture,
        labels: Iterable[str] | None = None,
        *,
        templates: str | Iterable[str] = "simple",
        none_of_these: bool = False,
    ) -> list[Score]:
        """Scores of one picture for each label, best first; without labels, for each class of the head. For many
        pictures: `judge` once, then `stream`."""
        return self.judge(labels, templates, none_of_these)(self._rows([picture], self.reads(labels)))[0]

    def match(self, picture: Picture, sentences: Iterable[str]) -> list[Score]:
        """How well each sentence fits a picture, judged alone, in the order given; `encoding.scoring` has the rule."""
        sentences = prompts.check_words(sentences, "sentence")
        vector = self.encode_images([picture])
        self._warn_of_languages(sentences)
        cosines = vector @ self.encode_texts(sentences).T
        fit = np.empty(len(sentences))
        for language, mine in _by_language(sentences).items():
            fit[mine] = self.scoring.fit(cosines[:, mine], vector @ self._background(language).T)[0]
        return [Score(s, float(p), float(c)) for s, p, c in zip(sentences, fit, cosines[0], strict=True)]

    def _background(self, language: str) -> np.ndarray:
        """(B, D) unit vectors of unrelated sentences, against which one sentence alone is judged."""
        if language not in self._backgrounds:
            self._backgrounds[language] = self.encode_texts(prompts.background("sentences", language))
        return self._backgrounds[language]

    @cached_property
    def _backgrounds(self) -> dict[str, np.ndarray]:
        return {}

    def _warn_of_languages(self, sentences: Sequence[str]) -> None:
        strange = [s for s in sentences if prompts.language_of(s) not in self.languages]
        if strange:
            warnings.warn(
                f"{self.name} was trained on {', '.join(self.languages)}; {strange[0]!r} is in another language, "
                "and its scores are near chance. The bundled model reads English and Japanese.",
                LanguageWarning,
                stacklevel=3,
            )


def _by_language(sentences: Sequence[str]) -> dict[str, list[int]]:
    """Language -> the places of its sentences."""
    places: dict[str, list[int]] = {}
    for place, sentence in enumerate(sentences):
        places.setdefault(prompts.language_of(sentence), []).append(place)
    return places


def _best_first(names: Sequence[str], probabilities: np.ndarray, cosines: np.ndarray) -> list[Score]:
    order = np.argsort(-probabilities, kind="stable")
    return [Score(names[i], float(probabilities[i]), float(cosines[i])) for i in order]


def unit(vectors: np.ndarray) -> np.ndarray:
    """Divides by the Euclidean norm over the last axis; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), np.float32)


def _many(pictures: Iterable[Picture]) -> Iterable[Picture]:
    """Refuses one picture where many are expected: iterating over it would give nonsense."""
    one = isinstance(pictures, str | bytes | PathLike) or hasattr(pictures, "read") or hasattr(pictures, "convert")
    if one or (isinstance(pictures, np.ndarray) and pictures.ndim < 4):
        raise UsageError(f"a list of pictures is expected, and one was given: {name_of(pictures)}; put it in a list")
    try:
        return iter(pictures)
    except TypeError as problem:
        raise UsageError(f"a list of pictures is expected, and {pictures!r} was given") from problem


def _is_vector(one: object) -> bool:
    numbers = isinstance(one, list | tuple) and all(isinstance(value, int | float) for value in one)
    return numbers or (isinstance(one, np.ndarray) and one.ndim == 1 and one.dtype.kind == "f")
