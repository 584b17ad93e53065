"""awase match: how well each sentence fits one picture, each judged alone."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip
from awase.cli.output import print_json, print_scores
from awase.errors import PictureError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("match", help="how well sentences fit a picture, each alone")
    parser.add_argument("picture", metavar="PICTURE", help="file or http(s) address")
    parser.add_argument("sentences", nargs="+", metavar="SENTENCE")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    clip = open_clip(given)
    try:
        scores = clip.match(given.picture, given.sentences)
    except PictureError as error:
        notice(str(error))
        return 1
    scores.sort(key=lambda score: -score.probability)
    if given.json:
        print_json({"picture": given.picture, "model": clip.name, "scores": [asdict(score) for score in scores]})
    else:
        print_scores(given.picture, scores, clip.runs_on, first="sentence")
    return 0
