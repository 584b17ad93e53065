"""Zero-shot figures equal a few lines of NumPy and scikit-learn's, on random vectors and with the bundled model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score, top_k_accuracy_score

import awase
from awase.clip import Clip, unit
from awase.datasets.definitions import definition, definitions
from awase.datasets.labelled import Labelled
from awase.encoding import prompts
from awase.encoding.samples import SAMPLES, sample_cuts
from awase.encoding.scoring import Scoring
from awase.errors import DataError, UsageError
from awase.evaluation import classification as module
from awase.evaluation import ranking
from awase.evaluation.classification import answer, classification_figures, without_its_metric
from awase.evaluation.zero_shot import zero_shot, zero_shot_logits

SOFTMAX, SIGMOID = Scoring("softmax", 20.0), Scoring("sigmoid", 20.0, -3.0)


def random_case(seed: int, n: int = 500, c: int = 12, d: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    classes, targets = unit(rng.normal(size=(c, d))), rng.integers(c, size=n)
    return unit(classes[targets] + 0.5 * rng.normal(size=(n, d))), classes, targets


# ---- figures of vectors ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scoring", [SOFTMAX, SIGMOID], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("at_once", [2**22, 600])
def test_figures_equal_scikit_learns(scoring: Scoring, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "NUMBERS_AT_ONCE", at_once)  # blocks of 50 pictures, of one class
    vectors, classes, targets = random_case(0)
    probabilities = scoring.probabilities(vectors @ classes.T)
    figures = classification_figures(vectors, classes, scoring, targets)
    for k in (1, 5):
        expected = top_k_accuracy_score(targets, vectors @ classes.T, k=k)
        assert figures[f"top{k}"].value == pytest.approx(expected)
    per_class = [(probabilities.argmax(1)[targets == c] == c).mean() for c in range(12)]
    assert figures["mean_per_class"].value == pytest.approx(np.mean(per_class))
    areas = [roc_auc_score(targets == c, probabilities[:, c]) for c in range(12)]
    assert figures["roc_auc"].value == pytest.approx(np.mean(areas), abs=1e-6)
    if scoring is SOFTMAX:
        one_vs_rest = roc_auc_score(targets, probabilities, multi_class="ovr")
        assert figures["roc_auc"].value == pytest.approx(one_vs_rest, abs=1e-6)
    for name, figure in figures.items():
        assert figure.interval
        assert figure.interval[0] < figure.value < figure.interval[1], name
        assert figure.n == 500


def test_two_classes_have_the_binary_area_with_delongs_interval() -> None:
    vectors, classes, targets = random_case(1, n=300, c=2, d=4)
    figure = classification_figures(vectors, classes, SOFTMAX, targets)["roc_auc"]
    scores = (SOFTMAX.probabilities(vectors @ classes.T))[:, 1]
    assert figure.value == pytest.approx(roc_auc_score(targets, scores), abs=1e-6)
    rng, areas = np.random.default_rng(0), []
    for _ in range(400):
        rows = rng.integers(300, size=300)
        areas.append(roc_auc_score(targets[rows], scores[rows]))
    assert figure.interval
    np.testing.assert_allclose(figure.interval, np.quantile(areas, [0.025, 0.975]), atol=0.015)


def test_five_of_five_classes_is_no_figure() -> None:
    assert "top5" not in classification_figures(*random_case(2, c=5)[:2], SOFTMAX, random_case(2, c=5)[2])


def test_several_classes_a_picture() -> None:
    vectors, classes, targets = random_case(3)
    several = np.random.default_rng(3).random((500, 12)) < 0.15
    several[np.arange(500), targets] = True
    several[:, 4] = False  # no picture of this class: it is in no mean
    cosines = vectors @ classes.T
    figures = classification_figures(vectors, classes, SOFTMAX, several)
    filled = [c for c in range(12) if c != 4]
    expected = np.mean([average_precision_score(several[:, c], cosines[:, c]) for c in filled])
    assert figures["map"].value == pytest.approx(expected, abs=1e-6)
    assert figures["map_11_point"].value == pytest.approx(
        np.mean([eleven_points(several[:, c], cosines[:, c]) for c in filled]), abs=1e-6
    )
    areas = np.mean([roc_auc_score(several[:, c], cosines[:, c]) for c in filled])
    assert figures["roc_auc"].value == pytest.approx(areas, abs=1e-6)
    assert figures["top1"].value == several[np.arange(500), cosines.argmax(1)].mean()
    assert "mean_per_class" not in figures
    assert figures["map"].interval
    assert figures["map"].interval[0] < figures["map"].value < figures["map"].interval[1]


def eleven_points(positive: np.ndarray, scores: np.ndarray) -> float:
    """VOC 2007's, as its development kit writes it."""
    ordered = positive[np.argsort(-scores)]
    precision, recall = np.cumsum(ordered) / np.arange(1, len(ordered) + 1), np.cumsum(ordered) / ordered.sum()
    return float(np.mean([max(precision[recall >= t - 1e-12], default=0) for t in np.linspace(0, 1, 11)]))


