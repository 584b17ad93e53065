"""One tower, engine against engine, with the same random ViT-B/32 weights; ratios to transformers, eager, float32.

python benchmarks/towers.py [image|text] [threads]      both towers on one thread, if not told"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
from peer import machine, vit_b32

from awase.encoding.checkpoints import Checkpoint, open_checkpoint
from awase.encoding.engines import agreement, on_onnxruntime, open_engine
from awase.errors import AwaseError

ENGINES = [
    ("onnxruntime", "fp32"),
    ("onnxruntime", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("torch:cpu", "fp32"),
    ("torch:cpu", "bf16"),
]
Run = Callable[[], np.ndarray]
SECONDS = 8.0  # of measuring for each batch size and engine


def main() -> None:
    towers = [word for word in sys.argv[1:] if word in ("image", "text")] or ["image", "text"]
    threads = next((int(word) for word in sys.argv[1:] if word.isdigit()), 1)
    print(f"{machine()}; {threads} thread{'s' if threads > 1 else ''}")
    on_onnxruntime.PATIENCE = 0.0  # this is about long runs
    checkpoint = open_checkpoint(vit_b32())
    for tower in towers:
        for batch in (1, 8, 32) if tower == "image" else (1, 8, 80):
            runs = (pictures if tower == "image" else sentences)(checkpoint, batch, threads)
            print(f"\n{tower} tower, batch {batch}\n{table(interleaved(runs), runs, batch)}")


def pictures(checkpoint: Checkpoint, batch: int, threads: int) -> dict[str, Run]:
    import torch

    from awase.encoding.towers import normalise

    rule, model = checkpoint.architecture.preprocessing, peer(threads)
    pixels = np.random.default_rng(0).integers(0, 256, (batch, rule.size, rule.size, 3), dtype=np.uint8)

    def usual() -> np.ndarray:
        with torch.inference_mode():
            prepared = normalise(torch.from_numpy(pixels), rule)
            return model.visual_projection(model.vision_model(prepared).pooler_output).numpy()

    runs: dict[str, Run] = {"transformers": usual}
    for name, engine in engines(checkpoint, threads).items():
        runs[name] = lambda engine=engine: engine.images(pixels)["vectors"]
    return runs


def sentences(checkpoint: Checkpoint, batch: int, threads: int) -> dict[str, Run]:
    """Prompts of 16 tokens: the usual way pads them to 77, awase does not."""
    import torch

    model, generator = peer(threads), np.random.default_rng(0)
    ids = generator.integers(300, 40_000, (batch, 16))
    ids[:, -1] = 49407
    padded = np.concatenate([ids, np.full((batch, 61), 49407)], axis=1)
    ends = np.full(batch, 15)

    def usual(rows: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return model.text_projection(model.text_model(torch.from_numpy(rows)).pooler_output).numpy()

    runs: dict[str, Run] = {"transformers": lambda: usual(padded), "transformers, cut": lambda: usual(ids)}
    for name, engine in engines(checkpoint, threads).items():
        runs[name] = lambda engine=engine: engine.texts(ids, ends)
    return runs


def peer(threads: int) -> object:
    import torch
    from transformers import CLIPModel

    torch.set_num_threads(threads)
    return CLIPModel.from_pretrained(vit_b32()).eval()


def engines(checkpoint: Checkpoint, threads: int) -> dict[str, object]:
    found = {}
    for name, precision in ENGINES:
        try:
            found[f"{name} {precision}"] = open_engine(checkpoint, name, precision, threads)
        except AwaseError as problem:
            print(f"{name} {precision}: {problem}")
    return found


def interleaved(runs: dict[str, Run]) -> dict[str, list[tuple[float, float]]]:
    """(wall, CPU) seconds of each run, all engines in turn after two rounds of warming up."""
    for _ in range(2):
        for run in runs.values():
            run()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    started = time.perf_counter()
    while time.perf_counter() - started < SECONDS * len(runs) and len(times["transformers"]) < 60:
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return times


def table(times: dict[str, list[tuple[float, float]]], runs: dict[str, Run], batch: int) -> str:
    reference = runs["transformers"]()
    usual = statistics.median(cpu for _, cpu in times["transformers"])
    lines = [f"{'':22}{'wall ms':>9}{'CPU ms':>9}{'times':>8}   each; agreement with transformers"]
    for name, several in times.items():
        wall, cpu = (statistics.median(column) for column in zip(*several, strict=True))
        lines.append(
            f"{name:22}{1000 * wall / batch:9.1f}{1000 * cpu / batch:9.1f}{usual / cpu:8.2f}   "
            f"{agreement(runs[name](), reference)}"
        )
    return "\n".join([*lines, f"medians of {len(times['transformers'])} interleaved runs; times: by CPU"])


if __name__ == "__main__":
    main()
