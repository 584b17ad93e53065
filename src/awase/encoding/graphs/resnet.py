"""CLIP's ResNet as a graph; the same formulas as `towers.resnet`, with batch norms folded into the convolutions."""

from __future__ import annotations

import numpy as np

from awase.encoding import families
from awase.encoding.families import Preprocessing
from awase.encoding.graphs import pixels
from awase.encoding.graphs.builder import Graph

EPSILON = 1e-5  # of torch's BatchNorm2d


def image(g: Graph, sizes: families.ModifiedResNet, preprocessing: Preprocessing, dimension: int) -> None:
    """Adds the input `pixels` (B, S, S, 3) and the outputs "vectors", "features" and "patches"."""
    x = pixels.channels(g, preprocessing)
    x = _relu(g, _convolution(g, x, "conv1", "bn1", stride=2))
    x = _relu(g, _convolution(g, x, "conv2", "bn2"))
    x = _relu(g, _convolution(g, x, "conv3", "bn3"))
    x = _halve(g, x)
    for stage, count in enumerate(sizes.blocks):
        for i in range(count):
            x = _bottleneck(g, f"layer{stage + 1}.{i}", x, first=i == 0, halves=i == 0 and stage > 0)
    cells = g.transpose(g.reshape(x, 0, sizes.features, -1), 0, 2, 1)  # (B, N, C)
    features = _attention_pool(g, sizes, cells)
    g.output("vectors", g.linear(features, "attnpool.c_proj"), ["B", dimension])
    g.output("features", features, ["B", sizes.features])
    alone = g.linear(g.linear(cells, "attnpool.v_proj"), "attnpool.c_proj")
    g.output("patches", alone, ["B", sizes.grid**2, dimension])


def _bottleneck(g: Graph, name: str, x: str, first: bool, halves: bool) -> str:
    y = _relu(g, _convolution(g, x, f"{name}.conv1", f"{name}.bn1"))
    y = _relu(g, _convolution(g, y, f"{name}.conv2", f"{name}.bn2"))
    y = _convolution(g, _halve(g, y) if halves else y, f"{name}.conv3", f"{name}.bn3")
    if first:
        x = _convolution(g, _halve(g, x) if halves else x, f"{name}.downsample.0", f"{name}.downsample.1")
    return _relu(g, g.op("Add", y, x))


def _convolution(g: Graph, x: str, convolution: str, norm: str, stride: int = 1) -> str:
    gain = g.tensor(f"{norm}.weight") / np.sqrt(g.tensor(f"{norm}.running_var") + np.float32(EPSILON))
    weight = g.tensor(f"{convolution}.weight")
    bias = g.tensor(f"{norm}.bias") - g.tensor(f"{norm}.running_mean") * gain
    pad = weight.shape[-1] // 2
    held = g.constant(weight * gain[:, None, None, None]), g.constant(bias)
    return g.op("Conv", x, *held, strides=[stride] * 2, pads=[pad] * 4, kernel_shape=weight.shape[2:])


def _attention_pool(g: Graph, sizes: families.ModifiedResNet, cells: str) -> str:
    """The mean of all cells asks all cells and itself: (B, N, C) -> (B, C)."""
    each = sizes.features // sizes.heads

    def heads(x: str, name: str) -> str:
        return g.transpose(g.reshape(g.linear(x, f"attnpool.{name}"), 0, 0, sizes.heads, each), 0, 2, 1, 3)

    mean = g.op("ReduceMean", cells, g.ints(1), keepdims=1)
    x = g.op("Add", g.op("Concat", mean, cells, axis=1), g.weight("attnpool.positional_embedding"))
    q = heads(g.op("Slice", x, g.ints(0), g.ints(1), g.ints(1)), "q_proj")
    scores = g.op("MatMul", q, g.transpose(heads(x, "k_proj"), 0, 1, 3, 2))
    weights = g.op("Softmax", g.op("Mul", scores, g.constant(each**-0.5)), axis=-1)
    return g.reshape(g.op("MatMul", weights, heads(x, "v_proj")), 0, sizes.features)


def _halve(g: Graph, x: str) -> str:
    return g.op("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2])


def _relu(g: Graph, x: str) -> str:
    return g.op("Relu", x)
