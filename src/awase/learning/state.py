"""The state of a run, on disk: what must be known at a step to go on from it as if nothing had happened.

    FOLDER/step-00000500.safetensors    weights, the optimiser's memory, their moving average; facts and a checksum of
                                        all in its header
    FOLDER/step-00000500/               the same where the weights are sharded: torch's distributed checkpoint, and
                                        facts.json and checksums.json beside it
    FOLDER/log.jsonl                    one line a step: the parts of the loss, gradient, rate, seconds

A state has its name only when it is whole, and until then the one before stays: whenever a run is killed, one can be
loaded. That one stays further, for a bit that the disk flips; older ones go before a new one is written, so there is
never room needed for a third. What is random in a step depends on the seed and the step's number alone, so no generator
is kept."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor, distribute_tensor

from awase.encoding.checkpoints.safetensors_file import os_error
from awase.errors import CheckpointError, UsageError
from awase.learning.averaging import Average
from awase.learning.checksums import checksum, note_checksums, refuse_changed
from awase.learning.distributed import rank, same_everywhere, wait_for_all

Facts = dict[str, Any]
_NAME = re.compile(r"step-(\d{8,})(\.safetensors)?")
_PARTIAL = ".partial"


def tensors_of(
    weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, average: Average | None
) -> dict[str, Tensor]:
    """Everything that changes in training, by name; the tensors themselves, not copies."""
    found = {f"weights.{name}": weight.detach() for name, weight in weights.items()}
    for name, weight in weights.items():
        for key, value in optimiser.state.get(weight, {}).items():
            found[f"optimiser.{key}.{name}"] = value
    if average is not None:
        found |= {f"average.{name}": tensor for name, tensor in average.tensors.items()}
    return found


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], facts: Facts, before: Path | None) -> Path:
    """Writes the state before step `step`, and gives its path; every process calls it. before: the last state that is
    known to be good; all others are removed first. Raises OSError when the disk refuses."""
    sharded = any(isinstance(tensor, DTensor) for tensor in tensors.values())
    whole = folder / (f"step-{step:08d}" + ("" if sharded else ".safetensors"))
    partial = whole.with_name(whole.name + _PARTIAL)
    try:
        if rank() == 0:
            _remove_all_but(folder, before)
        if sharded:
            _save_sharded(partial, tensors, facts)
        elif rank() == 0:
            _save_file(partial, tensors, facts)
        if rank() == 0:
            os.replace(partial, whole)
            _flush(folder)
    finally:
        wait_for_all()
    return whole


def kept(folder: Path) -> list[Path]:
    """The states that have their names, the last one first."""
    found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.name[5:].split(".")[0]), reverse=True)


def facts_of(state: Path) -> Facts:
    """What stands beside the tensors, after a look at every byte. Raises CheckpointError where the state is damaged."""
    try:
        facts = _sharded_facts(state) if state.is_dir() else _file_facts(state)
        return {name: facts[name] for name in ("step", "settings", "passed_over", "half")}
    except Exception as problem:  # safetensors has an error of its own for each kind of damage
        raise CheckpointError(f"{state} is damaged ({problem})") from problem


def load(state: Path, weights: Mapping[str, Tensor], optimiser: torch.optim.Optimizer, average: Average | None) -> None:
    """Puts a state's tensors where they were. Raises UsageError where they are not of these weights, CheckpointError
    where the state is damaged; nothing is changed then."""
    shapes = {f"weights.{name}": weight for name, weight in weights.items()}
    if average is not None:
        shapes |= {f"average.{name}": weight for name, weight in weights.items()}
    tensors = _load_sharded(state, weights) if state.is_dir() else _split_as(weights, _load_file(state))
    for name, weight in shapes.items():
        if name not in tensors or tensors[name].shape != weight.shape:
            raise UsageError(f"{state} holds no {name} of shape {tuple(weight.shape)}: it is another model's run")
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(tensors[f"weights.{name}"])
            if average is not None:
                average.tensors[name].copy_(tensors[f"average.{name}"])
    _restore(optimiser, weights, tensors)


def _restore(optimiser: torch.optim.Optimizer, weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    names = {weight: name for name, weight in weights.items()}
    given, memory = optimiser.state_dict(), {}
    numbers = [weight for group in optimiser.param_groups for weight in group["params"]]
    for number, weight in enumerate(numbers):
        kept = {key: tensors.get(f"optimiser.{key}.{names[weight]}") for key in ("step", "exp_avg", "exp_avg_sq")}
        if kept["step"] is not None:  # a weight that had no gradient yet has no memory
            memory[number] = kept
    optimiser.load_state_dict({**given, "state": memory})


# ---- one file --------------------------------------------------------------------------------------------------------


def _save_file(partial: Path, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    text = json.dumps(facts)
    header = {"facts": text, "sha256": checksum(text, sorted(tensors.items()))}
    try:
        save_file({n: t.contiguous() for n, t in tensors.items()}, partial, header)
    except SafetensorError as problem:  # which is no OSError when the disk is full
        partial.unlink(missing_ok=True)
        raise os_error(problem, partial) from problem
    _flush(partial)


def _file_facts(state: Path) -> Facts:
    with safe_open(state, "pt") as file:
        header = file.metadata()
        if header["sha256"] != checksum(header["facts"], ((n, file.get_tensor(n)) for n in sorted(file.keys()))):
            raise ValueError("its checksum is another")
    facts: Facts = json.loads(header["facts"])
    return facts


def _load_file(state: Path) -> dict[str, Tensor]:
    try:
        with safe_open(state, "pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as problem:
        raise CheckpointError(f"{state} is damaged ({problem})") from problem


def _flush(path: Path) -> None:
    """Has the system write a file, or the names in a folder, to the disk itself."""
    if path.is_dir() and os.name == "nt":
        return
    number = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _remove_all_but(folder: Path, good: Path | None) -> None:
    for path in folder.glob("step-*"):
        with suppress(OSError):  # one that stays is in nobody's way
            if path != good:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


# ---- one part a process ----------------------------------------------------------------------------------------------


def _save_sharded(partial: Path, tensors: Mapping[str, Tensor], facts: Facts) -> None:
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.state_dict_saver import save as save_together

    refused = None
    if rank() == 0:
        try:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            (partial / "facts.json").write_text(json.dumps(facts), "utf-8")
        except OSError as problem:
            refused = problem
    if not same_everywhere("refused" if refused else "", next(iter(tensors.values())).device):
        raise refused or OSError(f"{partial}: the first process could not begin to write there")
    try:
        save_together(dict(tensors), checkpoint_id=partial)  # flushes its files to the disk itself
    except CheckpointException as problem:
        raise OSError(f"{partial}: {problem}") from problem
    if rank() == 0:
        _flush(note_checksums(partial))


def _sharded_facts(state: Path) -> Facts:
    refuse_changed(state)
    facts: Facts = json.loads((state / "facts.json").read_text("utf-8"))
    return facts


def _load_sharded(state: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Into new tensors that are sharded as the weights are, by however many processes there are now."""
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.state_dict_loader import load as load_together

    stored = FileSystemReader(state).read_metadata().state_dict_metadata
    tensors: dict[str, Tensor] = {}
    for key in stored:
        kind, name = _kind_and_name(key)
        if name in weights:
            tensors[key] = torch.zeros(()) if kind == "step" else torch.zeros_like(weights[name]).detach()
    load_together(tensors, checkpoint_id=state)
    return tensors


