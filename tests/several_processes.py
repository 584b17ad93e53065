"""What test_distributed.py has several processes do, forked from one that has torch in memory (and never trains: a
process that did cannot be forked again).

    python several_processes.py FOLDER JOB:WORLD ...     FOLDER/JOB-WORLD.pt: what process 0 found
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from unittest import mock

import torch
import torch._dynamo  # which the optimiser imports; here once for all processes
import torch.distributed.fsdp
from torch import Tensor, distributed, nn
from torch.nn import functional as F

from awase.errors import AwaseError, UsageError
from awase.learning import losses, state
from awase.learning.distributed import average_gradients, gather, mean, rank, shard, share, shifted, wait_for_all, world
from awase.learning.loop import Average, Keeping, Schedule, train
from awase.learning.losses import Teacher
from awase.learning.pretraining.engine import pretrain
from awase.learning.pretraining.recipe import Data, Loss, Model, PairSet, Recipe
from awase.learning.state import read_log

BATCH, WIDTH = 12, 6
Found = dict[str, Tensor]


def drawn(rows: int, seed: int, width: int = WIDTH) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=-1)


def mine(x: Tensor) -> Tensor:
    return x[share(len(x))]


def exact(name: str, *shape: int) -> nn.Parameter:
    seed = sum(name.encode())
    return nn.Parameter(torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


# ---- every loss ------------------------------------------------------------------------------------------------------

GROUPS = torch.tensor([0, 1, 2, 0, 3, 4, 1, 5, 0, 6, 7, 8])
RIVALS = torch.tensor([0, 50, 51, 52, 1, 53, 54, 55, 2, 56, 57, 58])  # some say what a picture's own sentence says
TEACHERS = [Teacher(drawn(BATCH, 8, 5), drawn(BATCH, 9, 5), 8.0), Teacher(drawn(BATCH, 10, 9), drawn(BATCH, 11, 9), 30)]


def every_loss(folder: Path) -> Found:
    """Each loss of a batch that goes through two linear towers: its value and all gradients."""

    def with_rivals(pictures: Tensor, sentences: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
        return pictures, torch.cat([sentences, negatives])

    def alike() -> Tensor:
        return torch.cat([mine(GROUPS), mine(RIVALS)])

    def taught() -> list[Teacher]:
        return [Teacher(mine(t.pictures), mine(t.sentences), t.scale) for t in TEACHERS]

    kinds: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], Tensor]] = {
        "contrastive": lambda p, s, n, k, b: losses.contrastive(p, s, k),
        "smoothed": lambda p, s, n, k, b: losses.contrastive(p, s, k, smoothing=0.1),
        "rivals": lambda p, s, n, k, b: losses.contrastive(*with_rivals(p, s, n), k),
        "groups": lambda p, s, n, k, b: losses.contrastive(*with_rivals(p, s, n), k, alike(), 0.1),
        "blocks": lambda p, s, n, k, b: losses.contrastive_in_blocks(p, s, k, block=5),
        "blocks_groups": lambda p, s, n, k, b: losses.contrastive_in_blocks(*with_rivals(p, s, n), k, alike(), 5),
        "among_groups": lambda p, s, n, k, b: losses.contrastive_among_groups(p, s, k, mine(GROUPS), mine(GROUPS)),
        "sigmoid": lambda p, s, n, k, b: losses.sigmoid(p, s, k, b),
        "sigmoid_groups": lambda p, s, n, k, b: losses.sigmoid(p, s, k, b, mine(GROUPS)),
        "affinity": lambda p, s, n, k, b: losses.affinity(p, s, k, taught()),
        "pull": lambda p, s, n, k, b: losses.pull(p, s),
    }
    found: Found = {}
    for name, loss in kinds.items():
        weights = {"image": exact("image", WIDTH, WIDTH), "text": exact("text", WIDTH, WIDTH)}
        scale = nn.Parameter(torch.tensor(2.5, dtype=torch.float64))
        bias = nn.Parameter(torch.tensor(-3.0, dtype=torch.float64))
        pictures, sentences, negatives = (mine(drawn(BATCH, seed)) for seed in (1, 2, 3))
        pictures = F.normalize(pictures @ weights["image"], dim=-1)
        sentences, negatives = (F.normalize(x @ weights["text"], dim=-1) for x in (sentences, negatives))
        value = loss(pictures, sentences, negatives, scale.exp(), bias)
        value.backward()
        trained = {**weights, "scale": scale, "bias": bias}
        average_gradients(trained.values())
        found[name] = mean(value)
        found |= {f"{name}.{key}": w.grad for key, w in trained.items() if w.grad is not None}
    return found


# ---- passing things on -----------------------------------------------------------------------------------------------


def passing(folder: Path) -> Found:
    x = (rank() + torch.arange(2.0)[:, None] / 10).requires_grad_()
    everyone, before = gather(x), shifted(x)
    (everyone.flatten() @ torch.arange(1.0, 2 * world() + 1)).backward()
    from_all, x.grad = x.grad.clone(), None
    ((rank() + 1) * before).sum().backward()
    try:
        share(world() + 1)
        refused = torch.tensor(0)
    except UsageError:
        refused = torch.tensor(1)
    return {"gathered": everyone, "before": before, "from_all": from_all, "from_next": x.grad, "refused": refused}


# ---- training --------------------------------------------------------------------------------------------------------


class Towers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.blocks = nn.ModuleList(nn.Linear(8, 8) for _ in range(2))
        self.out = nn.Linear(8, 8)
        self.log_scale = nn.Parameter(torch.tensor(2.0))
        with torch.no_grad():
            for weight in self.parameters():
                if weight.ndim:
                    weight.normal_(0, 0.5, generator=generator)

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(block(x))
        return F.normalize(self.out(x), dim=-1)


def _train(towers: Towers, steps: int, folder: Path | None = None, stop_at: int | None = None) -> tuple[Found, Average]:
    weights = dict(towers.named_parameters())
    average = Average(weights, 0.9)

    def parts(step: int) -> Found:
        if step == stop_at:
            raise ConnectionAbortedError  # stands for a kill
        generator = torch.Generator().manual_seed(step)
        pictures, sentences = (mine(torch.randn(BATCH, 8, generator=generator)) for _ in range(2))
        vectors = towers(torch.cat([pictures, sentences])).chunk(2)
        return {"pairs": losses.contrastive(*vectors, towers.log_scale.exp())}

    train(weights, parts, Schedule(steps, 0.05), average=average, keeping=Keeping(folder, steps=4))
    found = {**weights, **{f"average.{name}": tensor for name, tensor in average.tensors.items()}}
    return {name: _whole(tensor.detach()) for name, tensor in found.items()}, average


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, distributed.tensor.DTensor) else tensor


def replicated(folder: Path) -> Found:
    return _train(Towers(), 10)[0]


def sharded(folder: Path) -> Found:
    """Weights split among processes; stopped after its state at step 8, then gone on with by new ones."""
    for stop_at in (9, None):
        towers = Towers()
        shard(towers)
        try:
            return _train(towers, 10, folder / f"sharded-run-{world()}", stop_at)[0]
        except ConnectionAbortedError:
            continue
    raise AssertionError("it was to come to its end")


def damaged(folder: Path) -> Found:
    """Goes on from the state at step 4, as one bit of that at step 8 has changed; says how often it told so."""
    run, towers = folder / "damaged-run", Towers()
    shard(towers)
    with suppress(ConnectionAbortedError):
        _train(towers, 10, run, stop_at=9)
    if rank() == 0:
        part = run / "step-00000008" / "__1_0.distcp"
        data = bytearray(part.read_bytes())
        data[len(data) // 2] ^= 1
        part.write_bytes(data)
    wait_for_all()
    towers = Towers()
    shard(towers)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        found = _train(towers, 10, run)[0]
    said = [w for w in told if "step-00000008 is damaged (__1_0.distcp: not as written)" in str(w.message)]
    return {**found, "told": torch.tensor(len(said))}


def other_count(folder: Path) -> Found:
    """Goes on, as one or as four, from the state at step 8 that two left."""
    towers = Towers()
    shard(towers)
    return _train(towers, 10, folder / f"left-for-{world()}")[0]


def leave(folder: Path) -> Found:
    """A state at step 8 for one process and one for four."""
    for count in (1, 4):
        towers = Towers()
        shard(towers)
        try:
            _train(towers, 10, folder / f"left-for-{count}", stop_at=9)
        except ConnectionAbortedError:
            continue
    return {}


def divided(folder: Path) -> Found:
    """Goes on with weights that are split from a state, at step 8, of weights that were not."""
    run = folder / "divided-run"
    with suppress(ConnectionAbortedError):
        _train(Towers(), 10, run, stop_at=9)
    towers = Towers()
    shard(towers)
    return _train(towers, 10, run)[0]


def disk_of_ones_own(folder: Path) -> Found:
    """Each process has a disk of its own, and only the first one's has states."""
    run = folder / f"disk-{rank()}"
    _train(Towers(), 5, run)
    wait_for_all()
    try:
        _train(Towers(), 10, run)
    except UsageError as problem:
        return {"refused": mean(torch.tensor(float("its disk must be one that all share" in str(problem))))}
    return {"refused": mean(torch.tensor(0.0))}