def test_a_set_is_reported_by_its_own_metric_first() -> None:
    vectors, classes, targets = random_case(3)
    found = classification_figures(vectors, classes, SOFTMAX, targets, metric="mean_top1_top5")
    assert next(iter(found)) == "mean_top1_top5"
    assert found["mean_top1_top5"].value == pytest.approx((found["top1"].value + found["top5"].value) / 2)
    low, high = found["mean_top1_top5"].interval or (0, 0)
    assert low < found["mean_top1_top5"].value < high
    for metric in ("mean_per_class", "roc_auc"):
        assert next(iter(classification_figures(vectors, classes, SOFTMAX, targets, metric=metric))) == metric
    few = classification_figures(vectors, classes[:4], SOFTMAX, targets % 4, metric="mean_top1_top5")
    assert next(iter(few)) == "top1"
    (note,) = without_its_metric(few, "mean_top1_top5")
    assert "more than 5 classes" in note
    assert "not known" in without_its_metric(few, "f17")[0]


def test_every_metric_of_the_definitions_is_made() -> None:
    vectors, classes, targets = random_case(3)
    several = np.eye(12, dtype=bool)[targets]
    for name in definitions():
        metric = definition(name).metric
        wanted = several if metric.startswith("map") else targets
        assert next(iter(classification_figures(vectors, classes, SOFTMAX, wanted, metric=metric))) == metric


def test_equal_scores_are_one_threshold() -> None:
    rng = np.random.default_rng(4)
    scores, positive = rng.integers(6, size=200).astype(np.float64), rng.random(200) < 0.3
    area, precision = ranking.roc_area([(scores, positive)]), ranking.average_precision([(scores, positive)])
    assert area
    assert area.value == pytest.approx(roc_auc_score(positive, scores))
    assert precision["map"].value == pytest.approx(average_precision_score(positive, scores))


@pytest.mark.parametrize("sizes", [[2] * 50, [1] * 25 + [3] * 25])
def test_areas_of_tiny_classes_cover_the_truth(sizes: list[int]) -> None:
    """Scores of own pictures have mean 1 and variance 2, of others 0 and 1: the area is Phi(1 / sqrt 3)."""
    rng, targets, inside = np.random.default_rng(0), np.repeat(np.arange(50), sizes), 0
    truth = NormalDist().cdf(3**-0.5)
    for _ in range(200):
        scores = rng.normal(size=(len(targets), 50))
        scores[np.arange(len(targets)), targets] = rng.normal(1, 2**0.5, len(targets))
        area = ranking.roc_area((scores[:, c], targets == c) for c in range(50))
        assert area
        assert area.interval
        inside += area.interval[0] <= truth <= area.interval[1]
    assert 0.9 < inside / 200 < 0.98


def test_where_each_class_has_one_picture_an_area_has_no_interval() -> None:
    area = ranking.roc_area((np.arange(4.0), np.arange(4) == c) for c in range(4))
    assert area
    assert area.interval is None


