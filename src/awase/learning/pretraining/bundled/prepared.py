"""What `recipes/prepare_bundled.py` left for training: pictures as frozen features, sentences as the sums over their
tokens, and batches of them. It knows nothing of losses."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from awase.errors import UsageError

Kind = Literal["maps", "features"]


@dataclass(frozen=True)
class Batch:
    """P pairs of a picture and a sentence, then N pictures of some labelled sets with all class names of these.

    pictures (P + N,): rows of the training pictures. sentences (P + E,): the pairs' own first, then E of others.
    labels (N,), names (C,): a sentence for each class of those sets. set_of_picture (N,), set_of_name (C,).
    concepts (N,): the row of the classifier for the class of each."""

    pictures: np.ndarray
    sentences: Tensor
    labels: Tensor
    names: Tensor
    set_of_picture: Tensor
    set_of_name: Tensor
    concepts: Tensor


class Prepared:
    """A prepared folder. Maps and features stay on disk; sentences are read.

    concepts: per language, a sentence for each row of the classifier, of which the first `known` are the backbone's
    own; kinds: likewise, what that is a kind of (a dog for a beagle), or the same again. sums (S, w + 1): what
    `NgramEncoder.summed` gives for each sentence. translations (K, 2): an English sentence and a Japanese one that says
    the same."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        concepts = self._read("concepts")
        self.known: int = concepts["known"]
        self.concepts, self.kinds = (
            {language: torch.tensor(ids) for language, ids in concepts[part].items()} for part in ("names", "kinds")
        )
        self.classes: dict[str, dict[str, dict[str, list[int]]]] = self._read("classes")
        self.train: list[dict[str, Any]] = self._read("train")
        self.val: list[dict[str, Any]] = self._read("val")
        self.sums = torch.from_numpy(np.load(folder / "sentences.npy"))
        self.translations = np.array(self._read("translations"), np.int64).reshape(-1, 2)
        self.crops = len(list(folder.glob("train_features_*.npy")))
        self._held: dict[str, np.ndarray] = {}
        self.rows: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(row["set"] for row in self.train):
            self.rows[name] = np.array([i for i, row in enumerate(self.train) if row["set"] == name])

    @property
    def side(self) -> int:
        """Cells along one side of a map."""
        return math.isqrt(self.stored("train", "maps", 0).shape[1])

    def _read(self, name: str) -> Any:
        file = self.folder / f"{name}.json"
        if not file.is_file():
            raise UsageError(f"{self.folder} has no {file.name}: make it with recipes/prepare_bundled.py")
        return json.loads(file.read_text("utf-8"))

    def stored(self, split: str, kind: Kind, crop: int) -> np.ndarray:
        """(N, P, C) maps or (N, F) features of one crop of every picture, float16, mapped from disk."""
        name = f"{split}_{kind}_{crop}"
        if name not in self._held:
            self._held[name] = np.load(self.folder / f"{name}.npy", mmap_mode="r")
        return self._held[name]

    def draw_crops(self, count: int, small: float, chance: np.random.Generator) -> np.ndarray:
        """A crop for each of so many pictures: crop 1, the small one, for a part of them, any other for the rest."""
        if self.crops == 1:
            return np.zeros(count, int)
        odds = np.full(self.crops, (1 - small) / (self.crops - 1))
        odds[1] = small
        return chance.choice(self.crops, count, p=odds)

    def draw(self, kind: Kind, rows: np.ndarray, crops: np.ndarray) -> Tensor:
        """Maps or features of training pictures, each in its crop, float32."""
        found = [self.stored("train", kind, crop)[row] for row, crop in zip(rows, crops, strict=True)]
        return torch.from_numpy(np.stack(found)).float()


class Sampler:
    """Draws batches: so many pictures of each captioned set, and so many of a few labelled sets. A labelled set is
    drawn in proportion to the root of its size. A picture comes with one of its sentences in either language, a class
    with its name in one of its templates."""

    def __init__(
        self,
        data: Prepared,
        pairs: dict[str, int],
        named: int,
        sets: int,
        others: int,
        japanese: float,
        chance: np.random.Generator,
    ) -> None:
        """japanese: part of the pictures told in Japanese, where they have such a sentence."""
        unknown = [name for name in pairs if name not in data.rows]
        if unknown:
            raise UsageError(f"no pictures of {', '.join(unknown)} were prepared; there are {', '.join(data.rows)}")
        self.data, self.pairs, self.named, self.others = data, pairs, named, others
        self.japanese, self.chance = japanese, chance
        self.sets = [name for name in data.classes if name in data.rows]
        self.at_once = min(sets, len(self.sets))
        size = np.sqrt([len(data.rows[name]) for name in self.sets])
        self.weight = size / size.sum()

    def __call__(self) -> Batch:
        data, chance = self.data, self.chance
        paired = [chance.choice(data.rows[name], min(n, len(data.rows[name])), False) for name, n in self.pairs.items()]
        others = chance.choice(np.concatenate([data.rows[name] for name in self.pairs]), self.others)
        chosen = chance.choice(len(self.sets), self.at_once, False, self.weight)
        sets = chance.choice(chosen, self.named)
        named = np.array([chance.choice(data.rows[self.sets[k]]) for k in sets], int)
        told = [self._sentence(row) for row in [*np.concatenate(paired), *others]]
        every = [(k, label) for k in chosen for label in data.classes[self.sets[k]]]
        number = {which: i for i, which in enumerate(every)}
        return Batch(
            np.concatenate([*paired, named]),
            torch.tensor(told),
            torch.tensor([number[k, data.train[row]["class"]] for k, row in zip(sets, named, strict=True)]),
            torch.tensor([self._name(data.classes[self.sets[k]][label]) for k, label in every]),
            torch.from_numpy(sets),
            torch.tensor([k for k, _ in every]),
            torch.tensor([data.train[row]["concept"] for row in named]),
        )

    def _sentence(self, row: int) -> int:
        english, japanese = self.data.train[row]["sentences"]
        wanted = japanese if self.chance.random() < self.japanese else english
        return int(self.chance.choice(wanted or english or japanese))

    def _name(self, languages: dict[str, list[int]]) -> int:
        return int(self.chance.choice(list(languages.values())[self.chance.integers(len(languages))]))
