"""Published checkpoints give their published values: `pytest -m network`. Downloads 1.4 GB at the first run.

The values are those of transformers' integration tests and of openai/CLIP's README."""

from __future__ import annotations

import numpy as np
import pytest

import awase

pytestmark = pytest.mark.network

TWO_CATS = "http://images.cocodataset.org/val2017/000000039769.jpg"
DIAGRAM = "https://raw.githubusercontent.com/openai/CLIP/main/CLIP.png"


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_clip_vit_b_32(engine: str) -> None:
    clip = awase.load("openai/clip-vit-base-patch32", engine=engine)
    logits = clip.scoring.logits(clip.similarity([TWO_CATS], ["a photo of a cat", "a photo of a dog"]))
    np.testing.assert_allclose(logits, [[24.5701, 19.3049]], atol=1e-3)
    np.testing.assert_allclose(
        clip.scoring.probabilities(clip.similarity([DIAGRAM], ["a diagram", "a dog", "a cat"])),
        [[0.9927937, 0.00421068, 0.00299572]],
        atol=2e-3,
    )


@pytest.mark.parametrize("engine", ["onnxruntime", "torch"])
def test_siglip_base(engine: str) -> None:
    clip = awase.load("google/siglip-base-patch16-224", engine=engine)
    cosines = clip.similarity([TWO_CATS], ["a photo of 2 cats", "a photo of 2 dogs"])
    np.testing.assert_allclose(clip.scoring.logits(cosines), [[-0.7567, -10.3354]], atol=1e-3)
    np.testing.assert_allclose(clip.scoring.probabilities(cosines), [[0.31937, 3.2463e-5]], rtol=2e-3)


def test_open_clip_names_load_too() -> None:
    clip = awase.load("hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    assert clip.classify(TWO_CATS, ["cat", "dog", "car", "tree"])[0].label == "cat"
