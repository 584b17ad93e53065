"""How much accuracy is left when pictures are corrupted, and how much more that is than accuracy alone would foretell.

Pictures are first brought to the 224 x 224 that the corruptions are made for, the clean ones too; the model's own
preparation follows, as with ImageNet-C's files. The mean corruption error (mCE) divides by a reference model's errors,
and is given only where those are: Hendrycks & Dietterich's AlexNet was measured on ImageNet. Effective robustness is
how far accuracy lies above a line fitted, on logit axes, to models of a kind (Taori et al., 2020, arXiv:2007.00644).
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, BinaryIO

import numpy as np
from PIL import Image

from awase.clip import Clip
from awase.datasets.hashing import content_of
from awase.datasets.labelled import Labelled
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import Limits, Picture, name_of
from awase.encoding.preprocessing import prepare_source
from awase.errors import DataError, UsageError
from awase.evaluation.classification import answer
from awase.evaluation.corruptions import CORRUPTIONS, SEVERITIES, SIZE, corrupt
from awase.evaluation.intervals import bootstrap, clustered_proportion, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import picture_vectors
from awase.evaluation.zero_shot import ZeroShot, zero_shot_logits

PICTURES = 200  # times 75 settings and the clean one: minutes, and intervals of 3 points for the mean
SQUARE = Preprocessing(SIZE)
EDGE = 1e-3  # accuracies are kept this far from 0 and 1, where a logit has no end


def robustness(
    clip: Clip,
    data: Labelled,
    language: str | None = None,
    templates: str | Sequence[str] | None = None,
    *,
    corruptions: Sequence[str] = tuple(CORRUPTIONS),
    severities: Sequence[int] = SEVERITIES,
    pictures: int | None = PICTURES,
    seed: int = 0,
    reference: Mapping[str, float] | None = None,
    line: tuple[float, float] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Zero-shot top-1 under each corruption, its mean, and that mean as a share of clean accuracy.

    pictures: how many at most, drawn by `seed`, None for all; each is encoded once for each corruption and severity,
    and kept as all vectors are, so that a killed run goes on.
    reference: another model's error under each corruption, mean over severities, for the mCE. line: (slope, intercept)
    of logit(corrupted accuracy) on logit(clean accuracy), for effective robustness. items: "correct" (under what share
    of the settings a picture is right), "clean", "picture". Raises DataError for pictures of several classes."""
    _check(data, corruptions, severities, reference)
    found = zero_shot_logits(clip, data, language, templates)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found.pictures))[:pictures])
    drawn = [data.pictures[i] for i in found.pictures[chosen]]
    clear = [Corrupted(picture, content_of(picture), "", 0, seed, clip.limits) for picture in drawn]
    settings = [("clean", 0), *((name, severity) for name in corruptions for severity in severities)]
    right = {}
    for done, (name, severity) in enumerate(settings):
        changed = [replace(picture, corruption=name, severity=severity) for picture in clear]
        right[name, severity] = _correct(clip, data, found, chosen, changed)
        if progress:
            progress(done + 1, len(settings))
    clean = right.pop(("clean", 0))
    corrupted = np.stack([[right[name, severity] for severity in severities] for name in corruptions])  # (K, S, N)
    return Result(
        task="robustness",
        data=data.name,
        split=data.split,
        model=clip.name,
        n=len(chosen),
        figures=robustness_figures(clean, corrupted, corruptions, reference, line),
        settings={**found.settings, "metric": "accuracy", "severities": list(severities), "seed": seed, "size": SIZE},
        items={"correct": corrupted.mean(axis=(0, 1)), "clean": clean, "picture": found.pictures[chosen]},
        tables={"corruptions": _rows(corruptions, severities, corrupted)},
        notes=[*found.notes, *_notes(len(chosen), len(found.pictures), corruptions)],
        provenance=provenance(clip, data),
    )


def robustness_figures(
    clean: np.ndarray,
    corrupted: np.ndarray,
    corruptions: Sequence[str],
    reference: Mapping[str, float] | None = None,
    line: tuple[float, float] | None = None,
) -> dict[str, Figure]:
    """(N,) and (K corruptions, S severities, N) booleans -> figures. A picture is one cluster in every interval."""
    n, each = len(clean), corrupted.mean(axis=(0, 1))
    rows = np.stack([clean, each], axis=1).astype(np.float64)

    def figure(statistic: Callable[[np.ndarray], float]) -> Figure:
        return Figure(statistic(rows), bootstrap(rows, statistic), n)

    figures = {
        "accuracy": _accuracy(corrupted.reshape(-1, n)),
        "clean": Figure(float(clean.mean()), proportion(int(clean.sum()), n), n),
        "relative": figure(lambda some: float(some[:, 1].sum() / max(some[:, 0].sum(), 1))),
    }
    figures |= {name: _accuracy(its) for name, its in zip(corruptions, corrupted, strict=True)}
    if reference:
        shares = np.mean(
            [(~its).mean(axis=0) / reference[name] for name, its in zip(corruptions, corrupted, strict=True)], 0
        )
        figures["mce"] = Figure(float(shares.mean()), bootstrap(shares), n)
    if line:
        figures["effective_robustness"] = figure(
            lambda some: effective_robustness(float(some[:, 1].mean()), float(some[:, 0].mean()), line)
        )
    return figures


