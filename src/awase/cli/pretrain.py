"""awase pretrain: a model from pictures and sentences, as a recipe says."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.options import notice
from awase.cli.output import progress
from awase.errors import MissingExtra, UsageError

if TYPE_CHECKING:
    from awase.learning.pretraining.recipe import Recipe

Report = Callable[[int, dict[str, float]], None]
SECONDS_A_LINE = 30.0  # at least, between two lines where there is no terminal


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "pretrain",
        help="train a model from pictures with sentences",
        description="Trains towers by a recipe: from random weights, from any checkpoint, wholly or in part. "
        "Ctrl-C keeps the state; with --resume auto the same command goes on from there.",
        epilog="On several GPUs or machines: torchrun --nproc-per-node 8 -m awase pretrain RECIPE.toml",
    )
    parser.add_argument("recipe", type=Path, metavar="RECIPE.toml", help="the model, the data, the loss and the rates")
    parser.add_argument("--out", type=Path, metavar="RUN", help="folder of the run (default: the recipe's name)")
    parser.add_argument(
        "--set", action="append", default=[], metavar="T.KEY=V", help="another value, such as schedule.rate=1e-3"
    )
    parser.add_argument("--resume", choices=["auto"], help="go on with the run that is in the folder, if there is one")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="four steps of few pairs, to see that it works (default folder: NAME-quick)",
    )
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.evaluation.markup import counted

    try:
        from awase.learning.distributed import processes, rank, wait_for_all
        from awase.learning.pretraining.engine import device_of, pretrain
        from awase.learning.pretraining.page import PAGE
        from awase.learning.pretraining.recipe import read_recipe
        from awase.learning.pretraining.watching import UNREADABLE, unreadable
        from awase.learning.state import kept
    except ModuleNotFoundError as problem:
        raise MissingExtra("awase pretrain", "torch") from problem
    recipe = read_recipe(given.recipe, given.set)
    recipe = recipe.quick() if given.quick else recipe
    out = given.out or Path(f"{given.recipe.stem}-quick" if given.quick else given.recipe.stem)
    with processes(device_of(recipe.device)), _showing(recipe, rank() == 0) as report:
        if rank() == 0:
            _refuse_content(out, given.resume)
        wait_for_all()  # before anybody writes
        try:
            model = pretrain(recipe, out, report)
        except KeyboardInterrupt as stopped:
            left = "--resume auto goes on from what was kept" if kept(out) else "nothing was kept"
            raise KeyboardInterrupt(str(stopped).replace("the same call", "--resume auto") or left) from None
        if rank() == 0:
            if bad := unreadable(out):
                notice(f"{counted(len(bad), 'picture')} could not be read: {out / UNREADABLE} names them")
            notice(f"the model is {model}, the run {out / PAGE}")
    return 0


def _refuse_content(out: Path, resume: str | None) -> None:
    if not resume and out.is_dir() and any(out.iterdir()):
        raise UsageError(f"{out} is not empty: --resume auto goes on with the run that is there, --out names another")


@contextmanager
def _showing(recipe: Recipe, first: bool) -> Iterator[Report]:
    """A bar with loss, scale, pairs a second and the part of the machine's peak, of the first process alone; where
    there is no terminal, a line with them now and then, for the log of a job."""
    if not first:
        yield lambda step, told: None
        return
    from awase.learning.pretraining.step import loss_of

    with progress() as bar:
        task = bar.add_task("training", total=recipe.schedule.steps, rate="")
        began: list[tuple[int, float]] = []
        total, told_at = recipe.schedule.steps, time.perf_counter()

        def report(step: int, told: dict[str, float]) -> None:
            nonlocal told_at
            began.append((step, time.perf_counter()))
            del began[1:-20]  # the first, and enough for a rate of late
            (one, then), (last, now) = began[min(1, len(began) - 1)], began[-1]
            rate = f", {(last - one) * recipe.data.batch / (now - then):,.0f} pairs/s" if last > one else ""
            peak = f", {told['peak']:.0%} of peak" if told.get("peak") else ""
            said = f"loss {loss_of(told):.3f}, scale {told['scale']:.1f}{rate}{peak}"
            bar.update(task, completed=step + 1, rate=said)
            if bar.disable and (now - told_at > SECONDS_A_LINE or step + 1 == total):
                notice(f"step {step + 1:,} of {total:,}, {said}")
                told_at = now

        yield report
