"""Engines run the towers: ONNX Runtime by default, OpenVINO for bf16, torch for GPUs and external towers."""

from __future__ import annotations

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.engines.engine import Agreement, Engine, agreement, refuse_meaningless
from awase.encoding.engines.machine import Machine, machine
from awase.encoding.engines.runtime import onnx_runtime
from awase.errors import UsageError

__all__ = [
    "Agreement",
    "Engine",
    "Machine",
    "agreement",
    "available_engines",
    "describe_machine",
    "machine",
    "onnx_runtime",
    "open_engine",
    "refuse_meaningless",
]

# What each engine computes in, as far as the machine does.
PRECISIONS = {"onnxruntime": ("fp32", "int8"), "openvino": ("fp32", "bf16"), "torch": ("fp32", "bf16", "fp16")}


def open_engine(
    checkpoint: Checkpoint, engine: str = "auto", precision: str = "fp32", threads: int | None = None
) -> Engine:
    """The engine that runs `checkpoint`; nothing heavy is opened before its first call.

    engine: "onnxruntime", "openvino", "torch" (the best device) or "torch:cuda", "torch:cuda:1", "torch:mps",
    "torch:cpu"; "auto" is torch for towers of other libraries, OpenVINO for bf16, else ONNX Runtime.
    precision: "fp32"; "int8" (ONNX Runtime, Transformers); "bf16" (OpenVINO, torch); "fp16" (torch on a GPU).
    threads: of the processor, all its cores if not told.
    Raises UsageError for an unknown name, EngineError for what cannot run here, MissingExtra for what is missing."""
    known = sorted({one for several in PRECISIONS.values() for one in several})
    if precision not in known:
        raise UsageError(f"precision {precision!r} is unknown: use one of {', '.join(known)}")
    name, _, device = engine.partition(":")
    if name == "auto":
        name = _chosen(checkpoint, precision)
    if name == "onnxruntime" and not device:
        from awase.encoding.engines.on_onnxruntime import OnnxRuntimeEngine

        return OnnxRuntimeEngine(checkpoint, precision, threads)
    if name == "openvino" and not device:
        from awase.encoding.engines.on_openvino import OpenVinoEngine

        return OpenVinoEngine(checkpoint, precision, threads)
    if name == "torch":
        from awase.encoding.engines.on_torch import TorchEngine

        return TorchEngine(checkpoint, precision, threads, device or None)
    raise UsageError(f"engine {engine!r} is unknown: use auto, onnxruntime, openvino, torch or torch:DEVICE")


def _chosen(checkpoint: Checkpoint, precision: str) -> str:
    if checkpoint.architecture.external or precision == "fp16":
        return "torch"
    return "openvino" if precision == "bf16" else "onnxruntime"


def available_engines() -> dict[str, str]:
    """Name -> version and precisions, or how to install it."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for name, precisions in PRECISIONS.items():
        try:
            found[name] = f"{version(name)} ({', '.join(precisions)})"
        except PackageNotFoundError:
            found[name] = f"not installed: pip install 'awase[{name}]'"
    return found


def describe_machine() -> str:
    """Processor, cores and what speeds engines up, in one line."""
    here = machine()
    features = " ".join(sorted(here.features)) or "no vector extensions known"
    return f"{here.processor}, {here.cores} core{'s' if here.cores > 1 else ''}, {features}"
