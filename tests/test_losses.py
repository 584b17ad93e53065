"""Losses of contrastive training: their values and gradients against the formulas, written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional as F  # noqa: E402

from awase.learning.losses import class_names, contrastive, divergence  # noqa: E402


def unit_rows(rows: int, seed: int, width: int = 16) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, width, generator=generator, dtype=torch.float64), dim=-1)


def scale(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64, requires_grad=True)


def softmax(scores: np.ndarray, axis: int) -> np.ndarray:
    raised = np.exp(scores - scores.max(axis, keepdims=True))
    return raised / raised.sum(axis, keepdims=True)


# ---- contrastive ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 7, 64])
def test_equal_scores_cost_the_logarithm_of_the_batch(batch: int) -> None:
    vectors = unit_rows(1, 0).expand(batch, -1)
    assert contrastive(vectors, vectors, scale(14.3)).item() == pytest.approx(math.log(batch), abs=1e-12)


def test_contrastive_is_the_mean_of_both_cross_entropies() -> None:
    pictures, sentences = unit_rows(9, 1), unit_rows(9, 2)
    scores = 20 * (pictures @ sentences.T).numpy()
    own = np.arange(9)
    expected = -(np.log(softmax(scores, 1))[own, own] + np.log(softmax(scores, 0))[own, own]).mean() / 2
    assert contrastive(pictures, sentences, scale(20.0)).item() == pytest.approx(expected, rel=1e-12)


def test_gradient_of_contrastive_is_that_of_the_formula() -> None:
    """dL/dS = (softmax over rows - I) / 2B + (softmax over columns - I) / 2B, and dL/d log scale = sum of dL/dS * S."""
    pictures, sentences = unit_rows(6, 3).requires_grad_(), unit_rows(6, 4)
    log_scale = torch.tensor(math.log(10.0), dtype=torch.float64, requires_grad=True)
    contrastive(pictures, sentences, log_scale.exp()).backward()
    scores = 10 * (pictures.detach() @ sentences.T).numpy()
    by_score = (softmax(scores, 1) + softmax(scores, 0) - 2 * np.eye(6)) / 12
    np.testing.assert_allclose(pictures.grad.numpy(), 10 * by_score @ sentences.numpy(), atol=1e-12)
    assert log_scale.grad.item() == pytest.approx((by_score * scores).sum(), abs=1e-12)


def test_gradients_equal_differences() -> None:
    inputs = unit_rows(4, 5).requires_grad_(), unit_rows(6, 6).requires_grad_(), scale(5.0)
    assert torch.autograd.gradcheck(contrastive, inputs)


def test_further_rivals_count_for_pictures_only() -> None:
    pictures, sentences, rivals = unit_rows(5, 7), unit_rows(5, 8), unit_rows(11, 9)
    given = contrastive(pictures, torch.cat([sentences, rivals]), scale(8.0)).item()
    rows = 8 * (pictures @ torch.cat([sentences, rivals]).T).numpy()
    columns = 8 * (pictures @ sentences.T).numpy()
    own = np.arange(5)
    expected = -(np.log(softmax(rows, 1))[own, own] + np.log(softmax(columns, 0))[own, own]).mean() / 2
    assert given == pytest.approx(expected, rel=1e-12)
    assert given > contrastive(pictures, sentences, scale(8.0)).item()


def test_the_right_pairing_costs_less_than_any_shifted_one() -> None:
    vectors = unit_rows(8, 10)
    right = contrastive(vectors, vectors, scale(20.0))
    assert all(right < contrastive(vectors, vectors.roll(shift, 0), scale(20.0)) for shift in range(1, 8))


# ---- class names ---------------------------------------------------------------------------------------------------


def test_class_names_are_told_from_those_of_the_same_set_only() -> None:
    pictures, names = unit_rows(6, 11), unit_rows(7, 12)
    set_of_name = torch.tensor([0, 0, 0, 1, 1, 2, 2])
    labels = torch.tensor([2, 0, 4, 3, 6, 1])
    given = class_names(pictures, names, labels, set_of_name[labels], set_of_name, scale(12.0)).item()
    costs = []
    for picture, label in zip(pictures, labels, strict=True):
        mine = (set_of_name == set_of_name[label]).nonzero()[:, 0]
        scores = (12 * names[mine] @ picture).numpy()
        costs.append(-np.log(softmax(scores, 0)[mine.tolist().index(label)]))
    assert given == pytest.approx(np.mean(costs), rel=1e-12)


def test_a_new_set_changes_nothing_for_the_others() -> None:
    pictures, names, labels = unit_rows(3, 13), unit_rows(4, 14), torch.tensor([0, 1, 3])
    sets = torch.tensor([0, 0, 1, 1])
    before = class_names(pictures, names, labels, sets[labels], sets, scale(9.0))
    more, more_sets = torch.cat([names, unit_rows(5, 15)]), torch.cat([sets, torch.full((5,), 2)])
    assert class_names(pictures, more, labels, sets[labels], more_sets, scale(9.0)) == before


# ---- divergence ----------------------------------------------------------------------------------------------------


def test_divergence_is_zero_at_the_reference_and_positive_elsewhere() -> None:
    logits = unit_rows(5, 16) * 3
    reference = logits.softmax(-1)
    assert divergence(logits, reference).item() == pytest.approx(0, abs=1e-12)
    moved = logits + unit_rows(5, 17)
    p, q = reference.numpy(), softmax(moved.numpy(), 1)
    assert divergence(moved, reference).item() == pytest.approx((p * np.log(p / q)).sum(1).mean(), rel=1e-9)
