"""Classifiers on frozen towers: the identities of their papers, independent implementations, and controls at chance."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

import awase
from awase import Clip, DataError, UsageError, read_adapter, write_adapter
from awase.datasets.labelled import Labelled
from awase.encoding.families import Preprocessing
from awase.encoding.heads import Cache, Head
from awase.encoding.scoring import softmax
from awase.evaluation.calibration import temperature
from awase.evaluation.intervals import proportion
from awase.evaluation.probes import Features
from awase.evaluation.zero_shot import zero_shot
from awase.learning.adaptation import choose as choosing
from awase.learning.adaptation.anchored_probe import AnchoredProbe, _Anchored
from awase.learning.adaptation.augmentation import random_view, view
from awase.learning.adaptation.cache import Grid, TipAdapter, look
from awase.learning.adaptation.clap import Clap
from awase.learning.adaptation.gaussian import discriminant
from awase.learning.adaptation.holding_out import ENOUGH, FOLDS, fitted_temperature, rounds
from awase.learning.adaptation.linear_probe import LinearProbe, fitted
from awase.learning.adaptation.lp_plus import LpPlus
from awase.learning.adaptation.method import Method
from awase.learning.adaptation.methods import HOMES, method
from awase.learning.adaptation.task import Pairs, Task, classes
from awase.learning.adaptation.trained_cache import TipAdapterF, key_slope
from colours import coloured

D, C, SCALE = 24, 5, 30.0
QUICK: dict[str, dict[str, Any]] = {
    "clap": {"views": 2, "epochs": 60},
    "zs-lp": {"views": 2, "epochs": 60},
    "cache": {"views": 2},
    "cache-trained": {"views": 2},
}


def unit(rows: np.ndarray) -> np.ndarray:
    return np.asarray(rows / np.linalg.norm(rows, axis=-1, keepdims=True), np.float32)


def made(count: int, seed: int = 0) -> tuple[Features, np.ndarray]:
    """Unit vectors round class centres, and (D, C) weights from names that know a little of the centres."""
    shape, chance = np.random.default_rng(99), np.random.default_rng(seed)
    centres = unit(shape.standard_normal((C, D)))
    names = unit(centres + 0.9 * unit(shape.standard_normal((C, D))))
    targets = np.arange(count) % C
    rows = unit(centres[targets] + 0.9 * unit(chance.standard_normal((count, D))))
    return Features(rows, targets), (SCALE * names.T).astype(np.float32)


def words_head(weights: np.ndarray) -> Head:
    keys = tuple(f"class {i}" for i in range(C))
    return Head(keys, {"en": keys}, "vectors", weights)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def task() -> Task:
    return classes(coloured("train", 6), coloured("val", 6))


# ---- identities ------------------------------------------------------------------------------------------------------


def test_clap_begins_as_zero_shot_and_an_endless_pull_holds_it_there() -> None:
    support, start = made(40)
    np.testing.assert_allclose(Clap(epochs=0).learn(support, start, 0), start, rtol=1e-5)
    held = replace(Clap(), epochs=20, rate=1e-7)

    class Endless(Clap):
        def pulls(self, support: Features, start: np.ndarray) -> np.ndarray:
            return np.full(C, 1e6)

    np.testing.assert_allclose(Endless(epochs=held.epochs, rate=held.rate).learn(support, start, 0), start, atol=1e-2)
    free = Clap(pull=False).learn(support, start, 0)
    pulled = Clap().learn(support, start, 0)
    assert np.linalg.norm(pulled - start) < np.linalg.norm(free - start)


def test_the_pull_is_the_mean_probability_that_names_give_the_right_class() -> None:
    support, start = made(40)
    logits = torch.from_numpy(support.rows) @ torch.from_numpy(start)
    expected = [logits.softmax(1)[support.targets == c, c].mean().item() for c in range(C)]
    np.testing.assert_allclose(Clap().pulls(support, start), expected, rtol=1e-5)


def with_features(count: int) -> tuple[Features, Head]:
    """Rows of 8 features and the D numbers of a vector, and the names as a head of vectors."""
    support, start = made(count)
    features = np.random.default_rng(5).standard_normal((count, 8)).astype(np.float32) + support.targets[:, None] % 3
    rows = np.concatenate([features, support.rows], axis=1)
    return Features(rows.astype(np.float64), support.targets), words_head(start)


def test_an_anchored_probe_is_the_names_under_a_heavy_penalty_and_a_plain_probe_without_them() -> None:
    support, names = with_features(60)
    held_down = _Anchored(support, names).linear(1.0, 96, 1e-12).logits(support.rows)
    expected = names.logits(support.rows[:, 8:])
    np.testing.assert_allclose(softmax(held_down), softmax(expected + held_down.mean(0) - expected.mean(0)), atol=1e-6)
    alone = _Anchored(support, names).linear(0.0, 4, 1e-12).logits(support.rows)
    sklearn = LogisticRegression(C=10**-0.5, tol=1e-10, max_iter=5000).fit(support.rows[:, :8], support.targets)
    np.testing.assert_allclose(softmax(alone), sklearn.predict_proba(support.rows[:, :8]), atol=1e-5)


def test_an_anchored_probe_is_the_minimum_that_torch_finds() -> None:
    support, names = with_features(60)
    linear = _Anchored(support, names).linear(0.5, 4, 1e-14)
    x, known = (torch.from_numpy(part) for part in (support.rows[:, :8], names.logits(support.rows[:, 8:])))
    w, b = torch.zeros(8, C, dtype=torch.double, requires_grad=True), torch.zeros(C, dtype=torch.double)
    optimiser = torch.optim.LBFGS([w, b.requires_grad_()], max_iter=2000, tolerance_grad=1e-12, tolerance_change=1e-16)

    def loss() -> torch.Tensor:
        optimiser.zero_grad()
        logits = 0.5 * known + x @ w + b
        value = F.cross_entropy(logits, torch.from_numpy(support.targets), reduction="sum")
        value = value + 10**0.5 / 2 * (w**2).sum()
        value.backward()
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(linear.weights[:8], w.detach().numpy(), atol=1e-5)
    np.testing.assert_allclose(linear.weights[8:], 0.5 * names.weights, rtol=1e-6)


def test_one_step_of_clap_is_torchs() -> None:
    support, start = made(40)
    anchors = torch.from_numpy(start / np.sqrt(SCALE)).double()
    prototypes = anchors.clone().requires_grad_()
    optimiser = torch.optim.SGD([prototypes], lr=1.0, momentum=0.9)
    pull, rows = torch.from_numpy(Clap().pulls(support, start)), torch.from_numpy(support.rows).double()
    settings = Clap(epochs=3, rate=0.5)
    for epoch in range(3):
        optimiser.param_groups[0]["lr"] = settings._rate(epoch)
        logits = SCALE * rows @ F.normalize(prototypes, dim=0)
        loss = F.cross_entropy(logits, torch.from_numpy(support.targets))
        loss = loss + (pull * ((prototypes - anchors) ** 2).sum(0)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    expected = SCALE * F.normalize(prototypes, dim=0).detach().numpy()
    np.testing.assert_allclose(settings.learn(support, start, 0), expected, atol=1e-4)


def test_lp_plus_without_a_share_of_pictures_ranks_as_names_do() -> None:
    support, start = made(40)
    rows, words = made(30, 1)[0].rows, start / SCALE
    nothing = replace(support, rows=np.zeros_like(support.rows))  # the first w is a sum of nothing
    first = next(LpPlus(names=1.0).path(replace(nothing, rows=nothing.rows + 1e-9), words, 1e9))
    order = np.argsort(rows @ first, axis=1)
    np.testing.assert_array_equal(order, np.argsort(rows @ words, axis=1))


def test_lp_plus_is_its_paper_written_with_torch() -> None:
    support, start = made(40)
    words = (start / SCALE).astype(np.float64)
    rows, t = torch.from_numpy(support.rows).double(), torch.from_numpy(words)
    y = torch.from_numpy(support.targets)
    w = torch.stack([rows[y == c].sum(0) for c in range(C)], dim=1).requires_grad_()
    agree = torch.stack([(rows[y == c] @ t[:, c]).mean() for c in range(C)]).mean()
    a = (250 * agree).repeat(C).requires_grad_()
    rate_w = 4 * len(rows) / torch.linalg.eigvalsh(rows.T @ rows)[-1]
    rate_a = len(rows) / (4 * ((rows @ t) ** 2).sum(0).max())
    optimiser = torch.optim.SGD([w], lr=float(rate_w), momentum=0.9)
    path = list(LpPlus(epochs=20).path(support, words))
    for epoch in range(21):
        if epoch % 10 == 0:
            np.testing.assert_allclose(path[epoch // 10], (w + a * t).detach(), rtol=1e-4, atol=1e-3)
        loss = F.cross_entropy(rows @ w + a * (rows @ t), y)
        slope_w, slope_a = torch.autograd.grad(loss, [w, a])
        w.grad = slope_w
        if epoch % 10 == 9:
            a = (a - rate_a * slope_a).detach().requires_grad_()
        optimiser.step()


def test_an_untrained_cache_is_tip_adapter_and_training_changes_its_keys(clip: Clip, task: Task) -> None:
    plain = TipAdapter(views=2).fit(clip, task).head
    untrained = TipAdapterF(views=2, epochs=0).fit(clip, task).head
    assert plain is not None
    assert untrained is not None
    assert plain.digest == untrained.digest
    alone = classes(coloured("train", 6), None, shots=1)  # nothing to stop early on
    trained, start = (TipAdapterF(views=2, epochs=epochs).fit(clip, alone).head for epochs in (5, 0))
    assert trained is not None
    assert start is not None
    assert trained.digest != start.digest


def test_the_slope_of_the_keys_is_torchs() -> None:
    support, start = made(12)
    cache = Cache(support.rows, np.eye(C, dtype=np.float32)[support.targets], 2.0, 3.0)
    asked = made(9, 1)[0]
    keys = torch.from_numpy(cache.keys).double().requires_grad_()
    rows = torch.from_numpy(asked.rows).double()
    near = torch.exp(-3 * (1 - rows @ keys.T)) @ torch.from_numpy(cache.values).double()
    loss = F.cross_entropy(rows @ torch.from_numpy(start).double() + 2 * near, torch.from_numpy(asked.targets))
    (expected,) = torch.autograd.grad(loss, keys)
    found = key_slope(replace(words_head(start), cache=cache), asked.rows, asked.targets)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_a_trained_cache_follows_torchs_adamw() -> None:
    support, start = made(15)
    settings = TipAdapterF(epochs=4, rate=0.01, batch=100)
    cache = Cache(support.rows, np.eye(C, dtype=np.float32)[support.targets], 2.0, 3.0)
    views = np.stack([support.rows, made(15, 3)[0].rows])
    keys = torch.from_numpy(cache.keys).double().requires_grad_()
    optimiser = torch.optim.AdamW([keys], lr=0.01, eps=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 4)
    for epoch, head in enumerate(settings.path(replace(words_head(start), cache=cache), views, support.targets, 0)):
        assert head.cache is not None
        np.testing.assert_allclose(head.cache.keys, keys.detach(), atol=1e-5)
        rows = torch.from_numpy(views[epoch % 2]).double()
        near = torch.exp(-3 * (1 - rows @ keys.T)) @ torch.from_numpy(cache.values).double()
        loss = F.cross_entropy(rows @ torch.from_numpy(start).double() + 2 * near, torch.from_numpy(support.targets))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


# ---- independent implementations -------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0])
def test_the_linear_probe_is_scikit_learns(strength: float) -> None:
    support, asked = made(60)[0], made(40, 1)[0]
    ours = fitted(support, C, strength, promise=1e-12)
    theirs = LogisticRegression(C=1 / strength, tol=1e-10, max_iter=5000).fit(
        support.rows.astype(np.float64), support.targets
    )
    np.testing.assert_allclose(softmax(ours.logits(asked.rows)), theirs.predict_proba(asked.rows), atol=1e-5)


def test_the_cache_is_tip_adapter_written_in_numpy(clip: Clip, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """The published code's steps: keys from views, the grid of 20 x 200, the best on validation."""
    monkeypatch.setattr("awase.learning.adaptation.holding_out.ENOUGH", 1)  # as in the paper, validation alone
    adapter = TipAdapter(views=3).fit(clip, task)
    support, held = task.rows(clip), task.validation_rows(clip)
    assert held is not None
    keys = unit(task.views(clip, 3).mean(0))
    weights, scale = task.zero_shot(clip).weights, clip.scoring.scale
    values = np.eye(4)[support.targets]

    def logits(rows: np.ndarray, alpha: float, beta: float) -> np.ndarray:
        return rows @ weights + alpha * np.exp(-beta + beta * (rows @ keys.T)) @ values

    best, most = (0.0, 0.0), -1.0
    for beta in [0.1 + i * (7 - 0.1) / 200 for i in range(200)]:
        for alpha in [(0.1 + i * (3 - 0.1) / 20) * scale / 100 for i in range(20)]:
            right = float((logits(held.rows, alpha, beta).argmax(1) == held.targets).mean())
            if right > most:
                best, most = (alpha, beta), right
    assert adapter.head is not None
    assert adapter.head.cache is not None
    ours = replace(adapter.head, temperature=1.0)
    found = (ours.logits(held.rows).argmax(1) == held.targets).mean()
    assert found >= most - 1e-9
    same = replace(ours, cache=replace(adapter.head.cache, alpha=best[0], beta=best[1]))
    np.testing.assert_allclose(same.logits(held.rows), logits(held.rows, *best), atol=1e-5)


