"""Real peers with the same random weights, pictures, names and templates: open_clip's classifier and clip_benchmark's
metrics. Answers and accuracies are the same to the last digit; logits as near as sums in float32 allow."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import top_k_accuracy_score

import awase
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.encoding import prompts
from awase.evaluation.choices import Choice
from awase.evaluation.composition import score_choices
from awase.evaluation.retrieval import retrieval
from awase.evaluation.zero_shot import zero_shot, zero_shot_logits
from references import tiny_open_clip

torch = pytest.importorskip("torch")
NAMES = ("astronaut", "coffee", "rocket", "cat", "dog", "tree", "car")
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), np.uint8)
PICTURES = [Image.fromarray(colours).resize((72, 56), Image.Resampling.BICUBIC) for colours in COLOURS]
"""Far enough from each other for a random tower to tell them apart by more than rounding."""
ROUNDING = 1e-5  # of a logit: a scale of 14 times what float32 does to a cosine


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Clip, Any]:
    """The same weights as a Clip and as open_clip's model."""
    folder = tmp_path_factory.mktemp("model")
    theirs = tiny_open_clip(folder)
    return awase.load(folder), theirs


@pytest.fixture(scope="module")
def data() -> Labelled:
    targets = np.random.default_rng(0).integers(7, size=len(PICTURES))
    return Labelled("cuts", "test", PICTURES, targets, NAMES, {"en": NAMES})


def transform(clip: Clip) -> Any:
    from open_clip.transform import image_transform

    size = clip.checkpoint.architecture.preprocessing.size
    return image_transform(size, is_train=False, interpolation="bicubic", resize_mode="shortest")


def tokenizer(clip: Clip) -> Any:
    import open_clip

    return open_clip.SimpleTokenizer(context_length=clip.tokenizer.context)


def loader(clip: Clip, targets: Any, batch: int = 5) -> Any:
    """Batches, and the names of the classes where clip_benchmark looks for them."""
    pixels = torch.stack([transform(clip)(picture) for picture in PICTURES])
    starts = range(0, len(PICTURES), batch)
    return Batches([(pixels[i : i + batch], targets[i : i + batch]) for i in starts])


class Batches(list[Any]):
    dataset = SimpleNamespace(classes=NAMES)


# ---- open_clip -------------------------------------------------------------------------------------------------------


def test_open_clip_is_fed_the_same_pixels(model: tuple[Clip, Any]) -> None:
    clip, _ = model
    said = clip.checkpoint.architecture.preprocessing
    mean, std = (np.array(given, np.float32)[:, None, None] for given in (said.mean, said.std))
    for picture in PICTURES:
        ours = (clip.prepare(picture).transpose(2, 0, 1) / np.float32(255) - mean) / std
        np.testing.assert_allclose(ours, transform(clip)(picture).numpy(), atol=1e-6)


@pytest.mark.parametrize("templates", ["simple", "imagenet7"])
def test_open_clips_own_classifier(templates: str, model: tuple[Clip, Any], data: Labelled) -> None:
    import open_clip

    clip, theirs = model
    found, result = zero_shot_logits(clip, data, templates=templates), zero_shot(clip, data, templates=templates)
    with torch.no_grad():
        sentences = prompts.templates(templates)
        weights = open_clip.build_zero_shot_classifier(theirs, tokenizer(clip), NAMES, sentences, device="cpu")
        features = theirs.encode_image(torch.stack([transform(clip)(p) for p in PICTURES]), normalize=True)
        logits = (theirs.logit_scale.exp() * features @ weights).numpy()
    np.testing.assert_allclose(found.classes, weights.T, atol=1e-6)
    np.testing.assert_allclose(found.vectors, features, atol=1e-6)
    np.testing.assert_allclose(found.logits, logits, atol=ROUNDING)
    np.testing.assert_array_equal(result.items["predicted"], logits.argmax(1))
    for k in (1, 5):
        expected = top_k_accuracy_score(data.targets, logits, k=k, labels=np.arange(7))
        assert result.figures[f"top{k}"].value == expected


# ---- clip_benchmark --------------------------------------------------------------------------------------------------


def test_clip_benchmarks_classification(
    model: tuple[Clip, Any], data: Labelled, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    clip, theirs = model
    sentences = [template.replace("{}", "{c}") for template in prompts.templates("imagenet7")]
    known = (tokenizer(clip), list(NAMES), sentences, "cpu", False)
    monkeypatch.setattr(peer, "float", lambda one: np.asarray(one).item(), raising=False)  # else stopped by NumPy 2.4
    expected = peer.evaluate(theirs, loader(clip, torch.from_numpy(data.targets)), *known)
    figures = zero_shot(clip, data, templates="imagenet7").figures
    assert figures["top1"].value == expected["acc1"]
    assert figures["top5"].value == expected["acc5"]
    assert figures["mean_per_class"].value == pytest.approx(expected["mean_per_class_recall"], abs=1e-15)


def test_clip_benchmarks_several_classes_a_picture(model: tuple[Clip, Any], data: Labelled) -> None:
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_classification")
    clip, theirs = model
    targets = np.random.default_rng(1).random((len(PICTURES), 7)) < 0.3
    sentences = ["a photo of a {c}."]
    known = (tokenizer(clip), list(NAMES), sentences, "cpu", False)
    expected = peer.evaluate(theirs, loader(clip, torch.from_numpy(targets)), *known)
    figures = zero_shot(clip, replace(data, targets=targets), templates=["a photo of a {}."]).figures
    assert figures["map"].value == pytest.approx(expected["mean_average_precision"], abs=1e-6)  # theirs in float32


def test_clip_benchmarks_retrieval(model: tuple[Clip, Any]) -> None:
    peer = pytest.importorskip("clip_benchmark.metrics.zeroshot_retrieval")
    clip, theirs = model
    told = [[f"a {NAMES[i % 7]}, number {i}", f"{i} of {NAMES[(i * 3) % 7]}"] for i in range(len(PICTURES))]
    expected = peer.evaluate(theirs, loader(clip, told), tokenizer(clip), "cpu", False, recall_k_list=[1, 5, 10])
    captions = [caption for two in told for caption in two]
    owners = np.repeat(np.arange(len(PICTURES)), 2)
    figures = retrieval(clip, Captioned("cuts", "test", PICTURES, captions, owners)).figures
    for k in (1, 5, 10):
        for mine, name in (("text_to_image", "image"), ("image_to_text", "text")):
            there = expected[f"{name}_retrieval_recall@{k}"]  # in float32
            assert np.float32(figures[f"{mine}_r{k}"].value) == np.float32(there)


def test_clip_benchmarks_choice_among_captions(model: tuple[Clip, Any], tmp_path: Path) -> None:
    peer = pytest.importorskip("clip_benchmark.metrics.image_caption_selection")
    clip, theirs = model
    told = [[f"a {NAMES[i % 7]} left of {i}", f"{i} left of a {NAMES[i % 7]}"] for i in range(len(PICTURES))]
    expected = peer.evaluate(theirs, loader(clip, told), tokenizer(clip), "cpu", False)
    files = [tmp_path / f"{i}.png" for i in range(len(PICTURES))]
    for file, picture in zip(files, PICTURES, strict=True):
        picture.save(file)
    choices = [Choice(file, right, (wrong,), "turned") for file, (right, wrong) in zip(files, told, strict=True)]
    figures = score_choices(clip, choices, "cuts").figures
    assert np.float32(figures["accuracy"].value) == np.float32(expected["text_acc"])
