"""An adapter's folder: adapter.json and adapter.safetensors. A stranger's word: all of it is checked, none of it runs.

adapter.json          schema, base, classes, head (all but its arrays), words, low_rank, record, sha256 of the arrays
adapter.safetensors   head.weights (F, C), head.bias (C,), head.cache.keys (K, F), head.cache.values (K, C),
                      words.0 (k, w), low_rank.NAME.a (r, i), low_rank.NAME.b (o, r), weights.NAME
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, get_args

import numpy as np

from awase.adapter import Adapter, Base
from awase.encoding.checkpoints.checkpoint import refuse_not_finite
from awase.encoding.checkpoints.derived import Changes, LowRank
from awase.encoding.checkpoints.folder import appearing, find, listing
from awase.encoding.checkpoints.safetensors_file import read_safetensors, write_safetensors
from awase.encoding.checkpoints.settings import Settings, read_settings, write_settings
from awase.encoding.heads import Cache, Head, Reads
from awase.errors import CheckpointError, UsageError

SCHEMA = 1
DESCRIPTION, ARRAYS = "adapter.json", "adapter.safetensors"
MOST_CLASSES = 100_000
LONGEST_NAME = 1000
LARGEST = 10**6
Tensors = dict[str, np.ndarray]


def write_adapter(adapter: Adapter, folder: str | PathLike[str]) -> None:
    """Writes a new folder, which appears when all of it is written and could be read again. Raises UsageError where it
    has content, CheckpointError where the disk refuses, or the adapter holds what no reader would take."""
    with appearing(Path(folder)) as temporary:
        write_safetensors(temporary / ARRAYS, _arrays(adapter))
        digest = hashlib.sha256((temporary / ARRAYS).read_bytes()).hexdigest()
        write_settings(temporary / DESCRIPTION, {"schema": SCHEMA, "sha256": digest, **_described(adapter)})
        try:
            read_adapter(temporary)
        except CheckpointError as problem:
            raise CheckpointError(str(problem).replace(str(temporary), str(folder))) from problem


def read_adapter(folder: str | PathLike[str]) -> Adapter:
    """Raises CheckpointError where the folder is no adapter, is damaged or holds what cannot be."""
    place = Path(folder)
    try:
        if not place.is_dir():
            raise CheckpointError(f"{place} is no folder; an adapter is one with {DESCRIPTION} and {ARRAYS}")
        settings, arrays = _read_files(place)
    except OSError as problem:
        raise CheckpointError(f"{place} could not be read: {problem}") from problem
    try:
        found = _adapter(settings, arrays)
    except UsageError as problem:
        raise CheckpointError(f"{place}: {problem}; it is damaged or was changed by hand") from problem
    if arrays:
        raise CheckpointError(f"{place}: {ARRAYS} holds more than is described: {', '.join(sorted(arrays)[:5])}")
    return found


# ---- writing ---------------------------------------------------------------------------------------------------------


def _described(adapter: Adapter) -> dict[str, Any]:
    head = adapter.head
    cache = head.cache if head else None
    return {
        "base": vars(adapter.base),
        "classes": {
            "keys": adapter.keys,
            "languages": list(adapter.names),  # in order: the first is the one that is used
            "names": dict(adapter.names),
            "templates": adapter.templates,
        },
        "head": head and {
            "reads": head.reads,
            "temperature": head.temperature,
            "power": head.power,
            "cache": cache and {"alpha": cache.alpha, "beta": cache.beta},
        },
        "words": list(adapter.changes.words),
        "low_rank": {name: change.factor for name, change in adapter.changes.low_rank.items()},
        "weights": list(adapter.changes.weights),
        "record": dict(adapter.record),
    }  # fmt: skip


def _arrays(adapter: Adapter) -> Tensors:
    arrays: Tensors = {}
    if head := adapter.head:
        arrays |= {"head.weights": head.weights, "head.bias": head.bias}
        if head.cache:
            arrays |= {"head.cache.keys": head.cache.keys, "head.cache.values": head.cache.values}
    arrays |= {f"words.{number}": rows for number, rows in enumerate(adapter.changes.words.values())}
    for name, change in adapter.changes.low_rank.items():
        arrays |= {f"low_rank.{name}.a": change.a, f"low_rank.{name}.b": change.b}
    arrays |= {f"weights.{name}": values for name, values in adapter.changes.weights.items()}
    return {name: np.asarray(values, np.float32) for name, values in arrays.items()}


# ---- reading ---------------------------------------------------------------------------------------------------------


def _read_files(folder: Path) -> tuple[Settings, Tensors]:
    description, file = find(folder, DESCRIPTION), find(folder, ARRAYS)
    if description is None or file is None:
        raise CheckpointError(f"{folder} is no adapter: it holds {listing(folder)}, not {DESCRIPTION} and {ARRAYS}")
    settings = read_settings(description)
    if settings.whole("schema") != SCHEMA:
        raise CheckpointError(f"{description} has schema {settings.values['schema']}, and this awase reads {SCHEMA}")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    if digest != settings.text("sha256"):
        raise CheckpointError(f"{file} is not the file that {DESCRIPTION} was written with; copy or make both again")
    arrays = {name: tensor.read() for name, tensor in read_safetensors(file).items()}
    refuse_not_finite(arrays, str(file))
    return settings, arrays


def _adapter(settings: Settings, arrays: Tensors) -> Adapter:
    """Takes what it uses out of `arrays`."""
    base, classes = settings.section("base"), settings.section("classes")
    keys = _texts(classes, "keys")
    names = {language: _texts(classes.section("names"), language) for language in _texts(classes, "languages")}
    if any(len(its) != len(keys) for its in names.values()):
        raise classes.unfit("names", f"{len(keys)} names in each language")
    return Adapter(
        Base(*(base.text(part) for part in ("name", "fingerprint", "tokenizer"))),
        _head(settings.section("head"), keys, names, arrays) if "head" in settings else None,
        _changes(settings, arrays),
        keys,
        names,
        _texts(classes, "templates"),
        settings.section("record").values,
    )


def _head(settings: Settings, keys: tuple[str, ...], names: Mapping[str, tuple[str, ...]], arrays: Tensors) -> Head:
    reads = settings.choice("reads", {reads: reads for reads in get_args(Reads)}, None)
    weights, bias = (_taken(arrays, f"head.{part}") for part in ("weights", "bias"))
    cache = None
    if "cache" in settings:
        told = settings.section("cache")
        cached, values = (_taken(arrays, f"head.cache.{part}") for part in ("keys", "values"))
        cache = Cache(cached, values, _number(told, "alpha"), _number(told, "beta"))
    temperature, power = _number(settings, "temperature", 1.0, above=0), _number(settings, "power", 1.0, 0, most=1)
    return Head(keys, names, reads, weights, bias, temperature, cache, power)


def _changes(settings: Settings, arrays: Tensors) -> Changes:
    literals, tuned, factors = _texts(settings, "words"), _texts(settings, "weights"), settings.section("low_rank")
    low_rank = {}
    for name in factors.values:
        a, b = (_taken(arrays, f"low_rank.{name}.{part}") for part in "ab")
        low_rank[name] = LowRank(a, b, _number(factors, name))
    words = {literal: _taken(arrays, f"words.{number}") for number, literal in enumerate(literals)}
    return Changes(words, low_rank, {name: _taken(arrays, f"weights.{name}") for name in tuned})


def _taken(arrays: Tensors, name: str) -> np.ndarray:
    if name not in arrays:
        raise CheckpointError(f"{ARRAYS} has no {name[:200]}, which {DESCRIPTION} describes; copy or make both again")
    return arrays.pop(name)


def _number(
    settings: Settings, key: str, default: float | None = None, above: int = -LARGEST, most: int = LARGEST
) -> float:
    """A number above one bound and up to another."""
    value = settings.values[key] if key in settings else default
    if isinstance(value, bool) or not isinstance(value, int | float) or not above < value <= most:
        raise settings.unfit(key, f"a number above {above:,} and up to {most:,}")
    return float(value)


def _texts(settings: Settings, key: str) -> tuple[str, ...]:
    """A list of different, short texts."""
    values = settings.values.get(key, [])
    fit = isinstance(values, list) and len(values) <= MOST_CLASSES
    if not fit or not _short(values):
        raise settings.unfit(key, f"a list of at most {MOST_CLASSES} texts of at most {LONGEST_NAME} letters")
    return tuple(values)


def _short(values: Iterable[Any]) -> bool:
    return all(isinstance(value, str) and 0 < len(value) <= LONGEST_NAME for value in values)
