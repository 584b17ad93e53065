"""awase evaluate suite: many data sets, tasks and languages, described by a file; goes on after being killed."""

from __future__ import annotations

import argparse
from pathlib import Path

from awase.cli.evaluate.showing import has_unreadable, watching
from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip
from awase.cli.output import print_json, show, table


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("suite", help="many data sets in one go; what was killed goes on")
    parser.add_argument("suite", type=Path, metavar="SUITE.toml", help="the sets, tasks and languages")
    parser.add_argument("--data", type=Path, metavar="FOLDER", help="where the sets lie (default: what the file says)")
    parser.add_argument("--out", type=Path, required=True, metavar="RUN", help="folder of the run; an old one goes on")
    parser.add_argument("--quick", action="store_true", help="a dozen pictures of each set, to see that it works")
    parser.add_argument("--json", action="store_true", help="one JSON object, the summary, instead of a table")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from rich.markup import escape

    from awase.evaluation.provenance import stamp_of
    from awase.evaluation.runs import REPORT, open_run, plain, read_run
    from awase.evaluation.suite import read_suite, run_suite
    from awase.evaluation.summary import headlines

    suite = read_suite(given.suite, given.data)
    clip = open_clip(given)
    run = open_run(given.out, stamp_of(clip))
    with watching(suite.name) as move:
        outcome = run_suite(clip, suite, run, given.quick, lambda what, done, total: move(done, total, what))
    if outcome.kept:
        notice(f"{outcome.kept} of {outcome.kept + outcome.done} results were there from an earlier run")
    for failure in outcome.failures:
        notice(failure)
    results = read_run(given.out)
    found = headlines(results)
    if given.json:
        print_json(plain({"run": str(given.out), "summary": [headline.to_json() for headline in found]}))
    else:
        shown = table("", "Means over sets, each counted once.")
        shown.padding = (0, 1, 0, 0)
        for column in ("task", "in", "sets", "figure", "value", "95 % interval", "n"):
            right = column in ("sets", "value", "n")
            shown.add_column(column, justify="right" if right else "left", no_wrap=column not in ("task", "figure"))
        for headline in found:
            shown.add_row(*headline.words())
        show(shown if found else "There is no result.", f"[dim]{escape(clip.runs_on)}[/dim]")
    notice(f"report: {given.out / REPORT}")
    unreadable = [result.data for result in results if has_unreadable(result)]
    if unreadable:
        notice(f"pictures of {', '.join(dict.fromkeys(unreadable))} could not be read; the report names them")
    return 1 if outcome.failures or unreadable else 0
