"""Many data sets, tasks and languages in one go, described by a file; what was killed goes on.

    name = "mine"
    data = "../pictures"                    # where paths begin; from this file's folder. --data says otherwise

    [[set]]
    path = "birds"                          # a data set, or a folder or archive of several
    tasks = ["zero-shot", "calibration"]
    languages = ["en", "ja"]

    [[set]]
    path = "holidays"
    split = "dev"
    tasks = ["retrieval"]
    captions = ["captions", "captions_ja"]

Every (task, set, language) is one job, done once. Of a backbone that is no Clip only linear probes are made. Knows how
jobs are made and kept, not how a measure works.
"""

from __future__ import annotations

import difflib
import time
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

from awase import __version__
from awase.clip import Clip
from awase.datasets import Captioned, Found, Labelled, data_hash, find_sets, open_captioned
from awase.datasets.splits import choose
from awase.encoding.wordings import spelled_out
from awase.errors import AwaseError, CheckpointError, DataError, UsageError
from awase.evaluation.backbones import Backbone
from awase.evaluation.results import Result
from awase.evaluation.runs import Run, slug
from awase.evaluation.sampling import few_captioned, few_labelled
from awase.evaluation.tasks import (
    OF_CAPTIONED,
    OF_LABELLED,
    choosable,
    evaluate_captioned,
    evaluate_labelled,
    open_classes,
)
from awase.evaluation.zero_shot import sentences_for

CHOOSING = ("linear-probe", "calibration")  # tasks that use a validation split
ARCHIVES = ("", ".tar", ".zip")  # endings that a path may leave out

Watch = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


@dataclass(frozen=True)
class Entry:
    """One [[set]] of a suite."""

    path: str
    """A data set, or a folder or archive that holds several: each of them is evaluated."""
    split: str | None = None
    """None: the test split, or else validation, or else training."""
    tasks: tuple[str, ...] = ("zero-shot",)
    languages: tuple[str, ...] = ("en",)
    """Of class names. A set among several that lacks one is passed over; where no set has it, that is an error."""
    captions: tuple[str, ...] = ("captions",)
    """Columns of sentences, as with languages."""
    labels: tuple[str, ...] = ()
    """Columns of classes, where a table has several; none: the one that is taken by default."""
    templates: str | tuple[str, ...] | None = None
    """A name or sentences with {}; None: the set's own, or else "simple"."""
    definition: str | None = None
    """A description that comes with awase, for pictures of a published set: its names, templates and metric."""
    train: str = "train"
    """Linear probes: the split that is fitted on. A set among several without it is passed over, as with languages."""
    validation: str | None = None
    """The split on which a linear probe's strength or a temperature is chosen; None: a part of `train`, or nothing."""
    shots: tuple[int, ...] = ()
    """Linear probes: also with so many pictures of each class."""
    seeds: int = 3
    """Linear probes with few shots: how many drawings of pictures."""
    pictures: int | None = None
    """Robustness: at most so many pictures (None: 200), for each is encoded under every corruption."""


@dataclass(frozen=True)
class Suite:
    """Sets to evaluate. data: the folder that their paths begin in."""

    name: str
    data: Path
    sets: tuple[Entry, ...]


@dataclass(frozen=True)
class Job:
    """One task on one set. variant: the language of class names or the column of sentences. label: the column of
    classes, where one was asked for."""

    entry: Entry
    found: Found
    task: str
    variant: str
    label: str | None = None

    @property
    def key(self) -> str:
        """What its result is called among the files of a run."""
        entry = self.entry
        named = "" if self.found.name == Path(entry.path).stem else self.found.name
        parts = [entry.path, named, entry.split, self.label, self.task, self.variant]
        if self.task in OF_LABELLED:
            parts.append(entry.definition)
        if self.task in OF_LABELLED and self.task != "linear-probe" and entry.templates:
            parts.append(entry.templates if isinstance(entry.templates, str) else " ".join(entry.templates))
        if self.task == "linear-probe" and entry.train != "train":
            parts.append(entry.train)
        if self.task in CHOOSING:
            parts.append(entry.validation)
        return slug("_".join(part for part in parts if part).replace("/", "_"))

    def __str__(self) -> str:
        named = f" ({self.label})" if self.label else ""
        return f"{self.found.name}{named}: {self.task}, {self.variant}"


@dataclass
class Outcome:
    """What became of a suite. done: jobs of this run. kept: jobs that an earlier run had done."""

    done: int = 0
    kept: int = 0
    failures: list[str] = field(default_factory=list)


# ---- reading a suite -------------------------------------------------------------------------------------------------


