"""A run on one page: what was trained on what, its curves, what was measured, what went wrong. It is made from the
folder of the run alone and needs no script."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from awase.evaluation.markup import counted, page, table, text, titled
from awase.evaluation.plots import trend
from awase.evaluation.runs import write
from awase.evaluation.words import word_for, written, written_interval
from awase.learning.keeping import flat
from awase.learning.pretraining.recipe import Recipe
from awase.learning.pretraining.watching import read_evaluations, unreadable
from awase.learning.state import read_log

PAGE = "run.html"
POINTS = 400  # of a curve; more are means of neighbours
UNTOLD = ("step", "seconds")
NAMES = {
    "pairs": "Loss of pairs",
    "scale": "Scale of cosines",
    "likeness": "Mean cosine of different pictures",
    "gradient": "Norm of the gradient",
    "rate": "Learning rate",
    "peak": "Part of the machine's peak",
}
MEASURES = ("text_to_image_r5", "image_to_text_r5", "top1")


def write_page(folder: Path, recipe: Recipe) -> Path:
    """Makes run.html; returns its path."""
    log, measured = read_log(folder), read_evaluations(folder)
    failures = [*_failures(log), *_unreadable(folder)]
    body = [_head(folder, recipe, log), *_measured(measured), *_curves(recipe, log), *failures, _settings(recipe)]
    write(folder / PAGE, page(f"Training {folder.name}", "".join(body)).encode("utf-8", "replace"))
    return folder / PAGE


def _head(folder: Path, recipe: Recipe, log: list[dict[str, Any]]) -> str:
    steps, seconds = len(log), sum(_lengths(log))
    said = f"{counted(steps, 'step')} of {recipe.data.batch:,} pairs"
    if seconds:
        said += f" in {_duration(seconds)}, {steps * recipe.data.batch / seconds:,.0f} pairs a second"
    return (
        f'<header><p class="eyebrow">Training by awase</p><h1>{text(folder.name)}</h1>'
        f'<p class="lede">{text(said)}.</p></header>'
    )


def _duration(seconds: float) -> str:
    return counted(round(seconds), "second") if seconds < 120 else f"{seconds / 60:,.0f} minutes"


def _lengths(log: list[dict[str, Any]]) -> Iterator[float]:
    """Seconds of each stretch between interruptions: "seconds" begins anew with each."""
    for line, following in zip(log, [*log[1:], {"seconds": -1.0}], strict=True):
        if following["seconds"] < line["seconds"]:
            yield line["seconds"]


def _curves(recipe: Recipe, log: list[dict[str, Any]]) -> Iterator[str]:
    yield '<h2>Curves</h2><div class="charts">'
    for name in dict.fromkeys(key for line in log for key in line if key not in UNTOLD):
        plain = name == "pairs" and recipe.loss.kind != "sigmoid" and not recipe.loss.teachers
        guessing = math.log(recipe.data.batch) if plain else None
        values = [(line["step"], math.nan if line.get(name) is None else line[name]) for line in log]
        note = f" (dashed: guessing, ln {recipe.data.batch})" if guessing else ""
        yield _figure(NAMES.get(name, titled(name)) + note, trend(_thinned(values), "step", guessing))
    yield "</div>"


def _figure(title: str, chart: str) -> str:
    return f'<figure>{chart}<figcaption class="soft">{text(title)}</figcaption></figure>' if chart else ""


def _thinned(values: list[tuple[int, float]]) -> list[tuple[int, float]]:
    width = -(-len(values) // POINTS)
    found = []
    for start in range(0, len(values), width or 1):
        part = [value for _, value in values[start : start + width] if math.isfinite(value)]
        if part:
            found.append((values[start][0], sum(part) / len(part)))
    return found


def _measured(measured: list[dict[str, Any]]) -> Iterator[str]:
    sets: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in measured:
        sets.setdefault((line["task"], line["data"], line["split"]), []).append(line)
    if sets:
        charts = "".join(_progress(data, split, mine) for (_, data, split), mine in sets.items())
        yield f'<h2>Measured on the way</h2><div class="charts">{charts}</div>'
    for (task, data, split), mine in sets.items():
        yield table(f"{titled(task)}: {data}, {split}, after {mine[-1]['step']:,} steps", list(_whole(mine[-1])))
        yield from (f"<p>{text(note)}</p>" for note in mine[-1]["notes"])


def _progress(data: str, split: str, mine: list[dict[str, Any]]) -> str:
    """Charts of one set's main measures, with what was reached."""
    found = ""
    for measure in (name for name in MEASURES if name in mine[-1]["metrics"]):
        reached = (
            f"{written(mine[-1]['metrics'][measure])}, {written_interval(mine[-1]['intervals'][measure])}, "
            f"n = {_count(mine[-1], measure):,}"
        )
        chart = trend([(line["step"], line["metrics"][measure]) for line in mine], "step")
        found += _figure(f"{data}, {split}: {word_for(measure).name} {reached}", chart)
    return found


def _whole(line: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """A row a measure, over all items; parts of a set ("..., story = ...") stay in evaluations.jsonl."""
    for name, value in line["metrics"].items():
        if ", " not in name:
            word, interval = word_for(name), line["intervals"].get(name)
            said = {"measure": word.name, "value": written(value, word.share)}
            yield {**said, "95 % interval": written_interval(interval, word.share), "n": _count(line, name)}


def _count(line: Mapping[str, Any], measure: str) -> int:
    """How many items a measure is over, which may be sentences of fewer pictures."""
    return int(line["counts"].get(measure, line["n"]))


def _failures(log: list[dict[str, Any]]) -> Iterator[str]:
    bad = [line["step"] for line in log if any(value is None for value in line.values())]
    if bad:
        shown = ", ".join(map(str, bad[:20])) + (", ..." if len(bad) > 20 else "")
        said = f"{counted(len(bad), 'step')} had a loss or gradient that was not finite: {shown}."
        yield f"<h2>Passed over</h2><p>{said}</p>"


def _unreadable(folder: Path) -> Iterator[str]:
    if named := unreadable(folder):
        yield f"<h2>Unreadable</h2>{table('Pictures in whose place others were taken', named)}"


def _settings(recipe: Recipe) -> str:
    rows = [{"setting": name, "value": str(value)} for name, value in flat(dataclasses.asdict(recipe))]
    return f"<h2>Recipe</h2>{table('Every setting', rows)}"
