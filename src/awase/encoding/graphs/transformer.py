"""Transformer towers as graphs; the same formulas as `towers.transformer`, in standard operators.

One thing is done here that torch leaves undone: where only one token of the last block is wanted (the class token,
the end of the sentence), only that token asks. Its keys and values still come from all, so the result is the same."""

from __future__ import annotations

import numpy as np

from awase.encoding import families
from awase.encoding.families import Preprocessing
from awase.encoding.graphs import pixels
from awase.encoding.graphs.builder import BOOL, INT64, Graph

Sizes = families.VisionTransformer | families.TextTransformer


def image(g: Graph, sizes: families.VisionTransformer, preprocessing: Preprocessing, dimension: int) -> None:
    """Adds the input `pixels` (B, S, S, 3) and the outputs "vectors", "features" and "patches"."""
    x = _embed_patches(g, sizes, pixels.patches(g, preprocessing, sizes.patch_size))
    for i in range(sizes.layers - 1):
        x = block(g, f"blocks.{i}", sizes, _prompted(g, sizes, x, i))
    last, x = f"blocks.{sizes.layers - 1}", _prompted(g, sizes, x, sizes.layers - 1)
    every = _without_prompts(g, sizes, block(g, last, sizes, x, query=x))  # (B, tokens, w)
    if sizes.pooling == "class":
        one = block(g, last, sizes, x, query=g.op("Slice", x, g.ints(0), g.ints(1), g.ints(1)))
        features = _normed(g, sizes, g.op("Squeeze", one, g.ints(1)))
        vectors = g.linear(features, "projection")
        cells = g.op("Slice", every, g.ints(1), g.ints(np.iinfo(np.int64).max), g.ints(1))
        patches = g.linear(_normed(g, sizes, cells), "projection")
    else:
        tokens = _normed(g, sizes, every)
        features = vectors = _attention_pool(g, sizes, tokens)
        patches = _each_alone(g, sizes, tokens)
    g.output("vectors", vectors, ["B", dimension])
    g.output("features", features, ["B", sizes.width])
    g.output("patches", patches, ["B", sizes.grid**2, dimension])


def text(g: Graph, sizes: families.TextTransformer, dimension: int) -> None:
    """Adds the inputs `ids` (B, L) and `ends` (B,) and the output "vectors" (B, D)."""
    ids, ends = g.input("ids", INT64, ["B", "L"]), g.input("ends", INT64, ["B"])
    length = g.op("Shape", ids, start=1, end=2)
    positions = g.op("Slice", g.weight("positions"), g.ints(0), length, g.ints(0))
    x = g.op("Add", g.op("Gather", g.weight("tokens.weight"), ids), positions)
    mask = _causal_mask(g, sizes, length) if sizes.causal else ""
    for i in range(sizes.layers - 1):
        x = block(g, f"blocks.{i}", sizes, _renewed(g, sizes, x, ids, i), mask=mask)
    x = _renewed(g, sizes, x, ids, sizes.layers - 1)
    if sizes.pooling == "last":
        query, seen = _last(g, x, axis=1), _last(g, mask, axis=0) if mask else ""
    else:
        query = g.op("Unsqueeze", _pick(g, x, _counted(g, ends), ends), g.ints(1))
        seen = g.op("Unsqueeze", g.op("Gather", mask, ends), g.ints(1, 2)) if mask else ""  # (B, 1, 1, L)
    x = block(g, f"blocks.{sizes.layers - 1}", sizes, x, query, seen)
    g.output("vectors", _project(g, sizes, g.op("Squeeze", x, g.ints(1))), ["B", dimension])
    if sizes.causal and sizes.pooling == "end":
        packed_text(g, sizes, dimension, ids)


def packed_text(g: Graph, sizes: families.TextTransformer, dimension: int, ids: str) -> None:
    """The output "packed" (M, D), for prefix trees of sentences in rows: what sentences share at their start is encoded
    once, which a causal tower allows exactly.

    Inputs: `ids` (B, L), the nodes of a row's trees; `positions` (B, L), how deep each lies; `mask` (B, L, L) bool,
    true where the node of a row may see that of a column (itself and its ancestors); `rows` and `nodes` (M,), where
    the sentences end."""
    positions, mask = g.input("positions", INT64, ["B", "L"]), g.input("mask", BOOL, ["B", "L", "L"])
    rows, nodes = g.input("rows", INT64, ["M"]), g.input("nodes", INT64, ["M"])
    seen = g.op("Unsqueeze", g.op("Where", mask, g.constant(0), g.constant(-np.inf)), g.ints(1))  # (B, 1, L, L)
    depths = g.op("Gather", g.weight("positions"), positions)
    x = g.op("Add", g.op("Gather", g.weight("tokens.weight"), ids), depths)
    for i in range(sizes.layers - 1):
        x = block(g, f"blocks.{i}", sizes, _renewed(g, sizes, x, ids, i), mask=seen)
    x = _renewed(g, sizes, x, ids, sizes.layers - 1)
    x = block(g, f"blocks.{sizes.layers - 1}", sizes, x, query=x, mask=seen)  # the same weights as in `text`
    g.output("packed", _project(g, sizes, _pick(g, x, rows, nodes)), ["M", dimension])


