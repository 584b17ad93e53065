"""Which method: the advice that the field agrees on names a few, pictures that were held out decide among them.

    pictures with sentences                   LoRA by the contrastive loss, for retrieval
    a label set that stays open               prompts, then LoRA: new names have to work beside the learned ones
    a closed set, few pictures or many        classifiers on frozen towers; with thousands and a GPU LoRA as well

Zero-shot classification is always a candidate and wins a tie. A candidate is judged on validation pictures, fitted
without a look at them, and on training pictures, each held out once. Never on a test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from awase.adapter import Adapter, Base
from awase.clip import Clip
from awase.datasets.labelled import Labelled
from awase.evaluation.intervals import Interval, clustered_proportion, paired_bootstrap, proportion
from awase.evaluation.retrieval import retrieval
from awase.evaluation.zero_shot import zero_shot
from awase.learning.adaptation.holding_out import rounds
from awase.learning.adaptation.method import Report, silent
from awase.learning.adaptation.methods import HOMES, TRAINED, method
from awase.learning.adaptation.task import Pairs, Task, some

NOTHING = "zero-shot"
MANY = 2000  # training pictures from which a cache is too long, and training a tower pays on a machine with a GPU
UNJUDGED = "anchored-probe"  # where nothing can be held out: it is near zero-shot unless pictures say otherwise


@dataclass(frozen=True)
class Tried:
    """A candidate: the share of n held-out pictures that it answered rightly, and how much more than zero-shot."""

    name: str
    accuracy: float
    n: int
    interval: Interval
    gain: float
    gain_interval: Interval


@dataclass(frozen=True)
class Choice:
    """What was chosen and why, in one line; what was tried, the best first."""

    name: str
    reason: str
    tried: tuple[Tried, ...]
    adapter: Adapter


def choose(
    clip: Clip, task: Task | Pairs, open_labels: bool = False, report: Report = silent, folder: Path | None = None
) -> Choice:
    """Fits the best method. open_labels: names that nobody has thought of yet have to work afterwards.

    folder: where training that is interrupted is kept. Raises UsageError where no method applies."""
    if isinstance(task, Pairs):
        return _for_retrieval(clip, task, report, folder)
    names, why = candidates(clip, task, open_labels)
    parts = held_out_parts(clip, task, slow=any(name in TRAINED for name in names))
    judged: dict[str, np.ndarray] = {}
    for number, name in enumerate(names):
        report(number, len(names) + 1, f"trying {name}")
        judged[name] = judge(clip, task, name, parts, report, folder)
    report(len(names), len(names) + 1, "learning from all pictures")
    tried = _table(judged)
    best = tried[0].name if tried else UNJUDGED if UNJUDGED in names else NOTHING
    adapter = method(best).fit(clip, task, report, _inside(folder, best))
    if not tried:
        why += f"; {best}, for with one picture of each class none can be held out to choose on"
    return _chosen(best, why, tried, adapter)


def candidates(clip: Clip, task: Task, open_labels: bool) -> tuple[list[str], str]:
    """Names of methods, zero-shot first, and the advice that names them."""
    count = len(task.readable(clip))
    why = f"{count:,} pictures of {len(task.keys)} classes"
    if open_labels:
        names, why = ["prompt", "lora"], f"{why}, and names yet to come: words and towers learn, not a classifier"
    else:
        names, why = [name for name in HOMES if name != NOTHING], f"{why}, a closed set: classifiers on frozen towers"
        if count >= MANY:  # to keep them all would be slow, and with so many no gain
            names = [name for name in names if not name.startswith("cache")]
        if count >= MANY and _has_gpu():
            names, why = [*names, "lora"], f"{why}, and LoRA, for pictures are many and there is a GPU"
    if find_spec("torch") is None and (missing := [name for name in names if name in TRAINED]):
        names = [name for name in names if name not in TRAINED]
        why += f" ({' and '.join(missing)} need torch: pip install 'awase[torch]')"
    return [NOTHING, *(name for name in names if method(name).refusal(clip, task) is None)], why


def held_out_parts(clip: Clip, task: Task, slow: bool) -> list[np.ndarray]:
    """(N,) bool each: training pictures that are held out in turn. With slow methods none where there is validation,
    else only the first; none where each class has one picture."""
    readable, parts = task.readable(clip), []
    for kept, _ in rounds(task.rows(clip), None, task.seed):
        part = np.zeros(len(task.train), bool)
        part[readable[~kept]] = True
        parts.append(part)
    return parts[: 0 if task.validation is not None else 1] if slow else parts


def judge(
    clip: Clip,
    task: Task,
    name: str,
    parts: Sequence[np.ndarray],
    report: Report = silent,
    folder: Path | None = None,
) -> np.ndarray:
    """(n,) bool: which pictures that it neither learned from nor made choices on a method answers rightly, in the same
    order for each method: those of validation, for which it is fitted without them, then those of each part."""
    right = []
    if task.validation is not None:
        adapter = method(name).fit(clip, replace(task, validation=None), report, _inside(folder, name))
        right.append(_answers(adapter.on(clip), task.validation))
    for number, part in enumerate(parts):
        adapter = method(name).fit(clip, task.part(~part), report, _inside(folder, f"{name}-{number}"))
        right.append(_right(clip, adapter, task, part))
    return np.concatenate(right) if right else np.empty(0, bool)


# ---- parts -----------------------------------------------------------------------------------------------------------


def _right(clip: Clip, adapter: Adapter, task: Task, part: np.ndarray) -> np.ndarray:
    """Which pictures of a held-out part are answered rightly. It is no task, for it may lack classes: a class's only
    picture is never held out."""
    head = adapter.on(clip).head
    if adapter.changes or head is None:
        return _answers(adapter.on(clip), some(task.train, np.flatnonzero(part)))
    held = task.rows(clip, head.reads)[part[task.readable(clip)]]
    return np.asarray(head.logits(held.rows).argmax(axis=1) == held.targets)


def _answers(adapted: Clip, data: Labelled) -> np.ndarray:
    return np.asarray(zero_shot(adapted, data).items["correct"])


def _table(judged: Mapping[str, np.ndarray], owners: np.ndarray | None = None) -> tuple[Tried, ...]:
    """The best first; of equals the one named first, and zero-shot is named first. owners: the picture of each item,
    where items of one picture are alike, as its captions are."""
    plain, tried = judged[NOTHING], []
    if not len(plain):
        return ()
    for name, right in judged.items():
        gain = paired_bootstrap(right, plain, owners)
        its = proportion(int(right.sum()), len(right)) if owners is None else clustered_proportion(right, owners)
        tried.append(Tried(name, float(right.mean()), len(right), its, gain.value, gain.interval))
    return tuple(sorted(tried, key=lambda one: -one.accuracy))


def _chosen(name: str, why: str, tried: tuple[Tried, ...], adapter: Adapter) -> Choice:
    if not tried:
        reason = why
    elif name == NOTHING:
        reason = f"{why}; none beats zero-shot, {tried[0].accuracy:.1%} of {tried[0].n} pictures held out"
    else:
        best, (low, high) = tried[0], tried[0].gain_interval
        reason = (
            f"{why}; {name} is right on {best.accuracy:.1%} of {best.n} pictures held out, "
            f"{100 * best.gain:+.1f} points to zero-shot (95 %: {100 * low:+.1f} to {100 * high:+.1f})"
        )
    told = {"reason": reason, "tried": {one.name: one.accuracy for one in tried}}
    return Choice(name, reason, tried, replace(adapter, record={**adapter.record, "choice": told}))


def _for_retrieval(clip: Clip, task: Pairs, report: Report, folder: Path | None) -> Choice:
    """LoRA, if it finds more of the validation pictures by their sentences than the base does."""
    why = f"{len(task.train):,} pictures with {len(task.train.captions):,} sentences: LoRA, for retrieval"
    adapter = method("lora").fit(clip, task, report, _inside(folder, "lora"))  # type: ignore[arg-type]
    if task.validation is None:
        return _chosen("lora", f"{why}, not compared with the base for want of validation pictures", (), adapter)
    before, after = (retrieval(one, task.validation).items for one in (clip, adapter.on(clip)))
    found = {name: its["rank_text_to_picture"] <= 5 for name, its in ((NOTHING, before), ("lora", after))}
    tried = _table(found, before["caption_owner"])
    if tried[0].name == NOTHING:
        adapter = Adapter(Base.of(clip), record={**adapter.record, "method": NOTHING, "settings": {}})
    return _chosen(tried[0].name, f"{why}; by R@5", tried, adapter)


def _inside(folder: Path | None, name: str) -> Path | None:
    return folder and folder / name


def _has_gpu() -> bool:
    if find_spec("torch") is None:
        return False
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()
