"""How much accuracy is left when pictures are corrupted, and how much more that is than accuracy alone would foretell.

Pictures are first brought to the 224 x 224 that the corruptions are made for, the clean ones too; the model's own
preparation follows, as with ImageNet-C's files. The mean corruption error (mCE) divides by a reference model's errors,
and is given only where those are: Hendrycks & Dietterich's AlexNet was measured on ImageNet. Effective robustness is
how far accuracy lies above a line fitted, on logit axes, to models of a kind (Taori et al., 2020, arXiv:2007.00644).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import numpy as np

from awase.clip import Clip, unit
from awase.datasets.labelled import Labelled
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import Picture
from awase.encoding.pipeline import encode_stream
from awase.encoding.preprocessing import prepare_source
from awase.errors import DataError, UsageError
from awase.evaluation.corruptions import CORRUPTIONS, SEVERITIES, SIZE, corrupt
from awase.evaluation.intervals import bootstrap, clustered_proportion, proportion
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.zero_shot import ZeroShot, zero_shot_logits

PICTURES = 200  # times 75 settings and the clean one: minutes, and intervals of 3 points for the mean
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

    pictures: how many at most, drawn by `seed`, None for all; each is encoded once for each corruption and severity.
    reference: another model's error under each corruption, mean over severities, for the mCE. line: (slope, intercept)
    of logit(corrupted accuracy) on logit(clean accuracy), for effective robustness. items: "correct" (under what share
    of the settings a picture is right), "clean", "picture". Raises DataError for pictures of several classes."""
    _check(data, corruptions, severities, reference)
    found = zero_shot_logits(clip, data, language, templates)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(found.pictures))[:pictures])
    settings = [("clean", 0), *((name, severity) for name in corruptions for severity in severities)]
    right = {}
    for done, (name, severity) in enumerate(settings):
        right[name, severity] = _correct(clip, data, found, chosen, name, severity, seed)
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
    clip: Clip, data: Labelled, found: ZeroShot, chosen: np.ndarray, name: str, severity: int, seed: int
) -> np.ndarray:
    """(n,) bool: which of the chosen pictures are answered rightly under a corruption; severity 0 is none."""
    square = Preprocessing(SIZE)

    def prepare(index: Picture) -> np.ndarray:
        row = cast(int, index)
        pixels = prepare_source(data.pictures[found.pictures[row]], square, clip.limits)
        return clip.prepare(corrupt(pixels, name, severity, seed * len(data) + row) if severity else pixels)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        return {"vectors": unit(clip.engine.images(pixels, ("vectors",))["vectors"])}

    right = []
    for encoded in encode_stream(cast(list[Picture], chosen.tolist()), prepare, run, clip.batch_size):
        if encoded.error:
            raise encoded.error
        cosines = found.classes @ encoded.outputs["vectors"] if encoded.outputs else np.empty(0)
        right.append(int(cosines.argmax()) == found.targets[chosen[encoded.index]])
    return np.array(right)


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
        notes.append("frost is drawn here, not photographed: its figures do not compare with published ones")
    return notes
