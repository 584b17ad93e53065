"""A run as one page that people like to read: summary, then set by set with examples, then what it all rests on.

The page is one file: its style and its small pictures are inside it, it runs no script and asks no address. It is made
from the run folder alone, so it can be made again at any time, and needs neither the model nor the pictures.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from awase.evaluation import plots
from awase.evaluation.comparison import gaps
from awase.evaluation.markup import counted, listed, page, table, text, titled
from awase.evaluation.results import Result
from awase.evaluation.runs import REPORT, read_failures, read_run, slug, write
from awase.evaluation.sections import Pictures, Tasks, anchor, charts_of, level_of, look, section
from awase.evaluation.summary import Headline, headlines, on_shared_sets
from awase.evaluation.words import (
    NO_LANGUAGE,
    TASKS,
    headline_of,
    sentence_for,
    task_name,
    variant_of,
    variants_of,
    word_for,
    written,
    written_interval,
)

FEW_FAILURES = 5  # the others are folded
FEW_SETS = 3  # up to so many are shown open
EXAMPLES = 12  # of one result at most; half of it where there are many results
MANY_RESULTS = 20
GAP_LOOKS = (("win", "zero-shot is better"), ("tie", "neither"), ("loss", "the probe is better"))
Sets = Mapping[tuple[str, str], Tasks]
"""(data, split) -> task -> language -> result."""


def write_report(folder: Path) -> Path:
    """Makes report.html and plots/ of a finished run folder; returns the page's path."""
    results = read_run(folder)
    for name, chart in _files_of_charts(results):
        write(folder / "plots" / f"{slug(name)}.svg", plots.standalone(chart))
    html = run_page(results, lambda name: _thumbnail(folder / "pictures", name), read_failures(folder))
    write(folder / REPORT, html.encode("utf-8", "replace"))
    return folder / REPORT


def run_page(results: Sequence[Result], picture: Pictures, failures: Sequence[str] = ()) -> str:
    """The page for results of one model. failures: what could not be evaluated, a line each."""
    sets = grouped(results)
    model = results[0].model if results else "no results"
    tasks = list(dict.fromkeys(task for group in sets.values() for task in group))
    examples = EXAMPLES if len(results) <= MANY_RESULTS else EXAMPLES // 2
    parts = [
        _head(model, tasks, sets),
        _failures(failures),
        _cards(headlines(results), on_shared_sets(results), tasks),
        *(_across(task, sets) for task in tasks),
        _gaps(results),
        f"<h2>{'Set by set' if len(sets) > 1 else 'In detail'}</h2>",
        *(section(name, group, len(sets) <= FEW_SETS, picture, examples) for name, group in sets.items()),
        _basis(results),
    ]
    return page(f"How good is {model}?", "".join(parts))


def grouped(results: Iterable[Result]) -> Sets:
    """Sets in the order of their names, tasks in that of `TASKS`, English first."""
    order = {task: place for place, task in enumerate(TASKS)}
    sets: dict[tuple[str, str], dict[str, dict[str, Result]]] = {}
    given = list(results)
    placed = [
        ((_natural(r.data), r.split, order.get(r.task, 99), name), place)
        for place, (r, name) in enumerate(zip(given, variants_of(given), strict=True))
    ]
    for (*_, name), place in sorted(placed):
        result = given[place]
        sets.setdefault((result.data, result.split), {}).setdefault(result.task, {})[name] = result
    return sets


def _natural(name: str) -> list[tuple[int, str]]:
    """Sorts "set2" before "set10"."""
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name.lower())]


# ---- the summary -----------------------------------------------------------------------------------------------------


