"""awase doctor: what this machine can do, what would run, and how near each stage is to its limit."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from awase.cli.options import add_model_flags, notice, open_clip, pictures_from
from awase.cli.output import show, table
from awase.errors import PictureError, UsageError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", help="what this machine can do, and how near to it we are")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="sample pictures (default: three of our own)")
    add_model_flags(parser)
    parser.set_defaults(run=run, fast=False, max_pixels=None, max_bytes=None, private_addresses=False)


def run(given: argparse.Namespace) -> int:
    from rich.markup import escape

    from awase.encoding.engines import available_engines, describe_machine
    from awase.encoding.roofline import measure
    from awase.encoding.samples import SAMPLES

    clip = open_clip(given)
    architecture = clip.checkpoint.architecture
    pictures, failed = _samples(given.pictures) if given.pictures else (list(SAMPLES), False)
    if not pictures:
        return 1

    facts = table("This machine")
    facts.add_column("")
    facts.add_column("", overflow="fold")
    facts.add_row("processor", escape(describe_machine()))
    facts.add_row("python", sys.version.split()[0])
    for engine, state in available_engines().items():
        facts.add_row(engine, escape(state))
    facts.add_row("would run", escape(clip.runs_on))

    files = f"{len(pictures)} file{'s' if len(pictures) > 1 else ''}"
    roofline = table(f"From {files} to vectors", "per picture; the limits were measured just now")
    for column in ("stage", "ms", "pictures/s", "limit ms", "reached", "limit"):
        roofline.add_column(column, justify="left" if column in ("stage", "limit") else "right")
    for stage in measure(clip.engine, architecture.image, architecture.preprocessing, pictures):
        times = f"{1000 * stage.seconds:.2f}", f"{1 / stage.seconds:,.0f}", f"{1000 * stage.limit:.2f}"
        roofline.add_row(stage.name, *times, f"{100 * stage.fraction:.0f} %", stage.bound)
    show(facts, roofline)
    return 1 if failed else 0


def _samples(paths: Sequence[str]) -> tuple[list[Path], bool]:
    """The first few pictures that open, and whether others did not; each of those is named."""
    from awase.encoding.pictures import is_address, open_picture
    from awase.encoding.roofline import MOST

    good: list[Path] = []
    found = pictures_from(paths)[:MOST]
    for source in found:
        try:
            if is_address(source):
                raise UsageError(f"{source}: the doctor measures files; download it and give the file")
            open_picture(source)
            good.append(Path(source))
        except PictureError as error:
            notice(str(error))
    return good, len(good) < len(found)
