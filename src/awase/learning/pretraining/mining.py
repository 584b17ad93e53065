"""Epochs in which pairs that the model confuses meet: before a set's second epoch and each later one, all its pairs are
encoded by the model as it is, and the order is made of who is near whom. What was mined is kept in the run's folder, so
that a run that was stopped in an epoch goes on in the same order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from awase.encoding.preprocessing import prepare_source
from awase.errors import PictureError
from awase.learning.distributed import rank
from awase.learning.hard_negatives import hardest, order_by_likeness
from awase.learning.pretraining.pairs import Pairs, Source, number_of, padded
from awase.learning.pretraining.step import Step

RIVALS = 16  # of each pair, at most
AT_A_TIME = 64


class Miner:
    """Call it before each step."""

    def __init__(self, pairs: Pairs, step_of: Step, out: Path) -> None:
        self.pairs, self.step_of, self.folder = pairs, step_of, out / "orders"

    def __call__(self, step: int) -> None:
        for number, source in enumerate(self.pairs.sources):
            for epoch in {self.pairs.epoch(number, step - 1), self.pairs.epoch(number, step)}:
                if epoch > 0 and (number, epoch) not in self.pairs.orders:
                    self.pairs.orders[number, epoch] = self._order(source, number, epoch)

    def _order(self, source: Source, number: int, epoch: int) -> np.ndarray:
        file = self.folder / f"set-{number}-epoch-{epoch}.npy"
        if not file.is_file():
            order = self._mined(source, number, epoch)
            if rank() == 0:
                self.folder.mkdir(exist_ok=True)
                partial = file.with_suffix(".partial.npy")
                np.save(partial, order)
                partial.replace(file)
            return order
        kept: np.ndarray = np.load(file)
        return kept

    def _mined(self, source: Source, number: int, epoch: int) -> np.ndarray:
        sentences = [columns[0][0] for columns in source.sentences]
        groups = torch.tensor([number_of(sentence) for sentence in sentences])
        most = int(torch.unique(groups, return_counts=True)[1].max())
        count = min(RIVALS, len(source) - most)
        if count < 1:  # they all say the same
            return np.random.default_rng([self.pairs.seed, number, epoch]).permutation(len(source))
        rivals = hardest(*self._vectors(source, sentences), groups, count)
        seed = np.random.SeedSequence([self.pairs.seed, number, epoch]).generate_state(1, np.uint64)
        generator = torch.Generator().manual_seed(int(seed[0]))
        return order_by_likeness(rivals, self.pairs.counts[number], generator).numpy()

    @torch.no_grad()
    def _vectors(self, source: Source, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Of all pairs, by the towers as they are, in the form in which they answer."""
        towers, device = self.step_of.towers, self.step_of.device
        learning = [tower for tower in (towers.image, towers.text) if tower.training]
        for tower in learning:
            tower.eval()
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        for start in range(0, len(source), AT_A_TIME):
            part = slice(start, start + AT_A_TIME)
            pixels = torch.from_numpy(np.stack([self._square(source, i) for i in range(len(source))[part]]))
            ids, ends = padded(self.pairs.tokenizer, sentences[part])
            found[0].append(self.step_of.pictures(pixels.to(device)).cpu())
            found[1].append(self.step_of.sentences(ids.to(device), ends.to(device)).cpu())
        for tower in learning:
            tower.train()
        return torch.cat(found[0]), torch.cat(found[1])

    def _square(self, source: Source, index: int) -> np.ndarray:
        size = self.pairs.rule.size
        try:
            return prepare_source(source.pictures[index], self.pairs.rule)
        except PictureError:  # which training will name
            return np.zeros((size, size, 3), np.uint8)