def _split_as(weights: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state of whole tensors among processes that now hold parts of the weights."""
    found = dict(tensors)
    for key, tensor in tensors.items():
        kind, name = _kind_and_name(key)
        weight = weights.get(name)
        if isinstance(weight, DTensor) and kind != "step" and tensor.shape == weight.shape:
            found[key] = distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements)
    return found


def _kind_and_name(key: str) -> tuple[str, str]:
    """ "optimiser.exp_avg.image.stem.weight" -> ("exp_avg", "image.stem.weight")."""
    kind, name = key.removeprefix("optimiser.").split(".", 1)
    return kind, name


# ---- the log ---------------------------------------------------------------------------------------------------------


class Log:
    """FOLDER/log.jsonl. Opening it for a step drops what was told of that step and later ones: they come again."""

    def __init__(self, folder: Path, step: int) -> None:
        file = folder / "log.jsonl"
        kept = 0
        for line in file.read_bytes().splitlines(keepends=True) if file.is_file() else []:
            entry = _entry(line)
            if entry is None or entry["step"] >= step:
                break
            kept += len(line)
        file.touch()
        os.truncate(file, kept)
        self._file = file.open("a", encoding="utf-8")

    def add(self, line: Mapping[str, Any]) -> None:
        """A value that is not finite is written as null, which every reader of JSON knows."""
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in line.items()}
        self._file.write(json.dumps(plain) + "\n")
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a run's log."""
    return read_lines(folder / "log.jsonl")


def read_lines(file: Path) -> list[dict[str, Any]]:
    """The objects of a JSON lines file, each with its "step"; a line that a kill cut short is left out."""
    lines = file.read_bytes().splitlines(keepends=True) if file.is_file() else []
    return [entry for line in lines if (entry := _entry(line)) is not None]


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None
