"""A small hand for writing ONNX graphs as one writes torch: every call adds a node and returns the name of its output.

Knows ONNX, weights and how to quantise one; nothing of towers."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from awase.encoding.caches import write_checksums

Shape = Sequence[int | str]
Quantised = Literal["int8", "int7"]
OPSET, IR_VERSION = 20, 10  # Gelu came with opset 20; ONNX Runtime 1.22 and OpenVINO 2025.0 read it
INLINE = 1024  # bytes; larger weights lie in a file of their own, which is mapped rather than read
ALIGNMENT = 4096  # a page
BOOL, FLOAT, INT64, UINT8 = TensorProto.BOOL, TensorProto.FLOAT, TensorProto.INT64, TensorProto.UINT8


class Graph:
    """A graph over `tensors` whose names start with `prefix`.

    quantised: linear layers take int8 weights (one scale an output) and quantise their input as they run, one scale a
    batch. "int7" keeps to 7 bits, for processors without VNNI, whose products of 8 bits would overflow."""

    def __init__(
        self, name: str, tensors: Mapping[str, np.ndarray], prefix: str, quantised: Quantised | None = None
    ) -> None:
        self.name = name
        self.quantised = quantised
        self._tensors, self._prefix = tensors, prefix
        self._nodes: list[NodeProto] = []
        self._weights: dict[str, np.ndarray] = {}
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._count = 0

    # ---- what goes in and out ----

    def input(self, name: str, kind: int, shape: Shape) -> str:
        self._inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def output(self, name: str, value: str, shape: Shape) -> None:
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, FLOAT, shape))

    @property
    def outputs(self) -> list[str]:
        return [value.name for value in self._outputs]

    # ---- nodes ----

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.ops(kind, *inputs, results=1, **attributes)[0]

    def ops(self, kind: str, *inputs: str, results: int, **attributes: Any) -> list[str]:
        names = [f"{kind.lower()}_{len(self._nodes)}_{i}" for i in range(results)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        """A literal: float32 unless told."""
        self._count += 1
        return self._hold(f"constant_{self._count}", np.asarray(value, dtype))

    def ints(self, *values: int) -> str:
        """A vector of int64, as shapes and axes are."""
        return self.constant(values, np.int64)

    def tensor(self, name: str) -> np.ndarray:
        """The values of a tensor, for what is worked out before the graph runs."""
        return self._tensors[self._prefix + name]

    def weight(self, name: str) -> str:
        return self._hold(name, self.tensor(name))

    def reshape(self, x: str, *shape: int) -> str:
        """0 keeps a dimension, -1 takes what is left."""
        return self.op("Reshape", x, self.ints(*shape))

    def transpose(self, x: str, *order: int) -> str:
        return self.op("Transpose", x, perm=order)

    def norm(self, x: str, name: str, epsilon: float) -> str:
        weight, bias = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        return self.op("LayerNormalization", x, weight, bias, axis=-1, epsilon=epsilon)

    def linear(self, x: str, name: str, rows: slice = slice(None), exact: bool = False) -> str:
        """x @ weight.T + bias (if there is one), or only some `rows` of both. `exact` keeps it in float32."""
        bias = self.tensor(f"{name}.bias")[rows] if self._prefix + f"{name}.bias" in self._tensors else None
        part = "" if rows == slice(None) else f"[{rows.start}:{rows.stop}]"
        return self.product(x, f"{name}{part}", self.tensor(f"{name}.weight")[rows].T, bias, exact)

    def product(self, x: str, name: str, matrix: np.ndarray, bias: np.ndarray | None, exact: bool = False) -> str:
        """x @ matrix + bias."""
        held_bias = "" if bias is None else self._hold(f"{name}.bias", bias)
        if self.quantised and not exact:
            values, scale = quantise(matrix, self.quantised)
            names = self._hold(f"{name}.{self.quantised}", values), self._hold(f"{name}.scale", scale), "", held_bias
            return self.op("DynamicQuantizeMatMul", x, *names, domain="com.microsoft")
        y = self.op("MatMul", x, self._hold(f"{name}.matrix", matrix))
        return self.op("Add", y, held_bias) if held_bias else y

    def _hold(self, name: str, values: np.ndarray) -> str:
        name = self._prefix + name
        self._weights.setdefault(name, values)
        return name

    # ---- the result ----

    def model(self, outputs: Sequence[str] | None = None) -> ModelProto:
        """The graph of these outputs (all, if not told), with the inputs that they depend on, in memory. Protobuf
        allows 2 GB; `save` has no limit."""
        held = {name: numpy_helper.from_array(as_stored(values), name) for name, values in self._weights.items()}
        return self._assemble(held, outputs)

    def save(self, folder: Path, models: Mapping[str, Sequence[str]]) -> None:
        """Writes weights.bin and, by file name, the graph of some of the outputs each, all over the same weights, and
        their checksums. `folder` appears complete or not at all."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
        try:
            with open(partial / "weights.bin", "wb") as file:
                held = {name: _write(file, name, values) for name, values in self._weights.items()}
                os.fsync(file.fileno())  # else a crash of the machine could leave zeros under a finished name
            for name, outputs in models.items():
                (partial / name).write_bytes(self._assemble(held, outputs).SerializeToString())
            write_checksums(partial)
            os.replace(partial, folder)
        except OSError:
            shutil.rmtree(partial, ignore_errors=True)
            if not folder.exists():  # unless another process was first
                raise

    def _assemble(self, held: Mapping[str, TensorProto], outputs: Sequence[str] | None) -> ModelProto:
        wanted = [value for value in self._outputs if outputs is None or value.name in outputs]
        nodes, needed = self._leading_to({value.name for value in wanted})
        inputs = [value for value in self._inputs if value.name in needed]
        weights = [value for name, value in held.items() if name in needed]
        graph = helper.make_graph(nodes, self.name, inputs, wanted, weights)
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(
            graph, opset_imports=versions[: 1 + bool(self.quantised)], ir_version=IR_VERSION, producer_name="awase"
        )

    def _leading_to(self, needed: set[str]) -> tuple[list[NodeProto], set[str]]:
        """The nodes that these values come from, and the names of all that they read."""
        nodes, needed = [], set(needed)
        for node in reversed(self._nodes):
            if needed.intersection(node.output):
                nodes.append(node)
                needed.update(node.input)
        return nodes[::-1], needed


def quantise(matrix: np.ndarray, bits: Quantised) -> tuple[np.ndarray, np.ndarray]:
    """A matrix (in, out) -> int8 values and float32 scales (out,), symmetric, one scale a column."""
    largest = 127 if bits == "int8" else 63
    scale = np.maximum(np.abs(matrix).max(0), np.finfo(np.float32).tiny) / largest
    return np.rint(matrix / scale).astype(np.int8), scale.astype(np.float32)


def as_stored(values: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(values).reshape(values.shape)  # ascontiguousarray makes a scalar a vector


def _write(file: Any, name: str, values: np.ndarray) -> TensorProto:
    """Appends a weight to the file and describes where it lies; small ones go into the description."""
    if values.nbytes <= INLINE:
        return numpy_helper.from_array(as_stored(values), name)
    file.seek(-file.tell() % ALIGNMENT, os.SEEK_CUR)
    place = {"location": "weights.bin", "offset": file.tell(), "length": values.nbytes}
    file.write(as_stored(values).data)
    held = TensorProto(
        name=name,
        dims=values.shape,
        data_type=helper.np_dtype_to_tensor_dtype(values.dtype),
        data_location=TensorProto.EXTERNAL,
    )
    for key, value in place.items():
        held.external_data.add(key=key, value=str(value))
    return held
