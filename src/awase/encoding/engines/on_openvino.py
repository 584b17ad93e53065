"""OpenVINO on the CPU, over the same graphs: the fast way to bf16 where the processor has AMX or AVX512-BF16."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np

from awase.encoding.caches import cache_folder
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.engines.engine import refuse_unknown_tokens
from awase.encoding.engines.graph_files import Tower, graph_folder
from awase.encoding.engines.machine import machine
from awase.encoding.graphs.limits import refuse_external, refuse_unpackable
from awase.errors import EngineError, MissingExtra


class OpenVinoEngine:
    """precision "fp32" or "bf16". Compiled models are kept in the cache. Raises MissingExtra without openvino, and
    EngineError for other precisions, for bf16 on a processor that would only emulate it, and for external towers."""

    name, device = "openvino", "cpu"

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32", threads: int | None = None) -> None:
        refuse_external(checkpoint.architecture)
        if precision not in ("fp32", "bf16"):
            raise EngineError(f"OpenVINO runs in fp32 or bf16 here, not in {precision}")
        if precision == "bf16" and not machine().computes_bf16:
            raise EngineError(
                f"bf16 needs a processor with AMX or AVX512-BF16, and {machine().processor} has neither: "
                "use precision='int8' or 'fp32' with engine='onnxruntime'"
            )
        try:
            import openvino
        except ImportError as problem:
            raise MissingExtra("engine='openvino'", "openvino") from problem
        self.precision = precision
        self._checkpoint = checkpoint
        self.told_threads = threads
        self._core = openvino.Core()
        self._settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "PERFORMANCE_HINT": "LATENCY",  # all threads on one batch, as the other engines
            "INFERENCE_NUM_THREADS": threads or machine().cores,
            # A folder for each precision: OpenVINO takes a model compiled for another one from the same folder as its
            # own, and then gives NaN.
            "CACHE_DIR": str(cache_folder() / "openvino" / precision),
        }
        self._models: dict[tuple[Tower, str], Any] = {}
        self._lock = threading.Lock()  # a compiled model has one request, which one thread at a time may use

    def __reduce__(self) -> tuple[type, tuple[Checkpoint, str, int | None]]:
        return type(self), (self._checkpoint, self.precision, self.told_threads)  # models are compiled again there

    def images(self, pixels: np.ndarray, outputs: Sequence[str] = ("vectors",)) -> dict[str, np.ndarray]:
        found = self._run("image", "dense.onnx" if "patches" in outputs else "pooled.onnx", {"pixels": pixels})
        return {name: found[name] for name in outputs}

    def texts(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        refuse_unknown_tokens(self._checkpoint, ids)
        return self._run("text", "text.onnx", {"ids": ids, "ends": ends})["vectors"]

    def packed_texts(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        refuse_unpackable(self._checkpoint.architecture)
        refuse_unknown_tokens(self._checkpoint, ids)
        inputs = {"ids": ids, "positions": positions, "mask": mask, "rows": rows, "nodes": nodes}
        return self._run("text", "packed.onnx", inputs)["packed"]

    def _run(self, tower: Tower, file: str, inputs: dict[str, np.ndarray]) -> dict[Any, np.ndarray]:
        with self._lock:
            model = self._models.get((tower, file))
            if model is None:
                path = graph_folder(self._checkpoint, tower, "fp32") / file
                model = self._models[tower, file] = self._core.compile_model(path, "CPU", self._settings)
            used = {value.any_name: inputs[value.any_name] for value in model.inputs}  # SigLIP has no use for `ends`
            results = model(used)  # copies: with share_outputs the next run would overwrite them
        return {name: results[value] for value in model.outputs for name in value.names}
