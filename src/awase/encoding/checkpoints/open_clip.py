"""OpenCLIP's folders: open_clip_config.json and one file of weights, of plain CLIPs, custom text towers and SigLIP.

An image tower of timm's is read into awase's own ViT where it is SigLIP's; any other tower that timm or transformers
owns stays theirs (`ExternalTower`), its tensors under their names below `image.` and `text.`.
"""

from __future__ import annotations

import json
from pathlib import Path

from awase.encoding.checkpoints import lazy, names, openai
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.checkpoints.folder import copy_tokenizer, find, listing, read_weights
from awase.encoding.checkpoints.huggingface import clip_vocabulary
from awase.encoding.checkpoints.names import Table
from awase.encoding.checkpoints.open_clip_config import architecture_of, configuration_of
from awase.encoding.checkpoints.safetensors_file import write_safetensors
from awase.encoding.checkpoints.settings import read_settings, write_settings
from awase.encoding.families import (
    Architecture,
    ExternalTower,
    TextTransformer,
    VisionTransformer,
)
from awase.encoding.tokenizers import open_tokenizer
from awase.errors import CheckpointError

CONFIG = "open_clip_config.json"
# OpenCLIP's own order of preference.
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
_TRUNK_BLOCK = {
    "norm1": "norm1",
    "attention.qkv": "attn.qkv",
    "attention.out": "attn.proj",
    "norm2": "norm2",
    "mlp.up": "mlp.fc1",
    "mlp.down": "mlp.fc2",
}
SIGLIP_IMAGE_NAMES = {
    "image.patch": "visual.trunk.patch_embed.proj",
    "image.positions": "visual.trunk.pos_embed[1]",
    **{f"image.blocks.#.{own}": f"visual.trunk.blocks.#.{name}" for own, name in _TRUNK_BLOCK.items()},
    "image.norm": "visual.trunk.norm",
    "image.pool.probe": "visual.trunk.attn_pool.latent[1][1]",
    "image.pool.attention.qkv.weight": "visual.trunk.attn_pool.q.weight + 2*visual.trunk.attn_pool.kv.weight",
    "image.pool.attention.qkv.bias": "visual.trunk.attn_pool.q.bias + 2*visual.trunk.attn_pool.kv.bias",
    "image.pool.attention.out": "visual.trunk.attn_pool.proj",
    "image.pool.norm": "visual.trunk.attn_pool.norm",
    "image.pool.mlp.up": "visual.trunk.attn_pool.mlp.fc1",
    "image.pool.mlp.down": "visual.trunk.attn_pool.mlp.fc2",
}


def read(folder: Path, source: str) -> Checkpoint:
    """Raises CheckpointError for settings that awase's towers do not have, TensorMismatch where weights and
    configuration differ."""
    file = find(folder, CONFIG)
    if file is None:
        raise CheckpointError(f"{source} has no {CONFIG}; it holds {listing(folder)}")
    whole = read_settings(file)
    model = whole.section("model_cfg") if "model_cfg" in whole else whole
    if "multimodal_cfg" in model:
        raise CheckpointError(
            f"{source} is a CoCa, with a decoder beside its two towers; awase reads models without one"
        )
    weights_file = _weights_file(folder, source)
    weights = read_weights(weights_file)
    architecture = architecture_of(model, whole.section("preprocess_cfg"), weights, source)
    table = names_of(architecture, "text." if "text.ln_final.weight" in weights else "")
    external: dict[str, str] = {}
    for side, theirs in (("image", "visual."), ("text", "text.")):
        if isinstance(getattr(architecture, side), ExternalTower):
            external |= {f"{side}.{n.removeprefix(theirs)}": n for n in weights if n.startswith(theirs)}
    ignored = [name for name in weights if name == "attn_mask" or name.endswith("embeddings.position_ids")]
    external = {own: name for own, name in external.items() if name not in ignored}
    found = lazy.Found(source, "open_clip", folder, [weights_file], weights)
    return lazy.checkpoint(found, architecture, table, [*ignored, *openai.EXTRAS], external)


