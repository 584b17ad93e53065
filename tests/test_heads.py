"""Heads: a linear classifier with or without a cache of pictures beside it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from awase import UsageError
from awase.encoding.heads import Cache, Head

CLASSES = ("a", "b", "c")
NAMES = {"ja": ("あ", "い", "う"), "en": ("ay", "bee", "sea")}


def rows(count: int = 7, width: int = 5, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def head(seed: int = 1, cache: bool = False) -> Head:
    chance = np.random.default_rng(seed)
    weights, bias = chance.standard_normal((5, 3)), chance.standard_normal(3)
    kept = Cache(rows(4, 5, seed + 1), np.eye(3, dtype=np.float32)[[0, 1, 2, 0]], 1.5, 4.0) if cache else None
    return Head(CLASSES, NAMES, "vectors", weights.astype(np.float32), bias.astype(np.float32), cache=kept)


def test_logits_are_linear_and_probabilities_sum_to_one() -> None:
    found = head().logits(rows())
    np.testing.assert_allclose(found, rows() @ head().weights + head().bias, rtol=1e-5)
    np.testing.assert_allclose(head().probabilities(rows()).sum(axis=1), 1)
    assert head().labels == NAMES["ja"]
    assert replace(head(), names={}).labels == CLASSES


def test_a_cache_is_tip_adapter_written_as_loops() -> None:
    with_cache = head(cache=True)
    assert with_cache.cache is not None
    expected = head().logits(rows())
    for i, row in enumerate(rows()):
        for key, value in zip(with_cache.cache.keys, with_cache.cache.values, strict=True):
            expected[i] += 1.5 * np.exp(-4.0 * (1 - float(row @ key))) * value
    np.testing.assert_allclose(with_cache.logits(rows()), expected, atol=1e-5)


def test_a_cache_of_no_weight_changes_nothing_and_a_steep_one_knows_only_equal_pictures() -> None:
    plain, cached = head(), head(cache=True)
    assert cached.cache is not None
    nothing = replace(cached, cache=replace(cached.cache, alpha=0.0))
    np.testing.assert_array_equal(nothing.logits(rows()), plain.logits(rows()))
    steep = replace(cached, cache=replace(cached.cache, beta=1e9))
    np.testing.assert_array_equal(steep.logits(rows()), plain.logits(rows()))
    known = np.array([[0.6, 0.8, 0, 0, 0]], np.float32)
    kept = replace(cached.cache, keys=known, values=cached.cache.values[1:2], beta=1e4)
    np.testing.assert_allclose(
        replace(cached, cache=kept).logits(known)[0] - plain.logits(known)[0], [0, 1.5, 0], atol=0.01
    )


def test_a_temperature_keeps_the_answers() -> None:
    hot = replace(head(), temperature=3.0)
    np.testing.assert_array_equal(hot.logits(rows()).argmax(1), head().logits(rows()).argmax(1))
    assert hot.probabilities(rows()).max() < head().probabilities(rows()).max()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_blending_heads_blends_their_logits(alpha: float) -> None:
    one, other = replace(head(cache=True), temperature=2.0), replace(head(5), temperature=0.5)
    expected = alpha * one.logits(rows()) + (1 - alpha) * other.logits(rows())
    np.testing.assert_allclose(one.blended(other, alpha).logits(rows()), expected, atol=1e-5)


def test_only_like_heads_blend() -> None:
    with pytest.raises(UsageError, match="blend"):
        head().blended(replace(head(), reads="features"), 0.5)
    with pytest.raises(UsageError, match="blend"):
        head().blended(head(cache=True), 0.5)


def test_a_power_raises_each_number_and_keeps_its_sign() -> None:
    rooted = replace(head(), power=0.5)
    expected = np.sign(rows()) * np.sqrt(np.abs(rows()))
    np.testing.assert_allclose(rooted.logits(rows()), expected @ head().weights + head().bias, rtol=1e-5)
    with pytest.raises(UsageError, match="blend"):
        rooted.blended(head(), 0.5)


def test_cosines_lie_between_minus_one_and_one_and_nothing_is_nought() -> None:
    weights = head().weights.copy()
    weights[:, 1] = 0
    found = replace(head(), weights=weights).cosines(rows())
    assert np.abs(found).max() <= 1 + 1e-6
    np.testing.assert_array_equal(found[:, 1], 0)


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"weights": np.zeros((5, 2), np.float32)}, "weights are"),
        ({"bias": np.zeros(2, np.float32)}, "bias"),
        ({"keys": ("a", "a", "b")}, "key of its own"),
        ({"names": {"en": ("a",)}}, "names"),
        ({"temperature": 0.0}, "temperature"),
        ({"temperature": 1e-300}, "temperature"),
        ({"temperature": float("nan")}, "not finite"),
        ({"weights": np.full((5, 3), np.inf, np.float32)}, "not finite"),
        ({"reads": "pixels"}, "pixels"),
        ({"power": 0.0}, "power"),
        ({"power": 2.0}, "power"),
        ({"cache": Cache(np.zeros((2, 4)), np.zeros((2, 3)), 1, 1)}, "cache"),
        ({"cache": Cache(np.zeros((2, 5)), np.zeros((2, 3)), 1, -1e5)}, "beta"),
    ],
)
def test_parts_that_do_not_fit_are_refused(changed: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        replace(head(), **changed)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(UsageError, match=r"\(N, 5\)"):
        head().logits(rows(width=6))


def test_the_digest_tells_heads_apart() -> None:
    assert head().digest == head().digest
    others = [head(2), head(cache=True), replace(head(), temperature=2.0), replace(head(), reads="features")]
    others.append(replace(head(), power=0.5))
    assert len({one.digest for one in [head(), *others]}) == 6
