"""Whole towers as ONNX graphs, straight from float32 tensors under awase's names: no tracing, no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from awase.encoding import families
from awase.encoding.families import Architecture
from awase.encoding.graphs import efficientnet, ngrams, resnet, transformer
from awase.encoding.graphs.builder import Graph, Quantised
from awase.encoding.graphs.limits import refuse_external, refuse_quantised_convolutions

Tensors = Mapping[str, np.ndarray]


def image_graph(architecture: Architecture, tensors: Tensors, quantised: Quantised | None = None) -> Graph:
    """Input `pixels`, uint8 (B, S, S, 3); outputs "vectors" (B, D), "features" (B, F) and "patches" (B, N, D).

    Patches need the whole of the last block; build `model(("vectors", "features"))` where nobody wants them.
    Raises EngineError for int8 in a convolutional tower, where it is slower than float32."""
    refuse_external(architecture)
    if quantised:
        refuse_quantised_convolutions(architecture)
    sizes, dimension = architecture.image, architecture.dimension
    g = Graph(f"{architecture.name} image", tensors, "image.", quantised)
    if isinstance(sizes, families.VisionTransformer):
        transformer.image(g, sizes, architecture.preprocessing, dimension)
    elif isinstance(sizes, families.ModifiedResNet):
        resnet.image(g, sizes, architecture.preprocessing, dimension)
    elif isinstance(sizes, families.EfficientNetLite):
        efficientnet.image(g, sizes, architecture.preprocessing, dimension)
    return g


def text_graph(architecture: Architecture, tensors: Tensors, quantised: Quantised | None = None) -> Graph:
    """Inputs `ids` (B, L) and `ends` (B,), int64; output "vectors" (B, D). A tower that is causal and pools at the end
    has the output "packed" (M, D) besides, with inputs of its own (`transformer.packed_text`)."""
    refuse_external(architecture)
    sizes, dimension = architecture.text, architecture.dimension
    g = Graph(f"{architecture.name} text", tensors, "text.", quantised)
    if isinstance(sizes, families.TextTransformer):
        transformer.text(g, sizes, dimension)
    elif isinstance(sizes, families.NgramEncoder):
        ngrams.text(g, sizes, dimension)
    return g
