"""Where the graphs of a checkpoint lie: built once, kept in the cache under the fingerprint of the weights."""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from awase.encoding.caches import cache_folder, is_intact
from awase.encoding.checkpoints.checkpoint import Checkpoint, refuse_not_finite
from awase.encoding.graphs import VERSION
from awase.errors import EngineError

if TYPE_CHECKING:
    from awase.encoding.graphs.builder import Graph

Tower = Literal["image", "text"]
Number = Literal["fp32", "int8", "int7"]
LEFT_BEHIND = 24 * 3600  # seconds
# One folder holds the weights of a tower once and a graph for each of these sets of outputs.
MODELS: dict[Tower, dict[str, tuple[str, ...]]] = {
    "image": {"pooled.onnx": ("vectors", "features"), "dense.onnx": ("vectors", "features", "patches")},
    "text": {"text.onnx": ("vectors",), "packed.onnx": ("packed",)},
}


def graph_folder(checkpoint: Checkpoint, tower: Tower, number: Number, again: bool = False) -> Path:
    """The folder of a tower's graphs, built if it is not there, or damaged, or `again` (because it did not open).
    The checkpoint is opened only to build; a cache that cannot be written is replaced by a temporary folder.

    Raises CheckpointError for weights that are not finite, EngineError where no folder can be written."""
    folder = cache_folder() / "graphs" / checkpoint.fingerprint / f"{tower}-{number}-v{VERSION}"
    if not again and is_intact(folder):
        return folder
    graph = _graph(checkpoint, tower, number)
    models = {file: outputs for file, outputs in MODELS[tower].items() if set(outputs) <= set(graph.outputs)}
    _remove_leftovers(folder.parent.parent)
    if folder.exists():
        if not again and is_intact(folder):  # another process has made it meanwhile, and may be reading it
            return folder
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        graph.save(folder, models)
        if is_intact(folder):  # else it was damaged and could not be removed
            return folder
    try:
        temporary = tempfile.mkdtemp(prefix="awase-graphs-")
        atexit.register(shutil.rmtree, temporary, ignore_errors=True)
        graph.save(Path(temporary) / folder.name, models)
    except OSError as problem:
        raise EngineError(
            f"the graphs of {checkpoint.source} could be written neither to {folder.parent} nor to a temporary "
            f"folder ({problem}): make room, or set AWASE_CACHE to a folder that has some"
        ) from problem
    return Path(temporary) / folder.name


def _graph(checkpoint: Checkpoint, tower: Tower, number: Number) -> Graph:
    from awase.encoding.graphs.towers import image_graph, text_graph  # imports onnx

    tensors = checkpoint.load()
    refuse_not_finite({name: values for name, values in tensors.items() if name.startswith(tower)}, checkpoint.source)
    build = image_graph if tower == "image" else text_graph
    return build(checkpoint.architecture, tensors, None if number == "fp32" else number)


def _remove_leftovers(graphs: Path) -> None:
    """Removes what builds that were killed left behind. A day is longer than any build that still runs."""
    for partial in graphs.glob("*/.*"):
        with contextlib.suppress(OSError):
            if time.time() - partial.stat().st_mtime > LEFT_BEHIND:
                shutil.rmtree(partial, ignore_errors=True)
