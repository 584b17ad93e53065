"""The linear probe against scikit-learn at the same strength, the paper's sweep, and controls that land at chance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, log_loss

import awase
from awase import Clip, DataError, EngineError, UsageError
from awase.datasets.labelled import Labelled
from awase.evaluation.backbones import Backbone, from_onnx, from_timm, from_torch, normalised
from awase.evaluation.linear_probe import linear_probe
from awase.evaluation.logistic import Linear, binary_cross_entropy, cross_entropy, regression
from awase.evaluation.probes import STRONGEST, WEAKEST, Features, draw, fit_few_shot_probe, fit_probe, sweep
from awase.evaluation.words import headline_of
from colours import coloured


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def made(n: int, f: int = 40, c: int = 6, seed: int = 0, apart: float = 0.6) -> Features:
    """Classes with different means in a space whose directions differ a thousandfold in spread, far from the origin."""
    shape = np.random.default_rng(99)
    spread = np.logspace(0, -3, f)
    means, turn = shape.normal(size=(c, f)) * spread * apart, np.linalg.qr(shape.normal(size=(f, f)))[0]
    rng = np.random.default_rng(seed)
    targets = rng.integers(c, size=n)
    rows = (means[targets] + rng.normal(size=(n, f)) * spread) @ turn + 3
    return Features(rows.astype(np.float32), targets)


def objective(linear: Linear, data: Features, strength: float) -> float:
    logits = data.rows.astype(np.float64) @ linear.weights.astype(np.float64) + linear.bias
    return cross_entropy(logits, data.targets)[0] * len(data) + strength / 2 * float((linear.weights**2).sum())


def scikit_learns(data: Features, strength: float) -> Linear:
    """Its minimum, which it reaches in time from centred features in double precision only."""
    centre = data.rows.mean(axis=0, dtype=np.float64)
    model = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000).fit(data.rows - centre, data.targets)
    return Linear(model.coef_.T, model.intercept_ - centre @ model.coef_.T)


def accuracy_of(linear: Linear, data: Features) -> float:
    return float((linear.logits(data.rows).argmax(axis=1) == data.targets).mean())


# ---- logistic regression ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [600, 25], ids=["more pictures than features", "fewer"])
@pytest.mark.parametrize("strength", [1e3, 1.0, 1e-2])
def test_the_minimum_is_scikit_learns(n: int, strength: float) -> None:
    data, other = made(n), made(5000, seed=1)
    problem = regression(data.rows, data.targets, 6)
    ours = problem.linear(problem.fit(strength))
    reference = scikit_learns(data, strength)
    assert objective(ours, data, strength) == pytest.approx(objective(reference, data, strength), rel=1e-4)
    agree = (ours.logits(other.rows).argmax(1) == reference.logits(other.rows).argmax(1)).mean()
    assert agree >= 0.99
    assert abs(accuracy_of(ours, other) - accuracy_of(reference, other)) <= 0.002


def test_the_gradient_is_that_of_the_loss() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 4)), np.array([0, 3, 3, 1, 2])
    loss, residuals = cross_entropy(logits.copy(), targets)
    assert loss == pytest.approx(log_loss(targets, np.exp(logits) / np.exp(logits).sum(1, keepdims=True)))
    for place in ((0, 0), (2, 3), (4, 1)):
        moved = logits.copy()
        moved[place] += 1e-6
        assert (cross_entropy(moved, targets)[0] - loss) / 1e-6 == pytest.approx(residuals[place], abs=1e-5)


def test_an_endless_pull_leaves_the_class_shares() -> None:
    data = made(500)
    problem = regression(data.rows, data.targets, 6)
    logits = problem.linear(problem.fit(1e9)).logits(data.rows[:1]).astype(float)
    shares = np.bincount(data.targets) / 500
    np.testing.assert_allclose(np.exp(logits[0]) / np.exp(logits[0]).sum(), shares, atol=2e-3)


# ---- the sweep -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peak", [*range(WEAKEST, STRONGEST + 1, 7), WEAKEST, STRONGEST])
def test_the_sweep_finds_any_single_peak_in_fifteen_looks(peak: int) -> None:
    asked = []

    def score(exponent: int) -> tuple[float, float]:
        asked.append(exponent)
        return 0.0, -abs(exponent - peak)

    assert sweep(score) == peak
    assert len(asked) <= 15
    assert len(set(asked)) == len(asked)
    assert asked[:7] == [48, 32, 16, 0, -16, -32, -48]


def test_a_probe_is_the_classifier_of_both_splits_at_the_chosen_strength() -> None:
    train, validation, test = made(400), made(200, seed=1), made(5000, seed=2)
    probe = fit_probe(train, 6, validation)
    theirs = scikit_learns(train + validation, probe.strength)
    assert abs(accuracy_of(probe.linear, test) - accuracy_of(theirs, test)) <= 0.002
    assert probe.strength in probe.tried
    assert probe.tried[probe.strength] == max(probe.tried.values())


def test_what_the_sweep_looked_at_leaves_no_trace_in_the_classifier() -> None:
    data = made(60, f=400, apart=0.2)  # more features than pictures: the loss is flat where strengths are weak
    probe = fit_few_shot_probe(data, 6, 5, seed=0)
    drawn = data[draw(data.targets, lambda count: min(5, count), 0)]
    problem = regression(drawn.rows, drawn.targets, 6)
    np.testing.assert_array_equal(probe.linear.weights, problem.linear(problem.fit(probe.strength)).weights)


def test_shuffled_labels_land_at_chance() -> None:
    train, test = made(600), made(2000, seed=2)
    shuffled = Features(train.rows, np.random.default_rng(0).permutation(train.targets))
    assert abs(accuracy_of(fit_probe(shuffled, 6).linear, test) - 1 / 6) < 0.06
    assert accuracy_of(fit_probe(train, 6).linear, test) > 0.4


def test_more_shots_hold_the_pictures_of_fewer() -> None:
    train, validation = made(300), made(100, seed=1)
    few, more = (draw(train.targets, lambda count, n=n: min(n, count), 5) for n in (2, 8))
    assert (few <= more).all()
    assert np.bincount(train.targets[few]).tolist() == [2] * 6
    one, sixteen = (fit_few_shot_probe(train, 6, shots, 0, validation).linear for shots in (1, 16))
    assert accuracy_of(one, made(1000, seed=2)) < accuracy_of(sixteen, made(1000, seed=2))


def test_one_class_and_nan_are_refused() -> None:
    data = made(50)
    with pytest.raises(DataError, match="two classes"):
        fit_probe(Features(data.rows, np.zeros(50, np.int64)), 6)
    data.rows[7, 3] = np.nan
    with pytest.raises(DataError, match="training picture 7"):
        fit_probe(data, 6, made(20))


# ---- several classes a picture ---------------------------------------------------------------------------------------


def several(n: int, seed: int = 0) -> Features:
    """Pictures of about two classes each, whose features are the sum of their classes' means."""
    shape, rng = np.random.default_rng(99), np.random.default_rng(seed)
    targets = rng.random((n, 6)) < 0.3
    rows = targets @ shape.normal(size=(6, 40)) * 0.5 + rng.normal(size=(n, 40)) + 3
    return Features(rows.astype(np.float32), targets)


