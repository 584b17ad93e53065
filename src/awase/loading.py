"""From a name, a path or nothing to a Clip: the checkpoint, its engine, its tokenizer, and adapters on top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

from awase.adapter_files import read_adapter
from awase.clip import Clip
from awase.encoding.checkpoints import Checkpoint, open_checkpoint
from awase.encoding.engines import open_engine
from awase.encoding.pictures import Limits
from awase.encoding.scoring import scoring_of
from awase.encoding.tokenizers import open_tokenizer
from awase.errors import UsageError

BUNDLED = "awase"
MOST_THREADS = 1024  # beyond any machine that this runs on; engines fail in their own ways on more
Folder = str | PathLike[str]


def load(
    model: Folder | Checkpoint | None = None,
    *,
    engine: str = "auto",
    precision: str = "fp32",
    threads: int | None = None,
    limits: Limits | None = None,
    fast: bool = False,
    adapter: Folder | Sequence[Folder] = (),
) -> Clip:
    """Opens a model: None or "awase" is the bundled one, else a directory or file in any published layout, or a hub
    name.

    engine: "auto", "onnxruntime", "openvino", "torch" or "torch:DEVICE". precision: "fp32", "int8", "bf16" or "fp16".
    threads: cores the engine may use, all by default. adapter: folders of adapters, put on one after the other.
    Raises CheckpointError, EngineError, MissingExtra."""
    _check_settings(engine, precision, threads, limits)
    adapters = [read_adapter(folder) for folder in ([adapter] if isinstance(adapter, str | PathLike) else adapter)]
    checkpoint = model if isinstance(model, Checkpoint) else checkpoint_of(model)
    clip = Clip(
        checkpoint,
        open_engine(checkpoint, engine, precision, threads),
        open_tokenizer(checkpoint.architecture.text_rule, checkpoint.folder),
        scoring_of(checkpoint),
        limits or Limits(),
        fast,
    )
    for learned in adapters:
        clip = learned.on(clip)
    return clip


def checkpoint_of(model: Folder | None) -> Checkpoint:
    """What a name, a path or None (the bundled model) stands for."""
    if not isinstance(model, str | PathLike | None) or model == "":
        raise UsageError(f"the model {model!r} is no path and no name; leave it out for the bundled model")
    if model is None or model == BUNDLED:
        return replace(open_checkpoint(Path(__file__).parent / "encoding" / "bundled"), source=BUNDLED)
    return open_checkpoint(model if isinstance(model, str) else Path(model))


def _check_settings(engine: object, precision: object, threads: object, limits: object) -> None:
    if not isinstance(engine, str) or not isinstance(precision, str):
        raise UsageError(f"engine {engine!r}, precision {precision!r}: both are names, such as 'auto' and 'fp32'")
    if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
        raise UsageError(f"threads {threads!r}: a whole number from 1 to {MOST_THREADS}, or None for all cores")
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits {limits!r}: give awase.Limits(...)")
