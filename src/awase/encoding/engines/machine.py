"""What this machine's processor can do: instruction sets and cores. Knows nothing of engines."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

# Names of the features that decide between engines and precisions -> how Linux spells them in /proc/cpuinfo.
FLAGS = {
    "avx2": ("avx2",),
    "avx512": ("avx512f",),
    "vnni": ("avx512_vnni", "avx_vnni"),  # products of 8-bit integers
    "bf16": ("avx512_bf16", "bf16"),
    "amx": ("amx_tile",),  # tiles of bf16 and int8 products
    "neon": ("asimd", "neon"),
}


@dataclass(frozen=True)
class Machine:
    """processor: its name. architecture: "x86_64", "arm64", ... cores: physical cores that this process may use.
    features: those of `FLAGS` that it has."""

    processor: str
    architecture: str
    cores: int
    features: frozenset[str]

    @property
    def computes_bf16(self) -> bool:
        """Whether bf16 runs in hardware; emulated, it is some five times slower than float32."""
        return bool(self.features & {"bf16", "amx"})

    @property
    def multiplies_bytes(self) -> bool:
        """Whether sums of 8-bit products cannot overflow: VNNI on x86, always on ARM."""
        return "vnni" in self.features or self.architecture == "arm64"


@cache
def machine() -> Machine:
    architecture = {"amd64": "x86_64", "aarch64": "arm64"}.get(platform.machine().lower(), platform.machine().lower())
    if sys.platform == "linux":
        name, flags, siblings = _linux()
    elif sys.platform == "darwin":
        name, flags, siblings = _mac()
    else:
        name, flags, siblings = platform.processor(), _windows(), 1
    features = frozenset(feature for feature, spellings in FLAGS.items() if flags.intersection(spellings))
    return Machine(name or architecture, architecture, max(1, _usable_threads() // siblings), features)


def _usable_threads() -> int:
    """Hardware threads that this process may run on: its affinity, cut to a container's quota."""
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(count, round(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup, or no limit ("max")
        return count


def _linux() -> tuple[str, set[str], int]:
    """(name, flags, hardware threads a core) from /proc/cpuinfo."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return "", set(), 1
    facts: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        facts.setdefault(key.strip(), value.strip())
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    siblings, cores = facts.get("siblings", "1"), facts.get("cpu cores", "1")
    return facts.get("model name", ""), flags, max(1, int(siblings) // int(cores))


def _mac() -> tuple[str, set[str], int]:
    def ask(name: str) -> str:
        return subprocess.run(["sysctl", "-n", name], capture_output=True, text=True, check=False).stdout.strip()

    features = f"{ask('machdep.cpu.features')} {ask('machdep.cpu.leaf7_features')}".lower()
    flags = set(features.replace("avx512vnni", "avx512_vnni").split())
    if platform.machine() == "arm64":
        flags |= {"asimd"} | ({"bf16"} if ask("hw.optional.arm.FEAT_BF16") == "1" else set())
    threads, cores = int(ask("hw.logicalcpu") or 1), int(ask("hw.physicalcpu") or 1)
    return ask("machdep.cpu.brand_string"), flags, max(1, threads // cores)


def _windows() -> set[str]:
    """Windows tells of AVX2 and AVX512 only; what it does not tell is not used."""
    try:
        from ctypes import windll  # type: ignore[attr-defined, unused-ignore]

        numbers = {"avx2": 40, "avx512f": 41, "asimd": 19}
        return {flag for flag, number in numbers.items() if windll.kernel32.IsProcessorFeaturePresent(number)}
    except (ImportError, OSError):
        return set()
