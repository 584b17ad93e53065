"""Hugging Face's folders of CLIPModel, MetaClip2Model and SiglipModel: config.json, safetensors or .bin, processor.

SigLIP2 of a fixed resolution is a SiglipModel too; its NaFlex variants, which eat pictures of any shape, are not read.
A text is pooled at its first end token. Configurations of before 2023 say so by `eos_token_id: 2`, which stands for
"the largest id"; in every published vocabulary that is the end token, so both rules mean the same position.
"""

from __future__ import annotations

import dataclasses
import gzip
import json
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np

from awase.encoding.checkpoints import lazy, names
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.checkpoints.folder import copy_tokenizer, find, listing, read_weights, shards
from awase.encoding.checkpoints.names import Table
from awase.encoding.checkpoints.processor import processor_of, read_preprocessing
from awase.encoding.checkpoints.safetensors_file import write_safetensors
from awase.encoding.checkpoints.settings import Settings, read_settings, write_settings
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import (
    Activation,
    Architecture,
    ModifiedResNet,
    Preprocessing,
    TextRule,
    TextTransformer,
    VisionTransformer,
    languages_of,
)
from awase.encoding.tokenizers.byte_pairs import BUILT_IN, byte_symbols
from awase.errors import CheckpointError

MODEL_TYPES = ("clip", "metaclip_2", "siglip")
ACTIVATIONS: dict[str, Activation] = {
    "quick_gelu": "quick_gelu",
    "gelu": "gelu",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
}
_ACTIVATION_NAMES = {"quick_gelu": "quick_gelu", "gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh"}

