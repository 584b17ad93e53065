"""Losses of contrastive training: their values and gradients against the formulas, written out in NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402
from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

from awase.errors import UsageError  # noqa: E402
from awase.learning.hard_negatives import hardest, order_by_likeness  # noqa: E402
from awase.learning.losses import (  # noqa: E402
    Teacher,
    affinity,
    clamped,
    class_names,
    contrastive,
    contrastive_among_groups,
    contrastive_in_blocks,
    divergence,
    margins,
    pull,
    sigmoid,
)


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


def test_pairs_of_one_group_are_no_rivals() -> None:
    pictures, sentences = unit_rows(6, 20), unit_rows(8, 21)
    groups = torch.tensor([0, 1, 0, 2, 3, 1, 1, 9])  # the last two sentences belong to no picture here
    scores = 15 * (pictures @ sentences.T).numpy()
    rows, columns = [], []
    for i in range(6):
        left = [j for j in range(8) if j == i or groups[j] != groups[i]]
        rows.append(-np.log(softmax(scores[i, left], 0)[left.index(i)]))
        left = [j for j in left if j < 6]
        columns.append(-np.log(softmax(scores[left, i], 0)[left.index(i)]))
    expected = (np.mean(rows) + np.mean(columns)) / 2
    assert contrastive(pictures, sentences, scale(15.0), groups).item() == pytest.approx(expected, rel=1e-12)
    assert contrastive(pictures, sentences, scale(15.0), torch.arange(8)) == contrastive(
        pictures, sentences, scale(15.0)
    )


def test_smoothing_is_torchs_own_where_nothing_is_left_out() -> None:
    pictures, sentences = unit_rows(7, 22), unit_rows(7, 23)
    scores = 9 * pictures @ sentences.T
    both = [F.cross_entropy(x, torch.arange(7), label_smoothing=0.2) for x in (scores, scores.T)]
    assert torch.allclose(contrastive(pictures, sentences, scale(9.0), smoothing=0.2), torch.stack(both).mean())
    groups = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    assert contrastive(pictures, sentences, scale(9.0), groups, smoothing=0.2).isfinite()


def test_a_scale_at_its_clamp_can_come_down_again() -> None:
    log_scale = nn.Parameter(torch.tensor(9.0))
    (3 * clamped(log_scale, 100.0)).backward()
    assert log_scale.item() == pytest.approx(math.log(100))
    assert log_scale.grad.item() == pytest.approx(300)
    assert clamped(nn.Parameter(torch.tensor(2.0))).item() == pytest.approx(math.exp(2))


# ---- in blocks -----------------------------------------------------------------------------------------------------


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor):
            self.numbers = max(self.numbers, made.numel())
        return made


@pytest.mark.parametrize("block", [1, 3, 8, 13, 100])
@pytest.mark.parametrize("rivals", [0, 5])
@pytest.mark.parametrize("grouped", [False, True])
def test_blocks_give_the_plain_loss_and_gradients(block: int, rivals: int, grouped: bool) -> None:
    groups = torch.randint(0, 6, (13 + rivals,), generator=torch.Generator().manual_seed(0)) if grouped else None

    def all_of(loss: torch.Tensor, *inputs: torch.Tensor) -> list[torch.Tensor]:
        return [loss.detach(), *torch.autograd.grad(3 * loss, inputs)]

    inputs = unit_rows(13, 24).requires_grad_(), unit_rows(13 + rivals, 25).requires_grad_(), scale(30.0)
    plain = all_of(contrastive(*inputs, groups), *inputs)
    for found, expected in zip(all_of(contrastive_in_blocks(*inputs, groups, block), *inputs), plain, strict=True):
        assert torch.allclose(found, expected, rtol=1e-11, atol=1e-13)


def test_no_block_is_larger_than_it_may_be() -> None:
    inputs = unit_rows(200, 26).requires_grad_(), unit_rows(200, 27).requires_grad_(), scale(30.0)
    with Largest() as largest:
        contrastive_in_blocks(*inputs, block=32).backward()
    assert largest.numbers <= 200 * 16  # the vectors; a block of scores has 1,024 numbers, their matrix 40,000
    with Largest() as largest:
        contrastive(*inputs).backward()
    assert largest.numbers == 200 * 200


def test_blocks_bear_scores_whose_exponentials_no_float_holds() -> None:
    vectors = torch.eye(6)
    opposite = torch.cat([-vectors[:3], vectors[3:]])
    inputs = vectors.requires_grad_(), opposite.requires_grad_(), torch.tensor(300.0, requires_grad=True)
    plain, blocks = contrastive(*inputs), contrastive_in_blocks(*inputs, block=2)
    assert blocks.item() == pytest.approx(plain.item(), rel=1e-6)
    for found, expected in zip(torch.autograd.grad(blocks, inputs), torch.autograd.grad(plain, inputs), strict=True):
        assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_blocks_of_half_precision_are_summed_in_whole() -> None:
    pictures, sentences = (unit_rows(64, seed).bfloat16().requires_grad_() for seed in (28, 29))
    wide = contrastive(pictures.float(), sentences.float(), torch.tensor(10.0)).item()
    with torch.autocast("cpu", torch.bfloat16):
        loss = contrastive_in_blocks(pictures, sentences, torch.tensor(10.0), block=16)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(wide, rel=5e-3)
    loss.backward()
    assert pictures.grad.dtype == torch.bfloat16


# ---- alike ---------------------------------------------------------------------------------------------------------


def test_with_a_group_for_each_pair_it_is_contrastive() -> None:
    pictures, sentences, groups = unit_rows(9, 30), unit_rows(9, 31), torch.randperm(9)
    given = contrastive_among_groups(pictures, sentences, scale(11.0), groups, groups)
    assert given.item() == pytest.approx(contrastive(pictures, sentences, scale(11.0)).item(), rel=1e-12)


def test_every_sentence_of_a_group_is_right_and_one_without_a_picture_is_a_rival() -> None:
    pictures, sentences = unit_rows(3, 32), unit_rows(6, 33)
    group_of_picture, group_of_sentence = [0, 1, 1], [0, 0, 0, 1, 1, 7]
    scores = 6 * (pictures @ sentences.T).numpy()
    by_row, by_column = -np.log(softmax(scores, 1)), -np.log(softmax(scores, 0))
    right = np.equal.outer(group_of_picture, group_of_sentence)
    rows = np.mean([by_row[i, right[i]].mean() for i in range(3)])
    columns = np.mean([by_column[right[:, j], j].mean() for j in range(5)])
    groups = torch.tensor(group_of_picture), torch.tensor(group_of_sentence)
    found = contrastive_among_groups(pictures, sentences, scale(6.0), *groups).item()
    assert found == pytest.approx((rows + columns) / 2, rel=1e-12)


# ---- sigmoid -------------------------------------------------------------------------------------------------------


def test_sigmoid_is_its_formula() -> None:
    pictures, sentences = unit_rows(5, 34), unit_rows(5, 35)
    scores = (7 * pictures @ sentences.T - 2).numpy()
    signs = 2 * np.eye(5) - 1
    cost = np.log1p(np.exp(-signs * scores))
    bias = torch.tensor(-2.0, dtype=torch.float64)
    assert sigmoid(pictures, sentences, scale(7.0), bias).item() == pytest.approx(cost.sum() / 5, rel=1e-12)
    groups = torch.tensor([0, 1, 0, 2, 3])
    cost[0, 2] = cost[2, 0] = 0
    assert sigmoid(pictures, sentences, scale(7.0), bias, groups).item() == pytest.approx(cost.sum() / 5, rel=1e-12)


# ---- distillation --------------------------------------------------------------------------------------------------


def test_a_student_that_answers_like_its_teacher_has_nothing_to_learn() -> None:
    pictures, sentences = unit_rows(6, 36).requires_grad_(), unit_rows(6, 37)
    same = Teacher(pictures.detach(), sentences, 12.0)
    loss = affinity(pictures, sentences, scale(12.0), [same, same])
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert pictures.grad.abs().max() < 1e-12


def test_affinity_is_the_mean_divergence_over_teachers_and_directions() -> None:
    pictures, sentences = unit_rows(6, 38), unit_rows(6, 39)
    teachers = [Teacher(unit_rows(6, 10, width), unit_rows(6, 11, width), 3.0 * width) for width in (4, 20)]
    student, expected = 12 * (pictures @ sentences.T).numpy(), []
    for teacher in teachers:
        taught = teacher.scale * (teacher.pictures @ teacher.sentences.T).numpy()
        for axis in (0, 1):
            p, q = softmax(taught, axis), softmax(student, axis)
            expected.append((p * np.log(p / q)).sum() / 6)
    found = affinity(pictures, sentences, scale(12.0), teachers).item()
    assert found == pytest.approx(np.mean(expected), rel=1e-12)


# ---- margins -------------------------------------------------------------------------------------------------------


def test_the_pull_is_on_pairs_alone() -> None:
    """2 - 2 cos, with the gradient 2 (f - t) / B."""
    pictures, sentences = unit_rows(6, 44).requires_grad_(), unit_rows(8, 45)
    loss = pull(pictures, sentences)
    loss.backward()
    assert loss.item() == pytest.approx(2 - 2 * (pictures * sentences[:6]).sum(1).mean().item(), rel=1e-12)
    assert torch.allclose(pictures.grad, 2 * (pictures.detach() - sentences[:6]) / 6)


def test_margins_are_to_the_best_rival() -> None:
    pictures, sentences = unit_rows(5, 46), unit_rows(7, 47)
    cosines = (pictures @ sentences.T).tolist()
    expected = [row[i] - max(row[:i] + row[i + 1 :]) for i, row in enumerate(cosines)]
    assert margins(pictures, sentences).tolist() == pytest.approx(expected)
    groups = torch.tensor([0, 0, 1, 2, 3, 4, 5])
    expected[0] = cosines[0][0] - max(cosines[0][2:])
    assert margins(pictures, sentences, groups)[0].item() == pytest.approx(expected[0])


def test_the_pull_widens_margins_that_a_small_temperature_leaves_small() -> None:
    """Theorems 6 and 7 of Chen et al., 2024, in their linear setting: pictures and sentences share a feature and have
    parts of their own; at a scale of 100 the softmax soon stops, and the least margin grows with the pull's weight."""
    generator = torch.Generator().manual_seed(0)
    shared = torch.eye(8).repeat(4, 1)
    own = [torch.randn(32, 8, generator=generator) for _ in range(2)]
    pictures, sentences = (torch.cat([shared, 0.3 * noise], 1) for noise in own)
    groups, least = torch.arange(8).repeat(4), []
    for weight in (0.0, 0.1, 1.0):
        torch.manual_seed(0)
        towers = [nn.Linear(16, 8, bias=False) for _ in range(2)]
        optimiser = torch.optim.SGD([p for tower in towers for p in tower.parameters()], lr=0.05)
        for _ in range(300):
            f, t = (F.normalize(tower(x), dim=-1) for tower, x in zip(towers, (pictures, sentences), strict=True))
            optimiser.zero_grad()
            (contrastive(f, t, torch.tensor(100.0), groups) + weight * pull(f, t)).backward()
            optimiser.step()
        least.append(margins(f, t, groups).min().item())
    assert least[0] + 0.02 < least[1] < least[2] - 0.02