@pytest.mark.parametrize("count", [60, 15], ids=["more pictures than numbers", "fewer"])
def test_the_gaussians_are_the_papers_code(count: int) -> None:
    support = made(count)[0]
    means = np.stack([support.rows[support.targets == c].mean(0) for c in range(C)])
    rest = np.concatenate([support.rows[support.targets == c] - means[c] for c in range(C)])
    precision = D * np.linalg.pinv((len(rest) - 1) * np.cov(rest.T) + np.trace(np.cov(rest.T)) * np.eye(D))
    weights = np.einsum("nd, dc -> cn", means, precision)
    bias = np.log(1 / C) - np.einsum("nd, dc, nc -> n", means, precision, means) / 2
    found = discriminant(support, C)
    np.testing.assert_allclose(found.weights, weights, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.bias - found.bias[0], bias - bias[0], rtol=1e-4, atol=1e-4)


def test_the_grid_finds_what_a_search_of_everything_finds() -> None:
    support, start = made(20)
    held = made(50, 2)[0]
    cache = Cache(support.rows, np.eye(C, dtype=np.float32)[support.targets], 1.0, 1.0)
    looked = look(words_head(start), cache, held)
    alpha, beta = Grid().best([looked], 1.0)
    found = (looked.logits(alpha, beta).argmax(1) == held.targets).mean()
    for most_alpha, most_beta in ((3, 7), (24, 56)):  # the paper's grid, and as coarse a one as far as ours
        every = max(
            (looked.logits(a, b).argmax(1) == held.targets).mean()
            for a in np.linspace(0.1, most_alpha, 20, endpoint=False)
            for b in np.linspace(0.1, most_beta, 200, endpoint=False)
        )
        assert found >= every
    assert Grid(alpha=2.0, beta=0.5).best([], 0.3) == (0.6, 0.5)


