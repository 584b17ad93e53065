"""Batches of pictures with sentences, from a mixture of sets. What a step sees depends on (seed, step) alone: each set
has a fixed number of places in a batch and goes through its pictures in an order of its own for each epoch, so any step
can be asked for at any time, which is all that going on with a run takes. It knows nothing of towers or losses."""

from __future__ import annotations

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from awase.datasets import Captioned, Labelled, open_captioned, open_labelled
from awase.datasets.assembling import ABSENT
from awase.datasets.remote import is_remote, local_copy
from awase.datasets.splits import ALL
from awase.encoding import prompts
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import DEFAULT_LIMITS, Picture, key_of, name_of, open_picture
from awase.encoding.preprocessing import prepare
from awase.encoding.tokenizers import Tokenizer
from awase.errors import DataError, PictureError, UsageError
from awase.evaluation.exchanges import false_captions
from awase.learning.distributed import share
from awase.learning.pretraining.recipe import Data, PairSet

Opened = TypeVar("Opened", Captioned, Labelled)

TRIES = 8  # other pictures that are tried in an unreadable one's place
ENOUGH = 200  # pictures seen before their bad part is judged
FURTHER = 2  # steps whose pictures are decoded ahead
RATIO = 4 / 3  # of a crop's sides at most


@dataclass(frozen=True)
class Batch:
    """This process's share of a step. pixels (B, S, S, 3) uint8; ids (B + E, L) and ends (B + E,): the pairs' own
    sentences, then E false ones; groups (B + E,) int64: equal sentences have equal numbers, in every process.
    sentences: the pairs' own."""

    pixels: Tensor
    ids: Tensor
    ends: Tensor
    groups: Tensor
    sentences: tuple[str, ...]


class Source:
    """One set: N pictures, each with its sentences by column."""

    def __init__(self, chosen: PairSet) -> None:
        if is_remote(chosen.path):
            chosen = replace(chosen, path=str(local_copy(chosen.path)))
        read = _by_class if chosen.classes else _by_caption
        self.name, pictures, sentences, self.unusable, notes = read(chosen)
        kept = [i for i, columns in enumerate(sentences) if columns]
        if not kept:
            raise DataError(f"{chosen.path}: no picture has a sentence in {', '.join(chosen.columns)}: name its column")
        self.notes = [note for note in notes if ABSENT in note]
        if silent := len(pictures) - len(kept):
            self.notes.append(f"{silent:,} of {len(pictures):,} pictures have no sentence and are left out")
        self.pictures: Sequence[Picture] = [pictures[i] for i in kept]
        self.sentences = [sentences[i] for i in kept]
        self.weight = chosen.weight or float(len(kept))

    def __len__(self) -> int:
        return len(self.pictures)

    def contents(self) -> str:
        """A short name for which pictures these are and what is said of them: others have another."""
        digest = hashlib.sha256()
        said: dict[tuple[int, ...], bytes] = {}  # pictures of one class share their sentences, which may be hundreds
        for picture, columns in zip(self.pictures, self.sentences, strict=True):
            these = tuple(map(id, columns))
            if these not in said:
                said[these] = hashlib.sha256(json.dumps([list(column) for column in columns]).encode()).digest()
            digest.update(json.dumps(key_of(picture)).encode() + said[these])
        return digest.hexdigest()[:12]

    def sentence(self, index: int, chance: np.random.Generator) -> str:
        """One of a picture's sentences: any of its columns, then any of that."""
        columns = self.sentences[index]
        column = columns[int(chance.integers(len(columns)))]
        return column[int(chance.integers(len(column)))]


Read = tuple[str, Sequence[Picture], list[list[Sequence[str]]], tuple[PictureError, ...], tuple[str, ...]]


def _by_caption(chosen: PairSet) -> Read:
    """The sentences of each picture, by column; columns that it has none in are left out."""
    found = [_of_split(partial(open_captioned, column=column), chosen) for column in chosen.columns]
    first = found[0]
    place = {key_of(picture): i for i, picture in enumerate(first.pictures)}
    sentences: list[list[Sequence[str]]] = [[] for _ in first.pictures]
    for data in found:
        told: dict[int, list[str]] = {}
        for caption, owner in zip(data.captions, data.owners.tolist(), strict=True):
            told.setdefault(owner, []).append(caption)
        for owner, captions in told.items():
            at = place.get(key_of(data.pictures[owner]))
            if at is not None:
                sentences[at].append(captions)
    return first.name, first.pictures, sentences, first.unusable, first.notes


def _of_split(opened: Callable[[str, str], Opened], chosen: PairSet) -> Opened:
    """The split that was chosen; where none was, the training split, or everything where data are not divided."""
    try:
        return opened(chosen.path, chosen.split or "train")
    except DataError:
        if chosen.split is None:
            with suppress(DataError):
                return opened(chosen.path, ALL)
        raise


