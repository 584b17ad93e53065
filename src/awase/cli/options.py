"""Flags that several commands share, and what they mean to the library."""

from __future__ import annotations

import argparse
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from awase.errors import UsageError

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.encoding.pictures import Limits
    from awase.tasks.search.store import Made


MOST_BYTES = 64 * 2**20  # of a file of labels or sentences: a million long lines


def positive(text: str) -> int:
    """A whole number from 1 up, as argparse's `type`."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number < 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]}: a whole number from 1 up is expected")
    return number


def add_model_flags(parser: argparse.ArgumentParser, named: bool = True) -> None:
    """named: with --model and --adapter, which say which model; else only how it runs."""
    group = parser.add_argument_group("model")
    if named:
        group.add_argument("--model", metavar="M", help="directory, file or hub name (default: the bundled model)")
        group.add_argument("--adapter", action="append", default=[], metavar="DIR", help="what `awase adapt` learned")
    group.add_argument("--engine", default="auto", metavar="E", help="auto, onnxruntime, openvino, torch, torch:cuda")
    group.add_argument("--precision", default="fp32", choices=["fp32", "int8", "bf16", "fp16"], help="default: fp32")
    group.add_argument("--threads", type=positive, metavar="N", help="cores to use (default: all)")


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--fast", action="store_true", help="decode large JPEG files at reduced size")
    add_limit_flags(group)


def add_limit_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--max-pixels", type=positive, metavar="N", help="largest picture to open, in pixels")
    group.add_argument("--max-bytes", type=positive, metavar="N", help="largest file to open, in bytes")
    group.add_argument("--private-addresses", action="store_true", help="let addresses point into this network")


def open_clip(given: argparse.Namespace) -> Clip:
    """The `Clip` that the flags describe."""
    from awase.loading import load

    clip = load(
        given.model,
        engine=given.engine,
        precision=given.precision,
        threads=given.threads,
        limits=limits_from(given),
        fast=given.fast,
        adapter=given.adapter,
    )
    if given.precision != "fp32":
        pictures, sentences = clip.agreement()
        notice(f"{given.precision} against fp32: pictures {pictures}; sentences {sentences}")
    return clip


def add_library_flag(parser: argparse.ArgumentParser) -> None:
    where = "the library, a directory (default: $AWASE_LIBRARY, or awase/library in the user's folder for data)"
    parser.add_argument("--db", type=Path, metavar="DB", help=where)


def open_clip_for(given: argparse.Namespace, made: Made) -> Clip:
    """The `Clip` that made a library; other flags than its own are refused. Left out, they are the library's."""
    from awase.tasks.search.store import check_model

    untold = given.engine == "auto" and given.precision == "fp32" and not given.fast
    if untold and given.model is None and not given.adapter:
        given.model, given.adapter, stamp = made.model, list(made.adapters), made.stamp
        given.engine, given.precision, given.fast = stamp["engine"], stamp["precision"], stamp["fast"]
    clip = open_clip(given)
    check_model(made, clip.stamp())
    return clip


def limits_from(given: argparse.Namespace) -> Limits:
    """What the flags of pictures allow."""
    from awase.encoding.pictures import Limits

    chosen = {"pixels": given.max_pixels, "bytes": given.max_bytes, "private_addresses": given.private_addresses}
    return Limits(**{name: value for name, value in chosen.items() if value is not None})


def labels_from(given: argparse.Namespace) -> list[str] | None:
    """--labels "cat,dog" or --labels-file F (one a line); Japanese commas count. None where neither is given."""
    if given.labels_file is not None:
        return [line for line in read_lines(given.labels_file) if line]
    if given.labels is None:
        return None
    labels = given.labels.replace("、", ",").replace("，", ",").split(",")
    return [label.strip() for label in labels if label.strip()]


def pictures_from(paths: Sequence[str]) -> list[str]:
    """The pictures that a command line names; says how many other files were passed over."""
    from awase.encoding.finding import files_passed_over, search

    found = search(paths)
    if found.passed_over:
        notice(f"{files_passed_over(found.passed_over)}: not named like pictures; name a file to have it opened")
    return found.pictures


def read_lines(path: str) -> list[str]:
    """Lines of a UTF-8 text file without the white space round them; "-" is standard input.

    Raises UsageError for what is missing, a folder, a device, over 64 MiB, or not UTF-8."""
    name = "standard input" if path == "-" else repr(path)
    try:
        data = _read(path)
    except FileNotFoundError as problem:
        raise UsageError(f"{name} does not exist; give a text file with one entry a line") from problem
    except (OSError, ValueError) as problem:
        raise UsageError(f"{name} cannot be read ({problem}); give a text file with one entry a line") from problem
    if len(data) > MOST_BYTES:
        raise UsageError(f"{name} is over {MOST_BYTES // 2**20} MiB; give a smaller file with one entry a line")
    try:
        return [line.strip() for line in data.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError as problem:
        raise UsageError(f"{name} is not UTF-8 text ({problem}); save it as UTF-8, one entry a line") from problem


def _read(path: str) -> bytes:
    """At most one byte over the limit. Pipes are read, as a shell makes them; folders and devices are not opened."""
    if path == "-":
        if sys.stdin is None:
            raise OSError("it is closed")
        return sys.stdin.buffer.read(MOST_BYTES + 1)
    mode = Path(path).stat().st_mode if path else 0
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        raise OSError("a folder" if stat.S_ISDIR(mode) else "a device or socket" if path else "an empty name")
    with open(path, "rb") as file:
        return file.read(MOST_BYTES + 1)


def notice(message: str) -> None:
    print(f"awase: {message}", file=sys.stderr)
