"""Training pictures on their way through an image tower that learns, or that learns in part: what lies before the first
weight that learns is computed once.

    nothing learns                     vectors of every view, from the engine and its cache
    only what follows the features     features of every view, from the engine and its cache
    blocks of an EfficientNet-lite     the maps before the first of them; they as matrix products (`products`)
    anything else                      pixels, and the whole tower at every step
"""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from awase.clip import Clip
from awase.datasets.hashing import content_of
from awase.encoding.families import EfficientNetLite, ModifiedResNet
from awase.encoding.heads import Reads
from awase.encoding.pictures import Picture
from awase.encoding.towers import Towers, normalise
from awase.learning.adaptation.augmentation import View
from awase.learning.adaptation.method import Report, silent
from awase.learning.adaptation.task import Pairs, Task
from awase.learning.pretraining.products import LastBlocks

AFTER_FEATURES = ("image.projection.", "image.classifier.", "image.concept", "image.attnpool.c_proj.")
AT_A_TIME = 16

See = Callable[[Tensor, Tensor], Tensor]
"""(B,) views and (B,) rows -> (B, D) vectors, with the gradients of what learns."""


@dataclass(frozen=True)
class Seen:
    """N training pictures. kept: (N,) which of the data's could be read. views: how many there are of each, the picture
    itself first."""

    kept: np.ndarray
    views: int
    see: See

    def __getitem__(self, rows: Tensor) -> Tensor:
        """(B, D) unit vectors of pictures, each in a view drawn by torch's generator."""
        return F.normalize(self.see(torch.randint(self.views, (len(rows),)), rows), dim=-1)


def seen(
    clip: Clip, task: Task | Pairs, views: int, towers: Towers, learned: Collection[str], report: Report = silent
) -> Seen:
    """views: random ones, beside the picture itself. learned: names of the tensors that learn. report: is told of
    pictures that are encoded beforehand. Raises DataError where no picture can be read."""
    names = [name for name in learned if name.startswith("image.")]
    kept = task.readable(clip)
    pictures = _Views(clip, task, kept, views, report)
    if not names:
        return Seen(kept, views + 1, _frozen(pictures.read("vectors")))
    if all(name.startswith(AFTER_FEATURES) for name in names) and _projects(towers):
        return Seen(kept, views + 1, _projected(pictures.read("features"), towers))
    if isinstance(towers.architecture.image, EfficientNetLite) and (first := first_block(names)):
        return Seen(kept, views + 1, _from_maps(pictures, towers, first))
    return Seen(kept, views + 1, _from_pixels(pictures, towers))


def first_block(names: Collection[str]) -> int:
    """Of an EfficientNet-lite, the first block in which something learns, twins included; 0 where the stem does, past
    them all where only the top and what follows it do."""
    if any(name.startswith("image.stem.") for name in names):
        return 0
    blocks = [int(found[1]) for name in names if (found := re.match(r"image\.(?:blocks|tuned)\.(\d+)\.", name))]
    return min(blocks, default=10**6)


class _Views:
    """The training pictures that can be read, each as it is and in random views."""

    def __init__(self, clip: Clip, task: Task | Pairs, kept: np.ndarray, views: int, report: Report) -> None:
        self.clip, self.task, self.count, self.views, self.report = clip, task, len(kept), views, report
        self._row = clip.checkpoint.architecture.preprocessing
        self._pictures = [task.train.pictures[i] for i in kept]
        self._contents = [content_of(picture) for picture in self._pictures]

    def read(self, reads: Reads) -> Tensor:
        """(1 + views, N, F) from the engine, kept in the cache of vectors."""
        own = self.task.rows(self.clip, reads, self.report).rows[None]
        random = [self.task.views(self.clip, self.views, reads, self.report)] if self.views else []
        return torch.from_numpy(np.concatenate([own, *random]))

    def pixels(self, numbers: Sequence[int], rows: Sequence[int]) -> Tensor:
        """Normalised (B, 3, S, S). View number 0 is the picture itself."""
        squares = [self.clip.prepare(self._view(number, row)) for number, row in zip(numbers, rows, strict=True)]
        return normalise(torch.from_numpy(np.stack(squares)), self.clip.checkpoint.architecture.preprocessing)

    def _view(self, number: int, row: int) -> Picture:
        picture = self._pictures[row]
        return View(picture, self._contents[row], number - 1, self._row) if number else picture


def _projects(towers: Towers) -> bool:
    return isinstance(towers.architecture.image, EfficientNetLite | ModifiedResNet) or (
        getattr(towers.image, "projection", None) is not None
    )


def _frozen(rows: Tensor) -> See:
    return lambda views, some: rows[views, some]


def _projected(rows: Tensor, towers: Towers) -> See:
    tower: Any = towers.image
    if isinstance(towers.architecture.image, EfficientNetLite):
        project = tower.project
    else:
        project = tower.attnpool.c_proj if hasattr(tower, "attnpool") else tower.projection
    return lambda views, some: project(rows[views, some])


def _from_maps(pictures: _Views, towers: Towers, first: int) -> See:
    """Everything before block `first`, or before the twins if they come first, is computed once for all views."""
    tower: Any = towers.image
    first = min(first, tower.twins or len(tower.blocks))
    maps, side = _maps(pictures, tower, first)
    ends: list[Any] = [LastBlocks(list(tower.blocks)[first:], tower.top, side)]
    if tower.tuned_top is not None:
        before = list(tower.blocks)[first : tower.twins]
        ends.append(LastBlocks([*before, *tower.tuned.values()], tower.tuned_top, side))

    def see(views: Tensor, some: Tensor) -> Tensor:
        held = maps[views, some].float()
        return tower.project(torch.cat([end(held) for end in ends], dim=1))

    return see


def _maps(pictures: _Views, tower: Any, first: int) -> tuple[Tensor, int]:
    """((V, N, P, C) maps as block `first` takes them, in half precision; cells along one side)."""
    maps, side = [], 0
    with torch.no_grad():
        for number in range(pictures.views + 1):
            for start in range(0, pictures.count, AT_A_TIME):
                pictures.report(number * pictures.count + start, (1 + pictures.views) * pictures.count)
                rows = range(start, min(start + AT_A_TIME, pictures.count))
                found = F.relu6(tower.stem(pictures.pixels([number] * len(rows), rows)))
                for block in list(tower.blocks)[:first]:
                    found = block(found)
                side = found.shape[-1]
                maps.append(found.flatten(2).transpose(1, 2).half())
    together = torch.cat(maps)
    return together.view(pictures.views + 1, pictures.count, *together.shape[1:]), side


def _from_pixels(pictures: _Views, towers: Towers) -> See:
    tower: Any = towers.image
    return lambda views, some: tower(pictures.pixels(views.tolist(), some.tolist()))["vectors"]
