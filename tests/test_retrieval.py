"""Retrieval by counting equals retrieval by sorting; its identities hold; its memory does not grow with its work."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import awase
from awase.clip import Clip, unit
from awase.datasets.captioned import Captioned
from awase.encoding.samples import SAMPLES
from awase.errors import DataError
from awase.evaluation.retrieval import TIE, ranks, retrieval, retrieval_figures

EXAMPLE = Path(__file__).parents[1] / "examples" / "cat.jpg"
SENTENCES = {
    "astronaut.jpg": ["an astronaut in an orange suit", "a smiling woman in front of a flag"],
    "coffee.jpg": ["a cup of coffee on a table"],
    "rocket.jpg": ["a rocket on its launch pad at night", "lightning towers", "a space ship before its start"],
    "cat.jpg": ["two cats on a pink couch"],
}


def random_set(seed: int, n: int, m: int, d: int = 16) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    pictures = unit(rng.normal(size=(n, d)))
    owners = rng.permutation(np.concatenate([np.arange(min(n, m)), rng.integers(n, size=max(m - n, 0))]))
    return unit(pictures[owners] + rng.normal(size=(m, d)) * 0.8), pictures, owners


def reference(captions: np.ndarray, pictures: np.ndarray, owners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean ranks both ways from the whole matrix, in double precision."""
    scores = captions.astype(np.float64) @ pictures.astype(np.float64).T
    own = scores[np.arange(len(owners)), owners][:, None]
    others = np.arange(len(pictures)) != owners[:, None]
    text = 1 + ((scores > own + TIE) & others).sum(1) + ((abs(scores - own) <= TIE) & others).sum(1) / 2
    picture = np.zeros(len(pictures))
    for i in np.unique(owners):
        strangers, best = scores[owners != i, i], scores[owners == i, i].max()
        picture[i] = 1 + (strangers > best + TIE).sum() + (abs(strangers - best) <= TIE).sum() / 2
    return text, picture


@pytest.mark.parametrize(
    ("n", "m", "block"), [(1, 1, 4096), (40, 200, 4096), (300, 700, 64), (300, 700, 300), (50, 30, 7)]
)
def test_ranks_equal_those_of_the_whole_matrix(n: int, m: int, block: int) -> None:
    captions, pictures, owners = random_set(0, n, m)
    found = ranks(captions, pictures, owners, block=block)
    text, picture = reference(captions, pictures, owners)
    np.testing.assert_array_equal(found.text_to_picture, text)
    np.testing.assert_array_equal(found.picture_to_text, picture)


def test_ties_are_counted_whatever_the_rounding() -> None:
    """Every picture three times: three share each rank, though products of blocks round each one differently."""
    captions, pictures, owners = random_set(1, 250, 250, d=512)
    tripled = np.concatenate([pictures, pictures, pictures])
    single, found = ranks(captions, pictures, owners, block=100), ranks(captions, tripled, owners, block=100)
    np.testing.assert_array_equal(found.text_to_picture_best, 3 * single.text_to_picture_best - 2)
    np.testing.assert_array_equal(found.text_to_picture_worst, 3 * single.text_to_picture_worst)
    np.testing.assert_array_equal(found.text_to_picture, 3 * single.text_to_picture - 1)


def test_equal_captions_of_one_picture_are_no_ties_and_of_two_pictures_are() -> None:
    _, pictures, _ = random_set(2, 6, 6)
    found = ranks(pictures[[0, 0, 0, 1]], pictures, np.array([0, 0, 0, 1]))
    assert found.picture_to_text_worst[:2].tolist() == [1, 1]
    found = ranks(pictures[[0, 0]], pictures, np.array([0, 1]))
    assert (found.picture_to_text_best[0], found.picture_to_text_worst[0]) == (1, 2)


def test_one_caption_a_picture_makes_the_directions_transposes() -> None:
    captions, pictures, owners = random_set(3, 200, 200)
    there, back = ranks(captions, pictures, owners), ranks(pictures[owners], captions, np.arange(200))
    np.testing.assert_array_equal(there.text_to_picture, back.picture_to_text)
    np.testing.assert_array_equal(there.picture_to_text[owners], back.text_to_picture)


def test_recall_rises_with_k_and_ends_at_one() -> None:
    captions, pictures, owners = random_set(4, 60, 240)
    found = ranks(captions, pictures, owners)
    recalls = [(found.text_to_picture <= k).mean() for k in range(1, 61)]
    assert recalls == sorted(recalls)
    assert recalls[-1] == 1
    assert found.picture_to_text.min() >= 1
    assert found.picture_to_text.max() <= 240


def test_a_picture_without_caption_is_a_candidate_and_no_query() -> None:
    captions, pictures, owners = random_set(5, 30, 30)
    owners = np.where(owners == 7, 8, owners)
    found = ranks(captions, pictures, owners)
    assert found.picture_to_text[7] == found.picture_to_text_worst[7] == 0
    assert found.text_to_picture.max() > 1
    np.testing.assert_array_equal(found.text_to_picture, reference(captions, pictures, owners)[0])


