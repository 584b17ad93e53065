"""The default engine: ONNX Runtime on the CPU, over graphs from the cache. Needs neither torch nor, once the graphs
are there, onnx or the checkpoint."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.engines.engine import refuse_unknown_tokens
from awase.encoding.engines.graph_files import Number, Tower, graph_folder
from awase.encoding.engines.machine import machine
from awase.encoding.engines.runtime import onnx_runtime
from awase.encoding.graphs.limits import refuse_external, refuse_quantised_convolutions, refuse_unpackable
from awase.errors import EngineError

# Laying the weights out for fast products takes ONNX Runtime ten times as long as opening a graph (ViT-B/32: 0.5 s
# against 0.05) and saves a picture alone 0.08 s. A session is therefore opened without, and anew with it after it has
# run for so many seconds: a command that looks at one picture never waits for what it would not use.
PATIENCE = 1.0


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
        if precision == "int8":
            refuse_quantised_convolutions(checkpoint.architecture)
        self.precision = precision
        self._checkpoint = checkpoint
        self.told_threads = threads
        self._threads = threads or machine().cores
        self._graphs: dict[tuple[Tower, str], _Graph] = {}

    def __reduce__(self) -> tuple[type, tuple[Checkpoint, str, int | None]]:
        return type(self), (self._checkpoint, self.precision, self.told_threads)  # sessions are opened again there

    def images(self, pixels: np.ndarray, outputs: Sequence[str] = ("vectors",)) -> dict[str, np.ndarray]:
        graph = self._graph("image", "dense.onnx" if "patches" in outputs else "pooled.onnx")
        return dict(zip(outputs, graph.run(outputs, {"pixels": pixels}), strict=True))

    def texts(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        refuse_unknown_tokens(self._checkpoint, ids)
        return self._graph("text", "text.onnx").run(["vectors"], {"ids": ids, "ends": ends})[0]

    def packed_texts(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        refuse_unpackable(self._checkpoint.architecture)
        refuse_unknown_tokens(self._checkpoint, ids)
        inputs = {"ids": ids, "positions": positions, "mask": mask, "rows": rows, "nodes": nodes}
        return self._graph("text", "packed.onnx").run(["packed"], inputs)[0]

    def _graph(self, tower: Tower, file: str) -> _Graph:
        number: Number = "fp32" if self.precision == "fp32" else "int8" if machine().multiplies_bytes else "int7"

        def find(again: bool) -> Path:
            return graph_folder(self._checkpoint, tower, number, again) / file

        return self._graphs.setdefault((tower, file), _Graph(find, self._threads))


class _Graph:
    """One graph, opened when it is first run, and for speed when it has been run for a while."""

    def __init__(self, find: Callable[[bool], Path], threads: int) -> None:
        self._find, self._threads = find, threads
        self._lock = threading.Lock()
        self._session: Any = None
        self._fast = False
        self._seconds = 0.0

    def run(self, outputs: Sequence[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        with self._lock:
            worthwhile = self._seconds > PATIENCE
            if self._session is None or (worthwhile and not self._fast):
                self._session = None  # the weights of two sessions would lie in memory at once
                self._session, self._fast = self._open(fast=worthwhile), worthwhile
            session = self._session
        used = {value.name: inputs[value.name] for value in session.get_inputs()}  # SigLIP has no use for `ends`
        started = time.perf_counter()
        found = session.run(list(outputs), used)
        self._seconds += time.perf_counter() - started
        return cast(list[np.ndarray], found)

    def _open(self, fast: bool) -> Any:
        onnxruntime = onnx_runtime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # the cores have pictures to decode
        options.log_severity_level = 3  # errors only: its warnings are about shapes that are meant to vary
        if not fast:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
            options.add_session_config_entry("session.disable_prepacking", "1")

        def opened(path: Path) -> Any:
            return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

        path = self._find(False)
        try:
            return opened(path)
        except Exception:  # ONNX Runtime's errors share no class; a damaged file in the cache can be made again
            path = self._find(True)
        try:
            return opened(path)
        except Exception as problem:
            raise EngineError(f"ONNX Runtime cannot open {path}, which was just made: {problem}") from problem
