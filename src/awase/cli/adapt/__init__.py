"""awase adapt: teach a model a trade, compare the ways to, and write the result as a model of its own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from awase.cli.adapt import compare, learn, merge

KINDS = ("learn", "compare", "merge")


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "adapt",
        help="teach a model a trade without breaking it",
        description="awase adapt DATA --out DIR learns from a data set; awase classify x.jpg --adapter DIR uses it.",
        epilog="awase adapt DATA is short for awase adapt learn DATA. awase adapt learn --help says more.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="KIND", required=True)
    for kind in (learn, compare, merge):
        kind.add_to(kinds)


def with_kind(arguments: Sequence[str]) -> list[str]:
    """`adapt DATA ...` as `adapt learn DATA ...`."""
    first, *rest = arguments or [""]
    if first == "adapt" and rest and rest[0] not in (*KINDS, "-h", "--help"):
        return [first, "learn", *rest]
    return list(arguments)
