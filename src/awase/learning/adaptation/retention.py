"""What adaptation cost elsewhere: the base and the adapted model side by side, on the target and on probe sets.

    panel = retention(base, adapted, target, probes)      # a row a measure, paired intervals, one traffic light

Elsewhere the adapted model is asked in words, as somebody would who does not know of the adapter. `found_beside` finds
probe sets on the disk; what comes with the package is always looked at: common things, whose answers may change or not
though nobody knows the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from awase.adapter import Adapter
from awase.clip import Clip
from awase.datasets import Found, find_sets, open_captioned, open_labelled
from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.datasets.splits import kind_of
from awase.encoding.prompts import background
from awase.encoding.samples import sample_cuts
from awase.errors import AwaseError
from awase.evaluation.calibration import expected_error
from awase.evaluation.comparison import comparisons
from awase.evaluation.intervals import Interval, bootstrap, proportion
from awase.evaluation.linear_probe import linear_probe
from awase.evaluation.probes import draw
from awase.evaluation.results import Result
from awase.evaluation.retrieval import retrieval
from awase.evaluation.zero_shot import zero_shot
from awase.learning.adaptation.method import Report, silent
from awase.learning.adaptation.task import some

Probe = Labelled | Captioned
Light = Literal["green", "yellow", "red"]
Where = Literal["target", "elsewhere"]
PICTURES = 300  # of a probe set, drawn, that are looked at
PROBES = 3
KEPT, LOST = 0.98, 0.9  # shares of what the base could that make the light green, and red
OTHERWISE = 0.5  # of answers about common things: where more have changed, the light is red
STEPS = (0.2, 0.4, 0.6, 0.8)


@dataclass(frozen=True)
class Measure:
    """One measure before and after. interval: of the paired difference. n: items. where: "target", or "elsewhere" for
    what was not adapted to."""

    where: Where
    data: str
    measure: str
    before: float
    after: float
    interval: Interval
    n: int

    @property
    def difference(self) -> float:
        return self.after - self.before


@dataclass(frozen=True)
class Step:
    """A part of the way from the base (0) to what was learned (1): accuracy on the target, share kept elsewhere."""

    alpha: float
    target: float
    kept: float


@dataclass(frozen=True)
class Panel:
    """kept: what the adapted model has elsewhere of what the base had, the mean over probe sets, none counted above 1;
    without any, the answers about common things that are the same. curve: between base and adapted weights, where that
    was asked for. notes: what was left out."""

    rows: tuple[Measure, ...]
    kept: float
    light: Light
    reason: str
    curve: tuple[Step, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def safe_step(self) -> Step | None:
        """The largest step that keeps at least 98 %."""
        return max((step for step in self.curve if step.kept >= KEPT), key=lambda step: step.alpha, default=None)

    def to_json(self) -> dict[str, Any]:
        safe = self.safe_step
        return {
            "light": self.light,
            "reason": self.reason,
            "kept": self.kept,
            "rows": [vars(row) | {"difference": row.difference} for row in self.rows],
            "curve": [vars(step) for step in self.curve],
            "safe_step": safe and vars(safe),
            "notes": list(self.notes),
        }


def retention(
    base: Clip,
    adapted: Clip,
    target: Probe | None,
    probes: Sequence[Probe],
    train: Labelled | None = None,
    report: Report = silent,
) -> Panel:
    """The panel. target: pictures that were not learned from, None where there are none. train: those that were, on
    whose features a linear probe is fitted before and after. What cannot be measured is told in the notes."""
    words = replace(adapted, head=None)
    report(0, 1 + len(probes), "before and after")
    rows = [] if target is None else _measured(base, adapted, target, "target")
    gain = rows[0] if rows else None
    if adapted.checkpoint.fingerprint == base.checkpoint.fingerprint:
        return Panel(tuple(rows), 1.0, *_light(gain, 1.0, 1.0, "all kept elsewhere: the towers are the base's"))
    ratios, notes = [], []
    if isinstance(target, Labelled) and train is not None:
        try:
            rows += _features(base, words, train, target, "target")
        except AwaseError as problem:
            notes.append(f"linear probe on {target.name} left out: {problem}")
    for number, probe in enumerate(map(_few, probes), 1):
        report(number, 1 + len(probes), f"before and after: {probe.name}")
        try:
            found = _elsewhere(base, words, probe)
        except AwaseError as problem:
            notes.append(f"{probe.name} left out: {problem}")
            continue
        rows += found
        ratios.append(share_kept(found))
    common = _common_things(base, words)
    rows += common
    same = float(np.mean([row.after for row in common]))
    lost = f"{same:.1%} of answers about common things the same"
    if not ratios:
        return Panel(tuple(rows), same, *_light(gain, 1.0, same, lost), notes=tuple(notes))
    kept = float(np.mean(ratios))
    lost = f"{kept:.1%} kept elsewhere ({len(ratios)} probe set{'s' if len(ratios) > 1 else ''}), {lost}"
    light, reason = _light(gain, kept, same, lost)
    return Panel(tuple(rows), kept, light, reason, notes=tuple(notes))


def curve(base: Clip, adapter: Adapter, target: Probe, probes: Sequence[Probe], report: Report = silent) -> list[Step]:
    """Steps between the base's weights and the learned ones (Wortsman et al., 2022). Probes as for `retention`; without
    any that can be measured, the common things of the package. Raises UsageError where the adapter allows no part of
    the way."""
    few, alphas = [_few(probe) for probe in probes], (0.0, *STEPS, 1.0)
    found = []
    for number, alpha in enumerate(alphas):
        report(number, len(alphas), f"alpha {alpha:g}")
        adapted = adapter.on(base, alpha)
        words = replace(adapted, head=None)
        ratios = []
        for probe in few:
            with suppress(AwaseError):  # as `retention` tells
                ratios.append(share_kept(_measured(base, words, probe, "elsewhere")))
        kept = ratios or [row.after for row in _common_things(base, words)]
        found.append(Step(alpha, _measured(base, adapted, target, "target")[0].after, float(np.mean(kept))))
    return found


def share_kept(rows: Sequence[Measure]) -> float:
    """After over before of a set's accuracy, or of its mean reciprocal ranks both ways; at most 1, for a gain on one
    set makes up for no loss on another."""
    main = [row for row in rows if row.measure in ("top1", "text_to_picture", "picture_to_text")]
    return min(1.0, float(sum(row.after for row in main) / max(sum(row.before for row in main), 1e-12)))


def found_beside(location: str, most: int = PROBES) -> list[Probe]:
    """Data sets beside one on the disk, the smallest names first: their validation splits, or test, or training ones.
    An empty list where there are none that can be opened."""
    here = Path(location).resolve()
    found: list[Probe] = []
    for place in sorted(here.parent.iterdir()) if here.parent.is_dir() else []:
        if place == here or len(found) >= most:
            continue
        try:
            found += [opened for one in find_sets(place)[:1] if (opened := open_probe(one))]
        except (AwaseError, OSError):
            continue  # not a data set: it was looked for, not named
    return found[:most]


def open_probe(found: Found) -> Probe | None:
    """Its validation pictures, or test or training ones; None where there are fewer than two."""
    order = {"val": 0, "test": 1, "train": 2}
    split = min(found.splits, key=lambda name: order.get(kind_of(name) or "", 3))
    opener = open_labelled if found.kind == "labelled" else open_captioned
    probe: Probe = opener(found.location, split)
    return probe if len(probe) > 1 else None


# ---- measures --------------------------------------------------------------------------------------------------------


def _elsewhere(base: Clip, words: Clip, probe: Probe) -> list[Measure]:
    rows = _measured(base, words, probe, "elsewhere")
    if isinstance(probe, Labelled) and not probe.multi_label and (halves := _halves(probe)):
        rows += _features(base, words, *halves, "elsewhere")
    return rows


def _measured(base: Clip, other: Clip, data: Probe, where: Where) -> list[Measure]:
    """Accuracy and calibration of pictures with classes; reciprocal ranks both ways of pictures with sentences."""
    if isinstance(data, Captioned):
        return _paired(retrieval(base, data), retrieval(other, data), where, {})
    before, after = zero_shot(base, data), zero_shot(other, data)
    rows = _paired(before, after, where, {"correct": "top1"})
    if not data.multi_label:
        rows.append(_calibration(before, after, where))
    return rows


def _calibration(before: Result, after: Result, where: Where) -> Measure:
    """The calibration error. Its difference has the basic bootstrap's interval over pictures, for both errors, and so
    their percentiles, lie too high in resampled pictures (Davison & Hinkley, 1997, 5.2)."""
    old, new = (expected_error(its.items["probability"], its.items["correct"]) for its in (before, after))
    items = [its.items[name].astype(np.float64) for its in (before, after) for name in ("probability", "correct")]

    def difference(rows: np.ndarray) -> float:
        return expected_error(rows[:, 2], rows[:, 3]) - expected_error(rows[:, 0], rows[:, 1])

    found, (low, high) = new - old, bootstrap(np.stack(items, axis=1), difference)
    return Measure(where, after.data, "calibration_error", old, new, (2 * found - high, 2 * found - low), after.n)


def _features(base: Clip, other: Clip, train: Labelled, held: Labelled, where: Where) -> list[Measure]:
    """How far a linear probe on the features gets."""
    before, after = (linear_probe(one, train, held) for one in (base, other))
    return _paired(before, after, where, {"correct": "linear_probe"})


def _paired(before: Result, after: Result, where: Where, called: dict[str, str]) -> list[Measure]:
    found = []
    for one in comparisons(after, before):
        name = called.get(one.measure, one.measure)
        found.append(Measure(where, one.data, name, one.values[1], one.values[0], one.interval, one.n))
    return found


def _common_things(base: Clip, words: Clip) -> list[Measure]:
    """How many answers stay as the base gave them, of what comes with the package: cuts of photographs among common
    things, each common thing's nearest other one, and which cut fits each sentence best."""
    language = base.languages[0]
    things, sentences = list(background("things", language)), list(background("sentences", language))
    answers = []
    for clip in (base, words):
        pictures, named, told = (
            clip.encode_images(sample_cuts()),
            clip.encode_texts(things),
            clip.encode_texts(sentences),
        )
        among = named @ named.T
        np.fill_diagonal(among, -np.inf)
        answers.append([(pictures @ named.T).argmax(1), among.argmax(1), (told @ pictures.T).argmax(1)])
    rows = []
    for name, before, after in zip(("pictures", "words", "sentences"), *answers, strict=True):
        same = before == after
        its = proportion(int(same.sum()), len(same))
        less = (its[0] - 1, its[1] - 1)
        rows.append(Measure("elsewhere", "common things", f"same_{name}", 1.0, float(same.mean()), less, len(same)))
    return rows


