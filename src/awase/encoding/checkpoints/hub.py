"""Checkpoints by their name on the Hugging Face Hub, fetched once into its cache. Only data is fetched, never code."""

from __future__ import annotations

import re
from pathlib import Path

from awase.errors import CheckpointError

PREFIX = "hf-hub:"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
SMALL_FILES = ("*.json", "merges.txt", "*.model")
# For each layout, the weights that its reader takes, the best first.
OPEN_CLIP_WEIGHTS = (
    ("open_clip_model.safetensors", "open_clip_pytorch_model.safetensors"),
    ("open_clip_pytorch_model.bin",),
)
HUGGINGFACE_WEIGHTS = (("model.safetensors", "model-*.safetensors"), ("pytorch_model.bin", "pytorch_model-*.bin"))
# What OpenAI calls its models, and the same weights on the hub.
OPENAI_NAMES = {
    "ViT-B/32": "openai/clip-vit-base-patch32",
    "ViT-B/16": "openai/clip-vit-base-patch16",
    "ViT-L/14": "openai/clip-vit-large-patch14",
    "ViT-L/14@336px": "openai/clip-vit-large-patch14-336",
}


def is_hub_name(source: str) -> bool:
    """Whether this is written as a name on the hub ("org/model", "hf-hub:org/model") or one of OpenAI's names."""
    return source in OPENAI_NAMES or NAME.fullmatch(source.removeprefix(PREFIX)) is not None


def fetch(source: str) -> Path:
    """The folder of a hub checkpoint, downloaded where it is not in the hub's cache yet.

    Raises CheckpointError without a network, or where the hub has no such model."""
    name = OPENAI_NAMES.get(source, source).removeprefix(PREFIX)
    folder = _download(name, SMALL_FILES)
    weights = OPEN_CLIP_WEIGHTS if (folder / "open_clip_config.json").exists() else HUGGINGFACE_WEIGHTS
    for patterns in weights:
        folder = _download(name, patterns)
        if any(match for pattern in patterns for match in folder.glob(pattern)):
            return folder
    raise CheckpointError(f"{source} has none of the files of weights that awase reads ({weights[0][0]}, ...)")


def _download(name: str, patterns: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(patterns)))
    except (LocalEntryNotFoundError, HfHubHTTPError, ValueError, OSError) as problem:
        raise CheckpointError(
            f"{name} is not a folder or file here, and could not be fetched from the Hugging Face Hub "
            f"({str(problem).splitlines()[0][:200] if str(problem) else type(problem).__name__}). Check the name and "
            "the network; without one, copy the checkpoint's folder to this machine and give its path."
        ) from problem
