"""Low-rank changes in the files of Hugging Face's `peft`: adapter_config.json and adapter_model.safetensors.

    PeftModel.from_pretrained(transformers.CLIPModel.from_pretrained(BASE), FOLDER)      reads what `write` wrote

peft adds lora_alpha / r * B @ A to a layer, or lora_alpha / sqrt(r) with use_rslora (Kalajdzievski, 2023,
arXiv:2312.03732). Only low-rank changes of models that transformers has a class for can go there and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from awase.encoding.checkpoints import huggingface
from awase.encoding.checkpoints.derived import THIRDS, LowRank
from awase.encoding.checkpoints.folder import appearing, find, listing
from awase.encoding.checkpoints.names import entries
from awase.encoding.checkpoints.safetensors_file import read_safetensors, write_safetensors
from awase.encoding.checkpoints.settings import Settings, read_settings, write_settings
from awase.encoding.families import Architecture
from awase.errors import CheckpointError, UsageError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_BEFORE = "base_model.model."
# What peft can do to a layer beside adding a product, and the value with which it does not.
_PLAIN = {"use_dora": False, "fan_in_fan_out": False, "bias": "none", "modules_to_save": None, "lora_bias": False}


def write(folder: Path, architecture: Architecture, low_rank: Mapping[str, LowRank], base: str) -> None:
    """Writes a new folder, which appears when both files are written. base: what peft shall call the base model.

    Raises CheckpointError for a model that transformers has no class for, UsageError where the changes differ in rank
    or factor, or one is of a matrix that is no layer of its own there."""
    layers = layers_of(architecture)
    if unknown := [name for name in low_rank if name not in layers]:
        raise UsageError(f"{unknown[0]} is no layer of its own in transformers; leave it out of what learns")
    kinds = {(len(change.a), change.factor) for change in low_rank.values()}
    if len(kinds) != 1:
        raise UsageError(f"peft's files take low-rank changes of one rank and factor; here are {len(kinds)} kinds")
    rank, factor = kinds.pop()
    tensors = {}
    for name, change in low_rank.items():
        tensors[f"{_BEFORE}{layers[name]}.lora_A.weight"] = change.a
        tensors[f"{_BEFORE}{layers[name]}.lora_B.weight"] = change.b
    settings = {
        **_PLAIN,
        "peft_type": "LORA",
        "base_model_name_or_path": base,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": factor * math.sqrt(rank),
        "use_rslora": True,
        "lora_dropout": 0.0,
        "target_modules": sorted(layers[name] for name in low_rank),
    }
    with appearing(folder) as temporary:
        write_safetensors(temporary / WEIGHTS, tensors)
        write_settings(temporary / CONFIG, settings)


def read(folder: Path, architecture: Architecture) -> dict[str, LowRank]:
    """The changes in a folder of peft's. Raises CheckpointError for what is not plain LoRA, is damaged, or belongs to
    layers that this model has not."""
    config, weights = (find(folder, name) for name in (CONFIG, WEIGHTS))
    if config is None or weights is None:
        raise CheckpointError(f"{folder} has no {CONFIG} and {WEIGHTS}; it holds {listing(folder)}")
    factor = _factor(read_settings(config))
    stored, own = read_safetensors(weights), {theirs: name for name, theirs in layers_of(architecture).items()}
    found: dict[str, dict[str, np.ndarray]] = {}
    for key, tensor in stored.items():
        layer, _, which = key.removeprefix(_BEFORE).removesuffix(".weight").rpartition(".lora_")
        if layer not in own or which not in ("A", "B"):
            raise CheckpointError(f"{weights}: {key[:200]} is no low-rank change of a layer of {architecture.name}")
        found.setdefault(own[layer], {})[which] = np.asarray(tensor.read(), np.float32)
    if halves := [name for name, pair in found.items() if set(pair) != {"A", "B"}]:
        raise CheckpointError(f"{weights}: of {halves[0]} there is one factor only; export it again")
    return {name: LowRank(pair["A"], pair["B"], factor) for name, pair in found.items()}


def layers_of(architecture: Architecture) -> dict[str, str]:
    """awase's name of a matrix, or of a third of attention's -> transformers' name of the layer."""
    kind = huggingface.class_of(architecture, architecture.name)
    table = huggingface.SIGLIP_NAMES if kind == "Siglip" else huggingface.CLIP_NAMES
    layers = {}
    for entry in entries(architecture, table):
        # SigLIP's pooling attention is one module there, which reads its weights past what peft adds to them.
        if len(entry.shape) == 2 and entry.theirs[0].endswith(".weight") and ".head.attention." not in entry.theirs[0]:
            thirds = [f"/{third}" for third in THIRDS] if len(entry.theirs) > 1 else [""]
            for third, theirs in zip(thirds, entry.theirs, strict=True):
                layers[entry.own + third] = theirs.removesuffix(".weight")
    return layers


def _factor(config: Settings) -> float:
    values = config.values
    if values.get("peft_type") != "LORA":
        raise CheckpointError(f"{config.place}: peft_type is {values.get('peft_type')!r}; awase reads LORA")
    for name, plain in {**_PLAIN, "rank_pattern": {}, "alpha_pattern": {}}.items():
        if values.get(name) not in (plain, None, [], {}):
            raise CheckpointError(f"{config.place}: {name} is {values[name]!r}, which awase does not read")
    rank = config.whole("r")
    return config.number("lora_alpha", 8.0) / (math.sqrt(rank) if values.get("use_rslora") else rank)
