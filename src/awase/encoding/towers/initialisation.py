"""Random weights to start pretraining from, by the scheme of OpenAI's released code (Radford et al., 2021).

OpenAI left the blocks of its image Transformer at torch's defaults; here they follow the text tower's rule, whose
spread is much the same. Whatever the scheme does not name starts as He et al., 2015 (arXiv:1502.01852) advise."""

from __future__ import annotations

import math

import torch
from torch import nn

from awase.encoding.towers.clip import Towers
from awase.encoding.towers.resnet import ModifiedResNet
from awase.encoding.towers.transformer import TextTransformer, VisionTransformer


def initialise(towers: Towers, generator: torch.Generator) -> Towers:
    """Fresh random values for both towers of a newly built `Towers` (the scale is at its start already)."""
    with torch.no_grad():
        for tower in (towers.image, towers.text):
            spreads = spreads_of(tower)
            for name, parameter in tower.named_parameters():
                _fill(parameter, name, spreads, generator)
    return towers


def spreads_of(tower: nn.Module) -> dict[str, float]:
    """Ending of a tensor's name -> its standard deviation at the start, first match first."""
    if isinstance(tower, VisionTransformer | TextTransformer):
        width, layers = tower.norm.weight.numel(), len(tower.blocks)
        start, narrow = width**-0.5, (2 * layers * width) ** -0.5  # narrower where a residual sum collects 2L terms
        return {
            "tokens.weight": 0.02,
            "positions": 0.01 if isinstance(tower, TextTransformer) else start,
            "class_token": start,
            "probe": start,
            "projection.weight": start,
            "qkv.weight": start,
            "out.weight": narrow,
            "up.weight": (2 * width) ** -0.5,
            "down.weight": narrow,
        }
    if isinstance(tower, ModifiedResNet):
        start = tower.attnpool.c_proj.in_features**-0.5
        # Every residual branch starts silent; the stem's bn3 is not one (its name has no block before it).
        return {".bn3.weight": 0.0, "positional_embedding": start, "_proj.weight": start}
    return {"tokens.weight": 0.02}


def _fill(parameter: nn.Parameter, name: str, spreads: dict[str, float], generator: torch.Generator) -> None:
    spread = next((value for ending, value in spreads.items() if name.endswith(ending)), None)
    if spread is not None:
        parameter.normal_(0, spread, generator=generator)
    elif name.endswith("bias"):
        parameter.zero_()
    elif parameter.ndim < 2:
        parameter.fill_(1)  # gains
    else:
        inputs = parameter[0].numel()
        parameter.normal_(0, math.sqrt(2 / inputs), generator=generator)
