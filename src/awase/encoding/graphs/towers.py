"""Whole towers as ONNX graphs, straight from float32 tensors under awase's names: no tracing, no torch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from awase.encoding import families
from awase.encoding.families import Architecture
from awase.encoding.graphs import efficientnet, ngrams, resnet, transformer
from awase.encoding.graphs.builder import Graph, Quantised
from awase.errors import EngineError

Tensors = Mapping[str, np.ndarray]


def image_graph(architecture: Architecture, tensors: Tensors, quantised: Quantised | None = None) -> Graph:
    """Input `pixels`, uint8 (B, S, S, 3); outputs "vectors" (B, D), "features" (B, F) and "patches" (B, N, D).

    Patches need the whole of the last block; build `model(("vectors", "features"))` where nobody wants them.
    Raises EngineError for int8 in a convolutional tower, where it is slower than float32."""
    sizes, dimension = architecture.image, architecture.dimension
    g = Graph(f"{architecture.name} image", tensors, "image.", quantised)
    if isinstance(sizes, families.VisionTransformer):
        transformer.image(g, sizes, architecture.preprocessing, dimension)
    elif quantised:
        raise no_quantised_convolutions(architecture)
    elif isinstance(sizes, families.ModifiedResNet):
        resnet.image(g, sizes, architecture.preprocessing, dimension)
    elif isinstance(sizes, families.EfficientNetLite):
        efficientnet.image(g, sizes, architecture.preprocessing, dimension)
    else:
        raise no_graph(architecture)
    return g


def text_graph(architecture: Architecture, tensors: Tensors, quantised: Quantised | None = None) -> Graph:
    """Inputs `ids` (B, L) and `ends` (B,), int64; output "vectors" (B, D)."""
    sizes, dimension = architecture.text, architecture.dimension
    g = Graph(f"{architecture.name} text", tensors, "text.", quantised)
    if isinstance(sizes, families.TextTransformer):
        transformer.text(g, sizes, dimension)
    elif isinstance(sizes, families.NgramEncoder):
        ngrams.text(g, sizes, dimension)
    else:
        raise no_graph(architecture)
    return g


def packed_text_graph(architecture: Architecture, tensors: Tensors, quantised: Quantised | None = None) -> Graph:
    """Prefix trees of sentences, each shared start encoded once (see `transformer.packed_text` for the inputs).
    Raises EngineError unless the text tower is causal and pooled at the end: nothing else allows it exactly."""
    sizes = architecture.text
    if not (isinstance(sizes, families.TextTransformer) and sizes.causal and sizes.pooling == "end"):
        raise EngineError(f"{architecture.name}: prefixes can be shared only in a causal text tower pooled at the end")
    g = Graph(f"{architecture.name} packed text", tensors, "text.", quantised)
    transformer.packed_text(g, sizes, architecture.dimension)
    return g


def no_graph(architecture: Architecture) -> EngineError:
    return EngineError(
        f"{architecture.name}: a tower belongs to another library, so it runs in torch only: use engine='torch'"
    )


def no_quantised_convolutions(architecture: Architecture) -> EngineError:
    return EngineError(
        f"{architecture.name}: int8 makes a convolutional image tower slower, not faster: use precision='fp32'"
    )