def read_suite(file: Path, data: Path | None = None) -> Suite:
    """A suite from its TOML file. data: takes the place of the file's own folder of data.

    Raises UsageError for a file that cannot be read, and for a name or a value that means nothing."""
    try:
        given = tomllib.loads(file.read_text("utf-8"))
    except FileNotFoundError as problem:
        raise UsageError(f"{file} does not exist; give the file that lists the data sets of a suite") from problem
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        raise UsageError(f"{file} cannot be read as TOML: {problem}") from problem
    _check_names(given, ("name", "data", "set"), str(file))
    sets = given.get("set")
    if not isinstance(sets, list) or not sets or not all(isinstance(one, dict) for one in sets):
        raise UsageError(f"{file} has no sets; each stands under [[set]] with a path")
    folder = data or file.parent / _typed(given.get("data", "."), "str", f"{file}: data")
    entries = tuple(_entry(one, f"{file}, set {number}") for number, one in enumerate(sets, 1))
    return Suite(_typed(given.get("name", file.stem), "str", f"{file}: name"), folder, entries)


def _entry(given: Mapping[str, Any], where: str) -> Entry:
    kinds = {one.name: str(one.type) for one in fields(Entry)}
    _check_names(given, list(kinds), where)
    if "path" not in given:
        raise UsageError(f"{where} has no path; it says where the set lies")
    entry = Entry(**{name: _typed(value, kinds[name], f"{where}: {name}") for name, value in given.items()})
    _check_names(dict.fromkeys(entry.tasks), OF_LABELLED + OF_CAPTIONED, f"{where}: tasks")
    return entry


def _check_names(given: Mapping[str, Any], known: Sequence[str], where: str) -> None:
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            meant = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
            raise UsageError(f"{where}: there is no {name!r}; {meant}")


def _typed(value: Any, kind: str, where: str) -> Any:
    """A value as a field takes it, whose annotation is `kind`; a list becomes a tuple. Raises UsageError for others."""
    simple, item = kind.split(" ")[0], "int" if "tuple[int" in kind else "str"
    if _is(value, simple):
        return value
    if "tuple" in kind and isinstance(value, list) and value and all(_is(one, item) for one in value):
        return tuple(value)
    words = {"str": "a text", "int": "a whole number above 0", "tuple[int,": "a list of whole numbers above 0"}
    raise UsageError(f"{where} is {value!r}; {words.get(simple, 'a list of texts')} is expected")


def _is(value: Any, kind: str) -> bool:
    if kind == "int":
        return isinstance(value, int) and not isinstance(value, bool) and value > 0
    return kind == "str" and isinstance(value, str) and value != ""


# ---- jobs ------------------------------------------------------------------------------------------------------------


def jobs_of(suite: Suite) -> list[Job]:
    """Every job, in the order of the file. Raises DataError for a path where no set is, UsageError where no set of an
    entry has a language or a column that it asks for, and where two entries ask for the same."""
    seen: dict[str, Job] = {}
    for entry in suite.sets:
        for job in _jobs(entry, find_sets(_located(suite.data, entry.path))):
            if job.key in seen:
                raise UsageError(f"{suite.name}: {job} is asked for twice; ask for it in one [[set]]")
            seen[job.key] = job
    return list(seen.values())


def _located(data: Path, path: str) -> Path:
    """Where a path lies, with the ending that it may leave out; a path may also go on inside an archive."""
    places = (data / f"{path}{ending}" for ending in ARCHIVES)
    return next((place for place in places if place.exists()), data / path)


def _jobs(entry: Entry, sets: Sequence[Found]) -> Iterator[Job]:
    unused = {(task, variant) for task in entry.tasks for variant in _variants(entry, task)}
    for found in sets:
        for task in entry.tasks:
            for variant in _variants(entry, task):
                if _has(entry, found, task, variant):
                    unused.discard((task, variant))
                    labels = entry.labels if task in OF_LABELLED else ()
                    yield from (Job(entry, found, task, variant, label) for label in labels or (None,))
    for task, variant in sorted(unused):
        there = ", ".join(f"{one.name} ({one.kind}: {', '.join(_offers(one))})" for one in sets[:3]) or "no set"
        raise UsageError(f"{entry.path}: nothing there can be used for {task} in {variant!r}; there is {there}")


def _variants(entry: Entry, task: str) -> tuple[str, ...]:
    if task == "linear-probe":  # classes without names
        return ("features",)
    return entry.languages if task in OF_LABELLED else entry.captions


def _has(entry: Entry, found: Found, task: str, variant: str) -> bool:
    if found.kind != ("labelled" if task in OF_LABELLED else "captioned"):
        return False
    if task == "linear-probe":
        return _can_be_fitted(entry, found)
    return entry.definition is not None or variant in _offers(found)


def _can_be_fitted(entry: Entry, found: Found) -> bool:
    """Whether a set has pictures to fit a probe on beside those that are measured."""
    try:
        train, measured = (choose(found.name, found.splits, split) for split in (entry.train, entry.split))
    except DataError:
        return False
    return train != measured


def with_probes(suite: Suite, task: str) -> Suite:
    """The labelled sets of a suite on which a linear probe can be fitted, with one task: the two sides of zero-shot
    against a probe. Raises UsageError where there is none."""
    entries = []
    for entry in suite.sets:
        sets = find_sets(_located(suite.data, entry.path)) if set(entry.tasks) & set(OF_LABELLED) else []
        if any(_has(entry, found, "linear-probe", "features") for found in sets):
            kept = entry if task != "linear-probe" else replace(entry, templates=None, languages=("en",))
            entries.append(replace(kept, tasks=(task,), shots=()))
    if not entries:
        raise UsageError(f"{suite.name}: no set has classes and pictures to fit a linear probe on")
    return replace(suite, sets=tuple(dict.fromkeys(entries)))