def _head(model: str, tasks: Sequence[str], sets: Sets) -> str:
    pictures = sum(max(_pictures(r) for several in group.values() for r in several.values()) for group in sets.values())
    found = dict.fromkeys(v for group in sets.values() for several in group.values() for v in several)
    variants = [variant for variant in found if variant not in NO_LANGUAGE.values()]
    words = [task_name(task).lower() for task in tasks]
    spoken = f", in {listed(variants)}" if variants else ""
    said = f"{counted(len(sets), 'data set')} with {pictures:,} pictures{spoken}: {listed(words)}."
    return (
        f'<header><p class="eyebrow">Evaluation by awase</p><h1>How good is {text(model)}?</h1>'
        f'<p class="lede">{text(said)}</p><p class="note">Every figure has its 95 % interval and n, the number of items'
        " that it is a mean over. Were they drawn anew, 95 of 100 such intervals would hold the truth.</p></header>"
    )


def _pictures(result: Result) -> int:
    data = result.provenance.get("data")
    return int(data["n"]) if isinstance(data, Mapping) and isinstance(data.get("n"), int) else result.n


def _failures(failures: Sequence[str]) -> str:
    if not failures:
        return ""
    first, rest = (
        f'<ul class="notes">{"".join(f"<li>{text(failure)}</li>" for failure in some)}</ul>'
        for some in (failures[:FEW_FAILURES], failures[FEW_FAILURES:])
    )
    more = len(failures) - FEW_FAILURES
    folded = f'<details class="more"><summary>and {more:,} more</summary>{rest}</details>' if more > 0 else ""
    heading = f"<h3>{counted(len(failures), 'job')} could not be evaluated</h3>"
    return f'<section class="card warning">{heading}{first}{folded}</section>'


def _cards(found: Sequence[Headline], shared: Sequence[Headline], tasks: Sequence[str]) -> str:
    cards = []
    for task in tasks:
        mine = sorted((headline for headline in found if headline.task == task), key=lambda one: one.variant)
        names = list(dict.fromkeys(name for headline in mine for name in headline.names))
        what = listed([word_for(name).name for name in names])
        if any(headline.sets > 1 for headline in mine):
            what = f"{what}, mean over sets"
        share = all(word_for(name).share for name in names)
        figures = "".join(_headline(headline, index, share) for index, headline in enumerate(mine))
        if figures:
            heading = f'<h3>{text(task_name(task))}</h3><p class="what">{text(what)}</p>'
            alike = _on_shared([headline for headline in shared if headline.task == task], share)
            cards.append(f'<div class="card">{heading}{figures}{alike}</div>')
    return f'<section class="cards">{"".join(cards)}</section>'


def _on_shared(mine: Sequence[Headline], share: bool) -> str:
    """What can be laid side by side, where the languages were measured on different sets."""
    if not mine:
        return ""
    said = [
        f"{one.variant} {written(one.figure.value, share)} ({written_interval(one.figure.interval, share)})"
        for one in mine
    ]
    return f'<p class="note">On the {counted(mine[0].sets, "set")} that have all: {text(listed(said))}.</p>'


def _headline(headline: Headline, index: int, share: bool) -> str:
    figure = headline.figure
    rest = [counted(headline.sets, "set"), f"n = {figure.n:,}"]
    interval = text(written_interval(figure.interval, share))
    return (
        f'<div class="figure {look(headline.variant, index)}"><b>{text(written(figure.value, share))}</b>'
        f"<span><em>{text(headline.variant)}</em> {interval}<br>{text(' · '.join(rest))}</span></div>"
    )


# ---- across sets -----------------------------------------------------------------------------------------------------


def _across(task: str, sets: Sets) -> str:
    rows, legend, names = rows_for(task, sets)
    if len(rows) < 2:
        return ""
    word = listed([word_for(name).name for name in names])
    heading = f'<h2>{text(task_name(task))} across sets</h2><p class="soft">{text(word)}, best first.</p>'
    anchors = {_called(name, sets): anchor(*name) for name in sets}
    return heading + rows_section(rows, legend, axis_of(rows, names), anchors)


