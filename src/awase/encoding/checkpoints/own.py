"""awase's own folder: config.json (an `Architecture` and "format": 1), model.safetensors, the tokenizer beside it.

A tensor may be stored in half precision, or as int8 with one scale for each row under NAME.scale; reading gives
float32 either way."""

from __future__ import annotations

import dataclasses
import types
import typing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from awase.encoding.checkpoints.checkpoint import Checkpoint, refuse_mismatch, settings_of
from awase.encoding.checkpoints.folder import copy_tokenizer, find, fingerprint, listing
from awase.encoding.checkpoints.lazy import refuse_absurd
from awase.encoding.checkpoints.safetensors_file import read_safetensors, write_safetensors
from awase.encoding.checkpoints.settings import MOST_WHOLE, Settings, write_settings
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import Architecture, from_json, to_json
from awase.errors import CheckpointError

FORMAT = 1
WEIGHTS = "model.safetensors"
SCALE = ".scale"


def read(folder: Path, config: Settings, source: str) -> Checkpoint:
    """Raises CheckpointError for another format or impossible settings, TensorMismatch where the weights differ."""
    if config.whole("format") != FORMAT:
        raise CheckpointError(
            f"{source} is of format {config.values['format']} and this awase reads format {FORMAT}; update awase"
        )
    fields = {field.name for field in dataclasses.fields(Architecture)}
    architecture = from_json({key: value for key, value in config.values.items() if key in fields})
    refuse_unfit(architecture, config.place, "it was changed by hand")
    refuse_absurd(architecture, source)
    file = find(folder, WEIGHTS)
    if file is None:
        raise CheckpointError(f"{source} has no {WEIGHTS}; it holds {listing(folder)}")
    weights = read_safetensors(file)
    scales = _scales(weights, source)
    found = {name: tensor.shape for name, tensor in weights.items() if name not in scales.values()}
    if not architecture.external:
        refuse_mismatch(architecture.tensors(), found, source, architecture.name)

    stamp = fingerprint([file], settings_of(architecture))
    return Checkpoint(architecture, stamp, source, "awase", folder, partial(_load, weights, list(found), scales))


def write(checkpoint: Checkpoint, folder: Path) -> None:
    """Writes any checkpoint, in float32, with the files of its tokenizer."""
    write_safetensors(folder / WEIGHTS, checkpoint.load())
    write_settings(folder / "config.json", {"format": FORMAT, **to_json(checkpoint.architecture)})
    copy_tokenizer(checkpoint.folder, folder)


def _scales(weights: Weights, source: str) -> dict[str, str]:
    """Name of an int8 tensor -> name of its scales."""
    scales = {}
    for name, tensor in weights.items():
        if tensor.dtype == "int8":
            scale = weights.get(name + SCALE)
            if scale is None or not tensor.shape or scale.size != tensor.shape[0]:
                raise CheckpointError(
                    f"{source}: tensor {name} is int8 and needs {name}{SCALE}, one number for each row"
                )
            scales[name] = name + SCALE
    return scales


def _load(weights: Weights, stored: list[str], scales: dict[str, str]) -> dict[str, np.ndarray]:
    return {name: _read(weights, name, scales.get(name)) for name in stored}


def _read(weights: Weights, name: str, scale: str | None) -> np.ndarray:
    values = weights[name].read().astype(np.float32, copy=False)
    if scale is not None:
        values *= weights[scale].read().astype(np.float32).reshape(-1, *[1] * (values.ndim - 1))
    return values


def refuse_unfit(settings: Any, place: str, remedy: str) -> None:
    """Raises CheckpointError unless every field of a dataclass is of the type that it is declared with."""
    hints = typing.get_type_hints(type(settings))
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if dataclasses.is_dataclass(value):
            refuse_unfit(value, f"{place}, {field.name}", remedy)
        elif not _fits(value, hints[field.name]):
            raise CheckpointError(f"{place}: {field.name} is {str(value)[:100]!r}, which cannot be; {remedy}")


def _fits(value: Any, hint: Any) -> bool:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return isinstance(value, str | int | float | bool | None | tuple)
    if origin is typing.Literal:
        return isinstance(value, str) and value in inner
    if origin in (typing.Union, types.UnionType):
        return any(_fits(value, option) for option in inner)
    if origin is tuple:
        if not isinstance(value, tuple) or len(value) > 1000:
            return False
        each = [inner[0]] * len(value) if inner[-1] is Ellipsis else list(inner)
        return len(value) == len(each) and all(map(_fits, value, each))
    if hint is int:
        return type(value) is int and 0 <= value <= MOST_WHOLE
    if hint is float:
        return type(value) in (int, float) and -1e6 < value < 1e6
    return type(value) is hint
