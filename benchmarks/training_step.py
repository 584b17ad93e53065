"""One training step of a ViT-B/32 CLIP on 64 pairs, awase's loop against open_clip's own step: forward, loss, backward,
clipping, AdamW. The same sizes, pictures and sentences; random weights.

python benchmarks/training_step.py [rounds] [batch] [threads]      5 rounds of 3 steps, 64 pairs, all cores, if not told

Each takes its turn in one process; the first step of a turn, which warms up, is not counted. Sentences are captions of
10 to 20 tokens: open_clip pads them to 77, awase to the longest. The limit is the machine's own rate of large matrix
products, measured in the same run; the fraction counts the products that the step's own shapes need."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from itertools import pairwise

import numpy as np
import torch
from peer import machine, open_clip
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from awase.encoding.published import PUBLISHED
from awase.encoding.towers import Towers, initialise, normalise
from awase.learning.loop import Schedule, train
from awase.learning.losses import clamped, contrastive

STEPS = 3  # of a turn, the first of which is not counted
CONTEXT, RATE, CLIP = 77, 1e-4, 1.0
Turn = Callable[[], list[tuple[float, float]]]


def main(rounds: int = 5, batch: int = 64, threads: int | None = None) -> None:
    if threads:
        torch.set_num_threads(threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{machine()}; {torch.get_num_threads()} threads; batch {batch}")
    pixels, ids, ends = (x.to(device) for x in inputs(batch))
    turns = {
        f"{name} {precision}": make(pixels, ids, ends, precision)
        for precision in ("fp32", "bf16")
        for name, make in (("open_clip", theirs), ("awase", ours))
    }
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in turns}
    work = {name: flops(turn) for name, turn in turns.items()}
    for _ in range(rounds):
        for name, turn in turns.items():
            times[name] += turn()[1:]
    limits = {precision: limit(precision, device) for precision in ("fp32", "bf16")}
    print(f"{'':18}{'wall s':>9}{'CPU s':>9}{'pairs/s':>9}{'times':>8}{'limit':>9}")
    usual = statistics.median(cpu if device == "cpu" else wall for wall, cpu in times["open_clip fp32"])
    for name, found in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        taken = cpu if device == "cpu" else wall
        reached = work[name] / wall / limits[name.split()[1]]
        print(f"{name:18}{wall:9.2f}{cpu:9.2f}{batch / wall:9.1f}{usual / taken:8.2f}{100 * reached:8.0f}%")
    print(
        f"medians of {len(times[name])} steps; times: by CPU on a CPU, by the clock on a GPU, against open_clip fp32;"
    )
    rates = ", ".join(f"{precision} {rate / 1e9:,.0f} GFLOP/s" for precision, rate in limits.items())
    print(f"limit: part of the rate of large products, {rates}")


def inputs(batch: int) -> tuple[Tensor, Tensor, Tensor]:
    """Bytes of pictures, ids padded to 77, places of the end token."""
    generator = np.random.default_rng(0)
    pixels = torch.from_numpy(generator.integers(0, 256, (batch, 224, 224, 3), dtype=np.uint8))
    ids, ends = torch.zeros(batch, CONTEXT, dtype=torch.long), torch.from_numpy(generator.integers(9, 20, batch))
    for row, end in zip(ids, ends.tolist(), strict=True):
        row[0], row[end] = 49406, 49407
        row[1:end] = torch.from_numpy(generator.integers(300, 40_000, end - 1))
    return pixels, ids, ends


def ours(pixels: Tensor, ids: Tensor, ends: Tensor, precision: str) -> Turn:
    architecture = PUBLISHED["ViT-B-32"]
    towers = initialise(Towers(architecture), torch.Generator().manual_seed(0)).train().to(pixels.device)
    short = ids[:, : int(ends.max()) + 1]

    def losses(step: int) -> dict[str, Tensor]:
        pictures = towers.image(normalise(pixels, architecture.preprocessing))["vectors"]
        vectors = (F.normalize(x.float(), dim=-1) for x in (pictures, towers.text(short, ends)))
        return {"pairs": contrastive(*vectors, clamped(towers.logit_scale))}

    def turn() -> list[tuple[float, float]]:
        stamps = [stamp()]
        schedule = Schedule(STEPS, RATE, clip=CLIP, shape="constant", rise=0)
        train(dict(towers.named_parameters()), losses, schedule, lambda *_: stamps.append(stamp()), precision=precision)
        return lengths(stamps)

    return turn


def theirs(pixels: Tensor, ids: Tensor, ends: Tensor, precision: str) -> Turn:
    package = open_clip()
    model = package.create_model("ViT-B-32", pretrained=None).train().to(pixels.device)
    loss = package.loss.ClipLoss()
    decayed = [w for w in model.parameters() if w.ndim > 1]
    kept = [w for w in model.parameters() if w.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.02}, {"params": kept, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), eps=1e-6)
    rule = PUBLISHED["ViT-B-32"].preprocessing
    half = torch.autocast(pixels.device.type, torch.bfloat16) if precision == "bf16" else nullcontext()

    def turn() -> list[tuple[float, float]]:
        stamps = [stamp()]
        for _ in range(STEPS):
            optimiser.zero_grad()
            with half:
                pictures, sentences, scale = model(normalise(pixels, rule), ids)
                found = loss(pictures, sentences, scale)
            found.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimiser.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, np.log(100))
            found.item()  # as its training script logs it
            stamps.append(stamp())
        return lengths(stamps)

    return turn


def stamp() -> tuple[float, float]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter(), time.process_time()


def lengths(stamps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(stamps)]


def flops(turn: Turn) -> float:
    """Of the matrix products of one step."""
    with FlopCounterMode(display=False) as counter:
        turn()
    return counter.get_total_flops() / STEPS


def limit(precision: str, device: str) -> float:
    """Operations a second of a large matrix product, the best of several."""
    kind = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device, dtype=kind) for _ in range(2))
    best = float("inf")
    for _ in range(5):
        began = stamp()[0]
        a @ b
        best = min(best, stamp()[0] - began)
    return 2 * size**3 / best


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
