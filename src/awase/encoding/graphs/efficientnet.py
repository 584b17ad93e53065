"""EfficientNet-lite with a projection and concepts as a graph; the same formulas as `towers.efficientnet`."""

from __future__ import annotations

import numpy as np

from awase.encoding import families
from awase.encoding.families import Preprocessing
from awase.encoding.graphs import pixels
from awase.encoding.graphs.builder import Graph


def image(g: Graph, sizes: families.EfficientNetLite, preprocessing: Preprocessing, dimension: int) -> None:
    """Adds the input `pixels` (B, S, S, 3) and the outputs "vectors", "features" and "patches"."""
    x = _relu6(g, _convolution(g, pixels.channels(g, preprocessing), "stem", stride=2))
    for i, (inputs, outputs, _, stride, expansion) in enumerate(sizes.blocks()):
        name = f"blocks.{i}"
        y = _relu6(g, _convolution(g, x, f"{name}.expand")) if expansion > 1 else x
        y = _relu6(g, _convolution(g, y, f"{name}.depthwise", stride, groups=inputs * expansion))
        y = _convolution(g, y, f"{name}.project")
        x = g.op("Add", x, y) if stride == 1 and inputs == outputs else y
    x = _relu6(g, _convolution(g, x, "top"))
    features = g.op("ReduceMean", x, g.ints(2, 3), keepdims=0)
    cells = g.transpose(g.reshape(x, 0, sizes.features, -1), 0, 2, 1)  # (B, N, F)
    g.output("vectors", _project(g, features), ["B", dimension])
    g.output("features", features, ["B", sizes.features])
    g.output("patches", _project(g, cells), ["B", sizes.grid**2, dimension])


def _convolution(g: Graph, x: str, name: str, stride: int = 1, groups: int = 1) -> str:
    held = g.weight(f"{name}.weight"), g.weight(f"{name}.bias")
    return g.op("Conv", x, *held, strides=[stride] * 2, group=groups, auto_pad="SAME_UPPER")


def _relu6(g: Graph, x: str) -> str:
    return g.op("Clip", x, g.constant(0), g.constant(6))


def _project(g: Graph, features: str) -> str:
    """A free unit direction plus a mixture of concepts: (..., F) -> (..., D)."""
    free = g.linear(features, "projection")
    size = g.op("Max", g.op("ReduceL2", free, g.ints(-1), keepdims=1), g.constant(1e-12))
    mixture = g.op("Softmax", g.linear(features, "classifier"), axis=-1)
    concepts = g.tensor("concepts") * np.float32(g.tensor("concept_gain"))
    return g.op("Add", g.op("Div", free, size), g.product(mixture, "concepts", concepts, None))
