"""A task by its name, as command lines and suites give it, and the data that it is done on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from awase.clip import Clip
from awase.datasets import Captioned, Labelled, open_labelled
from awase.evaluation.calibration import calibration
from awase.evaluation.composition import composition
from awase.evaluation.results import Result
from awase.evaluation.retrieval import retrieval
from awase.evaluation.robustness import PICTURES, robustness
from awase.evaluation.zero_shot import zero_shot

OF_LABELLED = ("zero-shot", "calibration", "robustness", "linear-probe")
OF_CAPTIONED = ("retrieval", "composition")

Progress = Callable[[int, int], None]
"""Called with how much is done and of how much."""


def open_classes(path: str, split: str | None, definition: str | None = None, column: str | None = None) -> Labelled:
    """Labelled pictures, named after the column of their classes too where one was asked for: a table with several
    columns is several data sets."""
    data = open_labelled(path, split, definition, column=column)
    return replace(data, name=f"{data.name} ({column})") if column else data


def choosable(data: Labelled, validation: Labelled, split: str | None) -> tuple[Labelled | None, list[str]]:
    """Validation pictures to choose on, or None and a note: where no `split` was asked for, data without a test split
    are measured on validation, and nothing can be chosen there. A split that was asked for as both is left to the
    measure to refuse."""
    if split is None and (data.name, data.split) == (validation.name, validation.split):
        return None, [f"nothing is chosen on {data.split}: there is no test split, and it is what is measured on"]
    return validation, []


def evaluate_labelled(
    clip: Clip,
    task: str,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    validation: Labelled | None = None,
    pictures: int | None = None,
    progress: Progress | None = None,
) -> Result:
    """One of `OF_LABELLED` other than linear probes, which have another signature. validation: on which calibration
    chooses a temperature. pictures: at most so many for robustness (200, each encoded 76 times, if not told)."""
    if task == "calibration":
        return calibration(clip, data, language, templates, validation)
    if task == "robustness":
        return robustness(clip, data, language, templates, pictures=pictures or PICTURES, progress=progress)
    return zero_shot(clip, data, language, templates, progress)


def evaluate_captioned(clip: Clip, task: str, data: Captioned, progress: Progress | None = None) -> Result:
    """One of `OF_CAPTIONED`."""
    return (composition if task == "composition" else retrieval)(clip, data, progress)
