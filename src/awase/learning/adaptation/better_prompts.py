"""A whole search on a data set: what the classes are asked with, what that is worth, and what descriptions do.

Chosen on the pictures of one split, their labels unseen but for the shots; judged on the validation pictures where
there are any, else on those whose labels were not used; where it is surely worse there than a baseline, the better
baseline is kept. Never a test split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from awase import __version__
from awase.clip import Clip
from awase.datasets.labelled import Labelled, refuse_one_split_twice
from awase.encoding import prompts
from awase.encoding.wordings import Wording
from awase.errors import DataError
from awase.evaluation.candidates import candidate_templates, guessed_kinds
from awase.evaluation.intervals import Difference, paired_bootstrap, proportion
from awase.evaluation.probes import Features, draw
from awase.evaluation.vectors import picture_vectors
from awase.evaluation.zero_shot import language_for
from awase.learning.adaptation.descriptions import Effect, effects, match_classes, shares
from awase.learning.adaptation.method import facts_of
from awase.learning.adaptation.prompt_search import PromptSearch, Proposal, few, search
from awase.learning.adaptation.task import refuse_test

SCHEMA = 1
BASELINES = ("simple", "ensemble")


@dataclass(frozen=True)
class Row:
    """One way to ask and what it is worth. accuracy: on n pictures whose labels did not choose, with its interval."""

    name: str
    sentences: int
    knowledge: float
    held_out: float | None
    accuracy: float
    interval: tuple[float, float]
    n: int


@dataclass(frozen=True)
class Found:
    """What a search found. rows: the ways to ask, the best first by what chose. gains: over "simple" and "ensemble", on
    the same pictures. wording: what to ask with. chosen: its name. note: why it is not the first of the rows, empty
    where it is. effects: of each description. unseen: described classes that the data have not got, with the number of
    pictures that are answered so. judged_on: in words."""

    data: str
    language: str
    kinds: tuple[str, ...]
    rows: tuple[Row, ...]
    gains: Mapping[str, Difference]
    wording: Wording
    chosen: str
    note: str
    effects: tuple[Effect, ...]
    unseen: Mapping[str, int]
    judged_on: str
    record: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "task": "prompt-search",
            "data": self.data,
            "language": self.language,
            "kinds": list(self.kinds),
            "rows": [asdict(row) for row in self.rows],
            "gains": {name: asdict(gain) for name, gain in self.gains.items()},
            "chosen": self.chosen,
            "note": self.note,
            "templates": list(self.wording),
            "descriptions": {name: list(mine) for name, mine in self.wording.sentences.items()},
            "share": self.wording.share if self.wording.sentences else None,
            "effects": [_plain(effect) for effect in self.effects],
            "unseen": dict(self.unseen),
            "judged_on": self.judged_on,
            "record": dict(self.record),
        }


def _plain(effect: Effect) -> dict[str, Any]:
    moves = [{"from": a, "to": b, "pictures": count} for (a, b), count in effect.towards.items()]
    return {**asdict(effect), "towards": moves}


def better_prompts(
    clip: Clip,
    data: Labelled,
    validation: Labelled | None = None,
    language: str | None = None,
    shots: int | None = None,
    kind: str | None = None,
    descriptions: Mapping[str, tuple[str, ...]] | None = None,
    settings: PromptSearch | None = None,
) -> Found:
    """data: pictures to choose on. validation: pictures to judge on. shots: labels of so many pictures of each class
    take part in the choice. kind: what all classes are, guessed where None. descriptions: class -> its sentences.

    Raises UsageError for a test split and DataError where pictures may have several classes or classes share a name."""
    settings = settings or PromptSearch()
    language = language_for(data, language)
    _check(data, validation, language)
    names = tuple(name.strip() for name in data.names[language])
    kinds = (kind,) if kind else guessed_kinds(clip, names, language)
    pictures, labelled, judge, judged_on = _divided(clip, data, validation, shots, settings.seed)
    candidates = candidate_templates(names, language, data.templates.get(language, ()), kinds)
    known = {name: prompts.templates(name, language) for name in ("simple", "ensemble", "kinds")}
    if own := data.templates.get(language):
        known["the data's own"] = own
    found = search(clip, names, candidates, known, pictures, labelled, settings)
    right = {p.name: _right(p.vectors, judge) for p in found}
    rows = [_row(proposal, right[proposal.name]) for proposal in found]
    described = _Described(Wording(found[0].templates), right[found[0].name])
    if descriptions:
        described = _described(clip, data.keys, names, found[0], descriptions, pictures, labelled, judge, settings)
    chosen, described, note = _unless_surely_worse(described, found, right)
    gains = _gains(described.right, right)
    return Found(
        data.name,
        language,
        kinds,
        (*rows, *described.rows),
        gains,
        described.wording,
        chosen,
        note,
        described.effects,
        described.unseen,
        judged_on,
        _record(clip, data, validation, shots, settings, chosen, gains),
    )


@dataclass(frozen=True)
class _Described:
    """The best way to ask with what descriptions add. right: (N,) bool, of the pictures that are judged on."""

    wording: Wording
    right: np.ndarray
    rows: tuple[Row, ...] = ()
    effects: tuple[Effect, ...] = ()
    unseen: Mapping[str, int] = field(default_factory=dict)


def _described(
    clip: Clip,
    keys: Sequence[str],
    names: Sequence[str],
    best: Proposal,
    descriptions: Mapping[str, tuple[str, ...]],
    pictures: np.ndarray,
    labelled: Features | None,
    judge: Features,
    settings: PromptSearch,
) -> _Described:
    matched, strangers = match_classes(descriptions, keys, names)
    everything = (*names, *strangers)
    drawn = few(pictures, len(everything), settings.seed)
    tried = shares(clip, everything, best.templates, matched, drawn, labelled, settings.balance)
    classes = {share: clip.classifier(everything, Wording(best.templates, matched, share)) for share, _ in tried}
    rows = [
        Row(_share_in_words(share), len(best.templates), score, None, *_accuracy(_right(classes[share], judge)))
        for share, score in tried
    ]
    wording, answers = Wording(best.templates, matched, tried[0][0]), classes[tried[0][0]]
    taken = np.bincount((judge.rows @ answers.T).argmax(axis=1), minlength=len(everything))
    return _Described(
        wording,
        _right(answers, judge),
        tuple(rows),
        tuple(effects(clip, everything, _asked_with(wording), judge.rows, judge.targets)),
        {name: int(taken[len(names) + i]) for i, name in enumerate(strangers)},
    )


def _gains(mine: np.ndarray, right: Mapping[str, np.ndarray]) -> dict[str, Difference]:
    return {name: paired_bootstrap(mine, right[name]) for name in BASELINES}


def _unless_surely_worse(
    described: _Described, found: Sequence[Proposal], right: Mapping[str, np.ndarray]
) -> tuple[str, _Described, str]:
    """(its name, what to ask with, no note); where it is surely worse than a baseline, the better baseline and why."""
    first, gains = found[0].name, _gains(described.right, right)
    worse = [
        f"{name} ({100 * gain.value:+.1f} points, {100 * gain.interval[0]:+.1f} to {100 * gain.interval[1]:+.1f})"
        for name, gain in gains.items()
        if gain.interval[1] < 0
    ]
    if not worse:
        return first, described, ""
    best = max(BASELINES, key=lambda name: float(right[name].mean()))
    (templates,) = (proposal.templates for proposal in found if proposal.name == best)
    tried = f"{first}, with its descriptions," if described.rows else first
    kept = replace(described, wording=Wording(templates, share=0.0), right=right[best], unseen={})
    return best, kept, f"{tried} is surely worse than {' and '.join(worse)}; {best} is kept"


def _share_in_words(share: float) -> str:
    return {0.0: "names alone", 1.0: "descriptions alone"}.get(share, f"{share:.0%} descriptions")


def _asked_with(wording: Wording) -> Wording:
    """Where names alone were best, what the descriptions would do at one half is shown."""
    return wording if wording.share > 0 else Wording(tuple(wording), wording.sentences, 0.5)


def _divided(
    clip: Clip, data: Labelled, validation: Labelled | None, shots: int | None, seed: int
) -> tuple[np.ndarray, Features | None, Features, str]:
    """(pictures to choose on, those with labels, pictures to judge on, which these are in words)."""
    found = picture_vectors(clip, data)
    here = Features(found.rows, data.targets[found.kept])
    drawn = np.zeros(len(here), bool) if shots is None else draw(here.targets, lambda count: min(shots, count), seed)
    labelled = here[drawn] if shots is not None else None
    if validation is not None:
        seen = picture_vectors(clip, validation)
        return here.rows, labelled, Features(seen.rows, validation.targets[seen.kept]), f"{validation.split} pictures"
    if drawn.all():
        raise DataError(f"{data.name}: {shots} shots are all pictures of {data.split}; none is left to judge on")
    return here.rows, labelled, here[~drawn], f"pictures of {data.split} whose labels chose nothing"


def _check(data: Labelled, validation: Labelled | None, language: str) -> None:
    for part in (data, validation):
        if part is None:
            continue
        refuse_test(part)
        if part.multi_label:
            raise DataError(f"{part.name}: pictures may have several classes, and the search is for one class each")
    if validation is not None:
        refuse_one_split_twice(data, validation, "chosen on and judged on")
        if validation.keys != data.keys:
            raise DataError(f"{data.name}: {data.split} and {validation.split} have different classes")
    names = data.names[language]
    if len({name.strip() for name in names}) < len(names):
        raise DataError(f"{data.name}: several classes have one name in {language!r}; give each its own first")


def _right(classes: np.ndarray, judge: Features) -> np.ndarray:
    return np.asarray((judge.rows @ classes.T).argmax(axis=1) == judge.targets)


def _accuracy(right: np.ndarray) -> tuple[float, tuple[float, float], int]:
    return float(right.mean()), proportion(int(right.sum()), len(right)), len(right)


def _row(proposal: Proposal, right: np.ndarray) -> Row:
    return Row(proposal.name, len(proposal.templates), proposal.knowledge, proposal.held_out, *_accuracy(right))


def _record(
    clip: Clip,
    data: Labelled,
    validation: Labelled | None,
    shots: int | None,
    settings: PromptSearch,
    chosen: str,
    gains: Mapping[str, Difference],
) -> dict[str, Any]:
    return {
        "model": clip.stamp()["fingerprint"],
        "chosen_on": facts_of(data),
        "judged_on": validation and facts_of(validation),
        "shots": shots,
        "settings": asdict(settings),
        "chosen": chosen,
        "gains": {name: [gain.value, *gain.interval] for name, gain in gains.items()},
        "awase": __version__,
    }
