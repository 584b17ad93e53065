"""The default engine: ONNX Runtime on the CPU, over graphs from the cache. Needs neither torch nor, once the graphs
are there, onnx or the checkpoint."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from awase.encoding import families
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.engines.graph_files import Number, Tower, graph_folder, refuse_external, refuse_unpackable
from awase.encoding.engines.machine import machine
from awase.errors import EngineError

# Packing the weights for fast products takes as long as some six runs on unpacked ones lose (ViT-B/32: 0.5 s against
# 0.08 s a run), so a session is opened unpacked, in hundredths of a second, and packed when it turns out to be used.
UNPACKED_RUNS = 6


class OnnxRuntimeEngine:
    """precision "fp32", or "int8": Transformers' weights in int8, activations quantised as they come, one scale a
    batch, so that a vector depends a little on the batch it was in. Raises EngineError for other precisions, for
    int8 with a convolutional image tower, and for external towers."""

    name, device = "onnxruntime", "cpu"

    def __init__(self, checkpoint: Checkpoint, precision: str = "fp32", threads: int | None = None) -> None:
        refuse_external(checkpoint.architecture)
        if precision not in ("fp32", "int8"):
            raise EngineError(
                f"ONNX Runtime runs in fp32 or int8 here, not in {precision}: use engine='openvino' or 'torch'"
            )
        if precision == "int8" and not isinstance(checkpoint.architecture.image, families.VisionTransformer):
            raise EngineError(
                f"{checkpoint.architecture.name}: int8 makes a convolutional image tower slower: use precision='fp32'"
            )
        self.precision = precision
        self._checkpoint = checkpoint
        self._threads = threads or machine().cores
        self._graphs: dict[tuple[Tower, str], _Graph] = {}

    def images(self, pixels: np.ndarray, outputs: Sequence[str] = ("vectors",)) -> dict[str, np.ndarray]:
        graph = self._graph("image", "dense.onnx" if "patches" in outputs else "pooled.onnx")
        return dict(zip(outputs, graph.run(outputs, {"pixels": pixels}), strict=True))

    def texts(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        return self._graph("text", "text.onnx").run(["vectors"], {"ids": ids, "ends": ends})[0]

    def packed_texts(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        refuse_unpackable(self._checkpoint.architecture)
        inputs = {"ids": ids, "positions": positions, "mask": mask, "rows": rows, "nodes": nodes}
        return self._graph("packed-text", "text.onnx").run(["vectors"], inputs)[0]

    def _graph(self, tower: Tower, file: str) -> _Graph:
        number: Number = "fp32" if self.precision == "fp32" else "int8" if machine().multiplies_bytes else "int7"

        def find(again: bool) -> Path:
            return graph_folder(self._checkpoint, tower, number, again) / file

        return self._graphs.setdefault((tower, file), _Graph(find, self._threads))


class _Graph:
    """One graph, opened when it is first run."""

    def __init__(self, find: Callable[[bool], Path], threads: int) -> None:
        self._find, self._threads = find, threads
        self._lock = threading.Lock()
        self._session: Any = None
        self._runs = 0

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            if self._runs in (0, UNPACKED_RUNS):
                self._session = self._open(packed=self._runs > 0)
            self._runs += 1
            session = self._session
        return cast(list[np.ndarray], session.run(list(outputs), inputs))

    def _open(self, packed: bool) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3  # errors only: its warnings are about shapes that are meant to vary
        if not packed:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.disable_prepacking", "1")

        def opened(again: bool) -> Any:
            return onnxruntime.InferenceSession(self._find(again), options, providers=["CPUExecutionProvider"])

        try:
            return opened(again=False)
        except Exception:  # whatever ONNX Runtime says of a damaged file: what is in the cache can be made again
            return opened(again=True)