def gap_rows(results: Sequence[Result]) -> list[plots.Row]:
    """Zero-shot less linear probe on each set that has both, largest first: figure 5 of the CLIP paper. English."""
    named = [result for result in results if result.task == "zero-shot" and variant_of(result) == "English"]
    found = gaps(named, [result for result in results if result.task == "linear-probe"])
    rows = []
    for row in found:
        interval = (row["low"], row["high"])
        look = "win" if interval[0] > 0 else "loss" if interval[1] < 0 else "tie"
        says = f"zero-shot {written(row['zero_shot'])}, probe {written(row['probe'])}, n = {row['n']:,}"
        rows.append(plots.Row(row["data"], [plots.Mark(row["difference"], interval, look, says)], n=row["n"]))
    return rows


def _gaps(results: Sequence[Result]) -> str:
    rows = gap_rows(results)
    if not rows:
        return ""
    heading = "<h2>Zero-shot against a linear probe</h2>"
    said = '<p class="soft">Top-1 accuracy, zero-shot in English less a probe fitted on all training pictures.</p>'
    return heading + said + rows_section(rows, GAP_LOOKS, plots.axis_for(rows, around=True), {}, bars=True)


def rows_for(task: str, sets: Sets) -> tuple[list[plots.Row], list[tuple[str, str]], list[str]]:
    """One row for each set that has the task, best first; the legend (look, language); the figures that are shown."""
    legend: dict[str, str] = {}
    names: dict[str, None] = {}
    rows = []
    for key, tasks in sets.items():
        marks = []
        for index, (variant, result) in enumerate(tasks.get(task, {}).items()):
            if name := headline_of(result):
                names[name] = None
                legend.setdefault(variant, look(variant, index))
                marks.append(_mark(result, name, variant, legend[variant]))
        if marks:
            first = next(iter(tasks[task].values()))
            rows.append(plots.Row(_called(key, sets), marks, _chance(first), first.n))
    up = all(word_for(name).rises for name in names)
    rows.sort(key=lambda row: _worst_last(row.marks[0].value, up))
    return rows, [(look, variant) for variant, look in legend.items()], list(names)


def _chance(result: Result) -> float | None:
    """What guessing gives, where that is one over the number of classes."""
    classes = result.settings.get("classes")
    return 1 / classes if isinstance(classes, int) and headline_of(result) in ("top1", "mean_per_class") else None


def _worst_last(value: float, up: bool) -> float:
    return math.inf if not math.isfinite(value) else -value if up else value


def _mark(result: Result, name: str, variant: str, look: str) -> plots.Mark:
    figure = result.figures[name]
    return plots.Mark(figure.value, figure.interval, look, f"{variant}, {sentence_for(name, figure)}")


def axis_of(rows: Sequence[plots.Row], names: Sequence[str]) -> plots.Axis:
    """Accuracies from 0 to 100 %, so that charts can be compared; errors as large as they are."""
    words = [word_for(name) for name in names]
    share = all(word.share for word in words)
    return plots.axis_for(rows, share, whole=share and all(word.rises for word in words))


def rows_section(
    rows: Sequence[plots.Row],
    legend: Sequence[tuple[str, str]],
    axis: plots.Axis,
    anchors: Mapping[str, str],
    bars: bool = False,
) -> str:
    """The rows as a part of the page that a narrow screen folds: label and values above, marks below."""
    key = [f'<span class="{look}"><i></i>{text(name)}</span>' for look, name in legend]
    if any(row.chance is not None for row in rows):
        key.append('<span class="dash"><i></i>guessing</span>')
    if any(mark.interval for row in rows for mark in row.marks):
        key.append("<span>dot: value, band: 95 % interval</span>")
    drawn = "".join(_row(row, axis, anchors.get(row.label), bars) for row in rows)
    scale = f'<svg class="track" role="img">{plots.ticks(axis)}</svg>'
    scale = f'<div class="row axis"><span class="label"></span>{scale}<span class="values"></span></div>'
    wide = max(len(row.marks) for row in rows)
    return f'<div class="key">{"".join(key)}</div><div class="rows w{min(wide, 2)}">{drawn}{scale}</div>'