# ---- every method ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOMES)
@pytest.mark.parametrize("held", ["validation", "folds", "nothing"])
def test_a_method_gives_an_adapter_that_answers_calibrates_and_survives_the_disk(
    name: str, held: str, clip: Clip, task: Task, tmp_path: Path
) -> None:
    if held == "folds":
        task = replace(task, validation=None)
    if held == "nothing":
        task = classes(coloured("train", 6), None, shots=1, seed=3)
    adapter = method(name, **QUICK.get(name, {})).fit(clip, task)
    write_adapter(adapter, tmp_path / "learned")
    adapted = read_adapter(tmp_path / "learned").on(clip)
    assert adapter.record["method"] == name
    assert adapter.record["train"]["n"] == len(task.train)
    assert ("validation_top1" in adapter.record["figures"]) == (held != "nothing")
    before, after = zero_shot(clip, coloured("more", 6)), zero_shot(adapted, coloured("more", 6))
    assert after.figures["top1"].value >= before.figures["top1"].value - (0.1 if held != "nothing" else 0.2)
    assert adapted.classify(coloured("more").pictures[0])[0].label in task.names["en"]


@pytest.mark.parametrize("name", [name for name in HOMES if name != "zero-shot"])
def test_with_shuffled_labels_a_method_is_right_by_chance_on_what_was_held_out(
    name: str, clip: Clip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Labels that say nothing can only be known from the held-out pictures themselves: any leak would show here."""
    monkeypatch.setattr(choosing, "method", lambda name: method(name, **QUICK.get(name, {})))
    train = coloured("train", 16)
    names = {"en": ("alpha", "beta", "gamma", "delta")}  # which say nothing of colours
    shuffled = replace(train, targets=np.random.default_rng(1).permutation(train.targets), names=names)
    task = classes(shuffled, None)
    right = choosing.judge(clip, task, name, choosing.held_out_parts(clip, task, slow=False))
    low, high = proportion(int(right.sum()), len(right), 0.999)
    assert len(right) == 64
    assert low <= 0.25 <= high


@pytest.mark.parametrize("name", HOMES)
def test_the_same_task_gives_the_same_adapter(name: str, clip: Clip, task: Task) -> None:
    one, other = (method(name, **QUICK.get(name, {})).fit(clip, task) for _ in range(2))
    assert one.head is not None
    assert other.head is not None
    assert one.head.digest == other.head.digest


def test_methods_are_called_by_their_names() -> None:
    for name in HOMES:
        assert method(name).name == name
    with pytest.raises(UsageError, match="there are"):
        method("magic")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Clap(rate=0),
        lambda: LpPlus(momentum=1),
        lambda: AnchoredProbe(shares=()),
        lambda: AnchoredProbe(shares=(-0.5,)),
        lambda: TipAdapter(views=-1),
        lambda: TipAdapterF(views=0),
        lambda: Grid(beta=-1),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: Any) -> None:
    with pytest.raises(UsageError):
        wrong()


# ---- tasks -----------------------------------------------------------------------------------------------------------


def test_shots_are_drawn_by_the_seed_and_fewer_are_among_more() -> None:
    train, validation = coloured("train", 20), coloured("val", 9)
    few, more, other = (classes(train, validation, n, seed) for n, seed in ((2, 1), (8, 1), (2, 2)))
    assert np.bincount(few.train.targets).tolist() == [2] * 4
    assert few.validation is not None
    assert more.validation is not None
    assert (len(few.validation), len(more.validation)) == (8, 16)
    held = {id(picture) for picture in more.train.pictures}
    assert all(id(picture) in held for picture in few.train.pictures)
    assert any(id(picture) not in {id(p) for p in few.train.pictures} for picture in other.train.pictures)


def test_classes_with_fewer_pictures_than_shots_are_told_of() -> None:
    with pytest.warns(UserWarning, match=r"4 of 4 classes have fewer than 7 training pictures \(the least: \w+, 6\)"):
        assert len(classes(coloured("train", 6), None, shots=7).train) == 24


def test_a_part_of_a_task_has_the_rows_and_views_of_its_pictures(clip: Clip, task: Task) -> None:
    kept = np.arange(24) % 3 != 1
    part = task.part(kept)
    np.testing.assert_array_equal(part.rows(clip).rows, task.rows(clip).rows[kept])
    np.testing.assert_array_equal(part.views(clip, 2), task.views(clip, 2)[:, kept])
    assert part.part(np.arange(16) % 2 == 0).train.targets.tolist() == part.train.targets[::2].tolist()


def test_what_cannot_be_learned_from_is_refused() -> None:
    train, validation = coloured("train"), coloured("val")
    one = replace(train, pictures=train.pictures[:1], targets=train.targets[:1])
    with pytest.raises(DataError, match="two are the least"):
        classes(one)
    with pytest.raises(DataError, match="two are the least"):
        classes(replace(train, pictures=train.pictures[:6], targets=train.targets[:6]))
    with pytest.raises(DataError, match=r"no training picture.*yellow"):
        classes(replace(train, pictures=train.pictures[:18], targets=train.targets[:18]))
    with pytest.raises(UsageError, match="testing"):
        classes(train, coloured("test"))
    with pytest.raises(DataError, match="different classes"):
        classes(train, replace(validation, keys=("a", "b", "c", "d")))
    with pytest.raises(DataError, match="several"):
        classes(replace(train, targets=np.eye(4, dtype=bool)[train.targets]))
    with pytest.raises(UsageError, match="0 shots"):
        classes(train, None, 0)
    for shots in (None, 2):
        with pytest.raises(UsageError, match="seed -1"):
            classes(train, None, shots, seed=-1)


def test_classes_that_share_a_name_are_told_of(clip: Clip) -> None:
    train = replace(coloured("train"), names={"en": ("red", "blue", "blue", "yellow")})
    with pytest.warns(UserWarning, match="green and blue have one name, 'blue'"):
        task = classes(train)
    adapted = LinearProbe().fit(clip, task).on(clip)
    assert sum(score.label == "blue" for score in adapted.classify(train.pictures[0])) == 2


def test_pictures_that_cannot_be_read_are_left_out_with_a_word(clip: Clip, tmp_path: Path) -> None:
    train = coloured("train", 3)
    damaged: list[Any] = [*train.pictures[:-1], tmp_path / "nothing.jpg"]
    task = classes(replace(train, pictures=damaged), coloured("val", 3))
    with pytest.warns(UserWarning, match=r"left out.*nothing\.jpg"):
        rows = task.rows(clip)
    assert len(rows) == 11
    assert len(task.unreadable) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert task.views(clip, 2).shape == (2, 11, clip.dimension)
        adapter = LinearProbe().fit(clip, task.part(np.ones(12, bool)))
    assert adapter.head is not None
    gone: list[Any] = [*train.pictures[:9], *[tmp_path / "nothing.jpg"] * 3]
    with pytest.warns(UserWarning, match="left out"), pytest.raises(DataError, match="yellow"):
        classes(replace(train, pictures=gone)).rows(clip)


def test_pairs_need_pictures_with_sentences() -> None:
    from awase.datasets import Captioned

    pictures = coloured("train", 1).pictures
    with pytest.raises(DataError, match="least"):
        Pairs(Captioned("x", "train", pictures[:1], ["red"], np.zeros(1, np.int64)))
    with pytest.raises(UsageError, match="testing"):
        Pairs(Captioned("x", "test", pictures[:2], ["red", "green"], np.arange(2)))


# ---- holding out, views, temperature ---------------------------------------------------------------------------------


def test_each_picture_is_held_out_once_and_an_only_one_never() -> None:
    targets = np.array([0] * 6 + [1] * 3 + [2])
    support = Features(np.arange(10)[:, None].astype(np.float32), targets)
    held_out = rounds(support, None, 0)
    assert len(held_out) == FOLDS
    seen = np.concatenate([held.rows[:, 0] for _, held in held_out])
    assert sorted(seen) == list(range(9))
    for kept, held in held_out:
        assert not set(support.rows[kept, 0]) & set(held.rows[:, 0])
        assert set(targets[kept]) == {0, 1, 2}
    assert rounds(support[targets == 2], None, 0) == []
    (kept, held), *folds = rounds(support, support, 0)
    assert kept.all()
    assert held is support
    assert len(folds) == FOLDS
    many = Features(np.zeros((ENOUGH, 1), np.float32), np.zeros(ENOUGH, np.int64))
    assert len(rounds(support, many, 0)) == 1


def test_few_pictures_all_right_do_not_make_a_model_sure_of_everything() -> None:
    logits = np.array([[9.0, 0.0], [8.0, 0.0], [0.0, 9.0]])
    truth = np.array([0, 0, 1])
    assert temperature(logits, truth) < 0.01
    sure = softmax(logits / fitted_temperature([(logits, truth)])).max(axis=1)
    assert sure.max() < 0.95
    assert fitted_temperature([]) == 1.0


ROW = Preprocessing(32)


def test_a_view_depends_on_the_picture_alone_and_is_a_part_of_it(clip: Clip) -> None:
    data = coloured("train", 2)
    one, again, other = (view(data, number, ROW) for number in (3, 3, 4))
    reversed_ = view(replace(data, pictures=list(data.pictures)[::-1], targets=data.targets[::-1]), 3, ROW)
    assert one.pictures[0].open("rb").read() == again.pictures[0].open("rb").read()  # type: ignore[union-attr, call-arg]
    assert one.pictures[0].open("rb").read() == reversed_.pictures[-1].open("rb").read()  # type: ignore[union-attr, call-arg]
    assert one.pictures[0].content != other.pictures[0].content  # type: ignore[union-attr]
    from PIL import Image

    wide = Image.fromarray(np.arange(400 * 10, dtype=np.uint8).reshape(10, 400)).convert("RGB")
    assert random_view(wide, ROW, np.random.default_rng(0)).size == (32, 32)


def test_a_view_of_a_small_picture_lies_in_the_border_that_the_model_gives_it() -> None:
    from PIL import Image

    row = Preprocessing(32, mean=(0.5,) * 3, enlarge=2, least=16)
    dark = Image.new("RGB", (12, 12))
    for seed in range(8):  # parts of 7 to 12 pixels
        seen = np.asarray(random_view(dark, row, np.random.default_rng(seed))).all(axis=2)
        inside = ~seen
        assert 16 <= np.sqrt(inside.sum()) <= 24
        assert inside.any(0).sum() * inside.any(1).sum() == inside.sum()
        assert seen[0].all()
        assert seen[:, -1].all()


def test_views_are_made_once(clip: Clip, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    task.views(clip, 2)
    monkeypatch.setattr(Clip, "stream", lambda _self, pictures, _output: iter([pytest.fail(str(p)) for p in pictures]))
    task.part(np.arange(24) % 2 == 0).views(clip, 2)


def test_every_method_says_nothing_where_it_applies(clip: Clip, task: Task) -> None:
    made: list[Method] = [method(name) for name in HOMES]
    assert [one.refusal(clip, task) for one in made] == [None] * len(made)


def test_labels_are_the_classes_of_the_language_that_was_asked_for(clip: Clip) -> None:
    train: Labelled = coloured("train", 3)
    adapter = method("linear-probe").fit(clip, classes(train, None, language="ja"))
    assert adapter.on(clip).classify(train.pictures[0])[0].label in train.names["ja"]
