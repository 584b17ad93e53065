"""awase adapt merge: base and adapter as one model, which needs neither afterwards."""

from __future__ import annotations

import argparse
from pathlib import Path

from awase.cli.options import notice
from awase.errors import UsageError


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser("merge", help="write base and adapter as one model")
    parser.add_argument("folder", type=Path, metavar="DIR", help="the adapter")
    parser.add_argument("--alpha", type=float, default=1.0, metavar="A", help="how far to go, 0 to 1 (default: 1)")
    parser.add_argument("--layout", default="awase", choices=["awase", "huggingface", "open_clip"], help="(awase)")
    parser.add_argument("--out", type=Path, required=True, metavar="MODEL", help="folder of the model, a new one")
    parser.add_argument("--model", metavar="M", help="the base (default: the bundled model)")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.adapter_files import read_adapter
    from awase.encoding.checkpoints import write_checkpoint
    from awase.loading import load

    adapter = read_adapter(given.folder)
    if not adapter.changes:
        raise UsageError(
            f"{given.folder} holds a classifier and leaves the towers as they are: there is nothing to merge; "
            f"use it with --adapter {given.folder}"
        )
    adapted = adapter.on(load(given.model), given.alpha)
    write_checkpoint(adapted.checkpoint, given.out, given.layout)
    if adapter.keys:
        notice("a model has no classes of its own: give --labels to it, or keep using --adapter")
    notice(f"{given.out}: {adapted.name}, {given.alpha:g} of the way to what {given.folder} learned")
    return 0