@pytest.mark.parametrize("strength", [1e2, 1.0, 1e-1])
def test_one_against_the_rest_is_as_many_of_scikit_learns(strength: float) -> None:
    data, other = several(300), several(2000, seed=1)
    problem = regression(data.rows, data.targets, 6)
    ours = problem.linear(problem.fit(strength)).logits(other.rows)
    centre = data.rows.mean(axis=0, dtype=np.float64)
    for c in range(6):
        model = LogisticRegression(C=1 / strength, tol=1e-8, max_iter=5000)
        model.fit(data.rows - centre, data.targets[:, c])
        np.testing.assert_allclose(ours[:, c], model.decision_function(other.rows - centre), rtol=0.01, atol=0.1)


def test_the_binary_loss_and_its_gradient() -> None:
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(5, 4)) * 3, rng.random((5, 4)) < 0.4
    loss, residuals = binary_cross_entropy(logits, targets)
    each = [log_loss(y, 1 / (1 + np.exp(-z)), labels=[False, True]) for y, z in zip(targets.T, logits.T, strict=True)]
    assert loss == pytest.approx(sum(each))
    for place in ((0, 0), (2, 3), (4, 1)):
        moved = logits.copy()
        moved[place] += 1e-6
        assert (binary_cross_entropy(moved, targets)[0] - loss) / 1e-6 == pytest.approx(residuals[place], abs=1e-5)


