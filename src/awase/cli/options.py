"""Flags that several commands share, and what they mean to the library."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from awase.errors import UsageError

if TYPE_CHECKING:
    from awase.clip import Clip


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("model")
    group.add_argument("--model", metavar="M", help="directory, file or hub name (default: the bundled model)")
    group.add_argument("--engine", default="auto", metavar="E", help="auto, onnxruntime, openvino, torch, torch:cuda")
    group.add_argument("--precision", default="fp32", choices=["fp32", "int8", "bf16", "fp16"], help="default: fp32")
    group.add_argument("--threads", type=int, metavar="N", help="cores to use (default: all)")


def add_picture_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("pictures")
    group.add_argument("--fast", action="store_true", help="decode large JPEG files at reduced size")
    group.add_argument("--max-pixels", type=int, metavar="N", help="largest picture to open, in pixels")
    group.add_argument("--max-bytes", type=int, metavar="N", help="largest file to open, in bytes")
    group.add_argument("--private-addresses", action="store_true", help="let addresses point into this network")


def open_clip(given: argparse.Namespace) -> Clip:
    """The `Clip` that the flags describe."""
    from awase.clip import load
    from awase.encoding.pictures import Limits

    chosen = {"pixels": given.max_pixels, "bytes": given.max_bytes, "private_addresses": given.private_addresses}
    limits = Limits(**{name: value for name, value in chosen.items() if value})
    clip = load(
        given.model,
        engine=given.engine,
        precision=given.precision,
        threads=given.threads,
        limits=limits,
        fast=given.fast,
    )
    if given.precision != "fp32":
        pictures, sentences = clip.agreement()
        notice(f"{given.precision} against fp32: pictures {pictures}; sentences {sentences}")
    return clip


def labels_from(given: argparse.Namespace) -> list[str]:
    """--labels "cat,dog" or --labels-file F (one a line); Japanese commas count."""
    if given.labels_file:
        return [line for line in read_lines(given.labels_file) if line]
    labels = given.labels.replace("、", ",").replace("，", ",").split(",")
    return [label.strip() for label in labels if label.strip()]


def read_lines(path: str) -> list[str]:
    """Lines of a UTF-8 text file without the white space round them; "-" is standard input."""
    try:
        text = sys.stdin.read() if path == "-" else Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path}: cannot be read as UTF-8 text ({problem}); give one entry a line") from problem
    return [line.strip() for line in text.splitlines()]


def notice(message: str) -> None:
    print(f"awase: {message}", file=sys.stderr)
