"""The command line: one thin file a command. Exit codes: 0 all well, 1 some pictures failed, 2 wrong use."""

from __future__ import annotations

import argparse
import errno
import io
import os
import sys
import warnings
from collections.abc import Sequence

from awase import __version__
from awase.cli.adapt import with_kind
from awase.errors import AwaseError

FAILED, WRONG_USE, INTERRUPTED = 1, 2, 130


def parser() -> argparse.ArgumentParser:
    from awase.cli import (
        adapt,
        classify,
        convert,
        data,
        doctor,
        encode,
        evaluate,
        index,
        library,
        match,
        models,
        pretrain,
        prompts,
        score,
        search,
    )

    top = argparse.ArgumentParser(
        prog="awase",
        description="Pictures and sentences in one space: classify, match and encode, in English and Japanese.",
        epilog="awase COMMAND --help says more. Exit codes: 0 all well, 1 some pictures failed, 2 wrong use.",
    )
    top.add_argument("--version", action="version", version=f"awase {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for command in (
        classify,
        encode,
        match,
        index,
        search,
        library,
        evaluate,
        score,
        adapt,
        pretrain,
        data,
        prompts,
        models,
        convert,
        doctor,
    ):
        command.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code; errors and notices go to stderr in one line each."""
    try:
        _open_outputs()
        given = parser().parse_args(with_kind(sys.argv[1:] if arguments is None else arguments))
        warnings.showwarning = lambda message, *_rest, **_more: print(f"awase: note: {message}", file=sys.stderr)
        warnings.simplefilter("always", UserWarning)
        warnings.filterwarnings("ignore", module="PIL")  # of odd metadata in pictures that open all the same
        return int(given.run(given))
    except AwaseError as error:
        print(f"awase: {error}", file=sys.stderr)
        return WRONG_USE
    except KeyboardInterrupt as stopped:
        print(f"awase: interrupted{': ' if str(stopped) else ''}{stopped}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, as in `awase classify ... | head`
        _drop_output()
        return 0
    except OSError as problem:
        if problem.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"awase: {problem.filename or 'output'}: {problem.strerror}; make room and run it again", file=sys.stderr)
        _drop_output()
        return FAILED


def _open_outputs() -> None:
    """Output that its encoding cannot show is escaped rather than fatal; a closed one (>&-) leads nowhere."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - for as long as the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _drop_output() -> None:
    """What is still held back for stdout cannot be written: without this, Python would try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
