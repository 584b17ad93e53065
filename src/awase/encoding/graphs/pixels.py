"""The first nodes of every image graph: bytes (B, S, S, 3) -> (x / 255 - mean) / std in float32, in just that order,
as the reference code does it. The layout is changed first, while a pixel is still a byte."""

from __future__ import annotations

import numpy as np

from awase.encoding.families import Preprocessing
from awase.encoding.graphs.builder import FLOAT, UINT8, Graph


def channels(g: Graph, preprocessing: Preprocessing) -> str:
    """Adds the input `pixels`; gives (B, 3, S, S), as convolutions want it."""
    x = g.transpose(_pixels(g, preprocessing), 0, 3, 1, 2)
    return _normalise(g, x, *(np.reshape(part, (3, 1, 1)) for part in (preprocessing.mean, preprocessing.std)))


def patches(g: Graph, preprocessing: Preprocessing, size: int) -> str:
    """Adds the input `pixels`; gives (B, N, size * size * 3), a row of pixels for each patch."""
    n = preprocessing.size // size
    x = _pixels(g, preprocessing)
    if n * size < preprocessing.size:  # what is left at the right and bottom is not looked at
        x = g.op("Slice", x, g.ints(0, 0), g.ints(n * size, n * size), g.ints(1, 2))
    x = g.transpose(g.reshape(x, -1, n, size, n, size, 3), 0, 1, 3, 2, 4, 5)
    x = g.reshape(x, -1, n * n, size * size * 3)
    return _normalise(g, x, *(np.tile(part, size * size) for part in (preprocessing.mean, preprocessing.std)))


def _pixels(g: Graph, preprocessing: Preprocessing) -> str:
    return g.input("pixels", UINT8, ["B", preprocessing.size, preprocessing.size, 3])


def _normalise(g: Graph, x: str, mean: np.ndarray, std: np.ndarray) -> str:
    x = g.op("Div", g.op("Cast", x, to=FLOAT), g.constant(255))
    return g.op("Div", g.op("Sub", x, g.constant(mean)), g.constant(std))
