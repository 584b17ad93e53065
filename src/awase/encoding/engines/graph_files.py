"""Where the graphs of a checkpoint lie: built once, kept in the cache under the fingerprint of the weights."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from awase.encoding.caches import cache_folder
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.graphs import VERSION

Tower = Literal["image", "text"]
Number = Literal["fp32", "int8", "int7"]
# One folder holds the weights of a tower once and a graph for each of these sets of outputs.
MODELS: dict[Tower, dict[str, tuple[str, ...]]] = {
    "image": {"pooled.onnx": ("vectors", "features"), "dense.onnx": ("vectors", "features", "patches")},
    "text": {"text.onnx": ("vectors",), "packed.onnx": ("packed",)},
}


def graph_folder(checkpoint: Checkpoint, tower: Tower, number: Number, again: bool = False) -> Path:
    """The folder of a tower's graphs, built if it is not there (or `again`, because what lay there was damaged).
    The checkpoint is opened only to build; a cache that cannot be written is replaced by a temporary folder."""
    folder = cache_folder() / "graphs" / checkpoint.fingerprint / f"{tower}-{number}-v{VERSION}"
    if again:
        shutil.rmtree(folder, ignore_errors=True)
    if not folder.exists():
        try:
            _build(checkpoint, tower, number, folder)
        except OSError:
            temporary = tempfile.mkdtemp(prefix="awase-graphs-")
            atexit.register(shutil.rmtree, temporary, ignore_errors=True)
            folder = Path(temporary) / folder.name
            _build(checkpoint, tower, number, folder)
    return folder


def _build(checkpoint: Checkpoint, tower: Tower, number: Number, folder: Path) -> None:
    from awase.encoding.graphs.towers import image_graph, text_graph  # imports onnx

    build = image_graph if tower == "image" else text_graph
    graph = build(checkpoint.architecture, checkpoint.load(), None if number == "fp32" else number)
    models = {file: outputs for file, outputs in MODELS[tower].items() if set(outputs) <= set(graph.outputs)}
    graph.save(folder, models)
