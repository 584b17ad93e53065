"""The curves of a run for Weights & Biases, where a recipe asks for it (watch.wandb): it sends them to a server, so it
is never on by itself. What counts stands in log.jsonl; a run that was resumed adds a run to the group named after OUT.

Without an account on this machine, or with WANDB_MODE=offline, they are kept in OUT/wandb, for `wandb sync`."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from awase.errors import UsageError


def refuse_absent(project: str | None) -> None:
    """Raises UsageError where it is asked for and not installed: before a run rather than in it."""
    found = find_spec("wandb")
    if project is not None and not (found and found.origin):  # a folder of logs, ./wandb, is no package
        raise UsageError(f'watch.wandb = "{project}" needs a package that is not installed: pip install wandb')


class SentCurves:
    """Sends a step's numbers to a project, or nothing where there is none. It begins with the first step; where it
    fails, it warns, and training goes on. settings: of the run, ready for JSON."""

    def __init__(self, out: Path, project: str | None, settings: dict[str, Any]) -> None:
        self.out, self.project, self.settings = out, project, settings
        self._run: Any = None

    def __call__(self, step: int, told: dict[str, float]) -> None:
        if self.project is None:
            return
        with self._failing_alone():
            self._run = self._run or self._begun()
            self._run.log(told, step=step)

    def _begun(self) -> Any:
        import wandb

        known = "WANDB_MODE" in os.environ or wandb.api.api_key
        return wandb.init(
            project=self.project,
            group=self.out.resolve().name,
            dir=self.out,
            config=self.settings,
            mode=None if known else "offline",  # it would stop and ask for an account
            settings=wandb.Settings(console="off"),  # the terminal is ours
        )

    def close(self) -> None:
        """Waits until everything is sent or kept."""
        if self._run is not None:
            with self._failing_alone():
                self._run.finish()

    @contextmanager
    def _failing_alone(self) -> Iterator[None]:
        try:
            yield
        except Exception as problem:  # of many kinds: no network, no such project, a full disk
            self.project = None
            warnings.warn(f"Weights & Biases gets no more curves ({problem}); training goes on", stacklevel=4)
