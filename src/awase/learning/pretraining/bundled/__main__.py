"""python -m awase.learning.pretraining.bundled RECIPE WORK OUT"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path

from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.engines.machine import machine
from awase.errors import AwaseError
from awase.learning.pretraining.bundled.making import make
from awase.learning.pretraining.bundled.recipe import quick, read_recipe


def main() -> None:
    parser = argparse.ArgumentParser(
        "python -m awase.learning.pretraining.bundled", description="Train the bundled model."
    )
    parser.add_argument("recipe", type=Path, help="a TOML file: recipes/bundled.toml")
    parser.add_argument("prepared", type=Path, help="the folder that recipes/prepare_bundled.py made")
    parser.add_argument("out", type=Path, help="the model's folder")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="other seeds than the recipe's")
    parser.add_argument("--begin", type=Path, metavar="MODEL", help="only the rounds, from this model")
    cores = machine().cores
    parser.add_argument(
        "--workers", type=int, default=cores, metavar="N", help=f"stretches of training at once: {cores}"
    )
    parser.add_argument("--quick", action="store_true", help="two steps of each phase: a trial run")
    given = parser.parse_args()
    try:
        recipe = read_recipe(given.recipe)
        recipe = dataclasses.replace(recipe, seeds=tuple(given.seeds or recipe.seeds))
        begin = open_checkpoint(given.begin) if given.begin else None
        make(quick(recipe) if given.quick else recipe, given.prepared, given.out, begin, given.workers)
    except AwaseError as problem:
        sys.exit(f"{parser.prog}: {problem}")


if __name__ == "__main__":
    main()