def _offers(found: Found) -> tuple[str, ...]:
    """The languages of class names, or the columns of sentences, that a set has."""
    return found.languages if found.kind == "labelled" else found.columns


# ---- doing them ------------------------------------------------------------------------------------------------------


def run_suite(
    model: Clip | Backbone, suite: Suite, run: Run, quick: bool = False, watch: Watch | None = None
) -> Outcome:
    """Does every job that the run does not hold yet, and keeps each result as soon as it is known.

    quick: a dozen pictures of each set, to see that everything works. A job that fails is named among the failures, and
    the others are done all the same, unless the model is damaged. What an earlier run found of such a job, or of one
    that the suite asks for no more, is left out. Ends by writing results.json and the report: the same as if nothing
    had been killed on the way, for days and durations stand only in the log."""
    suite = suite if isinstance(model, Clip) else with_probes(suite, "linear-probe")
    jobs, outcome = jobs_of(suite), Outcome()
    failed: set[str] = set()
    for opened in (_labelled, _captioned):  # data may have changed since another run of this process
        opened.cache_clear()
    for place, job in enumerate(jobs):
        if watch:
            watch(str(job), place, len(jobs))
        try:
            if _kept(model, job, run, quick):
                outcome.done += 1
            else:
                outcome.kept += 1
        except CheckpointError:  # the model itself: no job would fare better
            raise
        except AwaseError as problem:
            outcome.failures.append(f"{job}: {problem}")
            failed.add(job.key)
    if watch:
        watch("writing the report", len(jobs), len(jobs))
    run.finish(outcome.failures, {job.key for job in jobs} - failed)
    return outcome


def _kept(model: Clip | Backbone, job: Job, run: Run, quick: bool) -> bool:
    """Whether there was anything to do: the run may hold an answer to the same question about the same data."""
    began = time.monotonic()
    entry, location = job.entry, job.found.location
    asked = {"awase": __version__, "job": str(job), "entry": asdict(entry), "quick": quick}
    if job.task in OF_CAPTIONED:
        data = _captioned(location, entry.split, job.variant, quick)
        asked |= {"data": data_hash(data)}
        if run.holds(job.key, asked):
            return False
        result = evaluate_captioned(_clip(model), job.task, data)
    else:
        splits = _splits(job, quick)
        asked |= {"words": _words(job, splits.measured)} | {
            name: data_hash(split) for name, split in splits._asdict().items() if isinstance(split, Labelled)
        }
        if run.holds(job.key, asked):
            return False
        result = _of_labelled(model, job, splits)
    run.add(job.key, result, asked, time.monotonic() - began)
    return True


def _clip(model: Clip | Backbone) -> Clip:
    assert isinstance(model, Clip)  # of a backbone `run_suite` asks for linear probes only
    return model


class _Splits(NamedTuple):
    """What a labelled job is done on. train, validation: None where its task does not use them. notes: why none is."""

    measured: Labelled
    train: Labelled | None
    validation: Labelled | None
    notes: list[str]


def _splits(job: Job, quick: bool) -> _Splits:
    entry = job.entry
    opened = partial(_labelled, job.found.location, definition=entry.definition, label=job.label, quick=quick)
    measured, validation, notes = opened(entry.split), None, list[str]()
    train = opened(entry.train) if job.task == "linear-probe" else None
    if job.task in CHOOSING and entry.validation:
        validation, notes = choosable(measured, opened(entry.validation), entry.split)
    return _Splits(measured, train, validation, notes)


def _words(job: Job, data: Labelled) -> dict[str, Any] | None:
    """The sentences that classes are asked in: a file of templates may say something else than it did."""
    if job.task == "linear-probe":
        return None
    return spelled_out(sentences_for(data, job.variant, job.entry.templates)[1])


def _of_labelled(model: Clip | Backbone, job: Job, splits: _Splits) -> Result:
    from awase.evaluation.linear_probe import linear_probe

    entry, (data, train, validation, notes) = job.entry, splits
    if train is not None:
        result = linear_probe(model, train, data, validation, entry.shots or None, entry.seeds)
    else:
        words = job.variant, entry.templates
        result = evaluate_labelled(_clip(model), job.task, data, *words, validation, entry.pictures)
    return replace(result, notes=[*result.notes, *notes])


@lru_cache(maxsize=4)  # the tasks and languages of one set follow each other
def _labelled(location: str, split: str | None, definition: str | None, label: str | None, quick: bool) -> Labelled:
    data = open_classes(location, split, definition, label)
    return few_labelled(data) if quick else data


@lru_cache(maxsize=2)
def _captioned(location: str, split: str | None, column: str, quick: bool) -> Captioned:
    data = open_captioned(location, split, column)
    return few_captioned(data) if quick else data