def test_a_class_of_none_or_all_has_no_area() -> None:
    scores = np.arange(5.0)
    assert ranking.roc_area([(scores, np.ones(5, bool)), (scores, np.zeros(5, bool))]) is None
    assert ranking.average_precision([(scores, np.zeros(5, bool))]) == {}


def test_answers() -> None:
    vectors, classes, targets = random_case(5, n=40)
    found = answer(vectors, classes, SOFTMAX, targets)
    probabilities = SOFTMAX.probabilities(vectors @ classes.T)
    np.testing.assert_array_equal(found.predicted, probabilities.argmax(1))
    np.testing.assert_allclose(found.probability, probabilities.max(1))
    np.testing.assert_allclose(found.true_probability, probabilities[np.arange(40), targets])
    np.testing.assert_array_equal(found.correct, found.predicted == targets)


def test_of_equal_cosines_the_first_class_wins_once() -> None:
    """Two classes of one vector: both can be true, only one is answered, and the other is second."""
    vectors, classes, _ = random_case(6, n=20, c=3)
    doubled = np.concatenate([classes, classes])
    best = (vectors @ classes.T).argmax(1)
    first, second = answer(vectors, doubled, SOFTMAX, best), answer(vectors, doubled, SOFTMAX, best + 3)
    assert first.correct.all()
    assert not second.correct.any()
    assert second.rank.tolist() == [1] * 20


# ---- with the bundled model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def data() -> Labelled:
    """Eight cuts of each sample photograph: an astronaut, a cup of coffee, a rocket."""
    names = {"en": ("astronaut", "coffee", "rocket"), "ja": ("宇宙飛行士", "コーヒー", "ロケット")}
    return Labelled("cuts", "test", sample_cuts(), np.repeat([0, 1, 2], 8), ("a", "c", "r"), names)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_real_pictures_against_ten_lines(clip: Clip, data: Labelled, language: str) -> None:
    result = zero_shot(clip, data, language)
    (template,) = prompts.templates("simple", language)
    words = clip.encode_texts([template.replace("{}", name) for name in data.names[language]])
    logits = clip.scoring.scale * clip.encode_images(data.pictures) @ words.T
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_array_equal(result.items["predicted"], logits.argmax(1))
    np.testing.assert_allclose(result.items["probability"], probabilities.max(1), rtol=1e-3)
    assert result.figures["top1"].value == (logits.argmax(1) == data.targets).mean() > 0.6
    area = roc_auc_score(data.targets, probabilities, multi_class="ovr")
    assert result.figures["roc_auc"].value == pytest.approx(area, abs=1e-6)
    said = result.to_json()
    assert said["metrics"]["top1"] == result.figures["top1"].value
    assert said["intervals"]["top1"][0] < said["metrics"]["top1"]
    assert (said["n"], said["settings"]["language"], said["settings"]["templates"]) == (24, language, "simple")


def test_tables_and_examples_name_the_mistakes(clip: Clip, data: Labelled) -> None:
    wrong = replace(data, targets=np.roll(data.targets, 2))
    result = zero_shot(clip, wrong)
    rows = result.tables["classes"]
    assert [row["class"] for row in rows] == ["astronaut", "coffee", "rocket"]
    assert sum(row["n"] * row["top1"] for row in rows) == pytest.approx(result.items["correct"].sum())
    mistakes = int((~result.items["correct"]).sum())
    assert mistakes >= 6
    assert sum(row["count"] for row in result.tables["confusions"]) == mistakes == len(result.examples)
    surest = [example["probability"] for example in result.examples]
    assert surest == sorted(surest, reverse=True)
    for example in result.examples:
        assert example["true"] != example["predicted"]


def test_equal_names_are_one_class(clip: Clip, data: Labelled) -> None:
    split = np.where(np.arange(24) % 2, data.targets, data.targets + 3)
    twice = replace(data, targets=split, keys=tuple("abcdef"), names={"en": data.names["en"] * 2})
    single, double = zero_shot(clip, data, "en"), zero_shot(clip, twice, "en")
    assert double.figures == single.figures
    assert any("3 classes have another's name" in note and "astronaut" in note for note in double.notes)
    several = np.zeros((24, 6), bool)
    several[np.arange(24), split] = True
    assert zero_shot_logits(clip, replace(twice, targets=several)).targets.tolist() == np.eye(3, dtype=bool)[
        data.targets
    ].tolist()  # fmt: skip


