"""The command line: one thin file a command. Exit codes: 0 all well, 1 some pictures failed, 2 wrong use."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from awase import __version__
from awase.cli import classify, convert, doctor, encode, evaluate, match, models, score
from awase.errors import AwaseError

COMMANDS = (classify, encode, match, evaluate, score, models, convert, doctor)
FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="awase",
        description="Pictures and sentences in one space: classify, match and encode, in English and Japanese.",
        epilog="awase COMMAND --help says more. Exit codes: 0 all well, 1 some pictures failed, 2 wrong use.",
    )
    top.add_argument("--version", action="version", version=f"awase {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors and notices go to stderr in one line each."""
    given = parser().parse_args(arguments)
    warnings.showwarning = lambda message, *_rest, **_more: print(f"awase: note: {message}", file=sys.stderr)
    warnings.simplefilter("always", UserWarning)
    warnings.filterwarnings("ignore", module="PIL")  # of odd metadata in pictures that open all the same
    try:
        return int(given.run(given))
    except AwaseError as error:
        print(f"awase: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt:
        print("awase: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `awase classify ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
