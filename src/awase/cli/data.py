"""awase data: what is wrong with a data set, before anybody trains on it or indexes it; and its shards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.evaluate.showing import watching
from awase.cli.options import (
    add_limit_flags,
    add_model_flags,
    add_picture_flags,
    limits_from,
    notice,
    open_clip,
    positive,
)
from awase.cli.output import print_json, show, table

if TYPE_CHECKING:
    from awase.datasets.checks import Whole
    from awase.datasets.checks.findings import Example
    from awase.evaluation.checkup import Checkup

NAMED = 4  # pictures of a finding in the table
MARKS = {"serious": "[bold red]serious[/]", "notable": "[yellow]worth a look[/]", "minor": "[dim]good to know[/]"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("data", help="what is wrong with a data set; shards of it")
    kinds = parser.add_subparsers(dest="kind", metavar="TASK", required=True)
    _add_check(kinds)
    _add_shard(kinds)


def _add_check(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "check",
        help="leaks, copies, wrong labels, short captions and what else spoils training and figures",
        description="Looks a data set over before anybody trains on it or indexes it: each finding says how bad, how "
        "many, which, why it matters and what to do.",
        epilog="Exit code 0, whatever is found; 1 where no picture can be read.",
    )
    parser.add_argument("data", metavar="DATA", help="folder, archive or table of a data set")
    parser.add_argument("--split", metavar="S", help="only this one (default: all, and leaks between them)")
    parser.add_argument("--captions", metavar="C", help="check sentences of this column, as captions_ja")
    parser.add_argument("--definition", metavar="NAME", help="names of a published set, as eurosat")
    parser.add_argument("--column", metavar="C", help="of a table with several: the one that holds the class")
    parser.add_argument("--language", metavar="L", help="of the class names: en, ja (default: en where there are any)")
    group = parser.add_argument_group("output")
    group.add_argument("--html", type=Path, metavar="REPORT", help="a page with pictures, replaced where it is there")
    group.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_model_flags(parser)
    parser.add_argument("--no-model", action="store_true", help="only what needs no model: seconds for thousands")
    add_picture_flags(parser)
    parser.set_defaults(run=run_check)


def _add_shard(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "shard",
        help="write it as WebDataset shards, for training",
        description="Copies pictures, byte for byte, with all captions and classes into tar files that are read from "
        "one end to the other. Exit code 1 where pictures are absent or cannot be read; they are named and left out.",
    )
    parser.add_argument("data", metavar="DATA", help="folder, archive or table of a data set")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="new folder of the shards")
    parser.add_argument("--split", metavar="S", help="only this one (default: all)")
    parser.add_argument("--size", type=positive, default=1000, metavar="N", help="pictures in a shard (default: 1000)")
    add_limit_flags(parser.add_argument_group("pictures"))
    parser.set_defaults(run=run_shard)


def run_shard(given: argparse.Namespace) -> int:
    from awase.datasets.sharding import write_shards
    from awase.evaluation.markup import counted

    with watching("sharding") as move:
        written = write_shards(given.data, given.out, given.split, given.size, move, limits_from(given))
    for told in (*written.notes, *(f"left out: {error}" for error in written.unreadable)):
        notice(told)
    counts = ", ".join(f"{name} {count:,}" for name, count in written.counts.items())
    notice(f"{given.out}: {counted(written.shards, 'shard')}, {counts} pictures")
    return 1 if written.unreadable or written.notes else 0


def run_check(given: argparse.Namespace) -> int:
    from awase.evaluation.checkup import check_data, checkup_page, open_whole
    from awase.evaluation.runs import plain, write

    parts = open_whole(given.data, given.split, given.captions, given.definition, given.column)
    clip = None if given.no_model else open_clip(given)
    with watching(parts[0].name) as move:
        found = check_data(parts, clip, given.language, move)
    if given.json:
        print_json(plain(found.to_json()))
    else:
        _show(found)
    if given.html:
        write(given.html, checkup_page(found).encode("utf-8", "replace"))
        notice(f"report: {given.html}")
    return 1 if found.unreadable == len(found.whole) else 0


def _named(whole: Whole, examples: Sequence[Example]) -> str:
    """The pictures of the first few examples, two of one "beside" each other."""
    sides = [example.pictures[:2] for example in examples if example.pictures]
    most = NAMED // max(map(len, sides), default=1)
    return ", ".join(dict.fromkeys(" beside ".join(map(whole.called, pictures)) for pictures in sides[:most]))


def _show(found: Checkup) -> None:
    from rich.markup import escape

    whole = found.whole
    splits = ", ".join(f"{name} {int((whole.part == i).sum()):,}" for i, name in enumerate(whole.splits))
    shown = table(escape(f"{whole.name}: {len(whole):,} pictures ({splits})"))
    shown.add_column("")
    shown.add_column("found", overflow="fold", ratio=3)
    shown.add_column("what to do", overflow="fold", ratio=2)
    for finding in found.findings:
        named = _named(whole, finding.examples)
        where = f"\n[dim]{escape(named)}[/dim]" if named else ""
        shown.add_row(MARKS[finding.severity], f"{escape(finding.says)}{where}", escape(finding.remedy))
    show(shown if found.findings else "Nothing was found.\n", f"[dim]not found: {escape(', '.join(found.clean))}[/dim]")
    for check, why in found.skipped:
        notice(f"not looked for: {check}: {why}")
