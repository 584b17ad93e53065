"""EfficientNet-lite with a projection and concepts as a graph; the same formulas as `towers.efficientnet`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from awase.encoding import families
from awase.encoding.families import Preprocessing
from awase.encoding.graphs import pixels
from awase.encoding.graphs.builder import Graph


def image(g: Graph, sizes: families.EfficientNetLite, preprocessing: Preprocessing, dimension: int) -> None:
    """Adds the input `pixels` (B, S, S, 3) and the outputs "vectors", "features" and "patches"."""
    x = _relu6(g, _convolution(g, pixels.channels(g, preprocessing), "stem", stride=2))
    rows = list(sizes.blocks())
    inputs = []
    for i, row in enumerate(rows):
        inputs.append(x)
        x = _block(g, x, f"blocks.{i}", *row)
    cells = [_relu6(g, _convolution(g, x, "top"))]
    if sizes.twins:
        x = inputs[sizes.twins]
        for i in sizes.tuned():
            x = _block(g, x, f"tuned.{i}", *rows[i])
        cells.append(_relu6(g, _convolution(g, x, "tuned_top")))
    means = [g.op("ReduceMean", x, g.ints(2, 3), keepdims=0) for x in cells]
    rows_of_cells = [g.transpose(g.reshape(x, 0, sizes.features, -1), 0, 2, 1) for x in cells]  # (B, N, F)
    g.output("vectors", _project(g, means), ["B", dimension])
    g.output("features", _joined(g, means), ["B", sizes.pooled])
    g.output("patches", _project(g, rows_of_cells), ["B", sizes.grid**2, dimension])


def _block(g: Graph, x: str, name: str, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> str:
    y = _relu6(g, _convolution(g, x, f"{name}.expand")) if expansion > 1 else x
    y = _relu6(g, _convolution(g, y, f"{name}.depthwise", stride, groups=inputs * expansion))
    y = _convolution(g, y, f"{name}.project")
    return g.op("Add", x, y) if stride == 1 and inputs == outputs else y


def _joined(g: Graph, features: Sequence[str]) -> str:
    return features[0] if len(features) == 1 else g.op("Concat", *features, axis=-1)


def _mean(g: Graph, features: Sequence[str]) -> str:
    if len(features) == 1:
        return features[0]
    return g.op("Mul", g.op("Add", *features), g.constant(1 / len(features)))


def _convolution(g: Graph, x: str, name: str, stride: int = 1, groups: int = 1) -> str:
    held = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.op("Conv", x, *held, strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")


def _relu6(g: Graph, x: str) -> str:
    return g.op("Clip", x, g.constant(0), g.constant(6))


def _project(g: Graph, features: Sequence[str]) -> str:
    """(..., F), and the twin's where there is one -> (..., D): a free unit direction plus a mixture of concepts."""
    free = g.linear(_joined(g, features), "projection")
    size = g.op("Max", g.op("ReduceL2", free, g.ints(-1), keepdims=1), g.constant(1e-12))
    mixture = g.op("Softmax", g.linear(_mean(g, features), "classifier"), axis=-1)
    concepts = g.tensor("concepts") * np.float32(g.tensor("concept_gain"))
    return g.op("Add", g.op("Div", free, size), g.product(mixture, "concepts", concepts, None))
