"""Vectors are made once, for what they depend on; a killed run goes on; what cannot be a vector is named."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import awase
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.labelled import Labelled
from awase.encoding.engines import Engine
from awase.encoding.samples import SAMPLES, sample_cuts
from awase.errors import DataError, EngineError, UsageError
from awase.evaluation.provenance import provenance
from awase.evaluation.vectors import PICTURES_A_PIECE, left_out, picture_vectors, sentence_vectors

KILLED = """
import sys, awase, numpy as np
from pathlib import Path
from awase.datasets.labelled import Labelled
from awase.evaluation.vectors import picture_vectors
paths = sorted(Path(sys.argv[1]).iterdir())
data = Labelled("many", "test", paths, np.zeros(len(paths), np.int64), ("thing",), {"en": ("thing",)})
picture_vectors(awase.load(), data)
"""


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "vectors"


def labelled(pictures: list[Any]) -> Labelled:
    return Labelled("some", "test", pictures, np.zeros(len(pictures), np.int64), ("thing",), {"en": ("thing",)})


def steps() -> tuple[list[tuple[int, int]], Callable[[int, int], None]]:
    seen: list[tuple[int, int]] = []
    return seen, lambda done, of: seen.append((done, of))


def test_made_once(clip: Clip, cache: Path) -> None:
    cuts = sample_cuts()[:5]
    seen, progress = steps()
    first = picture_vectors(clip, labelled(cuts), progress=progress)
    assert seen == [(done, 5) for done in range(1, 6)]
    np.testing.assert_allclose(first.rows, clip.encode_images(cuts), atol=1e-6)
    assert first.rows.dtype == np.float32
    assert first.kept.tolist() == [0, 1, 2, 3, 4]
    again, progress = steps()
    np.testing.assert_array_equal(picture_vectors(clip, labelled(cuts), progress=progress).rows, first.rows)
    assert again == []


def test_labels_and_captions_need_no_new_vectors_and_other_pictures_do(clip: Clip, cache: Path) -> None:
    cuts = sample_cuts()[8:11]
    picture_vectors(clip, labelled(cuts))
    captioned = Captioned("other", "dev", cuts, ["a cut"], np.array([0]), "captions_ja")
    for data, made in ((captioned, 0), (labelled(cuts[::-1]), 3), (labelled(cuts[:2]), 2)):
        seen, progress = steps()
        picture_vectors(clip, data, progress=progress)
        assert len(seen) == made


def test_features_and_other_engines_are_kept_apart(clip: Clip, cache: Path) -> None:
    data = labelled(sample_cuts()[:2])
    vectors, features = picture_vectors(clip, data), picture_vectors(clip, data, "features")
    assert features.rows.shape[1] != vectors.rows.shape[1]
    direct = [found.outputs["features"] for found in clip.stream(data.pictures, "features") if found.outputs]
    np.testing.assert_allclose(features.rows, direct, rtol=1e-4, atol=1e-5)
    picture_vectors(replace(clip, fast=True), data)
    assert len(list(cache.iterdir())) == 3


def test_both_are_features_and_vectors_in_one_row(clip: Clip, cache: Path) -> None:
    data = labelled(sample_cuts()[:2])
    vectors, features = picture_vectors(clip, data), picture_vectors(clip, data, "features")
    both = picture_vectors(clip, data, "both")
    np.testing.assert_array_equal(both.rows, np.concatenate([features.rows, vectors.rows], axis=1))
    streamed = [found.outputs["both"] for found in clip.stream(data.pictures, "both") if found.outputs]
    np.testing.assert_allclose(both.rows, streamed, rtol=1e-4, atol=1e-5)


def test_a_killed_run_goes_on_where_it_stopped(clip: Clip, cache: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    cuts = sample_cuts()
    count = 2 * PICTURES_A_PIECE + 10
    for i in range(count):
        cuts[i % 24].resize((230 + i, 230)).save(folder / f"{i:03}.jpg")
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], env=os.environ)
    deadline = time.monotonic() + 60
    while not list(cache.glob("*/000000.npy")) and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL, "it was killed in the middle"
    kept = len(list(cache.glob("*/*.npy"))) * PICTURES_A_PIECE
    assert PICTURES_A_PIECE <= kept < count
    paths = sorted(folder.iterdir())
    seen, progress = steps()
    found = picture_vectors(clip, labelled(paths), progress=progress)
    assert seen[0] == (kept + 1, count)
    assert len(seen) == count - kept
    np.testing.assert_allclose(found.rows[::6], clip.encode_images(paths[::6]), atol=1e-5)


@pytest.mark.parametrize("damage", [b"", b"\x93NUMPY\x01\x00broken", None])
def test_a_damaged_piece_is_made_again(clip: Clip, cache: Path, damage: bytes | None) -> None:
    data = labelled(sample_cuts()[:4])
    first = picture_vectors(clip, data)
    (piece,) = cache.glob("*/*.npy")
    piece.write_bytes(piece.read_bytes()[:-7] if damage is None else damage)
    seen, progress = steps()
    np.testing.assert_array_equal(picture_vectors(clip, data, progress=progress).rows, first.rows)
    assert len(seen) == 4


def test_bad_pictures_are_named_each_time_and_left_out(clip: Clip, cache: Path, tmp_path: Path) -> None:
    broken = tmp_path / "half.jpg"
    broken.write_bytes(SAMPLES[0].read_bytes()[:1000])
    data = labelled([SAMPLES[0], broken, SAMPLES[1], tmp_path / "absent.jpg"])
    for _ in range(2):
        found = picture_vectors(clip, data)
        assert found.kept.tolist() == [0, 2]
        assert found.rows.shape == (2, clip.dimension)
        notes = left_out(found.errors)
        assert "half.jpg" in notes[0]
        assert "absent.jpg" in notes[1]
    with pytest.raises(DataError, match=r"none of its 1 pictures can be read; .*half\.jpg"):
        picture_vectors(clip, labelled([broken]))


@dataclass(frozen=True)
class Overflowing:
    """An engine whose answer to the second picture of a batch is not finite, as float16 gives it."""

    engine: Engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    def images(self, pixels: np.ndarray, outputs: Any = ("vectors",)) -> dict[str, np.ndarray]:
        found = self.engine.images(pixels, outputs)
        for values in found.values():
            values[1, 3] = np.nan
        return found


def test_nan_is_refused_and_the_pictures_named(clip: Clip, cache: Path) -> None:
    overflowing = replace(clip, engine=Overflowing(clip.engine))  # type: ignore[arg-type]
    for output in ("vectors", "features"):
        with pytest.raises(EngineError, match=r"one of .*coffee\.jpg.*not finite"):
            picture_vectors(overflowing, labelled(list(SAMPLES)), output)  # type: ignore[arg-type]


def test_streams_are_refused(clip: Clip, cache: Path) -> None:
    with SAMPLES[0].open("rb") as stream, pytest.raises(UsageError, match=r"astronaut\.jpg can be read only once"):
        picture_vectors(clip, labelled([stream]))


def test_an_unwritable_cache_is_only_slower(clip: Clip, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "file" / "cache"))
    assert picture_vectors(clip, labelled(sample_cuts()[:2])).rows.shape[0] == 2


def test_sentences_are_made_once_too(clip: Clip, cache: Path) -> None:
    sentences = ["a cat", "猫", "a cat", "word " * 600]
    rows, remarks = sentence_vectors(clip, sentences)
    np.testing.assert_allclose(rows[:3], clip.encode_texts(sentences[:3]), atol=1e-6)
    assert len(list(cache.glob("*/*.npy"))) == 1
    silent = replace(clip, engine=Overflowing(clip.engine))  # type: ignore[arg-type]
    again, said_again = sentence_vectors(silent, sentences)
    np.testing.assert_array_equal(again, rows)
    assert said_again == remarks


def test_provenance_names_model_data_and_versions(clip: Clip) -> None:
    data = labelled(sample_cuts()[:1])
    found = provenance(clip, data, "awase evaluate zero-shot some")
    assert found["command"] == "awase evaluate zero-shot some"
    assert found["model"]["fingerprint"] == clip.checkpoint.fingerprint
    assert len(found["data"]["sha256"]) == 64
    assert found["versions"]["awase"] == awase.__version__
    assert found["versions"]["numpy"] == np.__version__
    assert found["versions"][clip.engine.name]
    assert found["machine"]["cores"] >= 1
    assert provenance(clip, data)["command"]
