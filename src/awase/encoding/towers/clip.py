"""Two towers and a scale: the torch module of a whole CLIP, for learning, for GPUs, and as the graphs' reference."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from awase.encoding import families
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.families import Architecture, Preprocessing
from awase.encoding.towers.efficientnet import EfficientNetLite
from awase.encoding.towers.ngrams import NgramEncoder
from awase.encoding.towers.resnet import ModifiedResNet
from awase.encoding.towers.transformer import TextTransformer, VisionTransformer
from awase.errors import TensorMismatch


class Towers(nn.Module):
    """`image(pixels, outputs)` -> dict, `text(ids, ends)` -> vectors, `text.forward_embeddings(embeddings, ends)`.

    `state_dict()` has the names and shapes of `architecture.tensors()`, plus those of external towers. The score of a
    picture and a sentence is exp(logit_scale) * cosine (+ logit_bias where the architecture scores by sigmoid)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        sigmoid = architecture.scoring == "sigmoid"
        self.architecture = architecture
        self.image = image_tower(architecture)
        self.text = text_tower(architecture)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(10 if sigmoid else 1 / 0.07)))
        self.logit_bias = nn.Parameter(torch.tensor(-10.0)) if sigmoid else None


def image_tower(architecture: Architecture) -> nn.Module:
    sizes, dimension = architecture.image, architecture.dimension
    if isinstance(sizes, families.VisionTransformer):
        return VisionTransformer(sizes, dimension)
    if isinstance(sizes, families.ModifiedResNet):
        return ModifiedResNet(sizes, dimension)
    if isinstance(sizes, families.EfficientNetLite):
        return EfficientNetLite(sizes, dimension)
    from awase.encoding.external import external_image_tower  # needs timm, which few have

    return external_image_tower(sizes, dimension)


def text_tower(architecture: Architecture) -> nn.Module:
    sizes, dimension = architecture.text, architecture.dimension
    if isinstance(sizes, families.TextTransformer):
        return TextTransformer(sizes, dimension)
    if isinstance(sizes, families.NgramEncoder):
        return NgramEncoder(sizes, dimension)
    from awase.encoding.external import external_text_tower  # needs transformers, which few have

    return external_text_tower(sizes, dimension)


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Bytes (B, S, S, 3) -> what the image tower eats, float32 (B, 3, S, S): (x / 255 - mean) / std."""
    mean = torch.tensor(preprocessing.mean, device=pixels.device)
    std = torch.tensor(preprocessing.std, device=pixels.device)
    return ((pixels.float() / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def load_towers(checkpoint: Checkpoint) -> Towers:
    """The towers of a checkpoint, in float32 on the CPU and in evaluation mode. The weights are copies: training
    them leaves the checkpoint as it was. Raises TensorMismatch where an external tower's tensors do not fit."""
    architecture = checkpoint.architecture
    if architecture.external:
        towers = Towers(architecture)
    else:
        with torch.device("meta"):  # no time spent on random values that the weights replace at once
            towers = Towers(architecture)
        towers = towers.to_empty(device="cpu")
    tensors = {name: torch.from_numpy(values) for name, values in checkpoint.load().items()}
    try:
        towers.load_state_dict(tensors)
    except RuntimeError as problem:
        raise TensorMismatch(f"{checkpoint.source}: the tensors do not fit {architecture.name}: {problem}") from problem
    return towers.eval()
