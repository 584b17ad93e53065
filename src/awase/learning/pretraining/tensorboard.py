"""The curves of a run for TensorBoard, where it is installed: OUT/tensorboard. What counts stands in log.jsonl; a run
that was resumed adds a file, and TensorBoard shows the later value of a step."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path


def curves(folder: Path) -> Callable[[int, dict[str, float]], None]:
    """What writes a step's numbers; without the package it does nothing."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return lambda step, told: None
    writer = cache(lambda: SummaryWriter(str(folder)))

    def add(step: int, told: dict[str, float]) -> None:
        for name, value in told.items():
            writer().add_scalar(name, value, step)

    return add
