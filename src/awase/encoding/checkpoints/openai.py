"""OpenAI's own files: one `.pt` with a state dict or a TorchScript module, and no configuration.

The sizes are those of the tensors; the activation is QuickGELU and heads are 64 wide, as in all that OpenAI published.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from awase.encoding.checkpoints import lazy
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.checkpoints.names import Table
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import (
    Architecture,
    ImageTower,
    ModifiedResNet,
    Preprocessing,
    TextRule,
    TextTransformer,
    VisionTransformer,
)
from awase.errors import CheckpointError, TensorMismatch

# Not weights: three numbers about the sizes, and the causal mask.
EXTRAS = ("input_resolution", "context_length", "vocab_size", "attn_mask")
OTHER_HEADS = (1280, 1408, 1664)  # widths of OpenCLIP's ViT-H, g and bigG, whose heads are 80, 88 and 104 wide

_BLOCK = {
    "norm1": "ln_1",
    "attention.qkv.weight": "attn.in_proj_weight",
    "attention.qkv.bias": "attn.in_proj_bias",
    "attention.out": "attn.out_proj",
    "norm2": "ln_2",
    "mlp.up": "mlp.c_fc",
    "mlp.down": "mlp.c_proj",
}


def text_names(prefix: str = "") -> Table:
    """The text tower's names, which OpenCLIP puts under `text.` in some models."""
    return {
        "text.tokens": f"{prefix}token_embedding",
        "text.positions": f"{prefix}positional_embedding",
        "text.norm": f"{prefix}ln_final",
        **{f"text.blocks.#.{own}": f"{prefix}transformer.resblocks.#.{name}" for own, name in _BLOCK.items()},
        "text.projection.weight": f"{prefix}text_projection^T",
    }


def image_names(tower: ImageTower) -> Table:
    """The image tower's names: a ViT's, or a ResNet's, which are awase's too."""
    if isinstance(tower, ModifiedResNet):
        return {f"image.{name}": f"visual.{name}" for name, _ in tower.tensors(1)}
    return {
        "image.patch": "visual.conv1",
        "image.class_token": "visual.class_embedding",
        "image.pre_norm": "visual.ln_pre",
        "image.positions": "visual.positional_embedding",
        **{f"image.blocks.#.{own}": f"visual.transformer.resblocks.#.{name}" for own, name in _BLOCK.items()},
        "image.norm": "visual.ln_post",
        "image.projection.weight": "visual.proj^T",
    }


def read(file: Path, weights: Weights, source: str) -> Checkpoint:
    """Raises TensorMismatch where the tensors are not those of a CLIP."""
    architecture = infer(weights, source)
    table = {"logit_scale": "logit_scale", **image_names(architecture.image), **text_names()}
    found = lazy.Found(source, "openai", None, [file], weights)
    masks = [name for name in weights if name.endswith(".attn_mask")]
    return lazy.checkpoint(found, architecture, table, [*EXTRAS, *masks])


def infer(weights: Weights, source: str) -> Architecture:
    """The architecture whose tensors have these shapes."""
    sizes = _Sizes(weights, source)
    image = sizes.transformer() if "visual.proj" in weights else sizes.resnet()
    width = sizes.of("ln_final.weight", 0)
    layers = sizes.count(r"transformer\.resblocks\.(\d+)\.")
    context, vocabulary = sizes.of("positional_embedding", 0), sizes.of("token_embedding.weight", 0)
    text = TextTransformer(context, vocabulary, width, layers, sizes.heads(width), 4 * width, "quick_gelu")
    dimension = sizes.of("text_projection", 1)
    return Architecture("", image, text, dimension, Preprocessing(image.image_size), TextRule("clip", context))


class _Sizes:
    def __init__(self, weights: Weights, source: str) -> None:
        self.weights = weights
        self.source = source

    def of(self, name: str, axis: int) -> int:
        """The length of a tensor's axis."""
        tensor = self.weights.get(name)
        if tensor is None or len(tensor.shape) <= axis or tensor.shape[axis] == 0:
            first = ", ".join(sorted(self.weights)[:5])
            raise TensorMismatch(
                f"{self.source} was taken for an OpenAI CLIP, but its tensor {name} is missing or of the wrong kind. "
                f"It holds {first[:300]}, ... A checkpoint of another library is opened by its folder, with its config."
            )
        return tensor.shape[axis]

    def count(self, pattern: str) -> int:
        """How many different numbers stand at that place of a name."""
        return len({match[1] for name in self.weights if (match := re.match(pattern, name))})

    def heads(self, width: int) -> int:
        if width % 64 or width in OTHER_HEADS:
            raise CheckpointError(
                f"{self.source} has a tower of width {width}, which OpenAI never published, and the number of its "
                "heads is not in the file; put it into a folder with its open_clip_config.json"
            )
        return width // 64

    def side(self, positions: int) -> int:
        """The side of a square of positions."""
        side = math.isqrt(positions)
        if side * side != positions or side == 0:
            raise TensorMismatch(f"{self.source} has {positions} positions for patches, which is not a square number")
        return side

    def transformer(self) -> VisionTransformer:
        width, patch = self.of("visual.conv1.weight", 0), self.of("visual.conv1.weight", 3)
        grid = self.side(self.of("visual.positional_embedding", 0) - 1)
        layers = self.count(r"visual\.transformer\.resblocks\.(\d+)\.")
        return VisionTransformer(patch * grid, patch, width, layers, self.heads(width), 4 * width, "quick_gelu")

    def resnet(self) -> ModifiedResNet:
        width = self.of("visual.layer1.0.conv1.weight", 0)
        grid = self.side(self.of("visual.attnpool.positional_embedding", 0) - 1)
        first, second, third, fourth = (self.count(rf"visual\.layer{stage}\.(\d+)\.") for stage in (1, 2, 3, 4))
        return ModifiedResNet(32 * grid, width, (first, second, third, fourth), max(1, width * 32 // 64))