def test_the_strength_is_chosen_by_mean_average_precision() -> None:
    train, validation, test = several(300), several(300, seed=1), several(2000, seed=2)
    probe = fit_probe(train, 6, validation)
    assert probe.tried[probe.strength] == max(probe.tried.values())
    problem = regression(train.rows, train.targets, 6)
    scores = problem.linear(problem.fit(probe.strength)).logits(validation.rows)
    assert probe.tried[probe.strength] == pytest.approx(average_precision_score(validation.targets, scores), abs=1e-3)
    for found in (probe, fit_probe(train, 6)):
        assert 0.6 < average_precision_score(test.targets, found.linear.logits(test.rows)) < 1


def test_a_clips_probe_of_several_classes(clip: Clip) -> None:
    """Two colours in one picture, side by side, as VOC 2007 has two things in one."""
    train, test = two_coloured("train", 24), two_coloured("test", 12)
    result = linear_probe(clip, train, test)
    assert result.items["target"].shape == (12, 4)
    assert list(result.figures) == ["map_11_point", "top1", "roc_auc", "map"]
    assert result.figures["map"].value > 0.8
    assert result.tables["strengths"][0].keys() == {"strength", "map"}
    assert headline_of(result) == "map_11_point"


def two_coloured(split: str, n: int) -> Labelled:
    plain, rng = coloured(split), np.random.default_rng(n)
    pairs = [rng.choice(4, 2, replace=False) for _ in range(n)]
    shown = {int(target): np.asarray(plain.pictures[i]) for i, target in enumerate(plain.targets)}
    pictures = [np.concatenate([shown[int(a)], shown[int(b)]], axis=1) for a, b in pairs]
    targets = np.zeros((n, 4), bool)
    for row, pair in enumerate(pairs):
        targets[row, pair] = True
    return replace(plain, pictures=pictures, targets=targets, metric="map_11_point")


# ---- of a Clip and of backbones --------------------------------------------------------------------------------------


def test_a_clips_probe_with_few_shots(clip: Clip) -> None:
    train, validation, test = coloured("train"), coloured("val", 4), coloured("test", 8)
    result = linear_probe(clip, train, test, validation, shots=[1, 4, 16], seeds=2)
    assert result.figures["top1"].value > 0.8
    assert result.n == result.figures["top1"].n == 32
    assert {"top1", "mean_per_class", "roc_auc", "top1_1_shot", "top1_4_shot", "top1_16_shot"} == set(result.figures)
    for figure in result.figures.values():
        assert figure.interval
        assert figure.interval[0] <= figure.value <= figure.interval[1]
    assert [row["shots"] for row in result.tables["few_shot"]] == [1, 4, 16]
    assert any("only 6 training pictures" in note for note in result.notes)
    np.testing.assert_array_equal(result.items["correct"], result.items["predicted"] == result.items["target"])
    assert linear_probe(clip, train, test, validation, [1], 2).figures["top1"] == result.figures["top1"]


def test_test_pictures_among_the_training_pictures_are_told(clip: Clip) -> None:
    train, test = coloured("train"), coloured("test")
    leaky = replace(test, pictures=[*train.pictures[:3], *test.pictures[3:]])
    assert any("3 of 24 test pictures" in note for note in linear_probe(clip, train, leaky).notes)
    assert not any("test pictures" in note for note in linear_probe(clip, train, test).notes)
    validation = replace(test, split="val", pictures=[*test.pictures[:2], *coloured("val").pictures[2:]])
    assert any("2 of 24 test pictures" in note for note in linear_probe(clip, train, test, validation).notes)


