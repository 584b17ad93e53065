"""The peer that the benchmarks compare with: transformers' CLIP, with random ViT-B/32 weights in a local folder."""

from __future__ import annotations

import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CACHE = Path(os.environ.get("AWASE_BENCHMARKS", Path.home() / ".cache" / "awase-benchmarks"))
MAKE = """
import sys, tempfile
import torch
from transformers import CLIPConfig, CLIPModel
from awase import open_checkpoint, write_checkpoint
torch.manual_seed(0)
with tempfile.TemporaryDirectory() as bare:
    CLIPModel(CLIPConfig(projection_dim=512)).save_pretrained(bare)
    write_checkpoint(open_checkpoint(bare), sys.argv[1], "huggingface")  # the same, with tokenizer and processor
"""
EXAMPLE = Path(__file__).parents[1] / "examples" / "cat.jpg"


def vit_b32() -> Path:
    """A Hugging Face directory of a random ViT-B/32 (605 MB), made once."""
    folder = CACHE / "vit-b-32"
    if not folder.exists():
        # In a process of its own: a child's peak memory begins at its parent's, which must therefore stay small.
        subprocess.run([sys.executable, "-c", MAKE, str(folder)], check=True)
    return folder


@dataclass(frozen=True)
class Run:
    """One process. cpu and wall in seconds, peak in megabytes."""

    wall: float
    cpu: float
    peak: float
    printed: str


def run(command: Sequence[str], **environment: str) -> Run:
    """Runs a command to its end and measures the whole process as the operating system accounts for it."""
    started = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return Run(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, printed)


def interleaved(commands: dict[str, Sequence[str]], times: int) -> dict[str, list[Run]]:
    """Every command once as a warm-up, then all of them in turn, `times` times."""
    runs: dict[str, list[Run]] = {name: [] for name in commands}
    for turn in range(times + 1):
        for name, command in commands.items():
            done = run(command)
            if turn:
                runs[name].append(done)
    return runs


def table(runs: dict[str, list[Run]], peer: str) -> str:
    """Medians and ratios to the peer, as lines of text."""

    def median(name: str, what: str) -> float:
        return statistics.median(getattr(run, what) for run in runs[name])

    lines = [f"{'':28}{'wall s':>9}{'CPU s':>9}{'peak MB':>9}{'wall /':>9}{'CPU /':>9}{'peak /':>9}"]
    for name in runs:
        values = [median(name, what) for what in ("wall", "cpu", "peak")]
        ratios = [value / median(peer, what) for value, what in zip(values, ("wall", "cpu", "peak"), strict=True)]
        lines.append(f"{name:28}" + "".join(f"{v:9.2f}" for v in values) + "".join(f"{r:9.3f}" for r in ratios))
    return "\n".join([*lines, f"medians of {len(runs[peer])} runs in turn; ratios to {peer}"])


def machine() -> str:
    from awase.encoding.engines import describe_machine

    return describe_machine()


def open_clip() -> ModuleType:
    """open_clip, which the tests' conftest lets be imported beside a CPU build of torch."""
    sys.path.append(str(Path(__file__).parents[1] / "tests"))
    importlib.import_module("conftest")
    return importlib.import_module("open_clip")