def _by_class(chosen: PairSet) -> Read:
    data = _of_split(open_labelled, chosen)
    if data.multi_label:
        raise UsageError(f"{chosen.path}: pictures with several classes have no sentence; give their captions")
    named: list[list[list[str]]] = []
    for language in chosen.classes:
        if language not in data.names:
            raise UsageError(f"{chosen.path}: classes are named in {', '.join(data.names)}, not in {language!r}")
        templates = data.templates.get(language) or prompts.templates("ensemble", language)
        named.append(prompts.class_prompts(data.names[language], templates))
    sentences: list[list[Sequence[str]]] = [[column[t] for column in named] for t in data.targets.tolist()]
    return data.name, data.pictures, sentences, data.unusable, data.notes


def places(weights: Sequence[float], batch: int) -> list[int]:
    """How many pairs of a batch each set has: in proportion to its weight, whole numbers by largest remainder. Raises
    UsageError where a set would have none."""
    exact = [batch * weight / sum(weights) for weight in weights]
    counts = [math.floor(value) for value in exact]
    for i in sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])[: batch - sum(counts)]:
        counts[i] += 1
    if 0 in counts:
        raise UsageError(
            f"set number {counts.index(0) + 1} has no place in a batch of {batch}: raise its weight or the batch"
        )
    return counts


@dataclass(frozen=True)
class Place:
    """One pair of a step: which set, which of its pictures, and what decides its crop and sentence."""

    source: Source
    index: int
    chance: tuple[int, int, int]