def test_splits_that_do_not_fit_are_refused(clip: Clip) -> None:
    train, test = coloured("train"), coloured("test")
    with pytest.raises(DataError, match="different classes"):
        linear_probe(clip, train, replace(test, keys=("a", "b", "c", "d")))
    several = replace(train, targets=np.eye(4, dtype=bool)[train.targets])
    with pytest.raises(DataError, match="test cannot be fitted on and measured on"):
        linear_probe(clip, coloured("test"), test)
    with pytest.raises(DataError, match="train cannot be fitted on and chosen on"):
        linear_probe(clip, train, test, coloured("train"))
    with pytest.raises(DataError, match="4, several a picture and 4, one a picture"):
        linear_probe(clip, several, test)
    with pytest.raises(UsageError, match="so many of one class each"):
        linear_probe(clip, several, replace(several, split="test"), shots=[1])
    with pytest.raises(UsageError, match="at least one seed"):
        linear_probe(clip, train, test, shots=[1], seeds=0)


def test_any_function_of_pixels_is_a_backbone() -> None:
    def means(pixels: np.ndarray) -> np.ndarray:
        return np.asarray(pixels.mean(axis=(1, 2)) / 255)

    result = linear_probe(Backbone("mean colour", means), coloured("train"), coloured("test"))
    assert result.model == "mean colour"
    assert result.figures["top1"].value == 1
    assert result.provenance["data"]["n"] == 24
    with pytest.raises(EngineError, match="not numbers"):
        linear_probe(Backbone("nan", lambda p: means(p) * np.nan), coloured("train"), coloured("test"))


def test_an_onnx_file_and_a_torch_module_give_the_same_features(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    onnx = pytest.importorskip("onnx")
    weight = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)
    module = torch.nn.Conv2d(3, 5, 4, stride=4, bias=False)
    module.weight.data = torch.from_numpy(weight)
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[4, 4])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["B", 3, 224, 224])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["B", 5, 56, 56])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    file = tmp_path / "conv.onnx"
    onnx.save(onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)]), file)
    pixels = np.random.default_rng(1).integers(0, 256, (2, 224, 224, 3), np.uint8)
    ours = from_onnx(file).run(pixels)
    assert ours.shape == (2, 5)
    np.testing.assert_allclose(from_torch(module, "conv").run(pixels), ours, atol=1e-4)
    with pytest.raises(EngineError, match="no ONNX model"):
        from_onnx(Path(__file__))


def test_an_onnx_file_is_told_from_another_by_weights_that_lie_beside_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")

    def hash_with(seed: int, beside: str | None) -> str:
        for old in tmp_path.iterdir():
            old.unlink()
        weight = onnx.numpy_helper.from_array(np.random.default_rng(seed).normal(size=(4, 3, 8, 8)).astype("f"), "w")
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Conv", ["x", "w"], ["y"], strides=[8, 8])],
            "g",
            [value("x", onnx.TensorProto.FLOAT, ["B", 3, 32, 32])],
            [value("y", onnx.TensorProto.FLOAT, ["B", 4, 4, 4])],
            [weight],
        )
        model = onnx.helper.make_model(graph, ir_version=8, opset_imports=[onnx.helper.make_opsetid("", 17)])
        file = tmp_path / "m.onnx"
        onnx.save(model, file, save_as_external_data=beside is not None, location=beside, size_threshold=0)
        return from_onnx(file).weights

    for beside in (None, "m.onnx.data", "w" * 200):
        assert hash_with(0, beside) == hash_with(0, beside) != hash_with(1, beside)


def test_timms_preparation_is_followed() -> None:
    pytest.importorskip("timm")
    backbone = from_timm("test_efficientnet", pretrained=False)
    said = backbone.preprocessing
    assert backbone.run(np.zeros((1, said.size, said.size, 3), np.uint8)).ndim == 2
    white = normalised(np.full((1, 2, 2, 3), 255, np.uint8), said)
    np.testing.assert_allclose(white[0, :, 0, 0], (1 - np.array(said.mean)) / np.array(said.std), rtol=1e-5)