def _light(target: Measure | None, kept: float, same: float, lost: str) -> tuple[Light, str]:
    """kept: of accuracy on probe sets. same: of answers about common things, which may change and be no worse."""
    low, high, gain = 0.0, 0.0, "no pictures to see a gain on"
    if target is not None:
        (low, high), gain = target.interval, f"{100 * target.difference:+.1f} points on the target"
        gain += ", which may be chance" if low <= 0 <= high else ""
    if kept < LOST or same < OTHERWISE or high < 0:
        return "red", f"{gain}; {lost}: go back part of the way, or learn less"
    if kept < KEPT or same < LOST or low <= 0:
        return "yellow", f"{gain}; {lost}"
    return "green", f"{gain}; {lost}"


# ---- probe sets ------------------------------------------------------------------------------------------------------


def _few(probe: Probe) -> Probe:
    """At most PICTURES of it, drawn."""
    if len(probe) <= PICTURES:
        return probe
    places = np.sort(np.random.default_rng(0).permutation(len(probe))[:PICTURES])
    if isinstance(probe, Labelled):
        return some(probe, places)
    told = np.flatnonzero(np.isin(probe.owners, places)).tolist()
    owners = np.searchsorted(places, probe.owners[told])
    pictures = [probe.pictures[i] for i in places.tolist()]
    return replace(probe, pictures=pictures, captions=[probe.captions[i] for i in told], owners=owners, groups={})


def _halves(probe: Labelled) -> tuple[Labelled, Labelled] | None:
    """To fit a probe on and to measure it on; None where a class has too few pictures for it."""
    sizes = np.bincount(probe.targets, minlength=len(probe.keys))
    if sizes[sizes > 0].min() < 4 or (sizes > 0).sum() < 2:
        return None
    first = draw(probe.targets, lambda count: count // 2, seed=0)
    fitted_on = replace(some(probe, np.flatnonzero(first)), split=f"half of {probe.split}")
    return fitted_on, some(probe, np.flatnonzero(~first))
