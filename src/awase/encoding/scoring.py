"""How a cosine becomes a score: among candidates, or for one sentence alone.

Among candidates, "softmax" families share probability out; "sigmoid" families (SigLIP) judge each candidate by itself.
For one sentence alone a softmax family has no built-in answer. Its loss drives scale * cosine towards the log of
p(sentence | picture) / p(sentence) up to a constant that depends on the picture (van den Oord et al., 2018,
arXiv:1807.03748, equation 5). A background of unrelated sentences estimates that constant, so that

    fit = sigmoid(scale * cosine - log mean_b exp(scale * cosine_b))

is above one half where the picture makes the sentence likelier than it makes an average other sentence.
"""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from awase.encoding.caches import cache_folder, write_atomically
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.errors import CheckpointError

# Chosen on the validation pictures of 71 small labelled sets with the first bundled model: of pictures whose class is
# among the labels 9 % (Japanese 12 %) were called none of these, of pictures from another set 72 % (71 %) were.
RIVALS_COUNT_AS = 3


@dataclass(frozen=True)
class Scoring:
    """scale: what a cosine is multiplied by, already exponentiated. bias: added afterwards, sigmoid families only."""

    kind: Literal["softmax", "sigmoid"]
    scale: float
    bias: float = 0.0

    def logits(self, cosines: np.ndarray) -> np.ndarray:
        return np.asarray(cosines, np.float64) * self.scale + self.bias

    def probabilities(self, cosines: np.ndarray) -> np.ndarray:
        """(..., M) cosines with M candidates -> (..., M) probabilities; they sum to 1 in a softmax family only."""
        logits = self.logits(cosines)
        return sigmoid(logits) if self.kind == "sigmoid" else softmax(logits)

    def against_rivals(self, cosines: np.ndarray, rivals: np.ndarray) -> np.ndarray:
        """(N, C) cosines to labels and (N, B) to rivals -> (N, C + 1): the last column is "none of these".

        softmax: the average rival, counted RIVALS_COUNT_AS times, competes with the labels. sigmoid: the last is what
        the best label leaves, for each label was judged by itself."""
        if self.kind == "sigmoid":
            judged = self.probabilities(cosines)
            return np.concatenate([judged, 1 - judged.max(axis=1, keepdims=True)], axis=1)
        average = log_mean_exp(self.logits(rivals)) + math.log(RIVALS_COUNT_AS)
        return softmax(np.concatenate([self.logits(cosines), average[:, None]], axis=1))

    def fit(self, cosines: np.ndarray, background: np.ndarray) -> np.ndarray:
        """(N, M) cosines and (N, B) cosines to a background -> (N, M), each sentence judged alone, in [0, 1].

        Sigmoid families were trained to judge alone and do not look at the background."""
        logits = self.logits(cosines)
        if self.kind == "softmax":
            logits = logits - log_mean_exp(self.logits(background))[..., None]
        return sigmoid(logits)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True))


def sigmoid(logits: np.ndarray) -> np.ndarray:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))  # no overflow at either end


def log_mean_exp(logits: np.ndarray) -> np.ndarray:
    top = logits.max(axis=-1)
    return np.asarray(top + np.log(np.exp(logits - top[..., None]).mean(axis=-1)))


def scoring_of(checkpoint: Checkpoint) -> Scoring:
    """The rule of a checkpoint. Remembered under its fingerprint, so that a warm start need not open the weights.

    Raises CheckpointError where the weights hold no usable scale or bias."""
    remembered = cache_folder() / "scoring" / f"{checkpoint.fingerprint}.json"
    kind = checkpoint.architecture.scoring
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, OverflowError):
        found = json.loads(remembered.read_text())
        rule = Scoring(kind, float(found["scale"]), float(found["bias"]))
        if _usable(rule):
            return rule
    tensors = checkpoint.load()
    bias = float(tensors["logit_bias"]) if kind == "sigmoid" else 0.0
    with np.errstate(over="ignore"):
        rule = Scoring(kind, float(np.exp(float(tensors["logit_scale"]))), bias)
    if not _usable(rule):
        raise CheckpointError(
            f"{checkpoint.source}: a cosine would be scored as {rule.scale} * cosine + {rule.bias}, from its tensors "
            "logit_scale and logit_bias; the weights are damaged, fetch them again"
        )
    write_atomically(remembered, json.dumps({"scale": rule.scale, "bias": rule.bias}).encode())
    return rule


def _usable(rule: Scoring) -> bool:
    return math.isfinite(rule.scale) and rule.scale > 0 and math.isfinite(rule.bias)
