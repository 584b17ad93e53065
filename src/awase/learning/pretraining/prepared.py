"""What `recipes/prepare_bundled.py` left for training: pictures as frozen features, sentences as frozen vectors, and
batches of them. It knows nothing of losses."""

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
    """P pairs of a picture and a sentence, then N pictures of labelled sets with all their class names.

    pictures (P + N,): rows of the training pictures. sentences (P + E,): the pairs' own first, then E of others.
    labels (N,), names (C,): a sentence for each class of every set. set_of_picture (N,), set_of_name (C,)."""

    pictures: np.ndarray
    sentences: Tensor
    labels: Tensor
    names: Tensor
    set_of_picture: Tensor
    set_of_name: Tensor


class Prepared:
    """A prepared folder. Maps stay on disk; features and sentence vectors are read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.concepts = {language: torch.tensor(ids) for language, ids in self._read("concepts").items()}
        self.classes: dict[str, dict[str, dict[str, list[int]]]] = self._read("classes")
        self.train: list[dict[str, Any]] = self._read("train")
        self.val: list[dict[str, Any]] = self._read("val")
        self.first: int = self._read("cut")["first_trained_block"]
        self.sentences = torch.from_numpy(np.load(folder / "sentences.npy")).float()
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

    def draw(self, kind: Kind, rows: np.ndarray, crops: np.ndarray) -> Tensor:
        """Maps or features of training pictures, each in its crop, float32."""
        found = [self.stored("train", kind, crop)[row] for row, crop in zip(rows, crops, strict=True)]
        return torch.from_numpy(np.stack(found)).float()


class Sampler:
    """Draws batches: so many pictures of each captioned set, and so many of the labelled sets together, each set in
    proportion to the root of its size. A picture comes with one of its sentences in either language, a class with its
    name in one of its templates."""

    def __init__(self, data: Prepared, pairs: dict[str, int], named: int, others: int, chance: np.random.Generator):
        unknown = [name for name in pairs if name not in data.rows]
        if unknown:
            raise UsageError(f"no pictures of {', '.join(unknown)} were prepared; there are {', '.join(data.rows)}")
        self.data, self.pairs, self.named, self.others, self.chance = data, pairs, named, others, chance
        self.sets = [name for name in data.classes if name in data.rows]
        size = np.sqrt([len(data.rows[name]) for name in self.sets])
        self.weight = size / size.sum()
        every = [(k, name, label) for k, name in enumerate(self.sets) for label in data.classes[name]]
        self.number = {(name, label): i for i, (_, name, label) in enumerate(every)}
        self.set_of_name = torch.tensor([k for k, _, _ in every])
        self.classes = [list(data.classes[name][label].values()) for _, name, label in every]

    def __call__(self) -> Batch:
        data, chance = self.data, self.chance
        paired = [chance.choice(data.rows[name], min(n, len(data.rows[name])), False) for name, n in self.pairs.items()]
        others = chance.choice(np.concatenate([data.rows[name] for name in self.pairs]), self.others)
        sets = chance.choice(len(self.sets), self.named, p=self.weight)
        named = np.array([chance.choice(data.rows[self.sets[k]]) for k in sets], int)
        told = [self._sentence(row) for row in [*np.concatenate(paired), *others]]
        labels = [self.number[data.train[row]["set"], data.train[row]["class"]] for row in named]
        return Batch(
            np.concatenate([*paired, named]),
            torch.tensor(told),
            torch.tensor(labels),
            torch.tensor([self._one_of(languages) for languages in self.classes]),
            torch.from_numpy(sets),
            self.set_of_name,
        )

    def _sentence(self, row: int) -> int:
        english, japanese = self.data.train[row]["sentences"]
        return int(self.chance.choice([*english, *japanese]))

    def _one_of(self, languages: list[list[int]]) -> int:
        return int(self.chance.choice(languages[self.chance.integers(len(languages))]))