def effective_robustness(shifted: float, clean: float, line: tuple[float, float]) -> float:
    """Accuracy under a shift above what (slope, intercept) on logit axes foretell from clean accuracy; in [-1, 1]."""
    slope, intercept = line
    kept = min(max(clean, EDGE), 1 - EDGE)
    foretold = 1 / (1 + np.exp(-(slope * np.log(kept / (1 - kept)) + intercept)))
    return float(shifted - foretold)


@dataclass(frozen=True)
class Corrupted:
    """A picture as a square of SIZE pixels under a corruption, made each time that it is opened; severity 0 is the
    square alone, which small pictures fill too, though a model may ask for them in a border. Chance depends on the seed
    and on what the picture holds, not on where it stands.

    original: what `content_of` says of the picture."""

    picture: Picture
    original: bytes
    corruption: str
    severity: int
    seed: int
    limits: Limits

    @property
    def name(self) -> str:
        return f"{name_of(self.picture)} under {self.corruption}, severity {self.severity}"

    @cached_property
    def content(self) -> bytes:
        said = f"{self.corruption} {self.severity} {self.seed} {SIZE}".encode()
        return hashlib.sha256(self.original + said).digest()

    def open(self, mode: str = "rb") -> BinaryIO:
        pixels = prepare_source(self.picture, SQUARE, self.limits)
        if self.severity:
            chance = int.from_bytes(self.original[:6], "little") ^ self.seed
            pixels = corrupt(pixels, self.corruption, self.severity, chance)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG", compress_level=0)
        file.seek(0)
        return file


# ---- parts ----------------------------------------------------------------------------------------------------------


def _check(
    data: Labelled, corruptions: Sequence[str], severities: Sequence[int], reference: Mapping[str, float] | None
) -> None:
    if data.multi_label:
        raise DataError(f"{data.name}: robustness is for pictures of one class each; here they may have several")
    if not corruptions or not severities:
        raise UsageError("at least one corruption and one severity are needed")
    if unknown := [name for name in corruptions if name not in CORRUPTIONS]:
        raise UsageError(f"no corruption is called {unknown[0]!r}; there are {', '.join(CORRUPTIONS)}")
    if reference is not None and (missing := [name for name in corruptions if not reference.get(name)]):
        raise UsageError(f"the reference has no error above 0 for {', '.join(missing)}; the mCE divides by it")


def _correct(
    clip: Clip, data: Labelled, found: ZeroShot, chosen: np.ndarray, pictures: Sequence[Picture]
) -> np.ndarray:
    """(n,) bool: which of the chosen pictures are answered rightly as they are now."""
    changed = replace(data, pictures=pictures, targets=data.targets[found.pictures[chosen]], groups={})
    seen = picture_vectors(clip, changed, found.reads)
    if seen.errors:  # it could be read a moment ago
        raise seen.errors[0]
    return answer(found.vectors_of(seen.rows), found.classes, found.scoring, found.targets[chosen]).correct


def _accuracy(right: np.ndarray) -> Figure:
    """(settings, N) booleans -> their mean, with pictures as clusters."""
    clusters = np.tile(np.arange(right.shape[1]), len(right))
    return Figure(float(right.mean()), clustered_proportion(right.ravel(), clusters), right.shape[1])


def _rows(corruptions: Sequence[str], severities: Sequence[int], corrupted: np.ndarray) -> list[dict[str, Any]]:
    return [
        {
            "corruption": name.replace("_", " "),
            **{f"severity {s}": float(accuracy) for s, accuracy in zip(severities, its.mean(axis=1), strict=True)},
            "mean": float(its.mean()),
        }
        for name, its in zip(corruptions, corrupted, strict=True)
    ]


def _notes(used: int, there: int, corruptions: Sequence[str]) -> list[str]:
    notes = [f"{used:,} of {there:,} pictures were drawn"] if used < there else []
    if "frost" in corruptions:
        notes.append("frost is drawn in the colours of the authors' photographs: near published figures, not equal")
    return notes