def block(g: Graph, name: str, sizes: Sizes, x: str, query: str = "", mask: str = "") -> str:
    """x + attention(norm(x)), then y + mlp(norm(y)), for the tokens `query` (all, if not told)."""
    h = g.norm(x, f"{name}.norm1", sizes.norm_epsilon)
    w, attention = sizes.width, f"{name}.attention"
    if query:
        asking = h if query == x else g.norm(query, f"{name}.norm1", sizes.norm_epsilon)
        (q,) = _heads(g, sizes, g.linear(asking, f"{attention}.qkv", slice(0, w)), 1)
        k, v = _heads(g, sizes, g.linear(h, f"{attention}.qkv", slice(w, 3 * w)), 2)
    else:
        q, k, v = _heads(g, sizes, g.linear(h, f"{attention}.qkv"), 3)
    x = g.op("Add", query or x, g.linear(_attend(g, sizes, q, k, v, mask), f"{attention}.out"))
    return g.op("Add", x, _mlp(g, sizes, f"{name}.mlp", g.norm(x, f"{name}.norm2", sizes.norm_epsilon)))


def _prompted(g: Graph, sizes: families.VisionTransformer, x: str, layer: int) -> str:
    """What a layer sees: the tokens and its own prompts, if it has any, in the place of the layer's before."""
    if layer >= sizes.prompts[0]:
        return x
    prompts = g.constant(g.tensor("prompts")[layer : layer + 1])
    shape = g.op("Concat", g.op("Shape", x, start=0, end=1), g.ints(1, 1), axis=0)
    return g.op("Concat", _without_prompts(g, sizes, x), g.op("Expand", prompts, shape), axis=1)


def _without_prompts(g: Graph, sizes: families.VisionTransformer, x: str) -> str:
    return g.op("Slice", x, g.ints(0), g.ints(sizes.tokens), g.ints(1)) if any(sizes.prompts) else x


def _renewed(g: Graph, sizes: families.TextTransformer, x: str, ids: str, layer: int) -> str:
    """What a layer sees: deep words as its own rows have them."""
    layers, first, count = sizes.deep
    if not 1 <= layer <= layers:
        return x
    word = g.op("Sub", ids, g.constant(first, np.int64))
    known = g.op("Clip", word, g.constant(0, np.int64), g.constant(count - 1, np.int64))
    ours = g.op("Unsqueeze", g.op("Equal", word, known), g.ints(2))
    return g.op("Where", ours, g.op("Gather", g.constant(g.tensor("deep")[layer - 1]), known), x)


