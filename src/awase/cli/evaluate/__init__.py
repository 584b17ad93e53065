"""awase evaluate: how good a model is, with evidence, and whether a change broke it."""

from __future__ import annotations

import argparse

from awase.cli.evaluate import comparisons, suites, tasks


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="how good is a model, with intervals",
        description="Measures a model on labelled or captioned pictures. Every figure has a 95 % interval and its n.",
        epilog="--out RUN keeps a folder with results.json, tables, charts and report.html. awase evaluate TASK --help "
        "says more.",
    )
    kinds = parser.add_subparsers(dest="kind", metavar="TASK", required=True)
    for group in (tasks, suites, comparisons):
        group.add_to(kinds)
