"""The n-gram sentence encoder as a graph; the same formulas as `towers.ngrams`."""

from __future__ import annotations

import numpy as np

from awase.encoding import families
from awase.encoding.graphs.builder import FLOAT, INT64, Graph


def text(g: Graph, sizes: families.NgramEncoder, dimension: int) -> None:
    """Adds the inputs `ids` (B, L) and `ends` (B,) and the output "vectors"."""
    ids, ends = g.input("ids", INT64, ["B", "L"]), g.input("ends", INT64, ["B"])
    inside = _inside(g, ids, ends)  # (B, L, 1)
    length = g.op("Cast", g.op("Add", g.op("Unsqueeze", ends, g.ints(1)), g.ints(1)), to=FLOAT)  # (B, 1)
    x = g.op("Gather", g.weight("tokens.weight"), ids)
    branches = [
        _branch(g, n, left, start, inside) for (n, left), start in zip(sizes.orders, _reduced(g, sizes, x), strict=True)
    ]
    tokens = g.norm(g.op("Concat", x, *branches, axis=-1), "norm", sizes.norm_epsilon)
    summed = g.op("ReduceSum", g.op("Mul", tokens, inside), g.ints(1), keepdims=0)
    # sum(mix(token)) = mix without bias (sum) + length * bias: one row a sentence instead of one a token
    mixed = g.product(summed, "mix", g.tensor("mix.weight").T, None)
    mixed = g.op("Add", mixed, g.op("Mul", length, g.weight("mix.bias")))
    sentence = _dense(g, g.op("Div", mixed, g.op("Sqrt", length)))
    g.output("vectors", g.linear(_unit(g, sizes, sentence), "projection"), ["B", dimension])


def _inside(g: Graph, ids: str, ends: str) -> str:
    """One for tokens up to the end of the sentence, zero after it: (B, L, 1)."""
    length = g.op("Squeeze", g.op("Shape", ids, start=1, end=2), g.ints(0))
    places = g.op("Range", g.constant(0, np.int64), length, g.constant(1, np.int64))
    inside = g.op("LessOrEqual", places, g.op("Unsqueeze", ends, g.ints(1)))
    return g.op("Unsqueeze", g.op("Cast", inside, to=FLOAT), g.ints(2))


def _reduced(g: Graph, sizes: families.NgramEncoder, x: str) -> list[str]:
    """What each branch starts from; mean and variance are those of all branches together."""

    def joined(part: str) -> np.ndarray:
        return np.concatenate([g.tensor(f"ngrams.{n}.{part}") for n, _ in sizes.orders])

    x = g.product(x, "reduce", joined("reduce.weight").T, joined("reduce.bias"))
    scale = g.constant(joined("norm.weight")), g.constant(joined("norm.bias"))
    x = g.op("LayerNormalization", x, *scale, axis=-1, epsilon=sizes.norm_epsilon)
    return g.ops("Split", x, results=len(sizes.orders), axis=-1, num_outputs=len(sizes.orders))


def _branch(g: Graph, n: int, left: int, x: str, inside: str) -> str:
    """Two residual convolutions over windows of n tokens."""

    def convolved(x: str, name: str) -> str:
        return g.op("Relu", g.linear(_windows(g, x, n, left), f"ngrams.{n}.{name}"))

    x = g.op("Mul", x, inside)
    x = g.op("Mul", g.op("Add", convolved(x, "first"), x), inside)
    return g.op("Add", convolved(x, "second"), x)


def _windows(g: Graph, x: str, n: int, left: int) -> str:
    """(B, L, c) -> (B, L, n * c): each token beside its neighbours, zeros beyond the ends."""
    right = n - 1 - left
    padded = g.op("Pad", x, g.ints(0, left, 0, 0, right, 0))
    ends = [i - n + 1 or np.iinfo(np.int64).max for i in range(n)]
    shifted = [g.op("Slice", padded, g.ints(i), g.ints(end), g.ints(1)) for i, end in enumerate(ends)]
    return g.op("Concat", *shifted, axis=-1)


def _dense(g: Graph, mixed: str) -> str:
    def layer(i: int, x: str, skipped: str = "") -> str:
        y = g.product(x, f"dense.{i}", g.tensor(f"dense.{i}.weight").T, None)
        if skipped:
            y = g.op("Add", y, g.product(skipped, f"dense.{i}.skip", g.tensor(f"dense.{i}.skip").T, None))
        return y

    first = g.op("Relu", layer(0, mixed))
    second = g.op("Relu", layer(1, first, mixed))
    third = g.op("Relu", layer(2, second))
    return g.op("Tanh", layer(3, third, second))


def _unit(g: Graph, sizes: families.NgramEncoder, x: str) -> str:
    squares = g.op("ReduceSumSquare", x, g.ints(-1), keepdims=1)
    return g.op("Div", x, g.op("Sqrt", g.op("Max", squares, g.constant(sizes.norm_epsilon))))
