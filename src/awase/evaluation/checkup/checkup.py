"""Opens every split of a data set, runs every check that applies, and gives one Checkup."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from awase import __version__
from awase.clip import Clip
from awase.datasets import Captioned, Labelled, checks, find_sets, open_captioned
from awase.datasets.checks import Copies, Finding, Look, Whole, whole_of, worst_first
from awase.datasets.layouts.records import SUFFIXES
from awase.datasets.splits import ALL, kind_of
from awase.encoding import prompts
from awase.encoding.pictures import DEFAULT_LIMITS, find_pictures
from awase.errors import PictureError, UsageError
from awase.evaluation.candidates import candidate_names, guessed_kinds
from awase.evaluation.checkup.alignment import check_alignment
from awase.evaluation.checkup.confusable import Judged, check_confusable
from awase.evaluation.checkup.near import check_near, nearness
from awase.evaluation.checkup.reading import check_reading_of_captions, check_reading_of_names
from awase.evaluation.checkup.suspects import check_odd, check_suspects
from awase.evaluation.checkup.turned import check_turned
from awase.evaluation.checkup.wording import with_patterns
from awase.evaluation.ridge import fit_ridge
from awase.evaluation.tasks import open_classes
from awase.evaluation.vectors import picture_vectors, sentence_vectors
from awase.evaluation.zero_shot import language_for

SCHEMA = 1
MOST_EXAMPLES = 1000  # of one finding, in JSON
MOST_NUMBERS = 2**25  # pictures x classes of the classifier that looks for wrong labels
OF_PICTURES = ("unreadable pictures", "pictures turned by EXIF", "tiny pictures",
               "pictures smaller than the model reads", "near-blank pictures", "very long pictures",
               "copies across splits", "copies within a split")  # fmt: skip
OF_CLASSES = ("one picture, two classes", "uneven classes", "classes with too few pictures",
              "classes absent from a split", "classes without a picture", "classes with one name",
              "classes betrayed by their files", "classes that share a look",
              "groups that go along with a class")  # fmt: skip
OF_SENTENCES = ("short captions", "repeated captions", "mixed languages", "captions that are no sentences",
                "pictures without a caption")  # fmt: skip
BY_MODEL = ("near copies across splits", "near copies within a split", "pictures that look turned")
CLASSES_BY_MODEL = ("alignment outliers", "labels to look at", "confusable classes",
                    "names that find the wrong pictures", "names that are read badly",
                    "names in a language of no training")  # fmt: skip
SENTENCES_BY_MODEL = (
    "alignment outliers",
    "captions past the context",
    "captions in a language of no training",
    "hard negatives",
)

Parts = Sequence[Labelled] | Sequence[Captioned]


class Moved:
    """What a caller's progress bar is told: (done, of all, what is being done)."""

    def __init__(self, tell: Callable[[int, int, str], None] | None) -> None:
        self._tell = tell

    def of(self, what: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(done, total, what) if self._tell else None


@dataclass(frozen=True)
class Checkup:
    """What was found in one data set. model: its name, "" where none looked. clean: what was looked for and not found.
    skipped: what could not be looked for, and why."""

    whole: Whole
    model: str
    language: str
    findings: tuple[Finding, ...]
    clean: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def unreadable(self) -> int:
        return next((f.count for f in self.findings if f.check == "unreadable pictures"), 0)

    def to_json(self) -> dict[str, Any]:
        whole = self.whole
        return {
            "schema": SCHEMA,
            "task": "data-check",
            "data": whole.name,
            "splits": {name: int((whole.part == i).sum()) for i, name in enumerate(whole.splits)},
            "model": self.model or None,
            "language": self.language or None,
            "classes": len(whole.keys) or None,
            "captions": len(whole.captions) or None,
            "findings": [_told(whole, finding) for finding in self.findings],
            "clean": list(self.clean),
            "skipped": [{"check": check, "why": why} for check, why in self.skipped],
            "notes": list(whole.notes),
            "provenance": {"command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]), "awase": __version__},
        }


def _told(whole: Whole, finding: Finding) -> dict[str, Any]:
    shown = finding.examples[:MOST_EXAMPLES]
    return {
        "check": finding.check,
        "severity": finding.severity,
        "says": finding.says,
        "count": finding.count,
        "of": finding.of,
        "why": finding.why,
        "remedy": finding.remedy,
        "examples": [{"pictures": [whole.called(p) for p in e.pictures], "says": e.says} for e in shown],
        "rows": [dict(row) for row in finding.rows],
    }


def open_whole(
    path: str,
    split: str | None = None,
    captions: str | None = None,
    definition: str | None = None,
    column: str | None = None,
) -> Parts:
    """Every split of a set, or the one asked for: with its classes where it has any, unless a column of captions is
    asked for; else with its sentences; else, where there are pictures and neither, these alone. Raises DataError."""
    found = find_sets(path)
    named = split or captions or definition or column or path.lower().endswith(SUFFIXES)
    if not found and not named and (pictures := find_pictures([path])):
        return [Captioned(Path(path).resolve().name, ALL, pictures, (), np.empty(0, np.int64))]
    kinds = [one for one in found if one.kind == ("captioned" if captions else "labelled")] or found
    splits = [split] if split or not kinds else list(kinds[0].splits)
    if captions or (kinds and kinds[0].kind == "captioned"):
        return [open_captioned(path, name, captions or "captions") for name in splits]
    return [open_classes(path, name, definition, column) for name in splits]


def check_data(
    parts: Parts,
    clip: Clip | None = None,
    language: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Checkup:
    """parts: every split of one set (`open_whole`). clip: None leaves out what needs a model. language: of the class
    names that are judged. progress: told how much is done, of how much, and what.

    Raises DataError where the data have no names in that language; pictures that cannot be read are a finding."""
    whole, moved = whole_of(parts), Moved(progress)
    asked = language_for(parts[0], language) if isinstance(parts[0], Labelled) else ""
    limits = clip.limits if clip else DEFAULT_LIMITS
    looks = checks.look_at_all(whole.pictures, limits, moved.of("looking at pictures"))
    copies = checks.find_copies(whole, looks)
    reads = clip.checkpoint.architecture.preprocessing.size if clip else None
    findings = [
        *checks.check_pictures(whole, looks, reads),
        *checks.check_copies(whole, copies),
        *checks.check_labels(whole),
        *checks.check_captions(whole),
        *checks.check_giveaways(whole, looks),
    ]
    skipped: list[tuple[str, str]] = []
    if clip is None:
        skipped.append(("everything that needs a model", "no model was asked for"))
    elif sum(isinstance(look, Look) for look in looks) < 2:
        skipped.append(("everything that needs a model", "fewer than two pictures can be read"))
    else:
        findings, skipped = _by_model(clip, parts, whole, looks, copies, findings, asked, moved)
    looked_for = _looked_for(whole, clip is not None and not any(s[0].startswith("everything") for s in skipped))
    found = {finding.check for finding in findings} | {check for check, _ in skipped}
    return Checkup(
        whole,
        clip.name if clip else "",
        asked,
        tuple(worst_first(findings)),
        tuple(check for check in looked_for if check not in found),
        tuple(skipped),
    )


def _looked_for(whole: Whole, by_model: bool) -> Iterator[str]:
    yield from OF_PICTURES
    yield from OF_CLASSES if whole.keys else OF_SENTENCES if whole.captions else ()
    if by_model:
        yield from BY_MODEL
        yield from CLASSES_BY_MODEL if whole.keys else SENTENCES_BY_MODEL if whole.captions else ()


# ---- what needs a model ----------------------------------------------------------------------------------------------


def _by_model(
    clip: Clip,
    parts: Parts,
    whole: Whole,
    looks: Sequence[Look | PictureError],
    copies: Copies,
    findings: list[Finding],
    language: str,
    moved: Moved,
) -> tuple[list[Finding], list[tuple[str, str]]]:
    """(the findings that are there with those of the model, what could not be looked for and why)."""
    kept, rows = _vectors(clip, parts, looks, moved)
    findings = [*findings, *check_near(whole, kept, rows, nearness(clip, whole, kept, rows), copies)]
    turned, why = check_turned(clip, whole, kept, rows)
    findings += turned
    skipped = [("pictures that look turned", why)] if why else []
    if whole.captions:
        sentences, _ = sentence_vectors(clip, whole.captions, moved.of("encoding captions"))
        findings = [
            with_patterns(finding, whole, kept, rows, sentences) if finding.check == "short captions" else finding
            for finding in findings
        ]
        findings += check_reading_of_captions(clip, whole)
        findings += check_alignment(whole, kept, rows, sentences)
    elif whole.keys and whole.classes is None:
        skipped.append(("labels to look at", "pictures may have several classes"))
    elif whole.keys:
        judged, why = _judged_classes(clip, whole, kept, rows, language)
        findings += judged
        skipped += [(check, why) for check in ("labels to look at", "confusable classes") if why]
    return findings, skipped


def _vectors(
    clip: Clip, parts: Parts, looks: Sequence[Look | PictureError], moved: Moved
) -> tuple[np.ndarray, np.ndarray]:
    """((K,) which pictures of the whole, (K, D) their vectors), each split from its own cache."""
    kept, rows, start = [], [], 0
    for part in parts:
        if any(isinstance(look, Look) for look in looks[start : start + len(part)]):
            found = picture_vectors(clip, part, progress=moved.of(f"encoding {part.split}"))
            kept.append(found.kept + start)
            rows.append(found.rows)
        start += len(part)
    return np.concatenate(kept), np.concatenate(rows)


def _judged_classes(
    clip: Clip, whole: Whole, kept: np.ndarray, rows: np.ndarray, language: str
) -> tuple[list[Finding], str]:
    """Findings about names and labels, and why some were not looked for."""
    assert whole.classes is not None
    classes, names = whole.classes[kept], tuple(name.strip() for name in whole.names[language])
    findings = check_reading_of_names(clip, whole.keys, names, language)
    if len(set(names)) < len(names):
        return findings, "several classes have one name"
    if len(kept) * len(names) > MOST_NUMBERS:
        return findings, f"{len(kept):,} pictures of {len(names):,} classes are too many for it; give one split"
    if len(np.unique(classes)) < 2:
        return findings, "there is one class only"
    sentences = _simple(language)
    weights = prompts.classifier(names, sentences, clip.encode_texts)
    ridge = fit_ridge(rows, classes, len(names))
    may = _may_choose(whole)[kept]
    judged = Judged(kept[may], classes[may], names, rows[may] @ weights.T, ridge.left_out[may])
    kinds = guessed_kinds(clip, names, language) if language in ("en", "ja") else ()

    def renamed(label: int) -> list[tuple[str, np.ndarray]]:
        others = [n for n in candidate_names(names[label], whole.keys[label], language, kinds) if n not in names]
        return list(
            zip(others, (rows[may] @ prompts.classifier(others, sentences, clip.encode_texts).T).T, strict=True)
        )

    findings += check_confusable(whole, judged, renamed)
    findings += check_suspects(whole, kept, rows, ridge.left_out)
    findings += check_odd(whole, kept, rows, weights)
    return findings, ""


def _may_choose(whole: Whole) -> np.ndarray:
    """(N,) bool: the pictures on which another name may be chosen; a test split only where there is nothing else."""
    may = np.array([kind_of(split) != "test" for split in whole.splits])[whole.part]
    return np.asarray(may if may.any() else ~may)


def _simple(language: str) -> tuple[str, ...]:
    try:
        return prompts.templates("simple", language)
    except UsageError:  # a language that awase has no sentences in
        return (prompts.SLOT,)