def test_templates_are_the_datas_own_unless_others_are_asked_for(clip: Clip, data: Labelled) -> None:
    own = replace(data, templates={"en": ("a cut from a photo of a {}.",)})
    first = zero_shot_logits(clip, own)
    sentences = [f"a cut from a photo of a {name}." for name in data.names["en"]]
    np.testing.assert_allclose(first.classes, clip.encode_texts(sentences), atol=1e-6)
    assert first.settings["templates"] == "the data's own"
    assert zero_shot_logits(clip, own, "ja").settings["templates"] == "simple"
    assert zero_shot_logits(clip, own, templates="imagenet7").settings["sentences"] == 7
    assert zero_shot_logits(clip, own, templates=["{}", "the {}"]).settings["templates"] == "given"
    with pytest.raises(UsageError, match="no templates are called 'sonnets'"):
        zero_shot(clip, own, templates="sonnets")


def test_logits_are_those_of_the_models_rule(clip: Clip, data: Labelled) -> None:
    found = zero_shot_logits(clip, data)
    np.testing.assert_allclose(found.logits, clip.scoring.logits(found.vectors @ found.classes.T))
    assert found.logits.shape == (24, 3)


def test_languages(clip: Clip, data: Labelled) -> None:
    with pytest.raises(DataError, match="class names in en, ja, and not in 'fr'"):
        zero_shot(clip, data, "fr")
    japanese = replace(data, names={"ja": data.names["ja"]})
    assert zero_shot(clip, japanese).settings["language"] == "ja"
    finnish = replace(data, names={"fi": ("astronautti", "kahvi", "raketti")})
    assert zero_shot(clip, finnish).settings["templates"] == "none"
    russian = replace(data, names={"ru": ("космонавт", "кофе", "ракета")})
    assert zero_shot(clip, russian).n == 24


def test_odd_sets_are_said_in_the_notes(clip: Clip, data: Labelled, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(SAMPLES[0].read_bytes()[:400])
    pictures, targets = [*data.pictures, broken], np.append(data.targets, 1)
    names = {"en": (*data.names["en"], "unicorn")}
    odd = replace(data, pictures=pictures, targets=targets, keys=tuple("abcd"), names=names, notes=("from afar",))
    result = zero_shot(clip, odd)
    assert result.n == 24
    assert result.notes[0] == "from afar"
    assert any("broken.jpg" in note for note in result.notes)
    assert any("1 class has no picture" in note and "unicorn" in note for note in result.notes)
    assert result.items["picture"].tolist() == list(range(24))
    alone = replace(data, pictures=data.pictures[:8], targets=data.targets[:8], keys=("a",), names={"en": ("cat",)})
    one = zero_shot(clip, alone)
    assert any("one class only" in note for note in one.notes)
    assert set(one.figures) == {"top1", "mean_per_class"}


def test_several_classes_a_picture_with_the_model(clip: Clip, data: Labelled) -> None:
    targets = np.eye(3, dtype=bool)[data.targets]
    targets[5] = False
    result = zero_shot(clip, replace(data, targets=targets, metric="map"))
    assert {"map", "map_11_point", "roc_auc", "top1"} == set(result.figures)
    assert any("1 pictures are of no class" in note for note in result.notes)
    assert not result.items["correct"][5]
    assert result.settings["metric"] == "map"


def test_groups_get_figures_and_skew(clip: Clip, data: Labelled) -> None:
    sides = tuple("large" if i % 8 < 4 else "small" for i in range(24))
    result = zero_shot(clip, replace(data, groups={"cut": sides}))
    large = result.items["correct"][np.array(sides) == "large"]
    assert result.figures["top1, cut = large"].value == large.mean()
    assert result.figures["top1, cut: gap"].value >= 0
