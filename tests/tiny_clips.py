"""A checkpoint and a Clip of every family: tiny random towers under a real tokenizer."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import awase
from awase import Clip
from awase.encoding.checkpoints.checkpoint import Checkpoint, in_memory
from test_towers import TINY, tiny

BUNDLED = Path(awase.__file__).parent / "encoding" / "bundled"
FAMILIES = ("clip", "quick", "resnet", "siglip", "bundled")


def tiny_checkpoint(name: str, folder: Path) -> Checkpoint:
    """folder: empty; the bundled SentencePiece model goes there under the names that families look for."""
    for file in ("spiece.model", "tokenizer.model"):
        shutil.copy(BUNDLED / "tokenizer.model", folder / file)
    architecture = TINY[name]
    tensors = {key: value.numpy() for key, value in tiny(name).state_dict().items()}
    if name == "bundled":  # the tiny tower knows 100 tokens
        architecture = dataclasses.replace(architecture, text=dataclasses.replace(architecture.text, vocabulary=32_000))
        table = np.random.default_rng(0).normal(0, 0.5, (32_000, architecture.text.width))
        tensors["text.tokens.weight"] = table.astype(np.float32)
    return in_memory(architecture, tensors, f"tiny {name}", folder)


def tiny_clip(name: str, folder: Path, **settings: Any) -> Clip:
    return awase.load(tiny_checkpoint(name, folder), **settings)
