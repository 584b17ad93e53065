"""How near each stage of the way from a file to a vector is to what this machine allows.

Every stage is timed alone on sample pictures and held against a limit that is measured too, in the same minute:

    read      copying the file's bytes in memory, the fastest that a cached file could be had
    decode    the image library's decoder alone
    resize    the image library's resizing alone
    tower     its multiplications and additions at the rate of one large matrix product in the same engine
    together  all cores at work all the time on the stages above

The idea is the roofline of Williams, Waterman and Patterson (2009, doi:10.1145/1498765.1498785).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image

from awase.encoding.engines import Engine, onnx_runtime
from awase.encoding.families import EfficientNetLite, ImageTower, ModifiedResNet, Preprocessing, VisionTransformer
from awase.encoding.pictures import open_picture
from awase.encoding.pipeline import encode_stream
from awase.encoding.preprocessing import prepare, prepare_source

T = TypeVar("T")
TOWER_BATCH = 8
WARM_UP = 8  # runs: an engine may open a graph quickly at first and properly when it turns out to be used
MOST = 16  # pictures: more would only take longer
SIDE = 1024  # of the matrices whose product measures the machine: large enough to keep every core busy


@dataclass(frozen=True)
class Stage:
    """seconds, limit: per picture. bound: what the limit is."""

    name: str
    seconds: float
    limit: float
    bound: str

    @property
    def fraction(self) -> float:
        """Of the limit reached, 1 at best (timings are noisy: a little more can be seen)."""
        return self.limit / self.seconds


def measure(engine: Engine, tower: ImageTower, row: Preprocessing, pictures: Sequence[Path]) -> list[Stage]:
    """The stages in their order, then all of them together; some `MOST` pictures are plenty."""
    contents = [path.read_bytes() for path in pictures]
    opened = [open_picture(content) for content in contents]
    square = np.stack([prepare(picture, row) for picture in opened])
    batch = np.resize(square, (TOWER_BATCH, *square.shape[1:]))

    for _ in range(WARM_UP):
        engine.images(batch)
    read = _each(lambda path: path.read_bytes(), pictures)
    decode = _each(open_picture, contents)
    resize = _each(lambda picture: prepare(picture, row), opened)
    run = _best(lambda: engine.images(batch)) / TOWER_BATCH
    rate = _multiplications_per_second()
    stages = [
        Stage("read", read, _each(bytearray, contents), "a copy in memory"),
        Stage("decode", decode, _each(_decode, contents), "the decoder alone"),
        Stage("resize", resize, _each(lambda picture: _resize(picture, row), opened), "the resizer alone"),
        Stage("tower", run, operations(tower) / rate, f"{rate / 1e9:.0f} GFLOP/s, a matrix product"),
    ]
    one_core = (read + decode + resize) / (os.cpu_count() or 1)
    together = _together(engine, row, pictures)
    return [*stages, Stage("together", together, one_core + run, "all cores busy with the stages above")]


def operations(tower: ImageTower) -> int:
    """Multiplications and additions of one picture (two for each weight use); norms and activations are not counted."""
    if isinstance(tower, VisionTransformer):
        return 2 * _of_transformer(tower)
    if isinstance(tower, EfficientNetLite):
        return 2 * _of_efficientnet(tower)
    if isinstance(tower, ModifiedResNet):
        return 2 * _of_resnet(tower)
    return 0  # another library's layers


def _of_transformer(tower: VisionTransformer) -> int:
    tokens, w = tower.grid**2 + (tower.pooling == "class"), tower.width
    block = tokens * (4 * w * w + 2 * w * tower.mlp_width) + 2 * tokens * tokens * w
    return tower.layers * block + tower.grid**2 * 3 * tower.patch_size**2 * w


def _of_efficientnet(tower: EfficientNetLite) -> int:
    side = -(-tower.image_size // 2)
    total, outputs = side**2 * 27 * tower.stem, tower.stem
    for i, (inputs, outputs, kernel, stride, expansion) in enumerate(tower.blocks()):
        hidden, times = inputs * expansion, 2 if i in tower.tuned() else 1
        total += times * side**2 * inputs * hidden * (expansion > 1)
        side = -(-side // stride)
        total += times * side**2 * hidden * (kernel**2 + outputs)
    return total + side**2 * outputs * tower.pooled


def _of_resnet(tower: ModifiedResNet) -> int:
    w, side = tower.width, tower.image_size // 2
    total = side**2 * 9 * (3 * w // 2 + w * w // 4 + w * w // 2)
    side, inputs = side // 2, w
    for stage, count in enumerate(tower.blocks):
        planes = w * 2**stage
        for block in range(count):
            total += side**2 * (inputs * planes + 9 * planes**2)
            side //= 2 if block == 0 and stage > 0 else 1
            total += side**2 * (4 * planes**2 + (4 * planes * inputs if block == 0 else 0))
            inputs = 4 * planes
    return total + 2 * (side**2 + 1) * inputs**2


def _decode(content: bytes) -> None:
    with Image.open(BytesIO(content)) as picture:
        picture.load()


def _resize(picture: Image.Image, row: Preprocessing) -> None:
    """Only the scaling itself, by the reference's filter, to the size that the family asks for."""
    side = row.inner_side(min(picture.size))
    ratio = side / min(picture.size)
    wanted = (side, side) if row.resize == "squash" else (int(picture.width * ratio), int(picture.height * ratio))
    picture.resize(wanted, Image.Resampling.BICUBIC if row.filter == "bicubic" else Image.Resampling.BILINEAR)


def _multiplications_per_second() -> float:
    """Multiplications and additions per second of one large float32 product in ONNX Runtime, on all cores."""
    from onnx import TensorProto, helper

    sides = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [SIDE, SIDE]) for name in "abc"]
    graph = helper.make_graph([helper.make_node("MatMul", ["a", "b"], ["c"])], "product", sides[:2], sides[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    session = onnx_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    matrix = np.random.default_rng(0).normal(size=(SIDE, SIDE)).astype(np.float32)
    return 2 * SIDE**3 / _best(lambda: session.run(None, {"a": matrix, "b": matrix}))


def _together(engine: Engine, row: Preprocessing, pictures: Sequence[Path]) -> float:
    many = [path for _ in range(max(1, 64 // len(pictures))) for path in pictures]

    def run() -> None:
        for _ in encode_stream(many, lambda source: prepare_source(source, row), engine.images, TOWER_BATCH):
            pass

    return _best(run) / len(many)


def _each(work: Callable[[T], object], items: Sequence[T]) -> float:
    """Seconds per item."""
    return _best(lambda: [work(item) for item in items]) / len(items)


def _best(work: Callable[[], object], seconds: float = 0.4) -> float:
    """The shortest of the runs that fit into `seconds` (three at least): what disturbs a machine only adds time."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < end:
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return min(times)