class Pairs:
    """The batches of a run. tell: is told of each unreadable picture. size: step -> side of the squares."""

    def __init__(
        self,
        data: Data,
        tokenizer: Tokenizer,
        preprocessing: Preprocessing,
        seed: int,
        steps: int,
        swapped: bool,
        tell: Callable[[PictureError], None],
    ) -> None:
        self.data, self.tokenizer, self.rule, self.seed, self.swapped = data, tokenizer, preprocessing, seed, swapped
        self.steps, self.tell = steps, tell
        self.sources = [Source(chosen) for chosen in data.sets]
        for source in self.sources:
            self._leave_out(source)
        self.counts = places([source.weight for source in self.sources], data.batch)
        for source, count in zip(self.sources, self.counts, strict=True):
            if count > len(source):
                raise UsageError(
                    f"{source.name} has {len(source):,} pictures for its {count:,} places in a batch, and none comes "
                    "twice: lower data.batch, or the set's weight"
                )
        if data.sizes and data.sizes[-1] != preprocessing.size:
            raise UsageError(f"the last of data.sizes is the tower's own, {preprocessing.size}; given: {data.sizes}")
        self.limits = replace(DEFAULT_LIMITS, pixels=data.max_pixels)
        self.mine = range(data.batch)[share(data.batch)]
        self.seen, self.bad = 0, 0
        self._pool = ThreadPoolExecutor(data.threads)
        self._ahead: dict[int, list[Future[tuple[np.ndarray, Place]]]] = {}
        self.orders: dict[tuple[int, int], np.ndarray] = {}
        self._random_order = lru_cache(2 * len(self.sources))(self._shuffled)

    def _leave_out(self, source: Source) -> None:
        """Tells of pictures that are not there or have no sentence, and of samples that were damaged before a picture
        was opened; raises DataError where these are too many."""
        for note in source.notes:
            warnings.warn(f"{source.name}: {note}", stacklevel=3)
        for error in source.unusable:
            self.tell(error)
        bad, count = len(source.unusable), len(source.unusable) + len(source)
        told = f"{source.name}: {bad:,} of {count:,} samples cannot be used"
        if count >= ENOUGH and bad > self.data.bad * count:
            raise DataError(
                f"{told}, and at most {self.data.bad:.1%} may be so (data.bad): unreadable.jsonl names them; the first "
                f"is {source.unusable[0]}"
            )
        if bad:
            warnings.warn(f"{told} and are left out; unreadable.jsonl names them", stacklevel=3)

    def size(self, step: int) -> int:
        """Side of the squares that a step sees."""
        sizes = self.data.sizes or (self.rule.size,)
        return sizes[min(step * len(sizes) // self.steps, len(sizes) - 1)]

    def names(self, step: int) -> str:
        """The pictures of a step, for messages."""
        found = [name_of(place.source.pictures[place.index]) for place in self._places(step)]
        return ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")

    def __call__(self, step: int) -> Batch:
        """Raises DataError when too many pictures cannot be read."""
        for later in range(step, min(step + 1 + FURTHER, self.steps)):
            if later not in self._ahead and (later == step or self._is_settled(later)):
                self._ahead[later] = [self._pool.submit(self._read, p, self.size(later)) for p in self._places(later)]
        found = [future.result() for future in self._ahead.pop(step)]
        self._ahead = {later: futures for later, futures in self._ahead.items() if later > step}
        told = [place.source.sentence(place.index, np.random.default_rng([*place.chance, 1])) for _, place in found]
        sentences = [*told, *(_false(sentence) for sentence in told)] if self.swapped else told
        return Batch(
            torch.from_numpy(np.stack([pixels for pixels, _ in found])),
            *padded(self.tokenizer, sentences),
            torch.tensor([number_of(sentence) for sentence in sentences]),
            tuple(told),
        )

    def close(self) -> None:
        """Reads no further ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _is_settled(self, step: int) -> bool:
        """Whether the order of a later step's pictures is known."""
        epochs = ((number, self.epoch(number, step)) for number in range(len(self.sources)))
        return not self.data.mined or all(epoch == 0 or (number, epoch) in self.orders for number, epoch in epochs)

    def _places(self, step: int) -> list[Place]:
        """This process's, of all places of a step."""
        found, first = [], 0
        for number, (source, count) in enumerate(zip(self.sources, self.counts, strict=True)):
            for slot in range(first, first + count):
                if slot in self.mine:
                    epoch, i = divmod(step * count + slot - first, len(source))
                    found.append(Place(source, int(self._order(number, epoch)[i]), (self.seed, step, slot)))
            first += count
        return found

    def epoch(self, number: int, step: int) -> int:
        """The last epoch of a set that a step reaches into."""
        return ((step + 1) * self.counts[number] - 1) // len(self.sources[number])

    def _order(self, number: int, epoch: int) -> np.ndarray:
        """In which order a set's pictures come: random, or as `orders` has it, which mining fills."""
        found = self.orders.get((number, epoch))
        return self._random_order(number, epoch) if found is None else found

    def _shuffled(self, number: int, epoch: int) -> np.ndarray:
        return np.random.default_rng([self.seed, number, epoch]).permutation(len(self.sources[number]))

    def _read(self, place: Place, size: int) -> tuple[np.ndarray, Place]:
        """The square of a picture, or of another of its set where it cannot be read."""
        chance = np.random.default_rng([*place.chance, 0])
        for _ in range(TRIES):
            self.seen += 1
            try:
                return self._square(place.source.pictures[place.index], size, chance), place
            except PictureError as error:
                self.bad += 1
                self.tell(error)
                if self.seen >= ENOUGH and self.bad > self.data.bad * self.seen:
                    break
            place = Place(place.source, int(chance.integers(len(place.source))), place.chance)
        raise DataError(
            f"{self.bad} of {self.seen} times a picture could not be read, and at most {self.data.bad:.1%} may be so "
            f"(data.bad): unreadable.jsonl names them; the last was {name_of(place.source.pictures[place.index])}"
        )

    def _square(self, picture: Picture, size: int, chance: np.random.Generator) -> np.ndarray:
        opened = open_picture(picture, self.limits)
        rule = replace(self.rule, size=size, least=round(self.rule.least * size / self.rule.size))
        if self.data.crop == 1:
            return prepare(opened, rule)
        box = random_box(opened.size, self.data.crop, chance)
        filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
        return np.array(opened.convert("RGB").resize((size, size), filters[self.rule.filter], box))


def random_box(size: tuple[int, int], least: float, chance: np.random.Generator) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of a part of a picture: at least `least` of its area, sides in a ratio of 3/4 to 4/3
    of each other where that fits. Szegedy et al., 2015 (arXiv:1409.4842)."""
    width, height = size
    area = chance.uniform(least, 1) * width * height
    ratio = math.exp(chance.uniform(-math.log(RATIO), math.log(RATIO)))
    wide = min(width, math.sqrt(area * ratio))
    high = min(height, area / wide)
    wide = min(width, area / high)
    left, top = chance.uniform(0, width - wide), chance.uniform(0, height - high)
    return left, top, left + wide, top + high


def padded(tokenizer: Tokenizer, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
    """ids (M, L), as long as the longest sentence, and ends (M,), both int64."""
    tokens = tokenizer(sentences)
    length = max(map(len, tokens.ids))
    ids = [row + [tokenizer.pad] * (length - len(row)) for row in tokens.ids]
    return torch.tensor(ids), torch.tensor(tokens.ends)


def _false(sentence: str) -> str:
    """A false caption that differs in little; the caption itself, which is then no rival, where no rule applies."""
    found = false_captions(sentence)
    return found.get("swap") or next(iter(found.values()), sentence)


def number_of(sentence: str) -> int:
    """The same for equal sentences in every process."""
    return int.from_bytes(hashlib.blake2b(sentence.encode(), digest_size=8).digest(), "little", signed=True)
