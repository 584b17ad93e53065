"""A labelled set that costs nothing: squares of a colour on noise. Easy for a probe, not trivial for zero-shot."""

from __future__ import annotations

import numpy as np

from awase.datasets.labelled import Labelled

NAMES = {"en": ("red", "green", "blue", "yellow"), "ja": ("赤", "緑", "青", "黄色")}
_COLOURS = np.array([[220, 30, 30], [30, 180, 30], [40, 60, 220], [230, 220, 40]])


def coloured(split: str, each: int = 6, seed: int = 0) -> Labelled:
    """`each` pictures of each of four colours, 64 x 64, different for each split."""
    rng = np.random.default_rng([seed, *split.encode()])
    targets = np.repeat(np.arange(4), each)
    pictures = []
    for colour in _COLOURS[targets]:
        picture = rng.integers(60, 200, (64, 64, 3))
        top, left = rng.integers(0, 24, 2)
        picture[top : top + 40, left : left + 40] = colour + rng.integers(-25, 25, (40, 40, 3))
        pictures.append(np.asarray(picture.clip(0, 255), np.uint8))
    return Labelled("colours", split, pictures, targets, NAMES["en"], NAMES)
