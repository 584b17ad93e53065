"""awase models: what can be loaded, what is on disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from typing import TYPE_CHECKING

from awase.cli.output import print_json, show, table, width

if TYPE_CHECKING:
    from awase.encoding.shelf import Model

COLUMNS = ("model", "family", "languages", "picture", "D", "parameters", "on disk", "engines")
NARROW = ("model", "languages", "D", "on disk")  # what 80 columns have room for beside the longest names
NUMBERS = ("picture", "D", "parameters", "on disk")
WIDE = 160  # columns that all of them need
CAPTION = "Any directory in OpenAI's, OpenCLIP's, Hugging Face's or awase's layout loads too: --model DIR"


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="known models, what is on disk, sizes, languages, engines")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from rich.markup import escape

    from awase.encoding.shelf import models

    found = models()
    if given.json:
        for model in found:
            print_json(asdict(model))
        return 0
    wide = width() >= WIDE
    hint = "" if wide else "\nA wider terminal, or --json, shows family, size of picture, parameters and engines too"
    shown = table("", CAPTION + hint)
    for column in COLUMNS if wide else NARROW:
        shown.add_column(column, justify="right" if column in NUMBERS else "left", overflow="fold")
    for model in found:
        cells = _cells(model)
        shown.add_row(*(escape(cells[column]) for column in (COLUMNS if wide else NARROW)))
    show(shown)
    return 0


def _cells(model: Model) -> dict[str, str]:
    size = f"{model.megabytes:,.0f} MB" if model.megabytes is not None else "-"
    values = (
        model.name,
        model.family,
        " ".join(model.languages),
        f"{model.image_size} px",
        str(model.dimension),
        f"{model.parameters / 1e6:,.0f} M",
        size,
        " ".join(model.engines),
    )
    return dict(zip(COLUMNS, values, strict=True))
