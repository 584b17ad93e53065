"""torch on CUDA, MPS or the CPU: for GPUs, for towers that belong to other libraries, and as a reference."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.engines.engine import refuse_unknown_tokens
from awase.encoding.engines.machine import machine
from awase.encoding.graphs.limits import refuse_unpackable
from awase.errors import EngineError, MissingExtra


class TorchEngine:
    """device: "cuda", "cuda:1", "mps", "cpu", or None for the best there is. Raises MissingExtra without torch and
    EngineError for a device that is not there or a precision that it does not compute in."""

    name = "torch"

    def __init__(
        self,
        checkpoint: Checkpoint,
        precision: str = "fp32",
        threads: int | None = None,
        device: str | None = None,
    ) -> None:
        try:
            import torch

            from awase.encoding.towers import load_towers, normalise
        except ImportError as problem:
            raise MissingExtra("engine='torch'", "torch") from problem
        self.device = device or _best_device()
        self.precision = precision
        _check(self.device, precision)
        if threads and self.device == "cpu":
            torch.set_num_threads(threads)
        self._kind = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]
        self._towers = load_towers(checkpoint).to(self.device, self._kind)
        self._checkpoint = checkpoint
        self.told_threads = threads
        self._normalise = normalise

    def __reduce__(self) -> tuple[type, tuple[Checkpoint, str, int | None, str]]:
        return type(self), (self._checkpoint, self.precision, self.told_threads, self.device)

    def images(self, pixels: np.ndarray, outputs: Sequence[str] = ("vectors",)) -> dict[str, np.ndarray]:
        import torch

        with torch.inference_mode():
            prepared = self._normalise(
                torch.from_numpy(pixels).to(self.device), self._checkpoint.architecture.preprocessing
            )
            found = self._towers.image(prepared.to(self._kind), outputs)
            return {name: found[name].float().cpu().contiguous().numpy() for name in outputs}

    def texts(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return self._vectors("forward", ids, ends)

    def packed_texts(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        refuse_unpackable(self._checkpoint.architecture)
        return self._vectors("forward_packed", ids, positions, mask, rows, nodes)

    def _vectors(self, method: str, ids: np.ndarray, *others: np.ndarray) -> np.ndarray:
        import torch

        refuse_unknown_tokens(self._checkpoint, ids)
        with torch.inference_mode():
            tensors = [torch.from_numpy(values).to(self.device) for values in (ids, *others)]
            found: np.ndarray = getattr(self._towers.text, method)(*tensors).float().cpu().contiguous().numpy()
            return found


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _check(device: str, precision: str) -> None:
    import torch

    kind, cuda = device.partition(":")[0], torch.cuda.is_available()
    if not {"cpu": True, "cuda": cuda, "mps": torch.backends.mps.is_available()}.get(kind):
        raise EngineError(f"torch has no device {device!r} here: use engine='torch' for the best there is")
    computes_bf16 = {"cpu": machine().computes_bf16, "cuda": cuda and torch.cuda.is_bf16_supported()}
    possible = {"fp32": True, "bf16": computes_bf16.get(kind, False), "fp16": kind != "cpu"}
    if not possible.get(precision):
        raise EngineError(f"torch on {device} does not compute in {precision} here: use precision='fp32'")
