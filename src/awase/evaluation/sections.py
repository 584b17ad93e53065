"""One data set's part of a report: figures, languages side by side; charts, tables, examples with pictures, notes."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from awase.evaluation import plots
from awase.evaluation.markup import lang, listed, table, text, titled
from awase.evaluation.results import Figure, Result
from awase.evaluation.runs import slug
from awase.evaluation.words import PART, headline_of, task_name, word_for, written, written_interval

Variants = Mapping[str, Result]
"""Of one task on one set: "English" -> result."""
Tasks = Mapping[str, Variants]
Pictures = Callable[[str], bytes | None]
"""The bytes of a small JPEG by the name that an example gives."""
EXAMPLES = {"zero-shot": "Wrong answers that were given most surely", "composition": "Choices that went wrong by most"}
SECOND = "Japanese"  # drawn in the second colour wherever it stands


def section(name: tuple[str, str], tasks: Tasks, opened: bool, picture: Pictures, examples: int) -> str:
    """(data, split) and its tasks as a part of the page that folds. examples: how many of each result to show."""
    main = next(iter(tasks.values()))
    heads = "".join(f'<span class="{look(v, i)}">{_short_head(r)}</span>' for i, (v, r) in enumerate(main.items()))
    first = next(iter(main.values()))
    summary = (
        f'<h3>{text(name[0])}</h3><span class="soft">{text(name[1])} · n = {first.n:,}</span>'
        f'<span class="heads">{heads}</span>'
    )
    body = "".join(_task(task, tasks, picture, examples) for task in tasks)
    return (
        f'<details class="set" id="{anchor(*name)}"{" open" if opened else ""}><summary>{summary}</summary>'
        f'<div class="body">{body}</div></details>'
    )


def anchor(data: str, split: str) -> str:
    return slug(f"{data}_{split}")


def look(variant: str, index: int) -> str:
    """Which of the two colours a variant is drawn in: "s0" or "s1"."""
    return "s1" if variant == SECOND or index else "s0"


def _short_head(result: Result) -> str:
    name = headline_of(result)
    if name is None:
        return ""
    figure, word = result.figures[name], word_for(name)
    interval = text(written_interval(figure.interval, word.share))
    return f"<em>{text(written(figure.value, word.share))}</em> <small>{interval}</small>"


def _task(task: str, tasks: Tasks, picture: Pictures, examples: int) -> str:
    variants = tasks[task]
    parts = [f"<h3>{text(task_name(task))}</h3>", _figures(variants), _charts(variants, level_of(tasks))]
    parts.append(_tables(variants))
    for variant, result in variants.items():
        parts.append(_examples(result, variant, len(variants) > 1, picture, examples))
    parts.append(_notes(variants))
    return "".join(parts)


# ---- figures ---------------------------------------------------------------------------------------------------------


def _figures(variants: Variants) -> str:
    """Figures as rows, languages side by side; those of groups of pictures folded."""
    names = list(dict.fromkeys(name for result in variants.values() for name in result.figures))
    parts = [name for name in names if PART in name]
    whole = _figure_table([name for name in names if PART not in name], variants)
    summary = f"<summary>By group <small>({len(parts):,})</small></summary>"
    return whole + (f'<details class="more">{summary}{_figure_table(parts, variants)}</details>' if parts else "")


def _figure_table(names: Sequence[str], variants: Variants) -> str:
    alone = len(variants) == 1
    heads = (f'<th class="num {look(v, i)}"><em>{text(v)}</em></th><th>95 %</th>' for i, v in enumerate(variants))
    lines = []
    for name in names:
        cells = "".join(_figure_cells(name, result.figures.get(name)) for result in variants.values())
        counts = dict.fromkeys(f"{r.figures[name].n:,}" for r in variants.values() if name in r.figures)
        count = f'<td class="num">{" / ".join(counts)}</td>'
        lines.append(f"<tr><th>{text(word_for(name).name)}</th>{cells}{count}</tr>")
    head = "<th>Value</th><th>95 %</th>".replace("<th>V", '<th class="num">V') if alone else "".join(heads)
    head = f'<thead><tr><th></th>{head}<th class="num">n</th></tr></thead>'
    return f'<div class="scroll"><table class="figures">{head}<tbody>{"".join(lines)}</tbody></table></div>'


def _figure_cells(name: str, figure: Figure | None) -> str:
    if figure is None:
        return '<td class="num">–</td><td></td>'
    share = word_for(name).share
    interval = text(written_interval(figure.interval, share)) or "no interval"
    return f'<td class="num">{text(written(figure.value, share))}</td><td class="soft">{interval}</td>'


def _notes(variants: Variants) -> str:
    """Each note once, with the languages that it is about where they are not all."""
    about: dict[str, list[str]] = {}
    for variant, result in variants.items():
        for note in dict.fromkeys(result.notes):
            about.setdefault(note, []).append(variant)
    lines = "".join(
        f"<li>{text(note if len(its) == len(variants) else f'{listed(its)}: {note}')}</li>"
        for note, its in about.items()
    )
    return f'<h4>Worth knowing</h4><ul class="notes">{lines}</ul>' if lines else ""


# ---- charts ----------------------------------------------------------------------------------------------------------


def _charts(variants: Variants, level: float | None) -> str:
    drawn = []
    for index, (variant, result) in enumerate(variants.items()):
        for name, chart in charts_of(result, level, look(variant, index)):
            said = titled(name) + (f", {variant}" if len(variants) > 1 else "")
            drawn.append(f'<figure>{chart}<figcaption class="soft">{text(said)}</figcaption></figure>')
    return f'<div class="charts">{"".join(drawn)}</div>' if drawn else ""


def level_of(tasks: Tasks) -> float | None:
    """Zero-shot accuracy on the same set, with which few-shot curves are compared: in the first language."""
    results = list(tasks.get("zero-shot", {}).values())
    return results[0].figures["top1"].value if results and "top1" in results[0].figures else None


def charts_of(result: Result, level: float | None = None, colour: str = "s0") -> Iterable[tuple[str, str]]:
    """(name, SVG) of the charts that a result's tables hold. level: zero-shot accuracy on the same set."""
    for name, rows in result.tables.items():
        if name.startswith("reliability") and rows:
            yield name, _reliability(rows, colour)
        if name == "few_shot" and rows:
            yield name, _few_shot(rows, result.figures.get("top1"), level)
        if name == "corruptions" and rows:
            yield "accuracy by severity", _severities(rows, result.figures.get("clean"), colour)