def names_of(architecture: Architecture, prefix: str = "") -> Table:
    """Where OpenCLIP keeps the tensors of awase's own towers; `prefix` is that of the text tower."""
    siglip = isinstance(architecture.image, VisionTransformer) and architecture.image.pooling == "attention"
    table = {"logit_scale": "logit_scale", "logit_bias": "logit_bias", **openai.text_names(prefix)}
    table |= SIGLIP_IMAGE_NAMES if siglip else openai.image_names(architecture.image)
    if isinstance(architecture.text, TextTransformer) and architecture.text.projection == "linear":
        table["text.projection"] = f"{prefix}text_projection"
        del table["text.projection.weight"]
    return table


def _weights_file(folder: Path, source: str) -> Path:
    others = sorted(path.name for end in ("safetensors", "bin", "pth", "pt") for path in folder.glob(f"*.{end}"))
    others.sort(key=lambda name: not name.endswith(".safetensors"))
    file = find(folder, *WEIGHT_FILES, *others)
    if file is None:
        raise CheckpointError(
            f"{source} has an {CONFIG} but no weights; expected {WEIGHT_FILES[0]} or another .safetensors, .bin, .pth "
            f"or .pt, found {listing(folder)}"
        )
    return file


# ---- writing -------------------------------------------------------------------------------------------------------


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes what `open_clip.create_model("local-dir:FOLDER")` reads.

    OpenCLIP knows SigLIP's image towers by timm's names, which fix the activation: where Hugging Face's files say
    the approximate GELU and timm's the exact one, vectors differ in the eighth decimal of their cosine.
    Raises CheckpointError for towers that OpenCLIP does not have, and for a vocabulary of the model's own."""
    architecture = checkpoint.architecture
    _refuse_other_vocabulary(checkpoint)
    configuration = configuration_of(architecture, checkpoint.source)
    prefix = "text." if configuration["model_cfg"].get("custom_text") else ""
    listed = names.entries(architecture, names_of(architecture, prefix))
    write_safetensors(folder / WEIGHT_FILES[0], names.write(listed, checkpoint.load()))
    write_settings(folder / CONFIG, configuration)
    copy_tokenizer(checkpoint.folder, folder)


def _refuse_other_vocabulary(checkpoint: Checkpoint) -> None:
    """OpenCLIP gives a CLIP OpenAI's vocabulary unless a configuration names a tokenizer of transformers', and then it
    fills sentences up and finds their end in another way: vectors would change without a word."""
    rule = checkpoint.architecture.text_rule
    if rule.kind == "sentencepiece" or (rule.kind == "clip_hf" and not _is_openais(checkpoint)):
        raise CheckpointError(
            f"{checkpoint.source} brings a vocabulary of its own, which OpenCLIP would not use for these towers, so "
            "that the copy would read other tokens; layouts 'awase' and 'huggingface' keep it"
        )


def _is_openais(checkpoint: Checkpoint) -> bool:
    """Whether the vocabulary's files beside a Hugging Face CLIP, if there are any, say what OpenAI's do."""
    files = open_tokenizer(checkpoint.architecture.text_rule, checkpoint.folder).files
    try:
        if files[0].name == "tokenizer.json":
            described = json.loads(files[0].read_bytes())
            added = {token["content"]: token["id"] for token in described.get("added_tokens", [])}
            vocabulary, lines = described["model"]["vocab"] | added, described["model"]["merges"]
        elif files[0].name == "vocab.json":
            vocabulary, lines = json.loads(files[0].read_bytes()), files[1].read_text("utf-8").split("\n")
        else:
            return True  # none: the one that awase brings
        merges = [line if isinstance(line, str) else " ".join(line) for line in lines]
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(f"{files[0]} cannot be used as a vocabulary ({problem!r}); fetch it again") from problem
    return (vocabulary, [line for line in merges if line and not line.startswith("#version")]) == clip_vocabulary()
