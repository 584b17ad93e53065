"""Checkpoints: recognise, read and write every published layout; nothing in a file is ever executed.

    checkpoint = open_checkpoint("openai/clip-vit-base-patch32")    # a hub name, a folder or OpenAI's .pt
    write_checkpoint(checkpoint, Path("mine"), "open_clip")

`openai`, `open_clip`, `huggingface` and `own` hold one map of names each; `archive` and `pickles` read torch's files
without torch, `safetensors_file` the safe ones; `settings` and `folder` are where a stranger's word is checked.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from awase.encoding.checkpoints import hub, huggingface, open_clip, openai, own
from awase.encoding.checkpoints.checkpoint import Checkpoint, check_tensors, in_memory
from awase.encoding.checkpoints.folder import appearing, find, listing, read_weights
from awase.encoding.checkpoints.settings import read_settings
from awase.errors import CheckpointError, UsageError

__all__ = ["Checkpoint", "Layout", "check_tensors", "in_memory", "open_checkpoint", "write_checkpoint"]

Layout = Literal["huggingface", "open_clip", "awase"]
LAYOUTS = (
    "a folder with open_clip_config.json (OpenCLIP), a folder with config.json (Hugging Face's CLIPModel or "
    "SiglipModel, or awase's own), or a .pt file of OpenAI's"
)


def open_checkpoint(source: str | Path) -> Checkpoint:
    """Recognises a checkpoint and checks its names and shapes; the weights are read at `load()`.

    source: a folder, a file, or a name on the Hugging Face Hub ("openai/clip-vit-base-patch32", "hf-hub:laion/...").
    Raises CheckpointError where there is none or it is damaged, UnsafeCheckpoint where it asks for code to be run,
    TensorMismatch where its tensors are not those of its family."""
    name = str(source)
    path = Path(name.removeprefix("local-dir:"))
    try:
        if path.is_dir():
            return _open_folder(path, name)
        if path.is_file():
            return _open_file(path, name)
        if isinstance(source, str) and hub.is_hub_name(source):
            return _open_folder(hub.fetch(source), name)
    except OSError as problem:
        raise CheckpointError(f"{name} could not be read: {problem}") from problem
    raise CheckpointError(f"{name} is neither a folder nor a file; awase reads {LAYOUTS}, or a name such as org/model")


def write_checkpoint(checkpoint: Checkpoint, folder: str | Path, layout: Layout) -> None:
    """Writes a new folder in a layout, in float32; it appears when all of it is written.

    Raises UsageError where the folder has content, CheckpointError where the layout has no such towers, or no place for
    learned words."""
    learned = checkpoint.architecture.text_rule.words or any(getattr(checkpoint.architecture.image, "prompts", ()))
    if learned and layout != "awase":
        raise CheckpointError(f"{checkpoint.source} has learned words or prompts, which only layout 'awase' can hold")
    write = {"huggingface": huggingface.write, "open_clip": open_clip.write, "awase": own.write}.get(layout)
    if write is None:
        raise UsageError(f"layout is {layout!r}; awase writes 'huggingface', 'open_clip' and 'awase'")
    with appearing(Path(folder)) as temporary:
        write(checkpoint, temporary)


def _open_folder(folder: Path, name: str) -> Checkpoint:
    """OpenCLIP's layout comes before Hugging Face's where a folder has both: LAION trained with OpenCLIP."""
    if find(folder, open_clip.CONFIG):
        return open_clip.read(folder, name)
    config = find(folder, "config.json")
    if config is None:
        raise CheckpointError(
            f"{name} is no checkpoint that awase knows: it holds {listing(folder)}. Expected {LAYOUTS}"
        )
    settings = read_settings(config)
    if "format" in settings and "text_rule" in settings:
        return own.read(folder, settings, name)
    return huggingface.read(folder, name)


def _open_file(file: Path, name: str) -> Checkpoint:
    """A file alone is taken for OpenAI's; one that lies beside a configuration belongs to its folder."""
    for beside in (open_clip.CONFIG, "config.json"):
        if (file.parent / beside).is_file():
            raise CheckpointError(f"{name} lies beside {beside} and is no checkpoint alone; open its folder")
    return openai.read(file, read_weights(file), name)
