"""awase evaluate compare: is one run, or one model, better than another, paired item by item."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.evaluate.showing import open_model, watching
from awase.cli.options import add_model_flags, add_picture_flags, notice
from awase.cli.output import print_json, show, table

if TYPE_CHECKING:
    from awase.evaluation.matching import RunComparison
    from awase.evaluation.sides import Side


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "compare",
        help="is one run or model better than another",
        description="Differences A less B on the items that both have: 95 % intervals, exact tests, wins, ties and "
        "losses. A and B are run folders or, with --suite, models: what is missing is run first, and goes on when it "
        "was killed. timm:NAME, FILE.onnx and features:MODEL are linear probes on a backbone, with which zero-shot "
        "classification by the other model is compared.",
    )
    parser.add_argument("a", metavar="A", help="run folder, or a model's name, directory or file (awase: the bundled)")
    parser.add_argument("b", metavar="B", help="the same, or timm:NAME, FILE.onnx, features:MODEL")
    parser.add_argument("--suite", type=Path, metavar="S.toml", help="what models are run on")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the suite's sets lie")
    parser.add_argument("--quick", action="store_true", help="a dozen pictures of each set, to see that it works")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for comparison.json, .csv, charts, report.html")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_model_flags(parser, named=False)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.evaluation.matching import compare_runs
    from awase.evaluation.runs import plain

    a, b = _sides(given)
    found = compare_runs(a.run, b.run, (a.name, b.name) if a.outcome or b.outcome else None)
    for remark in found.remarks:
        notice(remark)
    if given.json:
        print_json(plain(found.to_json()))
    else:
        _show(found, (a, b))
    if given.out:
        from awase.evaluation.comparison_report import write_comparison

        notice(f"report: {write_comparison(found, given.out)}")
    return 1 if any(side.outcome and side.outcome.failures for side in (a, b)) else 0


def _sides(given: argparse.Namespace) -> tuple[Side, Side]:
    """Both runs, made first where they are not there."""
    from awase.encoding.caches import cache_folder
    from awase.evaluation.sides import sides
    from awase.evaluation.suite import read_suite

    suite = read_suite(given.suite, given.data) if given.suite else None
    folder = (given.out or cache_folder()) / "runs"
    with watching("comparing") as move:
        found = sides(
            (given.a, given.b),
            suite,
            folder,
            lambda name: open_model(given, name),
            given.quick,
            lambda what, done, total: move(done, total, what),
        )
    for side in found:
        if side.outcome:
            notice(f"{side.name}: {side.outcome.done} results made, {side.outcome.kept} there before; run: {side.run}")
            for failure in side.outcome.failures:
                notice(failure)
    return found


def _show(found: RunComparison, sides: tuple[Side, Side]) -> None:
    from rich.markup import escape

    for letter, side, model in zip("AB", sides, found.models, strict=True):
        show(escape(f"{letter}: {side.name}" + (f" ({model})" if model != side.name else "")))
    for (what, variant), pairs in found.tasks().items():
        shown = table(escape(f"\n{what}, {variant}"))
        shown.padding = (0, 1, 0, 0)  # ten numbers in 80 columns
        shown.add_column("set", overflow="fold")
        for column in ("A", "B", "A less B", "95 % interval", "p", "n", ""):
            shown.add_column(column, justify="right" if column else "left", no_wrap=True)
        for pair in pairs:
            _, data, _, *numbers = pair.words()
            shown.add_row(*map(escape, (data, *numbers)))
        show(shown)
    show(*map(escape, found.tallies()))
