"""Two runs as one page: who wins where and by how much, as bars of differences with their intervals."""

from __future__ import annotations

from pathlib import Path

from awase.errors import UsageError
from awase.evaluation import plots
from awase.evaluation.comparison import tally
from awase.evaluation.markup import counted, page, table, text
from awase.evaluation.matching import Pair, RunComparison, mean_difference
from awase.evaluation.report import rows_section
from awase.evaluation.runs import REPORT, as_csv, slug, write, write_json
from awase.evaluation.words import MEASURES, written, written_interval

LOOKS = [("win", "A is better"), ("tie", "neither: the interval holds 0"), ("loss", "B is better")]


def write_comparison(found: RunComparison, folder: Path) -> Path:
    """comparison.json, comparison.csv, plots/ and report.html in a folder; returns the page's path."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out names a folder")
    write_json(folder / "comparison.json", found.to_json())
    write(folder / "comparison.csv", as_csv(pair.to_json() for pair in found.pairs))
    for (what, variant), pairs in found.tasks().items():
        rows = rows_of(pairs)
        chart = plots.rows_chart(rows, plots.axis_for(rows, pairs[0].share, around=True), LOOKS, bars=True)
        write(folder / "plots" / f"{slug(f'{what}_{variant}'.lower())}.svg", plots.standalone(chart))
    write(folder / REPORT, comparison_page(found).encode("utf-8", "replace"))
    return folder / REPORT


def comparison_page(found: RunComparison) -> str:
    a, b = found.names
    head = (
        f'<header><p class="eyebrow">Comparison by awase</p><h1>{text(a)} against {text(b)}</h1>'
        f'<p class="lede">A is {text(a)}, B is {text(b)}: {counted(len(found.pairs), "comparison")}, each on the items '
        'that both have.</p><p class="note">Differences are A less B (of per cent: in points), with 95 % intervals by '
        "a paired bootstrap. Where items are right or wrong, p is McNemar's exact and the interval no narrower than "
        "the one that belongs to it, else p is the bootstrap's. Of twenty sets on which two equal models are compared, "
        "about one is a win or a loss by chance.</p></header>"
    )
    cards, parts = [], []
    for (what, variant), pairs in found.tasks().items():
        cards.append(_card(what, variant, pairs))
        rows = rows_of(pairs)
        axis = plots.axis_for(rows, pairs[0].share, around=True)
        parts.append(f"<h2>{text(what)}, {text(variant)}</h2>")
        parts.append(f'<p class="soft">{text(MEASURES[pairs[0].found.measure].name)}, A less B.</p>')
        parts.append(rows_section(rows, LOOKS, axis, {}, bars=True) + _numbers(pairs))
    remarks = "".join(f"<li>{text(remark)}</li>" for remark in found.remarks)
    left_out = f'<h2>Not compared</h2><ul class="notes">{remarks}</ul>' if remarks else ""
    return page(
        f"{a} against {b}", f'{head}<section class="cards">{"".join(cards)}</section>{"".join(parts)}{left_out}'
    )


def _card(what: str, variant: str, pairs: list[Pair]) -> str:
    count = tally([pair.found for pair in pairs])
    sets = counted(len(pairs), "set")
    figures = "".join(
        f'<div class="figure {look}"><b>{count[look]}</b><span>{text(says)}<br>of {sets}</span></div>'
        for look, says in LOOKS
    )
    heading = f'<h3>{text(what)}</h3><p class="what">{text(variant)}</p>'
    return f'<div class="card">{heading}{figures}<p class="note">A less B: {text(mean_difference(pairs))}.</p></div>'


def rows_of(pairs: list[Pair]) -> list[plots.Row]:
    rows = []
    for pair in pairs:
        found = pair.found
        a, b, less = (written(value, pair.share) for value in (*found.values, found.difference))
        says = f"A {a}, B {b}, difference {less} ({written_interval(found.interval, pair.share)}), n = {found.n:,}"
        rows.append(
            plots.Row(found.data, [plots.Mark(found.difference, found.interval, found.verdict, says)], n=found.n)
        )
    return rows


def _numbers(pairs: list[Pair]) -> str:
    columns = ("A", "B", "A less B", "95 % interval", "p", "n", "verdict")
    return table(
        "In numbers", [{"set": pair.words()[1]} | dict(zip(columns, pair.words()[3:], strict=True)) for pair in pairs]
    )