def test_nan_is_refused() -> None:
    captions, pictures, owners = random_set(6, 10, 10)
    captions[4, 2] = np.nan
    with pytest.raises(DataError, match=r"caption 4 .* NaN"):
        ranks(captions, pictures, owners)


def test_figures_and_their_intervals() -> None:
    captions, pictures, owners = random_set(7, 100, 500, d=8)
    found = ranks(captions, pictures, owners)
    figures = retrieval_figures(found.text_to_picture, owners, found.picture_to_text)
    recalls = [figures[f"{way}_r{k}"].value for way in ("text_to_image", "image_to_text") for k in (1, 5, 10)]
    assert figures["text_to_image_r5"].value == (found.text_to_picture <= 5).mean()
    assert figures["image_to_text_r10"].value == (found.picture_to_text <= 10).mean()
    assert figures["mean_recall"].value == pytest.approx(np.mean(recalls))
    assert figures["text_to_image_median_rank"].value == np.median(found.text_to_picture)
    for name, figure in figures.items():
        assert figure.interval
        assert figure.interval[0] <= figure.value <= figure.interval[1], name
    assert (figures["text_to_image_r1"].n, figures["image_to_text_r1"].n) == (500, 100)


def test_memory_does_not_grow_with_pictures_times_captions() -> None:
    """15,000 x 15,000 numbers would be 0.9 GB; the vectors are 8 MB."""
    code = """
import resource, numpy as np
from awase.evaluation.retrieval import ranks
rng = np.random.default_rng(0)
captions, pictures = (rng.normal(size=(15000, 64)).astype(np.float32) for _ in range(2))
ranks(captions[:100], pictures[:100], np.arange(100))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
ranks(captions, pictures, np.arange(15000), block=2048)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(printed) / 1024 < 100  # MB


# ---- with the bundled model ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture(scope="module")
def data() -> Captioned:
    paths = [*SAMPLES, EXAMPLE]
    pairs = [(i, text) for i, path in enumerate(paths) for text in SENTENCES[path.name]]
    return Captioned("four", "test", paths, [text for _, text in pairs], np.array([i for i, _ in pairs]))


def test_real_pictures_and_captions_against_ten_lines(clip: Clip, data: Captioned) -> None:
    result = retrieval(clip, data)
    scores = clip.encode_texts(data.captions) @ clip.encode_images(data.pictures).T
    order = np.argsort(-scores, axis=1)
    rank = 1 + np.array([list(row).index(owner) for row, owner in zip(order, data.owners, strict=True)])
    np.testing.assert_array_equal(result.items["rank_text_to_picture"], rank)
    best = [
        1 + min(list(np.argsort(-scores[:, i])).index(j) for j in np.flatnonzero(data.owners == i)) for i in range(4)
    ]
    np.testing.assert_array_equal(result.items["rank_picture_to_text"], best)
    assert result.figures["text_to_image_r1"].value == (rank == 1).mean() > 0.5
    assert result.n == 4
    assert result.to_json()["intervals"]["mean_recall"][1] <= 1
    assert result.provenance["data"]["n"] == 4


def test_bad_and_silent_pictures_are_named_in_the_notes(clip: Clip, data: Captioned, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(EXAMPLE.read_bytes()[:500])
    silent = Image.new("RGB", (40, 40), "red")
    pictures = [*data.pictures, broken, silent]
    captions, owners = [*data.captions, "it is broken"], np.append(data.owners, 4)
    result = retrieval(clip, replace(data, pictures=pictures, captions=captions, owners=owners))
    assert any("broken.jpg" in note for note in result.notes)
    assert any("among 5, of which those without one" in note for note in result.notes)
    assert result.n == 4
    assert result.items["caption_owner"].tolist() == data.owners.tolist()


def test_twice_the_same_picture_is_a_tie_and_said(clip: Clip, data: Captioned) -> None:
    once, result = retrieval(clip, data), retrieval(clip, replace(data, pictures=[*data.pictures, EXAMPLE]))
    assert result.items["rank_text_to_picture"][-1] == once.items["rank_text_to_picture"][-1] + 0.5
    assert any("have ties; R@1 is" in note for note in result.notes)


def test_groups_get_a_figure_each(clip: Clip, data: Captioned) -> None:
    result = retrieval(clip, replace(data, groups={"place": ("in", "in", "out", "in")}))
    assert result.figures["image_to_text_r10, place = in"].n == 3


def test_no_caption_at_all(clip: Clip, data: Captioned) -> None:
    with pytest.raises(DataError, match="no picture that can be read has a caption"):
        retrieval(clip, replace(data, captions=[], owners=np.empty(0, np.int64)))
