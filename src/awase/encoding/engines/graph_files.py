"""Where the graphs of a checkpoint lie: built once, kept in the cache under the fingerprint of the weights."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path
from typing import Literal

from awase.encoding import families
from awase.encoding.caches import cache_folder
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.families import Architecture
from awase.encoding.graphs import VERSION
from awase.errors import EngineError

Tower = Literal["image", "text", "packed-text"]
Number = Literal["fp32", "int8", "int7"]
# One folder holds the weights of a tower once and a graph for each of these sets of outputs.
MODELS: dict[Tower, dict[str, tuple[str, ...]]] = {
    "image": {"pooled.onnx": ("vectors", "features"), "dense.onnx": ("vectors", "features", "patches")},
    "text": {"text.onnx": ("vectors",)},
    "packed-text": {"text.onnx": ("vectors",)},
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
    from awase.encoding.graphs.towers import image_graph, packed_text_graph, text_graph  # imports onnx

    build = {"image": image_graph, "text": text_graph, "packed-text": packed_text_graph}[tower]
    build(checkpoint.architecture, checkpoint.load(), None if number == "fp32" else number).save(folder, MODELS[tower])


def refuse_external(architecture: Architecture) -> None:
    if architecture.external:
        raise EngineError(
            f"{architecture.name}: a tower belongs to another library, so it runs in torch only: use engine='torch'"
        )


def refuse_unpackable(architecture: Architecture) -> None:
    """Prefixes can be shared where no token sees a later one and the vector is read at the sentence's end."""
    text = architecture.text
    if not (isinstance(text, families.TextTransformer) and text.causal and text.pooling == "end"):
        raise EngineError(f"{architecture.name}: only a causal text tower pooled at the end can share prefixes")
