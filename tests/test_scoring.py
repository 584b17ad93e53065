"""How cosines become scores."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from awase.encoding.caches import cache_folder
from awase.encoding.checkpoints.checkpoint import in_memory
from awase.encoding.families import Architecture, NgramEncoder, TextTransformer, VisionTransformer
from awase.encoding.published import PUBLISHED
from awase.encoding.scoring import RIVALS_COUNT_AS, Scoring, log_mean_exp, scoring_of, sigmoid, softmax
from awase.errors import CheckpointError

COSINES = np.array([[0.31, 0.22, 0.25], [-0.1, 0.0, 0.1]])


def test_softmax_family_shares_probability_out() -> None:
    rule = Scoring("softmax", scale=100)
    raised = np.exp(100 * COSINES)
    np.testing.assert_allclose(rule.probabilities(COSINES), raised / raised.sum(1, keepdims=True), rtol=1e-12)


def test_published_logits_give_the_published_probabilities() -> None:
    """openai/clip-vit-base-patch32 and google/siglip-base-patch16-224 on COCO 39769, from their integration tests."""
    np.testing.assert_allclose(softmax(np.array([24.5701, 19.3049])), [0.9949, 0.0051], atol=1e-4)
    np.testing.assert_allclose(sigmoid(np.array([-0.7567, -10.3354])), [0.31937, 3.2463e-5], rtol=1e-3)


def test_sigmoid_family_judges_each_alone() -> None:
    rule = Scoring("sigmoid", scale=117.3, bias=-12.9)
    together, alone = rule.probabilities(COSINES), rule.probabilities(COSINES[:, :1])
    np.testing.assert_array_equal(together[:, :1], alone)
    np.testing.assert_allclose(rule.fit(COSINES, np.zeros((2, 5))), together)


def test_extreme_logits_do_not_overflow() -> None:
    with np.errstate(all="raise", under="ignore"):
        assert sigmoid(np.array([-1e4, 0.0, 1e4])).tolist() == [0.0, 0.5, 1.0]
        assert softmax(np.array([0.0, 1e4])).tolist() == [0.0, 1.0]
        assert log_mean_exp(np.array([1e4, 1e4])) == 1e4


def test_fit_is_one_half_for_an_average_sentence() -> None:
    rule = Scoring("softmax", scale=50)
    np.testing.assert_allclose(rule.fit(np.array([[0.2]]), np.full((1, 7), 0.2)), 0.5)
    assert rule.fit(np.array([[0.3]]), np.full((1, 7), 0.2))[0, 0] > 0.99


def test_fit_of_a_sentence_does_not_depend_on_the_others() -> None:
    rule, background = Scoring("softmax", scale=50), np.random.default_rng(0).normal(size=(2, 9)) / 10
    np.testing.assert_array_equal(rule.fit(COSINES, background)[:, :1], rule.fit(COSINES[:, :1], background))


@pytest.mark.parametrize("rule", [Scoring("softmax", 100), Scoring("sigmoid", 100, -10)])
def test_rivals_add_one_column_that_grows_with_them(rule: Scoring) -> None:
    weak, strong = np.full((2, 4), -0.5), np.full((2, 4), 0.9)
    scores = rule.against_rivals(COSINES, weak)
    assert scores.shape == (2, 4)
    np.testing.assert_allclose(scores[:, :3], rule.probabilities(COSINES), atol=1e-12)
    if rule.kind == "softmax":
        np.testing.assert_allclose(scores.sum(1), 1)
        assert (rule.against_rivals(COSINES, strong)[:, 3] > 0.99).all()
        alike = rule.against_rivals(np.full((1, 1), 0.3), np.full((1, 7), 0.3))
        np.testing.assert_allclose(alike, [[1 / (1 + RIVALS_COUNT_AS), RIVALS_COUNT_AS / (1 + RIVALS_COUNT_AS)]])
    else:
        np.testing.assert_allclose(scores[:, 3], 1 - scores[:, :3].max(1))


def tiny(name: str) -> Architecture:
    published = PUBLISHED[name]
    image = VisionTransformer(32, 16, 8, 1, 1, 16, "gelu", "class" if published.scoring == "softmax" else "attention")
    projection = "matrix" if published.scoring == "softmax" else "linear"
    text = TextTransformer(8, 16, 8, 1, 1, 16, "gelu", projection=projection)
    assert not isinstance(published.text, NgramEncoder)
    return Architecture("tiny", image, text, 8, published.preprocessing, published.text_rule, published.scoring)


@pytest.mark.parametrize("name", ["ViT-B-32", "siglip-base-patch16-224"])
def test_the_rule_comes_from_the_weights_and_is_remembered(name: str) -> None:
    architecture = tiny(name)
    tensors = {key: np.zeros(shape, np.float32) for key, shape in architecture.tensors().items()}
    tensors["logit_scale"] = np.float32(np.log(30))
    if architecture.scoring == "sigmoid":
        tensors["logit_bias"] = np.float32(-7)
    checkpoint = in_memory(architecture, tensors)
    rule = scoring_of(checkpoint)
    assert rule.kind == architecture.scoring
    assert rule.scale == pytest.approx(30, rel=1e-6)
    assert rule.bias == (-7 if architecture.scoring == "sigmoid" else 0)

    def unreadable() -> dict[str, np.ndarray]:
        raise AssertionError("a warm start opened the weights")

    object.__setattr__(checkpoint, "load", unreadable)
    assert scoring_of(checkpoint) == rule


def zeros_but(architecture: Architecture, **changes: float) -> dict[str, np.ndarray]:
    tensors = {key: np.zeros(shape, np.float32) for key, shape in architecture.tensors().items()}
    return tensors | {key: np.asarray(value, np.float32) for key, value in changes.items()}


@pytest.mark.parametrize(
    "content", [{"scale": math.nan, "bias": 0}, {"scale": 9, "bias": math.inf}, {"scale": 0}, 10**400]
)
def test_a_damaged_memory_is_not_believed(content: Any) -> None:
    checkpoint = in_memory(tiny("siglip-base-patch16-224"), zeros_but(tiny("siglip-base-patch16-224"), logit_bias=-3))
    remembered = cache_folder() / "scoring" / f"{checkpoint.fingerprint}.json"
    remembered.parent.mkdir(parents=True, exist_ok=True)
    remembered.write_text(json.dumps(content))
    assert scoring_of(checkpoint) == Scoring("sigmoid", 1.0, -3.0)
    assert json.loads(remembered.read_text()) == {"scale": 1.0, "bias": -3.0}


@pytest.mark.parametrize("changes", [{"logit_scale": math.nan}, {"logit_scale": 1e4}, {"logit_bias": math.inf}])
def test_a_rule_that_is_not_finite_is_refused(changes: dict[str, float]) -> None:
    architecture = tiny("siglip-base-patch16-224")
    with pytest.raises(CheckpointError, match="logit_scale"):
        scoring_of(in_memory(architecture, zeros_but(architecture, **changes)))
