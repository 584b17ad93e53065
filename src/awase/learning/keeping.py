"""A run that can be killed at any time: when its state is put on disk, and how the same call goes on from there."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from awase.encoding.locking import FolderLock
from awase.errors import AwaseError, CheckpointError, UsageError
from awase.learning import state
from awase.learning.averaging import Average
from awase.learning.distributed import rank, same_everywhere
from awase.learning.guard import Guard
from awase.learning.half import Half


@dataclass(frozen=True)
class Keeping:
    """Where and how often a run is kept."""

    folder: Path | None = None
    """Of this run alone, made where absent; None keeps nothing."""
    seconds: float = 300.0
    """Time between two states on disk; whatever it is, the last step is kept."""
    steps: int | None = None
    """Steps between two states, in place of a time."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """What else must be the same for a run to go on, ready for JSON: a recipe, a hash of the data."""

    def __post_init__(self) -> None:
        if self.seconds < 0 or (self.steps is not None and self.steps < 1):
            raise UsageError(f"a run is kept every so many seconds or steps, a positive number; given: {self}")


class Keeper:
    """Puts a run's state on disk and back. settings: what two runs must share to be one."""

    def __init__(
        self,
        keeping: Keeping,
        settings: Mapping[str, Any],
        weights: Mapping[str, Tensor],
        optimiser: torch.optim.Optimizer,
        average: Average | None,
    ) -> None:
        self.keeping, self.weights, self.optimiser, self.average = keeping, weights, optimiser, average
        self.settings = json.loads(json.dumps({**settings, **keeping.settings}))  # as they come back from disk
        self._saved = time.monotonic()
        self._lock: FolderLock | None = None
        self._log: state.Log | None = None
        self._good: Path | None = None  # the last state that was read or written

    def __enter__(self) -> Keeper:
        """Takes the folder for this run; the first process does."""
        if (folder := self.keeping.folder) is not None and rank() == 0:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                self._lock = FolderLock(folder)
            except OSError as problem:
                raise AwaseError(f"{folder}: {problem.strerror}; a run cannot be kept there") from problem
        return self

    def restored(self, half: Half, guard: Guard) -> int:
        """Puts everything in the state on disk; gives the number of steps that are done, 0 where there is none.
        Raises UsageError where it is another run's, CheckpointError where no state is whole."""
        folder, done = self.keeping.folder, 0
        if folder is not None and (facts := self._loaded(folder)):
            done, guard.passed_over = facts["step"], facts["passed_over"]
            half.factor, half.good = facts["half"]
        if folder is not None and rank() == 0:
            self._log = state.Log(folder, done)
        return done

    def _loaded(self, folder: Path) -> state.Facts | None:
        """The last state that is not damaged is put into the weights; its facts, or None where there is no state."""
        damaged: CheckpointError | None = None
        there = state.kept(folder)
        device = next(iter(self.weights.values())).device
        if not same_everywhere("/".join(found.name for found in there), device):
            raise UsageError(f"{folder} holds other states for some processes: its disk must be one that all share")
        for found in there:
            try:
                facts = state.facts_of(found)
                self._refuse_other(folder, facts["settings"])
                state.load(found, self.weights, self.optimiser, self.average)
            except CheckpointError as problem:
                damaged = damaged or problem
                continue
            if damaged:
                warnings.warn(f"{damaged}; the run goes on from the one before, {found.name}", stacklevel=4)
            self._good = found
            return facts
        if damaged:
            raise CheckpointError(f"{damaged}, and no other is there to go on from: remove it to begin afresh")
        return None

    def due(self, done: int) -> bool:
        """Whether the state is to be kept now that `done` steps are done."""
        if self.keeping.folder is None:
            return False
        if self.keeping.steps is not None:
            return done % self.keeping.steps == 0
        return time.monotonic() - self._saved >= self.keeping.seconds

    def note(self, step: int, told: Mapping[str, float]) -> None:
        """A line of the log."""
        try:
            if self._log is not None:
                self._log.add({"step": step, **told})
        except OSError as problem:
            warnings.warn(f"{self.keeping.folder}: no log is kept ({problem.strerror}); training goes on", stacklevel=3)

    def keep(self, done: int, half: Half, guard: Guard, final: bool) -> None:
        """Writes the state after `done` steps. A disk that refuses is a warning, as training can go on, unless this is
        the last chance."""
        if (folder := self.keeping.folder) is None:
            return
        facts = {"step": done, "settings": self.settings, "passed_over": guard.passed_over}
        facts["half"] = half.factor, half.good
        tensors = state.tensors_of(self.weights, self.optimiser, self.average)
        try:
            self._good = state.save(folder, done, tensors, facts, self._good)
        except OSError as problem:
            message = (
                f"{folder}: the state after step {done} could not be written ({problem.strerror or problem}); make room"
            )
            if final:
                raise AwaseError(message) from problem
            warnings.warn(f"{message}. The one before is still there, and training goes on", stacklevel=3)
        self._saved = time.monotonic()

    def _refuse_other(self, folder: Path, before: Mapping[str, Any]) -> None:
        old, new = dict(flat(before)), dict(flat(self.settings))
        different = [f"{n} was {old.get(n)}, now {new.get(n)}" for n in {**old, **new} if old.get(n) != new.get(n)]
        if different:
            raise UsageError(
                f"{folder} holds another run: {'; '.join(different)}. Give the settings of then, name another folder, "
                "or delete this one"
            )

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._log is not None:
            with suppress(OSError):  # the last line of a full disk's log
                self._log.close()
        if self._lock is not None:
            self._lock.release()


def flat(settings: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """("schedule.rate", 1e-3) for tables inside tables."""
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            yield from flat(value, f"{before}{name}.")
        else:
            yield before + name, value
