"""Class names x 80 templates to a zero-shot classifier, the same ViT-B/32 text tower: transformers' padded loop
(80 prompts of a class at a time, as in the CLIP notebooks) against awase, in one process, in turn.

    python benchmarks/class_prompts.py [CLASSES] [TIMES]
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from peer import machine, vit_b32
from transformers import CLIPModel, CLIPTokenizer

import awase
from awase.encoding.prompts import templates


def timed(work: Callable[[], np.ndarray]) -> tuple[float, float, np.ndarray]:
    wall, cpu = time.perf_counter(), time.process_time()
    result = work()
    return time.perf_counter() - wall, time.process_time() - cpu, result


def main() -> None:
    classes, times = (int(value) for value in [*sys.argv[1:], "50", "3"][:2])
    folder = vit_b32()
    names = [line.split(",")[0] for line in IMAGENET_LIKE][:classes]
    sentences = templates("imagenet80")
    model, tokenizer = CLIPModel.from_pretrained(folder).eval(), CLIPTokenizer.from_pretrained(folder)
    clips = {"awase fp32": awase.load(folder), "awase int8": awase.load(folder, precision="int8")}

    @torch.no_grad()
    def usual() -> np.ndarray:
        rows = []
        for name in names:
            prompts = [sentence.format(name) for sentence in sentences]
            inputs = tokenizer(prompts, padding="max_length", max_length=77, truncation=True, return_tensors="pt")
            found = model.get_text_features(**inputs)
            vectors = torch.nn.functional.normalize(getattr(found, "pooler_output", found), dim=-1)
            rows.append(torch.nn.functional.normalize(vectors.mean(0), dim=-1).numpy())
        return np.stack(rows)

    work: dict[str, Callable[[], np.ndarray]] = {"transformers, padded": usual}
    for name, clip in clips.items():
        work[name] = lambda clip=clip: clip.classifier(names, "imagenet80")  # type: ignore[misc]
    found: dict[str, list[tuple[float, float, np.ndarray]]] = {name: [] for name in work}
    for turn in range(times + 1):
        for name, job in work.items():
            result = timed(job)
            if turn:
                found[name].append(result)
    print(machine(), f"{len(names)} names x {len(sentences)} templates")
    reference = found["transformers, padded"]
    for name, runs in found.items():
        wall, cpu = (statistics.median(run[i] for run in runs) for i in (0, 1))
        ratios = [statistics.median(run[i] for run in reference) / value for i, value in ((0, wall), (1, cpu))]
        cosine = (runs[0][2] * reference[0][2]).sum(1).min()
        print(f"{name:24} wall {wall:7.2f} s ({ratios[0]:5.1f} x)  CPU {cpu:7.2f} s ({ratios[1]:5.1f} x)  "
              f"smallest cosine to transformers {cosine:.7f}")  # fmt: skip


IMAGENET_LIKE = [
    f"{kind} {thing}"
    for thing in ("dog", "cat", "bird", "fish", "car", "boat", "tree", "house", "bridge", "instrument")
    for kind in ("tiny", "large", "red", "striped", "Egyptian", "common", "spotted", "old-fashioned", "toy", "wild")
]

if __name__ == "__main__":
    main()
