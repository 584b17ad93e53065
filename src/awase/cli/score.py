"""awase score: how well captions describe pictures, for pairs in a file (CLIPScore, RefCLIPScore)."""

from __future__ import annotations

import argparse
from pathlib import Path

from awase.cli.evaluate.showing import add_output_flags, deliver, run_of
from awase.cli.options import add_model_flags, add_picture_flags, open_clip
from awase.cli.output import show, table


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "score",
        help="how well captions describe pictures, or pictures prompts",
        description="CLIPScore of each pair, 2.5 x cosine where that is above 0, and RefCLIPScore where all pairs have "
        "references. Scores of different models do not compare.",
    )
    parser.add_argument("pairs", type=Path, metavar="PAIRS", help=".csv, .tsv or .jsonl: picture, caption, references")
    add_output_flags(parser)
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


LONGEST = 160  # characters of a cell


def run(given: argparse.Namespace) -> int:
    from rich.markup import escape

    from awase.evaluation.captions import read_pairs, score_pairs

    def written(value: str | float) -> str:
        if isinstance(value, float):
            return f"{value:.3f}"
        return escape(value if len(value) <= LONGEST else f"{value[: LONGEST - 4]} ...")

    pairs = read_pairs(given.pairs)
    clip = open_clip(given)
    run = run_of(given, clip)
    result = score_pairs(clip, pairs, given.pairs.stem)
    if not given.json:
        rows = result.tables["pairs"]
        shown = table("")
        for column in rows[0]:
            shown.add_column(
                column.replace("_", " "), justify="right" if "score" in column else "left", overflow="fold"
            )
        for row in rows:
            shown.add_row(*map(written, row.values()))
        show(shown)
    return deliver(given, clip, run, result, also={"pairs": result.tables["pairs"]})
