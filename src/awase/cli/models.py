"""awase models: what can be loaded, what is on disk."""

from __future__ import annotations

import argparse
from dataclasses import asdict

from awase.cli.output import print_json, show, table


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("models", help="known models, what is on disk, sizes, languages, engines")
    parser.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.encoding.shelf import models

    found = models()
    if given.json:
        for model in found:
            print_json(asdict(model))
        return 0
    shown = table("", "Any directory in OpenAI's, OpenCLIP's, Hugging Face's or awase's layout loads too: --model DIR")
    for column in ("model", "family", "languages", "picture", "D", "parameters", "on disk", "engines"):
        shown.add_column(column, justify="right" if column in ("picture", "D", "parameters", "on disk") else "left")
    for model in found:
        size = f"{model.megabytes:,.0f} MB" if model.megabytes is not None else "-"
        shown.add_row(
            model.name,
            model.family,
            " ".join(model.languages),
            f"{model.image_size} px",
            str(model.dimension),
            f"{model.parameters / 1e6:,.0f} M",
            size,
            " ".join(model.engines),
        )
    show(shown)
    return 0