def _heads(g: Graph, sizes: Sizes, x: str, parts: int) -> list[str]:
    """(B, L, parts * w) -> `parts` times (B, H, L, w/H)."""
    split = g.transpose(g.reshape(x, 0, 0, parts * sizes.heads, sizes.width // sizes.heads), 0, 2, 1, 3)
    return [split] if parts == 1 else g.ops("Split", split, results=parts, axis=1, num_outputs=parts)


def _attend(g: Graph, sizes: Sizes, q: str, k: str, v: str, mask: str) -> str:
    """softmax(q k / sqrt(w/H) + mask) v, the heads side by side again: (B, L, w)."""
    scores = g.op("MatMul", q, g.transpose(k, 0, 1, 3, 2))
    scores = g.op("Mul", scores, g.constant((sizes.width / sizes.heads) ** -0.5))
    if mask:
        scores = g.op("Add", scores, mask)
    mixed = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.reshape(g.transpose(mixed, 0, 2, 1, 3), 0, 0, sizes.width)


def _mlp(g: Graph, sizes: Sizes, name: str, x: str) -> str:
    return g.linear(_activation(g, sizes.activation, g.linear(x, f"{name}.up")), f"{name}.down")


def _activation(g: Graph, kind: families.Activation, x: str) -> str:
    if kind == "quick_gelu":
        return g.op("Mul", x, g.op("Sigmoid", g.op("Mul", x, g.constant(1.702))))
    return g.op("Gelu", x, approximate="tanh" if kind == "gelu_tanh" else "none")


def _embed_patches(g: Graph, sizes: families.VisionTransformer, patches: str) -> str:
    """Rows of pixels -> what the first block sees. The patch convolution is a product, as patches do not overlap."""
    matrix = g.tensor("patch.weight").transpose(2, 3, 1, 0).reshape(-1, sizes.width)  # (w, 3, p, p) -> (p p 3, w)
    bias = None if sizes.pooling == "class" else g.tensor("patch.bias")
    x = g.product(patches, "patch", matrix, bias, exact=True)
    positions = g.tensor("positions")
    if sizes.pooling == "attention":
        return g.op("Add", x, g.constant(positions))
    # The class token joins as a row of zeros whose "position" is the class vector and its position in one.
    positions = np.concatenate([positions[:1] + g.tensor("class_token"), positions[1:]])
    x = g.op("Add", g.op("Pad", x, g.ints(0, 1, 0, 0, 0, 0)), g.constant(positions))
    return g.norm(x, "pre_norm", sizes.norm_epsilon)


def _attention_pool(g: Graph, sizes: families.VisionTransformer, tokens: str) -> str:
    """SigLIP's probe asks all tokens: (B, N, w) -> (B, w). What it asks is known before the graph runs."""
    w, weight, bias = sizes.width, g.tensor("pool.attention.qkv.weight"), g.tensor("pool.attention.qkv.bias")
    asked = weight[:w] @ g.tensor("pool.probe") + bias[:w]
    q = g.constant(asked.reshape(1, sizes.heads, 1, w // sizes.heads))
    (k,) = _heads(g, sizes, g.linear(tokens, "pool.attention.qkv", slice(w, 2 * w)), 1)
    (v,) = _heads(g, sizes, g.linear(tokens, "pool.attention.qkv", slice(2 * w, 3 * w)), 1)
    found = g.linear(_attend(g, sizes, q, k, v, ""), "pool.attention.out")
    return g.op("Squeeze", _finish_pool(g, sizes, found), g.ints(1))


def _each_alone(g: Graph, sizes: families.VisionTransformer, tokens: str) -> str:
    """What the pool would give if its probe looked at one token alone: (B, N, w) -> (B, N, w)."""
    w = sizes.width
    values = g.linear(tokens, "pool.attention.qkv", slice(2 * w, 3 * w))
    return _finish_pool(g, sizes, g.linear(values, "pool.attention.out"))


def _finish_pool(g: Graph, sizes: families.VisionTransformer, x: str) -> str:
    return g.op("Add", x, _mlp(g, sizes, "pool.mlp", g.norm(x, "pool.norm", sizes.norm_epsilon)))


def _normed(g: Graph, sizes: Sizes, x: str) -> str:
    return g.norm(x, "norm", sizes.norm_epsilon)


def _project(g: Graph, sizes: families.TextTransformer, x: str) -> str:
    x = _normed(g, sizes, x)
    return x if sizes.projection == "none" else g.linear(x, "projection")


def _causal_mask(g: Graph, sizes: families.TextTransformer, length: str) -> str:
    """(L, L): nothing on and below the diagonal, minus infinity above."""
    whole = g.constant(np.triu(np.full((sizes.context, sizes.context), -np.inf, np.float32), 1))
    both = g.op("Concat", length, length, axis=0)
    return g.op("Slice", whole, g.ints(0, 0), both, g.ints(0, 1))


def _counted(g: Graph, x: str) -> str:
    """0 ... B-1 for something of B rows."""
    count = g.op("Squeeze", g.op("Shape", x, start=0, end=1), g.ints(0))
    return g.op("Range", g.constant(0, np.int64), count, g.constant(1, np.int64))


def _pick(g: Graph, x: str, rows: str, columns: str) -> str:
    """(B, L, w) -> (M, w), the tokens at M places."""
    places = [g.op("Unsqueeze", place, g.ints(1)) for place in (rows, columns)]
    return g.op("GatherND", x, g.op("Concat", *places, axis=1))


def _last(g: Graph, x: str, axis: int) -> str:
    return g.op("Slice", x, g.ints(-1), g.ints(np.iinfo(np.int64).max), g.ints(axis))
