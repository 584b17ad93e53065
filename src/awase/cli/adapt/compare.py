"""awase adapt compare: every method beside the others, with few pictures and with more."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from awase.cli.adapt.splits import add_data_flags, open_labelled_splits
from awase.cli.evaluate.showing import watching
from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip, positive
from awase.cli.output import print_json, show, table
from awase.errors import DataError, UsageError


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("compare", help="every method beside the others, with few pictures and with more")
    add_data_flags(parser)
    parser.add_argument("--methods", default="all", metavar="A,B", help="all (default), fast (no training), or names")
    parser.add_argument("--shots", default="1,4,16", metavar="1,4,16", help="pictures of each class")
    parser.add_argument("--seeds", type=positive, default=3, metavar="N", help="draws of each number (3)")
    parser.add_argument("--split", metavar="S", help="test split (default: validation pictures that are not drawn)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder; what was killed goes on")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.evaluation.runs import plain
    from awase.evaluation.tasks import open_classes
    from awase.learning.adaptation.comparing import FAILED, Plan, compare_methods
    from awase.learning.adaptation.comparing import table as rows_of

    train, validation = open_labelled_splits(given)
    if validation is None:
        raise DataError(f"{given.data} has no validation split to choose and measure on; name one with --validation")
    template = (given.template,) if given.template else None
    plan = Plan(_methods(given.methods), _shots(given.shots), given.seeds, given.language, template)
    test = open_classes(given.data, given.split, given.definition, given.column) if given.split else None
    with watching(train.name) as move:
        cells = compare_methods(open_clip(given), train, validation, plan, given.out, test, move)
    for why in dict.fromkeys(f"{cell.method}: {cell.why}" for cell in cells if cell.why):
        notice(why)
    rows = rows_of(cells)
    if given.json:
        print_json(plain({"run": str(given.out), "data": train.name, "rows": rows}))
    else:
        drawn = f"mean and deviation of {given.seeds} draws" if given.seeds > 1 else "one draw"
        _show(rows, plan.shots, f"{train.name}: accuracy in %, {drawn}, n = {rows[0]['n']:,}", given.out)
    return 1 if any(cell.why.startswith(FAILED) for cell in cells) else 0


def _show(rows: list[dict[str, Any]], shots: tuple[int, ...], title: str, out: Path) -> None:
    from rich.markup import escape

    shown = table("")
    shown.add_column("method")
    for count in shots:
        shown.add_column(f"{count} shot{'s' if count > 1 else ''}", justify="right")
    for name in dict.fromkeys(row["method"] for row in rows):
        mine = {row["shots"]: row for row in rows if row["method"] == name}
        shown.add_row(name, *(_written(mine[count]) for count in shots))
    show(escape(title), shown, f"[dim]{escape(f'table.csv, chart.svg in {out}')}[/dim]")


def _written(row: dict[str, Any]) -> str:
    if row["accuracy"] is None:
        return "–"
    off = f" ± {100 * row['deviation']:.1f}" if row["deviation"] is not None else ""
    return f"{100 * row['accuracy']:.1f}{off}"


def _methods(text: str) -> tuple[str, ...]:
    from awase.learning.adaptation.methods import FOR_CLASSES, HOMES

    if text == "all" and find_spec("torch") is None:
        notice("without torch, methods that train are left out: pip install 'awase[torch]' brings them")
        return tuple(HOMES)
    if text in ("all", "fast"):
        return tuple(FOR_CLASSES if text == "all" else HOMES)
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _shots(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted({int(part) for part in text.split(",")}))
    except ValueError as problem:
        raise UsageError(f"--shots {text}: numbers above 0 with commas between them, as 1,4,16") from problem
