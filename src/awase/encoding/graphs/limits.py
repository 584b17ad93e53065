"""What the graphs cannot do, said once, in errors. Imports nothing heavy, so that engines can refuse early."""

from __future__ import annotations

from awase.encoding import families
from awase.encoding.families import Architecture
from awase.errors import EngineError


def refuse_external(architecture: Architecture) -> None:
    if architecture.external:
        raise EngineError(
            f"{architecture.name}: a tower belongs to another library, so it runs in torch only: use engine='torch'"
        )


def refuse_quantised_convolutions(architecture: Architecture) -> None:
    """Dynamic quantisation makes convolutions slower than float32, and awase has no other."""
    if not isinstance(architecture.image, families.VisionTransformer):
        raise EngineError(
            f"{architecture.name}: int8 makes a convolutional image tower slower, not faster: use precision='fp32'"
        )


def shares_prefixes(architecture: Architecture) -> bool:
    """Whether sentences that begin alike can be encoded together exactly: no token sees a later one, and the vector is
    read where the sentence ends."""
    text = architecture.text
    return isinstance(text, families.TextTransformer) and text.causal and text.pooling == "end"


def refuse_unpackable(architecture: Architecture) -> None:
    if not shares_prefixes(architecture):
        raise EngineError(f"{architecture.name}: only a causal text tower pooled at the end can share prefixes")
