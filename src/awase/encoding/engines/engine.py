"""What every engine is: two calls that turn prepared inputs into vectors. Knows nothing of pictures or sentences."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.families import ExternalTower
from awase.errors import CheckpointError, EngineError


class Engine(Protocol):
    """Runs the two towers of one checkpoint.

    name: "onnxruntime", "openvino" or "torch". device: "cpu", "cuda", "mps". precision: what the products run in.
    told_threads: the cores that it was told to use, None for all.
    Results are float32, contiguous, not of unit length, and the caller's to keep. Calls may come from any thread."""

    name: str
    device: str
    precision: str
    told_threads: int | None

    def images(self, pixels: np.ndarray, outputs: Sequence[str] = ("vectors",)) -> dict[str, np.ndarray]:
        """RGB bytes (B, S, S, 3) -> "vectors" (B, D), "features" (B, F), "patches" (B, N, D), those asked for."""
        ...

    def texts(self, ids: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """ids, int64 (B, L), and the position to pool at, int64 (B,) -> vectors (B, D)."""
        ...

    def packed_texts(
        self, ids: np.ndarray, positions: np.ndarray, mask: np.ndarray, rows: np.ndarray, nodes: np.ndarray
    ) -> np.ndarray:
        """Prefix trees of sentences (`graphs.transformer.packed_text` describes the inputs) -> vectors (M, D).
        Raises EngineError unless the text tower is causal and pooled at the end (`packs`)."""
        ...


def refuse_unknown_tokens(checkpoint: Checkpoint, ids: np.ndarray) -> None:
    """Raises CheckpointError where a sentence has tokens that the text tower has no embedding of, as when a checkpoint
    lost its tokenizer's files: engines would fail in their own words, or read another token's row."""
    tower = checkpoint.architecture.text
    if isinstance(tower, ExternalTower) or ids.size == 0:  # another library's tower checks for itself
        return
    largest = int(ids.max())
    if largest >= tower.vocabulary:
        raise CheckpointError(
            f"{checkpoint.source}: its tokenizer gives token {largest}, and its text tower knows tokens 0 to "
            f"{tower.vocabulary - 1} only; put the tokenizer's files that belong to these weights into its folder"
        )


def refuse_meaningless(vectors: np.ndarray, runs_on: str) -> np.ndarray:
    """The same vectors (..., D); raises EngineError where one has a length that is zero or not a number, for which
    every score would be made up. runs_on: model and engine, for the message."""
    lengths = np.linalg.norm(vectors, axis=-1)
    if not (np.isfinite(lengths).all() and lengths.all()):
        raise EngineError(
            f"{runs_on}: a vector came out as zeros or as numbers that are not finite; its weights are damaged, or "
            "this precision is too small for them: fetch the checkpoint again, or use precision='fp32'"
        )
    return vectors


@dataclass(frozen=True)
class Agreement:
    """Cosines between vectors of a reduced precision and those of float32, and the same after the mean vector of the
    reference has been subtracted from both: CLIP's vectors share a cone, which flatters the plain cosine."""

    mean: float
    minimum: float
    centred_mean: float
    centred_minimum: float
    count: int

    def __str__(self) -> str:
        return (
            f"cosine {self.mean:.5f} (least {self.minimum:.5f}), centred {self.centred_mean:.4f} "
            f"(least {self.centred_minimum:.4f}), {self.count} samples"
        )


def agreement(vectors: np.ndarray, reference: np.ndarray) -> Agreement:
    """How well `vectors` (N, D) match `reference` (N, D), row by row. The centred figures need N >= 2 unlike rows."""
    vectors, reference = _unit(vectors), _unit(reference)
    plain = (vectors * reference).sum(1)
    centre = reference.mean(0)
    centred = (_unit(vectors - centre) * _unit(reference - centre)).sum(1)
    return Agreement(
        float(plain.mean()), float(plain.min()), float(centred.mean()), float(centred.min()), len(reference)
    )


def _unit(vectors: np.ndarray) -> np.ndarray:
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(np.float32).tiny)
    return np.asarray(vectors / norms)
