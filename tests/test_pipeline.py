"""The pipeline: in order, bounded, and no bad picture stalls it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from awase.encoding.pictures import open_picture
from awase.encoding.pipeline import BATCHES_AHEAD, Encoded, encode_stream
from awase.errors import PictureError


def prepare(source: object) -> np.ndarray:
    """A number becomes a picture filled with it; numbers divisible by 7 are slow, by 5 unreadable."""
    number = int(str(source))
    if number % 7 == 0:
        time.sleep(0.002)
    if number % 5 == 0:
        raise PictureError(str(source), "divisible by five", "choose another")
    return np.full((2, 2, 3), number % 256, np.uint8)


def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
    return {"vectors": pixels.reshape(len(pixels), -1)[:, :1].astype(np.float32)}


def encode(count: int, batch_size: int, workers: int = 3) -> list[Encoded]:
    return list(encode_stream([str(i) for i in range(1, count + 1)], prepare, run, batch_size, workers))


@pytest.mark.parametrize(("count", "batch_size"), [(1, 8), (8, 8), (100, 1), (203, 16)])
def test_every_source_comes_back_in_order(count: int, batch_size: int) -> None:
    encoded = encode(count, batch_size)
    assert [its.index for its in encoded] == list(range(count))
    assert [its.source for its in encoded] == [str(i) for i in range(1, count + 1)]
    for its in encoded:
        number = int(str(its.source))
        if number % 5:
            assert its.error is None
            assert its.outputs is not None
            assert its.outputs["vectors"].tolist() == [number % 256]
        else:
            assert its.outputs is None
            assert "divisible by five" in str(its.error)


def test_only_bad_pictures_never_reach_the_tower() -> None:
    def never(pixels: np.ndarray) -> dict[str, np.ndarray]:
        raise AssertionError("an empty batch was run")

    assert all(its.error for its in encode_stream(["5", "10", "15"], prepare, never, batch_size=2))


def test_batches_are_full_but_for_bad_pictures_and_the_last() -> None:
    sizes = []

    def counting(pixels: np.ndarray) -> dict[str, np.ndarray]:
        sizes.append(len(pixels))
        return run(pixels)

    list(encode_stream([str(i) for i in range(1, 24)], prepare, counting, batch_size=10))
    assert sizes == [8, 8, 3]  # of ten and ten and three sources, those not divisible by five


def test_no_more_pictures_are_in_memory_than_stated() -> None:
    taken = 0

    def sources() -> Iterator[str]:
        nonlocal taken
        for i in range(1, 500):
            taken += 1
            yield str(i)

    stream = encode_stream(sources(), prepare, run, batch_size=4)
    for done, _ in enumerate(stream, 1):
        assert taken <= done + 4 + BATCHES_AHEAD * 4 + 1


def test_leaving_early_stops_the_threads() -> None:
    before = threading.active_count()
    stream = encode_stream([str(i) for i in range(1, 10_000)], prepare, run, batch_size=4)
    next(stream)
    stream.close()
    assert threading.active_count() == before


def test_a_fault_that_is_no_picture_error_is_not_hidden() -> None:
    def broken(source: object) -> np.ndarray:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(encode_stream(["1"], broken, run, batch_size=1))


def slowly_brightness(source: Any) -> np.ndarray:
    time.sleep(0.002)
    return np.full((2, 2, 3), open_picture(source).convert("L").getpixel((0, 0)), np.uint8)


def brightness(sources: Iterator[Image.Image]) -> list[int | None]:
    encoded = encode_stream(sources, slowly_brightness, run, batch_size=4, workers=3)
    return [int(its.outputs["vectors"][0]) if its.outputs else None for its in encoded]


def test_frames_of_one_open_file_are_each_their_own(tmp_path: Path) -> None:
    frames = [Image.new("L", (8, 8), 10 * i) for i in range(20)]
    frames[0].save(tmp_path / "frames.tif", save_all=True, append_images=frames[1:])
    with Image.open(tmp_path / "frames.tif") as file:
        assert brightness(iter(ImageSequence.Iterator(file))) == [10 * i for i in range(20)]


def test_a_picture_that_is_drawn_over_meanwhile_is_taken_as_it_was() -> None:
    canvas = Image.new("L", (8, 8))

    def drawn() -> Iterator[Image.Image]:
        for i in range(20):
            canvas.paste(10 * i, (0, 0, 8, 8))
            yield canvas

    assert brightness(drawn()) == [10 * i for i in range(20)]


def test_a_picture_that_cannot_be_copied_stalls_nothing() -> None:
    closed = Image.new("L", (8, 8))
    closed.close()
    assert brightness(iter([Image.new("L", (8, 8), 30), closed, Image.new("L", (8, 8), 40)])) == [30, None, 40]
