"""awase classify: zero-shot labels for pictures."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from awase.cli.options import (
    add_model_flags,
    add_picture_flags,
    labels_from,
    notice,
    open_clip,
    pictures_from,
    positive,
)
from awase.cli.output import print_json, print_scores
from awase.errors import UsageError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("classify", help="which of these labels fits each picture best")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE", help="file, folder, pattern or http(s) address")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--labels", metavar='"A,B,C"', help="labels with commas between them; or those of --adapter")
    which.add_argument("--labels-file", metavar="F", help='one label a line ("-" reads standard input)')
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--template", metavar="T", help='a sentence with {} for the label, such as "a drawing of a {}."')
    how.add_argument("--templates", default="simple", metavar="NAME", help="simple (default), ensemble, ..., or a file")
    parser.add_argument("--none-of-these", action="store_true", help="let an answer be that no label fits")
    parser.add_argument("--top", type=positive, metavar="K", help="show only the K best labels")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.encoding.pictures import name_of

    labels = labels_from(given)
    if labels is None and not given.adapter:
        raise UsageError("--labels or --labels-file is needed, or an --adapter that brings classes of its own")
    pictures = pictures_from(given.pictures)
    clip = open_clip(given)
    reads = clip.reads(labels)
    judge = clip.judge(labels, [given.template] if given.template else given.templates, given.none_of_these)
    failed = 0
    for encoded in clip.stream(pictures, reads):
        if encoded.outputs is None:
            notice(str(encoded.error))
            failed += 1
            continue
        scores = judge(encoded.outputs[reads][None])[0][: given.top]
        if given.json:
            shown = [asdict(score) for score in scores]
            print_json({"picture": str(encoded.source), "model": clip.name, "scores": shown})
        else:
            print_scores(name_of(encoded.source), scores, clip.runs_on, cosines=labels is not None)
    return 1 if failed else 0