_BLOCK = {
    "norm1": "layer_norm1",
    "attention.qkv": "self_attn.q_proj + {at}.self_attn.k_proj + {at}.self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}


def _blocks(side: str, model: str) -> Table:
    at = f"{model}.encoder.layers.#"
    return {f"{side}.blocks.#.{own}": f"{at}.{name}".replace("{at}", at) for own, name in _BLOCK.items()}


_TOWERS = {
    "image.patch": "vision_model.embeddings.patch_embedding",
    "image.positions": "vision_model.embeddings.position_embedding.weight",
    **_blocks("image", "vision_model"),
    "image.norm": "vision_model.post_layernorm",
    "text.tokens": "text_model.embeddings.token_embedding",
    "text.positions": "text_model.embeddings.position_embedding.weight",
    **_blocks("text", "text_model"),
    "text.norm": "text_model.final_layer_norm",
}
CLIP_NAMES = {
    "logit_scale": "logit_scale",
    **_TOWERS,
    "image.class_token": "vision_model.embeddings.class_embedding",
    "image.pre_norm": "vision_model.pre_layrnorm",  # sic
    "image.projection": "visual_projection",
    "text.projection": "text_projection",
}
SIGLIP_NAMES = {
    "logit_scale": "logit_scale[1]",
    "logit_bias": "logit_bias[1]",
    **_TOWERS,
    "image.pool.probe": "vision_model.head.probe[1][1]",
    "image.pool.attention.qkv.weight": "vision_model.head.attention.in_proj_weight",
    "image.pool.attention.qkv.bias": "vision_model.head.attention.in_proj_bias",
    "image.pool.attention.out": "vision_model.head.attention.out_proj",
    "image.pool.norm": "vision_model.head.layernorm",
    "image.pool.mlp.up": "vision_model.head.mlp.fc1",
    "image.pool.mlp.down": "vision_model.head.mlp.fc2",
    "text.projection": "text_model.head",
}


def read(folder: Path, source: str) -> Checkpoint:
    """Raises CheckpointError for other kinds of model, TensorMismatch where weights and configuration differ."""
    config = read_settings(_needed(folder, "config.json"))
    kind = config.text("model_type")
    if kind not in MODEL_TYPES:
        raise CheckpointError(f"{source} is a Hugging Face model of type {kind!r}; {_why_not(kind)}")
    files = _weight_files(folder, source)
    weights: Weights = {}
    for file in files:
        weights |= read_weights(file)
    architecture = _siglip(config, weights) if kind == "siglip" else _clip(config)
    prepared = read_preprocessing(folder, architecture.preprocessing)
    architecture = dataclasses.replace(architecture, preprocessing=prepared)
    table = SIGLIP_NAMES if kind == "siglip" else CLIP_NAMES
    ignored = [name for name in weights if name.endswith("embeddings.position_ids")]
    return lazy.checkpoint(lazy.Found(source, "huggingface", folder, files, weights), architecture, table, ignored)


def _needed(folder: Path, name: str) -> Path:
    file = find(folder, name)
    if file is None:
        raise CheckpointError(f"{folder} has no {name}; it holds {listing(folder)}")
    return file


def _why_not(kind: str) -> str:
    if kind == "siglip2":
        return (
            "SigLIP2 NaFlex takes pictures of any shape; use a SigLIP2 of a fixed resolution, such as ...-patch16-256"
        )
    if re.fullmatch(r"(clip|siglip|metaclip_2)_(text|vision)_model", kind):
        return "it holds one tower only, and awase needs both; use the checkpoint that it was taken from"
    return f"awase reads {', '.join(MODEL_TYPES)}"


def _weight_files(folder: Path, source: str) -> list[Path]:
    if file := find(folder, "model.safetensors"):
        return [file]
    if index := find(folder, "model.safetensors.index.json", "pytorch_model.bin.index.json"):
        return shards(index)
    if file := find(folder, "pytorch_model.bin"):
        return [file]
    raise CheckpointError(
        f"{source} has a config.json but no weights; expected model.safetensors (whole or in parts) or "
        f"pytorch_model.bin, found {listing(folder)}"
    )


def _tower(config: Settings, side: str) -> Settings:
    """A tower's settings. Files of 2022 hold them twice, and transformers believes the second place."""
    second = f"{side}_config_dict"
    return config.section(second if second in config else f"{side}_config")


def _clip(config: Settings) -> Architecture:
    vision, text = _tower(config, "vision"), _tower(config, "text")
    size = vision.whole("image_size", 224)
    image = VisionTransformer(
        size,
        vision.whole("patch_size", 32),
        vision.whole("hidden_size", 768),
        vision.whole("num_hidden_layers", 12),
        vision.whole("num_attention_heads", 12),
        vision.whole("intermediate_size", 3072),
        vision.choice("hidden_act", ACTIVATIONS, "quick_gelu"),
        norm_epsilon=vision.number("layer_norm_eps", 1e-5),
    )
    words = TextTransformer(
        text.whole("max_position_embeddings", 77),
        text.whole("vocab_size", 49408),
        text.whole("hidden_size", 512),
        text.whole("num_hidden_layers", 12),
        text.whole("num_attention_heads", 8),
        text.whole("intermediate_size", 2048),
        text.choice("hidden_act", ACTIVATIONS, "quick_gelu"),
        norm_epsilon=text.number("layer_norm_eps", 1e-5),
    )
    own_tokenizer = config.text("model_type") == "metaclip_2"
    rule = TextRule("huggingface" if own_tokenizer else "clip_hf", words.context)
    prepared = Preprocessing(size, rgb_first=True, crop="floor")
    dimension = config.whole("projection_dim", 512)
    return Architecture("", image, words, dimension, prepared, rule, languages=languages_of(words.vocabulary))


def _siglip(config: Settings, weights: Weights) -> Architecture:
    vision, text = _tower(config, "vision"), _tower(config, "text")
    size, width = vision.whole("image_size", 224), vision.whole("hidden_size", 768)
    image = VisionTransformer(
        size,
        vision.whole("patch_size", 16),
        width,
        vision.whole("num_hidden_layers", 12),
        vision.whole("num_attention_heads", 12),
        vision.whole("intermediate_size", 3072),
        vision.choice("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh"),
        "attention",
        vision.number("layer_norm_eps", 1e-6),
    )
    words = TextTransformer(
        text.whole("max_position_embeddings", 64),
        text.whole("vocab_size", 32_000),
        text.whole("hidden_size", 768),
        text.whole("num_hidden_layers", 12),
        text.whole("num_attention_heads", 12),
        text.whole("intermediate_size", 3072),
        text.choice("hidden_act", ACTIVATIONS, "gelu_pytorch_tanh"),
        causal=False,
        pooling="last",
        projection="linear" if "text_model.head.weight" in weights else "none",  # so400m-i18n has none
        norm_epsilon=text.number("layer_norm_eps", 1e-6),
    )
    rule = TextRule("siglip2" if words.vocabulary == 256_000 else "siglip", words.context, fixed_length=True)
    half = (0.5, 0.5, 0.5)
    prepared = Preprocessing(size, "squash", rgb_first=True, crop="floor", mean=half, std=half)
    return Architecture("", image, words, width, prepared, rule, "sigmoid", languages_of(words.vocabulary))


# ---- writing -------------------------------------------------------------------------------------------------------


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes what `from_pretrained` reads: config.json, model.safetensors, preprocessor_config.json, the tokenizer.

    Raises CheckpointError for towers that no class of transformers has (a ResNet, awase's own, another library's)."""
    architecture = checkpoint.architecture
    kind = class_of(architecture, checkpoint.source)
    table = SIGLIP_NAMES if kind == "Siglip" else CLIP_NAMES
    tensors = names.write(names.entries(architecture, table), checkpoint.load())
    if kind == "Siglip" and "text_model.head.weight" not in tensors:  # the class has one; this one changes nothing
        tensors["text_model.head.weight"] = np.eye(architecture.dimension, dtype=np.float32)
        tensors["text_model.head.bias"] = np.zeros(architecture.dimension, np.float32)
    write_safetensors(folder / "model.safetensors", tensors)
    write_settings(folder / "config.json", _configuration(architecture, kind))
    write_settings(folder / "preprocessor_config.json", processor_of(architecture.preprocessing, kind))
    copy_tokenizer(checkpoint.folder, folder)
    if kind == "CLIP" and not (folder / "tokenizer.json").exists() and not (folder / "vocab.json").exists():
        _write_clip_tokenizer(folder, architecture.text_rule.context)


def class_of(architecture: Architecture, source: str) -> Literal["CLIP", "Siglip"]:
    image, text = architecture.image, architecture.text
    if isinstance(image, VisionTransformer) and isinstance(text, TextTransformer):
        clip = image.pooling == "class" and text.causal and text.pooling == "end" and text.projection == "matrix"
        if clip and architecture.scoring == "softmax" and architecture.text_rule.kind != "huggingface":
            return "CLIP"
        siglip = image.pooling == "attention" and not text.causal and text.pooling == "last"
        if siglip and architecture.scoring == "sigmoid" and text.projection != "matrix":
            return "Siglip"
    raise CheckpointError(
        f"{source} ({architecture.name}) has towers that no CLIPModel or SiglipModel has, so it cannot be written in "
        "Hugging Face's layout; layout 'awase' holds every model"
        + (", 'open_clip' this one too" if isinstance(image, ModifiedResNet) else "")
    )


def _configuration(architecture: Architecture, kind: Literal["CLIP", "Siglip"]) -> dict[str, Any]:
    image, text = architecture.image, architecture.text
    if not isinstance(image, VisionTransformer) or not isinstance(text, TextTransformer):
        raise CheckpointError(f"{architecture.name} has no class in transformers")
    model = kind.lower()
    return {
        "architectures": [f"{kind}Model"],
        "model_type": model,
        "torch_dtype": "float32",
        **({"projection_dim": architecture.dimension} if kind == "CLIP" else {}),
        "vision_config": {
            "model_type": f"{model}_vision_model",
            "image_size": image.image_size,
            "patch_size": image.patch_size,
            **_sizes(image, architecture.dimension, kind),
        },
        "text_config": {
            "model_type": f"{model}_text_model",
            "max_position_embeddings": text.context,
            "vocab_size": text.vocabulary,
            **_sizes(text, architecture.dimension, kind),
            **_special_ids(text, kind),
            **({"projection_size": architecture.dimension} if kind == "Siglip" else {}),
        },
    }


def _sizes(tower: VisionTransformer | TextTransformer, dimension: int, kind: str) -> dict[str, Any]:
    return {
        "hidden_size": tower.width,
        "num_hidden_layers": tower.layers,
        "num_attention_heads": tower.heads,
        "intermediate_size": tower.mlp_width,
        "hidden_act": _ACTIVATION_NAMES[tower.activation],
        "layer_norm_eps": tower.norm_epsilon,
        **({"projection_dim": dimension} if kind == "CLIP" else {}),
    }


def _special_ids(text: TextTransformer, kind: str) -> dict[str, int]:
    """CLIP's start and end tokens are the last two; CLIPModel looks for the end token by its id."""
    if kind == "Siglip":
        return {"bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0 if text.vocabulary == 256_000 else 1}
    end = text.vocabulary - 1
    return {"bos_token_id": end - 1, "eos_token_id": end, "pad_token_id": end}


def _write_clip_tokenizer(folder: Path, context: int) -> None:
    """CLIP's vocabulary and merges in the files from which transformers builds its tokenizer."""
    vocabulary, merges = clip_vocabulary()
    start, end = "<|startoftext|>", "<|endoftext|>"
    (folder / "vocab.json").write_text(json.dumps(vocabulary, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    write_settings(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "CLIPTokenizer", "model_max_length": context, "do_lower_case": True, **special},
    )
    write_settings(folder / "special_tokens_map.json", special)


def clip_vocabulary() -> tuple[dict[str, int], list[str]]:
    """OpenAI's, as transformers writes it down: symbols and their ids, merges in their order."""
    merges = gzip.decompress(BUILT_IN.read_bytes()).decode().split("\n")
    symbols = byte_symbols()
    words = [*symbols, *(f"{symbol}</w>" for symbol in symbols), *(merge.replace(" ", "") for merge in merges)]
    return {word: number for number, word in enumerate([*words, "<|startoftext|>", "<|endoftext|>"])}, merges
