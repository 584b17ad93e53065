"""Zero-shot classification as a method: nothing is learned but a temperature. What every other method has to beat."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.encoding.heads import Head
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

        def learn(_kept: np.ndarray) -> Head:
            return head

        found = answers_of(learn, rounds(task.rows(clip, progress=report), task.validation_rows(clip), task.seed))
        return head_adapter(self, clip, task, head, found, {})
