"""Epochs in which pairs that the model confuses meet: before a set's second epoch and each later one, all its pairs are
encoded by the model as it is, and the order is made of who is near whom. What was mined is kept in the run's folder, so
that a run that was stopped in an epoch goes on in the same order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from awase.encoding.preprocessing import prepare_source
from awase.errors import PictureError
from awase.learning.distributed import rank
from awase.learning.hard_negatives import hardest, order_by_likeness
from awase.learning.pretraining.pairs import Pairs, Source, number_of, padded
from awase.learning.pretraining.step import Step

RIVALS = 16  # of each pair, at most
AT_A_TIME = 64


class Miner:
    """Call it before each step. identity: of the run, so that no other's orders are taken from its folder."""

    def __init__(self, pairs: Pairs, step_of: Step, out: Path, identity: str) -> None:
        self.pairs, self.step_of, self.folder, self.identity = pairs, step_of, out / "orders", identity

    def __call__(self, step: int) -> None:
        for number, source in enumerate(self.pairs.sources):
            for epoch in {self.pairs.epoch(number, step - 1), self.pairs.epoch(number, step)}:
                if epoch > 0 and (number, epoch) not in self.pairs.orders:
                    self.pairs.orders[number, epoch] = self._order(source, number, epoch)

    def _order(self, source: Source, number: int, epoch: int) -> np.ndarray:
        file = self.folder / f"{self.identity}-set-{number}-epoch-{epoch}.npy"
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
        places = self.pairs.counts[number]
        return order_by_likeness(rivals, places, generator, epoch * len(source) % places).numpy()

    @torch.no_grad()
    def _vectors(self, source: Source, sentences: list[str]) -> tuple[Tensor, Tensor]:
        """Of all pairs, by the towers as they are, in the form in which they answer."""
        towers, device = self.step_of.towers, self.step_of.device
        found: tuple[list[Tensor], list[Tensor]] = ([], [])
        with answering(towers):
            for start in range(0, len(source), AT_A_TIME):
                part = slice(start, start + AT_A_TIME)
                pixels = torch.from_numpy(np.stack([self._square(source, i) for i in range(len(source))[part]]))
                ids, ends = padded(self.pairs.tokenizer, sentences[part])
                found[0].append(self.step_of.pictures(pixels.to(device)).cpu())
                found[1].append(self.step_of.sentences(ids.to(device), ends.to(device)).cpu())
        return torch.cat(found[0]), torch.cat(found[1])

    def _square(self, source: Source, index: int) -> np.ndarray:
        size = self.pairs.rule.size
        try:
            return prepare_source(source.pictures[index], self.pairs.rule)
        except PictureError:  # which training will name
            return np.zeros((size, size, 3), np.uint8)


@contextmanager
def answering(towers: nn.Module) -> Iterator[None]:
    """While this lasts the towers are in the form in which they answer; then each layer is as it was, as locked ones
    stay in that form while others learn."""
    learning = [module for module in towers.modules() if module.training]
    towers.eval()
    try:
        yield
    finally:
        for module in learning:
            module.training = True