def full_disk(folder: Path) -> Found:
    """The first process's disk refuses every state of split weights: a warning, and at the end an error, for all."""
    towers = Towers()
    shard(towers)
    refusal = {"side_effect": OSError(28, "No space left on device")} if rank() == 0 else {"wraps": shutil.rmtree}
    with warnings.catch_warnings(record=True) as told, mock.patch.object(state.shutil, "rmtree", **refusal):
        warnings.simplefilter("always")
        try:
            _train(towers, 10, folder / "full-disk-run")
        except AwaseError as problem:
            ended = "after step 10 could not be written" in str(problem)
    said = sum("could not be written" in str(w.message) for w in told)
    return {"told": mean(torch.tensor(float(said))), "ended": mean(torch.tensor(float(ended)))}


def pretraining(folder: Path) -> Found:
    """A whole run by the engine, on the pictures that the test put there; its log."""
    block = {"width": 16, "layers": 1, "heads": 2, "mlp_width": 32, "activation": "gelu"}
    architecture = {
        "dimension": 8,
        "image": {"kind": "VisionTransformer", "image_size": 16, "patch_size": 8, **block},
        "text": {"kind": "TextTransformer", "context": 8, "vocabulary": 49408, **block},
        "preprocessing": {"size": 16},
        "text_rule": {"kind": "clip", "context": 8},
    }
    data = Data((PairSet(str(folder / "pictures")),), batch=8, threads=1)
    start = Recipe(Model(architecture=architecture), data, Schedule(4, 1e-3), Loss(alike="left out"), device="cpu")
    out = folder / f"pretraining-run-{world()}"
    pretrain(replace(start, shard=world() == 4), out)
    log = read_log(out)
    return {key: torch.tensor([line[key] for line in log]) for key in ("pairs", "scale", "gradient")}


_JOBS = every_loss, passing, replicated, sharded, damaged, leave, other_count, divided, disk_of_ones_own, full_disk
JOBS: dict[str, Callable[[Path], Found]] = {job.__name__: job for job in (*_JOBS, pretraining)}


def in_processes(job: str, folder: Path, count: int) -> None:
    meeting = folder / f"{job}-{count}.meeting"
    meeting.unlink(missing_ok=True)
    children = {_forked(job, folder, number, count, meeting) for number in range(count)}
    while children:
        child, status = os.waitpid(-1, 0)
        children.discard(child)
        if status:
            for other in children:  # they would wait for it
                os.kill(other, signal.SIGKILL)
            sys.exit(f"{job} failed in one of {count} processes")


def _forked(job: str, folder: Path, number: int, count: int, meeting: Path) -> int:
    if child := os.fork():
        return child
    try:
        distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=number, world_size=count)
        found = JOBS[job](folder)
        if number == 0:
            torch.save({name: tensor.detach() for name, tensor in found.items()}, folder / f"{job}-{count}.pt")
        distributed.destroy_process_group()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


if __name__ == "__main__":
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    for argument in sys.argv[2:]:
        name, count = argument.split(":")
        in_processes(name, Path(sys.argv[1]), int(count))
