"""What every method that trains has in common: where it cannot apply, and how it runs the training loop: seeded by its
task, told to the caller, kept in a folder so that the same call goes on after an interrupt."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from awase.clip import Clip
from awase.datasets.hashing import data_hash
from awase.encoding.wordings import spelled_out
from awase.learning.adaptation.method import Report
from awase.learning.adaptation.task import Pairs, Task
from awase.learning.loop import Keeping, Losses, Schedule, train


def foreign(clip: Clip) -> str | None:
    """Why nothing can learn in this model; None where both towers are awase's own."""
    if clip.checkpoint.architecture.external:
        return "a tower of this model is another library's, and awase changes neither its weights nor its vocabulary"
    return None


def learn(
    weights: Mapping[str, nn.Parameter],
    losses: Callable[[int], Losses],
    schedule: Schedule,
    clip: Clip,
    task: Task | Pairs,
    method: Any,
    report: Report,
    folder: Path | None,
) -> None:
    """Changes `weights` in place. folder: of this run alone; None keeps nothing.

    Raises UsageError where the folder holds another run, TrainingFailed where losses are not finite."""
    settings = {"method": method.name, **asdict(method), "base": clip.stamp(), "data": data_hash(task.train)}
    if isinstance(task, Task):
        settings |= {"language": task.language, "words": spelled_out(task.templates)}

    def told(step: int, _parts: Mapping[str, float]) -> None:
        report(step + 1, schedule.steps, method.name)

    keeping = Keeping(folder, settings=settings) if folder else Keeping()
    train(weights, losses, schedule, told, seed=task.seed, keeping=keeping)