# ---- other people's losses -----------------------------------------------------------------------------------------


def test_open_clips_losses_are_the_same() -> None:
    theirs = pytest.importorskip("open_clip.loss")
    pictures, sentences, bias = unit_rows(8, 48), unit_rows(8, 49), torch.tensor(-4.0, dtype=torch.float64)
    k = scale(14.0)
    assert torch.allclose(contrastive(pictures, sentences, k), theirs.ClipLoss()(pictures, sentences, k))
    assert torch.allclose(sigmoid(pictures, sentences, k, bias), theirs.SigLipLoss()(pictures, sentences, k, bias))
    teacher = Teacher(unit_rows(8, 50), unit_rows(8, 51), 20.0)
    distilled = theirs.DistillClipLoss()
    _, taught = distilled(pictures, sentences, k, teacher.pictures, teacher.sentences, torch.tensor(teacher.scale))
    scores = 20 * teacher.pictures @ teacher.sentences.T
    entropy = sum(-(x.softmax(1) * x.log_softmax(1)).sum(1).mean() for x in (scores, scores.T)) / 2
    assert torch.allclose(affinity(pictures, sentences, k, [teacher]) + entropy, taught)


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


# ---- hard negatives ------------------------------------------------------------------------------------------------


def test_the_hardest_rivals_are_the_nearest_of_other_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("awase.learning.hard_negatives.ROWS", 4)
    pictures, sentences = unit_rows(11, 52), unit_rows(11, 53)
    groups = torch.tensor([0, 0, 1, 2, 3, 4, 5, 6, 7, 7, 7])
    scores = (pictures @ sentences.T).numpy()
    for i, row in enumerate(hardest(pictures, sentences, groups, 3).tolist()):
        others = [j for j in range(11) if groups[j] != groups[i]]
        assert row == sorted(others, key=lambda j: -scores[i, j])[:3]
    with pytest.raises(UsageError, match="have no 9 hard negatives each"):
        hardest(pictures, sentences, groups, 9)


def test_batches_by_likeness_hold_every_pair_once_and_rivals_together() -> None:
    """Sixty pairs of ten kinds: with six a batch, a batch is of one kind as long as kinds last."""
    kinds = torch.arange(60) % 10
    vectors = F.one_hot(kinds, 10).double() + 0.01 * unit_rows(60, 54, 10)
    vectors = F.normalize(vectors, dim=-1)
    rivals = hardest(vectors, vectors, torch.arange(60), 5)
    order = order_by_likeness(rivals, 6, torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(60))
    assert all(len(set(kinds[batch].tolist())) == 1 for batch in order.split(6))
    assert order.tolist() != order_by_likeness(rivals, 6, torch.Generator().manual_seed(1)).tolist()
    later = order_by_likeness(rivals, 6, torch.Generator().manual_seed(0), begun=4)  # two places are left in a batch
    assert sorted(later.tolist()) == list(range(60))
    assert [len(set(kinds[batch].tolist())) for batch in later.split([2, 6, 6, 46])[:3]] == [1, 1, 1]
