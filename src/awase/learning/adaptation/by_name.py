"""Zero-shot classification as a method: nothing is learned but a temperature. What every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from awase.adapter import Adapter
from awase.clip import Clip
from awase.learning.adaptation.holding_out import answers_of, rounds
from awase.learning.adaptation.method import Report, head_adapter, silent
from awase.learning.adaptation.task import Task


@dataclass(frozen=True)
class ByName:
    name: ClassVar[str] = "zero-shot"

    def refusal(self, clip: Clip, task: Task) -> str | None:
        return None

    def fit(self, clip: Clip, task: Task, report: Report = silent, folder: Path | None = None) -> Adapter:
        head = task.zero_shot(clip)
        held_out = rounds(task.rows(clip, progress=report), task.validation_rows(clip), task.seed)
        return head_adapter(self, clip, task, head, answers_of(lambda _kept: head, held_out), {})
