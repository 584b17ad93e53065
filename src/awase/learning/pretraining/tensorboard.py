"""The curves of a run for TensorBoard, where it is installed: OUT/tensorboard. What counts stands in log.jsonl; a run
that was resumed adds a file, and TensorBoard shows the later value of a step."""

from __future__ import annotations

from pathlib import Path
from typing import Any


class Curves:
    """Writes a step's numbers; without the package it does nothing. It begins with the first step."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writer: Any = None

    def __call__(self, step: int, told: dict[str, float]) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            return
        self._writer = self._writer or SummaryWriter(str(self.folder))
        for name, value in told.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Writes what is still held back."""
        if self._writer is not None:
            self._writer.close()
