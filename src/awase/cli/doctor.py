"""awase doctor: what this machine can do, what would run, and how near each stage is to its limit."""

from __future__ import annotations

import argparse
import sys

from awase.cli.options import add_model_flags, open_clip
from awase.cli.output import show, table


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("doctor", help="what this machine can do, and how near to it we are")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help="sample pictures (default: three of our own)")
    add_model_flags(parser)
    parser.set_defaults(run=run, fast=False, max_pixels=None, max_bytes=None, private_addresses=False)


def run(given: argparse.Namespace) -> int:
    from pathlib import Path

    from awase.encoding.engines import available_engines, describe_machine
    from awase.encoding.pictures import find_pictures
    from awase.encoding.roofline import MOST, measure
    from awase.encoding.samples import SAMPLES

    clip = open_clip(given)
    architecture = clip.checkpoint.architecture
    pictures = [Path(picture) for picture in find_pictures(given.pictures)][:MOST] if given.pictures else SAMPLES

    facts = table("This machine")
    facts.add_column("")
    facts.add_column("", overflow="fold")
    facts.add_row("processor", describe_machine())
    facts.add_row("python", sys.version.split()[0])
    for engine, state in available_engines().items():
        facts.add_row(engine, state)
    facts.add_row("would run", clip.runs_on)

    roofline = table(f"From {len(pictures)} files to vectors", "per picture; the limits were measured just now")
    for column in ("stage", "ms", "pictures/s", "limit ms", "reached", "limit"):
        roofline.add_column(column, justify="left" if column in ("stage", "limit") else "right")
    for stage in measure(clip.engine, architecture.image, architecture.preprocessing, pictures):
        times = f"{1000 * stage.seconds:.2f}", f"{1 / stage.seconds:,.0f}", f"{1000 * stage.limit:.2f}"
        roofline.add_row(stage.name, *times, f"{100 * stage.fraction:.0f} %", stage.bound)
    show(facts, roofline)
    return 0