def _reliability(rows: Sequence[Mapping[str, Any]], colour: str) -> str:
    bins = [
        plots.Bin(row["from"], row["to"], row["confidence"], row["accuracy"], (row["low"], row["high"]), row["n"])
        for row in rows
    ]
    return plots.reliability(bins, colour)


def _few_shot(rows: Sequence[Mapping[str, Any]], full: Figure | None, level: float | None) -> str:
    """Accuracy over shots on a logarithmic axis, beside zero-shot and the probe on everything."""
    shots = [int(row["shots"]) for row in rows]
    end = math.log2(max(shots)) or 1.0
    points = [(math.log2(n) / end, float(row["top1"])) for n, row in zip(shots, rows, strict=True)]
    lines = [plots.Line("probe", points, [_pair(row) for row in rows])]
    if level is not None:
        lines.append(plots.Line("zero-shot", [(0, level)], look="s1", level=True))
    if full is not None:
        lines.append(plots.Line("probe, all pictures", [(0, full.value)], look="tie", level=True))
    places = [(x, str(n)) for n, (x, _) in zip(shots, points, strict=True)]
    return plots.curves(lines, places, "pictures of each class", "top-1 accuracy, %")


def _severities(rows: Sequence[Mapping[str, Any]], clean: Figure | None, colour: str) -> str:
    """The mean over corruptions at each severity."""
    columns = [column for column in rows[0] if column.startswith("severity ")]
    end = max(len(columns) - 1, 1)
    points = [(i / end, sum(row[column] for row in rows) / len(rows)) for i, column in enumerate(columns)]
    lines = [plots.Line("corrupted", points, look=colour)]
    if clean is not None:
        lines.append(plots.Line("clean", [(0, clean.value)], look="tie", level=True))
    places = [(x, column.removeprefix("severity ")) for column, (x, _) in zip(columns, points, strict=True)]
    return plots.curves(lines, places, "severity", "accuracy, %")


def _pair(row: Mapping[str, Any]) -> tuple[float, float] | None:
    return (row["low"], row["high"]) if "low" in row and "high" in row else None


# ---- tables ----------------------------------------------------------------------------------------------------------


def _tables(variants: Variants) -> str:
    """Each table in one language beside the same in the other."""
    names = dict.fromkeys(name for result in variants.values() for name in result.tables)
    drawn = [
        table(titled(name) + (f", {variant}" if len(variants) > 1 else ""), result.tables[name], variant)
        for name in names
        for variant, result in variants.items()
        if result.tables.get(name)
    ]
    return f'<div class="tables n{min(len(variants), 2)}">{"".join(drawn)}</div>' if drawn else ""


# ---- examples --------------------------------------------------------------------------------------------------------


def _examples(result: Result, variant: str, named: bool, picture: Pictures, most: int) -> str:
    if not result.examples:
        return ""
    shown = "".join(_example(example, picture) for example in result.examples[:most])
    heading = EXAMPLES.get(result.task, "Examples") + (f", {variant}" if named else "")
    return f'<h4>{text(heading)}</h4><div class="examples"{lang(variant)}>{shown}</div>'


def _example(example: Mapping[str, Any], picture: Pictures) -> str:
    name = example.get("thumbnail")
    content = picture(name) if isinstance(name, str) else None
    if content is None:
        image = '<div class="missing">no picture</div>'
    else:
        image = f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'
    lines = [_line(key, value) for key, value in example.items() if key not in ("picture", "thumbnail") and value != ""]
    if example.get("picture"):
        lines.append(f'<span class="file">{text(example["picture"])}</span>')
    return f"<figure>{image}<figcaption>{''.join(lines)}</figcaption></figure>"


def _line(key: str, value: Any) -> str:
    if isinstance(value, float):
        value = written(value, share=0 <= value <= 1)
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = ", ".join(map(str, value))
    return f"<div>{text(titled(key))} <b>{text('–' if value is None else value)}</b></div>"
