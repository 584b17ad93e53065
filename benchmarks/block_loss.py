"""Time and memory of one forward and backward pass of the contrastive loss, awase's in blocks against its plain one and
open_clip's, over B pairs of random unit vectors of 512 numbers.

python benchmarks/block_loss.py [B ...]      8192, 32768 and 65536, if not told; on a GPU where there is one

Each loss at each size runs in processes of its own, in turn. Memory is the peak above what was there before the pass
(on the CPU as the system counts it, on a GPU as torch does); a loss that does not fit is told as such."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

LOSSES = ("awase in blocks", "awase plain", "open_clip")
WIDTH, ROUNDS = 512, 3
REPEATS, LARGE = 3, 32768  # passes that are counted in a process, and the size from which one has to do
MATRICES = 4.5  # of B x B float32 that a plain loss needs, and that have to be free before it is tried


def main(sizes: list[int]) -> None:
    from peer import machine

    print(machine())
    for size in sizes:
        runs: dict[str, list[dict[str, float]]] = {name: [] for name in LOSSES}
        for number in range(ROUNDS):
            print(f"B = {size:,}, round {number + 1} of {ROUNDS}", file=sys.stderr)
            for name in LOSSES:
                done = subprocess.run(
                    [sys.executable, __file__, "one", name, str(size)], capture_output=True, text=True
                )
                if done.returncode == 0:
                    runs[name].append(json.loads(done.stdout.splitlines()[-1]))
        print(f"\nB = {size:,}{'':12}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'wall /':>9}{'CPU /':>9}{'peak /':>9}")
        for name, found in runs.items():
            print(f"{name:24}{_line(found, runs['awase plain'])}")


def _line(found: list[dict[str, float]], plain: list[dict[str, float]]) -> str:
    if not found:
        return "  does not fit"
    medians = [statistics.median(run[key] for run in found) for key in ("wall", "cpu", "peak")]
    line = "".join(f"{value:9.2f}" for value in medians)
    if plain:
        usual = [statistics.median(run[key] for run in plain) for key in ("wall", "cpu", "peak")]
        line += "".join(f"{value / other:9.3f}" for value, other in zip(medians, usual, strict=True))
    return line


def one(name: str, size: int) -> None:
    """Prints the medians of one process."""
    import torch
    from torch.nn import functional as F

    device = "cuda" if torch.cuda.is_available() else "cpu"
    if name != "awase in blocks" and device == "cpu" and _free() < MATRICES * 4 * size**2:
        sys.exit("does not fit")
    generator = torch.Generator().manual_seed(0)
    pictures, noise = (torch.randn(size, WIDTH, generator=generator) for _ in range(2))
    vectors = [F.normalize(x, dim=-1).to(device).requires_grad_() for x in (pictures, pictures + 4 * noise)]
    scale = torch.tensor(50.0, device=device, requires_grad=True)
    loss = _losses()[name]
    times = []
    for turn in range(1 + (REPEATS if size < LARGE else 1)):
        before = _memory(device)
        wall, cpu = time.perf_counter(), time.process_time()
        loss(*vectors, scale).backward()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        if turn == 0:
            peak = _peak(device) - before
        for tensor in (*vectors, scale):
            tensor.grad = None
    wall, cpu = (statistics.median(column) for column in zip(*times[1:], strict=True))
    print(json.dumps({"wall": wall, "cpu": cpu, "peak": peak / 1e6}))


def _losses():  # type: ignore[no-untyped-def]
    from peer import open_clip

    from awase.learning.losses import contrastive, contrastive_in_blocks

    theirs = open_clip().loss.ClipLoss()
    return {"awase in blocks": contrastive_in_blocks, "awase plain": contrastive, "open_clip": theirs}


def _memory(device: str) -> int:
    """Bytes in use; the peak begins here."""
    if device == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    return _status("VmRSS")


def _peak(device: str) -> int:
    if device == "cuda":
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def _free() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main([int(word) for word in sys.argv[1:]] or [8192, 32768, 65536])
