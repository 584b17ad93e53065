"""What every method of adaptation is: a frozen dataclass of settings that fits a Clip to a task and gives an Adapter.

    LinearProbe().fit(clip, task).on(clip)

One file a method. Each has a name, says beforehand where it cannot apply, and records how it was made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

from awase import __version__
from awase.adapter import Adapter, Base
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.hashing import data_hash
from awase.datasets.labelled import Labelled
from awase.encoding.checkpoints.derived import Changes
from awase.encoding.heads import Head
from awase.errors import UsageError
from awase.learning.adaptation.holding_out import Answers, fitted_temperature, judged
from awase.learning.adaptation.task import Pairs, Task

PAPER_SCALE = 100.0


class Report(Protocol):
    """Is told how much is done, of how much, and what is being done."""

    def __call__(self, done: int, total: int, doing: str = ...) -> None: ...


def silent(done: int, total: int, doing: str = "") -> None:
    """A Report that nobody reads."""


class Method(Protocol):
    """name: as command lines have it. `dataclasses.asdict` of a method are its settings."""

    name: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def refusal(self, clip: Clip, task: Task) -> str | None:
        """Why the method cannot apply here, in one line; None where it can."""
        ...

    def fit(self, clip: Clip, task: Task, report: Report = ..., folder: Path | None = ...) -> Adapter:
        """folder: where a method that trains keeps an interrupted run, to go on with. Raises UsageError with the
        refusal where there is one."""
        ...


def refuse(method: Method, clip: Clip, task: Task | Pairs) -> None:
    """Raises UsageError where the method cannot apply."""
    if reason := method.refusal(clip, task):  # type: ignore[arg-type]  # a method that takes pairs says so itself
        raise UsageError(f"{method.name}: {reason}")


def adapter_of(
    method: Method,
    clip: Clip,
    task: Task | Pairs,
    head: Head | None = None,
    changes: Changes | None = None,
    figures: Mapping[str, float] | None = None,
    templates: tuple[str, ...] | None = None,
) -> Adapter:
    """What was learned, with the record of how. figures: what was seen on validation, by name. templates: what the
    classes are asked with from now on, where it is not the task's sentences."""
    record = _record(method, task, figures or {})
    if isinstance(task, Pairs):
        return Adapter(Base.of(clip), head, changes or Changes(), record=record)
    asked = templates or task.templates
    return Adapter(Base.of(clip), head, changes or Changes(), task.keys, task.names, asked, record)


def scale_unit(clip: Clip) -> float:
    """What 1 is in this model's logits, of a setting that its paper tells for CLIP's scale of 100."""
    return clip.scoring.scale / PAPER_SCALE


def head_adapter(
    method: Method, clip: Clip, task: Task, head: Head, found: Sequence[Answers], figures: Mapping[str, float]
) -> Adapter:
    """A head whose temperature is fitted on `found`, what heads like it answered to pictures that were held out."""
    head = replace(head, temperature=fitted_temperature(found))
    seen = {"validation_top1": judged(found)[0]} if found else {}
    return adapter_of(method, clip, task, head, figures={**seen, **figures})


def _record(method: Method, task: Task | Pairs, figures: Mapping[str, float]) -> dict[str, Any]:
    return {
        "method": method.name,
        "settings": asdict(method),
        "seed": task.seed,
        "train": facts_of(task.train),
        "validation": task.validation and facts_of(task.validation),
        "figures": dict(figures),
        "awase": __version__,
    }


def facts_of(data: Labelled | Captioned) -> dict[str, Any]:
    """What a record says of data."""
    return {"name": data.name, "split": data.split, "n": len(data), "sha256": data_hash(data)}