def _row(row: plots.Row, axis: plots.Axis, anchor: str | None, bars: bool) -> str:
    label = f'<a href="#{anchor}">{text(row.label)}</a>' if anchor else text(row.label)
    count = f" <small>n = {row.n:,}</small>" if row.n is not None else ""
    values = "".join(
        f'<span class="{mark.look}"><em>{text(written(mark.value, axis.share))}</em> '
        f"<small>{text(written_interval(mark.interval, axis.share).removesuffix(' %'))}</small></span>"
        for mark in row.marks
    )
    track = f'<svg class="track" role="img" height="{plots.ROW}">{plots.track(row, axis, bars)}</svg>'
    return f'<div class="row"><div class="label">{label}{count}</div>{track}<div class="values">{values}</div></div>'


def _called(name: tuple[str, str], sets: Sets) -> str:
    """A set's name, with its split where the name alone stands for two."""
    data, split = name
    return data if sum(other == data for other, _ in sets) == 1 else f"{data}, {split}"


def _files_of_charts(results: Sequence[Result]) -> Iterable[tuple[str, str]]:
    sets = grouped(results)
    for task in dict.fromkeys(result.task for result in results):
        rows, legend, names = rows_for(task, sets)
        if rows:
            yield task, plots.rows_chart(rows, axis_of(rows, names), legend)
    if rows := gap_rows(results):
        yield "zero-shot_less_probe", plots.rows_chart(rows, plots.axis_for(rows, around=True), GAP_LOOKS, bars=True)
    for (data, split), tasks in sets.items():
        for task, variants in tasks.items():
            for variant, result in variants.items():
                for name, chart in charts_of(result, level_of(tasks), look(variant, 0)):
                    yield f"{data}_{split}_{task}_{variant}_{name}", chart


def _thumbnail(folder: Path, name: str) -> bytes | None:
    """A small picture of the run; only names and contents that a run writes are taken into the page."""
    path = folder / name
    if not re.fullmatch(r"[0-9a-f]{16}\.jpg", name) or not path.is_file():
        return None
    content = path.read_bytes()
    return content if content.startswith(b"\xff\xd8\xff") else None


# ---- what it rests on ------------------------------------------------------------------------------------------------


def _basis(results: Sequence[Result]) -> str:
    """Commands, hashes and versions: what is the same for all once, the rest result by result."""
    everything = [_unfolded(result.provenance) for result in results]
    names = list(dict.fromkeys(name for one in everything for name in one))
    same = {n: everything[0].get(n) for n in names if all(one.get(n) == everything[0].get(n) for one in everything)}
    facts = "".join(f"<tr><th>{text(titled(n))}</th><td><code>{text(v)}</code></td></tr>" for n, v in same.items())
    rows = [
        {"set": f"{result.data}, {result.split}", "task": task_name(result.task), "in": variant_of(result)}
        | {name: one.get(name, "") for name in names if name not in same}
        | _unfolded(result.settings)
        for result, one in zip(results, everything, strict=True)
    ]
    return (
        '<h2>What these figures rest on</h2><p class="soft">Hashes of model and data, versions, and the command'
        " that made them. The same command on the same data gives the same figures.</p>"
        f'<div class="scroll"><table class="facts"><tbody>{facts}</tbody></table></div>'
        + table("Result by result", rows)
    )


def _unfolded(facts: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """Nested facts as one level of names and words."""
    found: dict[str, str] = {}
    for name, value in facts.items():
        if isinstance(value, Mapping):
            found |= _unfolded(value, f"{before}{name} ")
        elif isinstance(value, (list, tuple)):
            found[before + name] = ", ".join(map(str, value))
        else:
            found[before + name] = "" if value is None else str(value)
    return found
