"""awase convert: a checkpoint into another layout."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.options import notice

if TYPE_CHECKING:
    from awase.encoding.checkpoints import Layout

LAYOUTS: dict[str, Layout] = {"huggingface": "huggingface", "openclip": "open_clip", "awase": "awase"}


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("convert", help="write a model in another layout")
    parser.add_argument("model", metavar="MODEL", help='directory, file or hub name; "awase" is the bundled model')
    parser.add_argument("--to", required=True, choices=list(LAYOUTS))
    parser.add_argument("folder", type=Path, metavar="DIR", help="a folder that does not exist yet")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.encoding.checkpoints import write_checkpoint
    from awase.loading import checkpoint_of

    checkpoint = checkpoint_of(given.model)
    write_checkpoint(checkpoint, given.folder, LAYOUTS[given.to])
    notice(f"{checkpoint.source} ({checkpoint.layout}, {checkpoint.architecture.name}) -> {given.folder} ({given.to})")
    return 0
