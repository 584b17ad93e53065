"""awase evaluate compare: is one run better than another, paired item by item."""

from __future__ import annotations

import argparse
from pathlib import Path

from awase.cli.options import notice
from awase.cli.output import print_json, show, table


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "compare",
        help="is one run better than another",
        description="Differences A less B on the items that both runs have: 95 % intervals by a paired bootstrap, "
        "McNemar's exact test, wins, ties and losses. A tie is a difference whose interval holds 0.",
    )
    parser.add_argument("a", type=Path, metavar="RUN-A")
    parser.add_argument("b", type=Path, metavar="RUN-B")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for comparison.json, .csv, charts, report.html")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.evaluation.matching import compare_runs
    from awase.evaluation.runs import plain

    found = compare_runs(given.a, given.b)
    for remark in found.remarks:
        notice(remark)
    if given.out:
        from awase.evaluation.comparison_report import write_comparison

        notice(f"report: {write_comparison(found, given.out)}")
    if given.json:
        print_json(plain(found.to_json()))
        return 0
    from rich.markup import escape

    shown = table(escape(f"A: {given.a} ({found.models[0]})\nB: {given.b} ({found.models[1]})"))
    for column in ("task", "set", "in", "A", "B", "A less B", "95 % interval", "p", "n", ""):
        shown.add_column(column, justify="left" if column in ("task", "set", "in", "") else "right", overflow="fold")
    for pair in found.pairs:
        shown.add_row(*map(escape, pair.words()))
    show(shown, *(f"{escape(line)}" for line in found.tallies()))
    return 0
