"""Squares are equal in every pixel to the references'; the fast path's deviation is what its docstring says."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from awase.encoding import preprocessing
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import open_picture
from awase.encoding.preprocessing import prepare, prepare_source, resized_size
from hostile import photograph

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.jpg"))

# (width, height): odd, thin, tiny (enlarged), square, equal to the target, and an excess of 3 modulo 4 after resizing.
SIZES = [(640, 427), (427, 640), (500, 333), (641, 479), (225, 224), (224, 224), (300, 300), (1, 1), (2, 3), (7, 5)]
SIZES += [(33, 200), (1000, 40), (223, 1024), (1023, 767), (97, 131)]
Resize = Literal["shortest", "squash"]
FILTERS: list[tuple[int, Literal["bicubic", "bilinear"]]] = [(224, "bicubic"), (97, "bilinear")]
MODES = ["RGB", "L", "P", "1", "CMYK", "YCbCr"]


@pytest.fixture(scope="module")
def open_clip_square() -> Callable[[Image.Image, int, str, str], np.ndarray]:
    transform = pytest.importorskip("open_clip").image_transform

    def square(image: Image.Image, size: int, resize: str, resampling: str) -> np.ndarray:
        steps = transform(size, False, (0, 0, 0), (1, 1, 1), resize_mode=resize, interpolation=resampling)
        tensor = steps(image).numpy()  # v / 255 for v in 0..255
        return np.rint(tensor.transpose(1, 2, 0) * 255).astype(np.uint8)

    return square


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("resize", ["shortest", "squash"])
def test_equal_to_open_clip(mode: str, resize: Resize, open_clip_square: Callable[..., np.ndarray]) -> None:
    for seed, (width, height) in enumerate(SIZES):
        image = photograph(width, height, seed).convert(mode)
        for size, resampling in FILTERS:
            row = Preprocessing(size, resize, resampling)
            expected = open_clip_square(image, size, resize, resampling)
            assert np.array_equal(prepare(open_picture(image), row), expected), (image, row)


def test_equal_to_open_clip_from_files(open_clip_square: Callable[..., np.ndarray]) -> None:
    for path in EXAMPLES:
        for size in (224, 336):
            expected = open_clip_square(Image.open(path), size, "shortest", "bicubic")
            assert np.array_equal(prepare_source(path, Preprocessing(size)), expected), path


@pytest.mark.parametrize("mode", MODES)
def test_equal_to_hugging_face_clip(mode: str) -> None:
    transformers = pytest.importorskip("transformers")
    processor = transformers.CLIPImageProcessorPil(do_rescale=False, do_normalize=False)
    row = Preprocessing(224, rgb_first=True, crop="floor")
    for seed, (width, height) in enumerate(SIZES):
        image = photograph(width, height, seed).convert(mode)
        expected = np.asarray(processor(image)["pixel_values"][0]).transpose(1, 2, 0)
        assert np.array_equal(prepare(open_picture(image), row), expected), image


@pytest.mark.parametrize("mode", MODES)
def test_equal_to_hugging_face_siglip(mode: str) -> None:
    transformers = pytest.importorskip("transformers")
    size = {"height": 256, "width": 256}
    processor = transformers.SiglipImageProcessorPil(
        size=size, resample=3, do_convert_rgb=True, do_rescale=False, do_normalize=False
    )
    row = Preprocessing(256, "squash", rgb_first=True)
    for seed, (width, height) in enumerate(SIZES):
        image = photograph(width, height, seed).convert(mode)
        expected = np.asarray(processor(image)["pixel_values"][0]).transpose(1, 2, 0)
        assert np.array_equal(prepare(open_picture(image), row), expected), image


def test_the_two_crops_differ_where_the_excess_is_3_modulo_4() -> None:
    image = photograph(640, 427)
    assert resized_size(640, 427, 224) == (335, 224)
    rounded = prepare(image, Preprocessing(224, crop="round"))
    floored = prepare(image, Preprocessing(224, crop="floor"))
    assert np.array_equal(rounded[:, :-1], floored[:, 1:])


def test_grey_and_palette_pictures_show_the_order_of_resizing_and_conversion() -> None:
    image = photograph(640, 427).quantize(64)
    late, first = prepare(image, Preprocessing(224)), prepare(image, Preprocessing(224, rgb_first=True))
    assert not np.array_equal(late, first)


@pytest.mark.parametrize("resize", ["shortest", "squash"])
@pytest.mark.parametrize(
    ("size", "side"),
    [
        ((32, 32), 176),
        ((50, 32), 176),
        ((8, 8), 176),
        ((36, 300), 198),
        ((41, 41), 224),
        ((40, 41), 220),
        ((300, 200), 224),
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_small_picture_lies_in_a_border_of_the_mean_colour(
    resize: Resize, size: tuple[int, int], side: int, mode: str
) -> None:
    row = Preprocessing(224, resize, mean=(0.5, 0.25, 1.0), enlarge=5.5, least=176)
    image = photograph(*size).convert(mode)
    square = prepare(image, row)
    assert square.shape == (224, 224, 3)
    start = (224 - side) // 2
    inside = np.zeros((224, 224), bool)
    inside[start : start + side, start : start + side] = True
    assert np.array_equal(square[inside], prepare(image, Preprocessing(side, resize)).reshape(-1, 3))
    assert (square[~inside] == [128, 64, 255]).all()


def test_the_result_is_a_writable_array_of_its_own() -> None:
    image = photograph(300, 200)
    square = prepare(image, Preprocessing(224))
    assert square.shape == (224, 224, 3)
    assert square.dtype == np.uint8
    assert square.flags.writeable
    assert square.flags.c_contiguous


@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 30_000)])
def test_needles_cost_no_memory(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, (10, 20, 30))
    assert (prepare(image, Preprocessing(224)) == [10, 20, 30]).all()


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_middle_alone_equals_the_middle_of_the_whole(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Far from black and white, where neither of Pillow's two passes clips, only the rounding of each is left."""
    for seed, (width, height) in enumerate([*SIZES, (10, 3_000), (2_001, 30)]):
        image = photograph(width, height, seed).point(lambda value: 96 + value // 4).convert(mode)
        whole = prepare(image, Preprocessing(224)).astype(int)
        with monkeypatch.context() as patch:
            patch.setattr(preprocessing, "_RESIZED_PIXELS", 0)
            middle = prepare(image, Preprocessing(224))
        assert np.abs(whole - middle).max() <= 2, image


def jpeg(image: Image.Image, orientation: int = 1, **settings: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = BytesIO()
    image.save(file, "JPEG", exif=exif, **settings)
    return file.getvalue()


def enlarged(path: Path, size: tuple[int, int]) -> Image.Image:
    """What a camera of that size would have seen: smooth, with the noise of a sensor."""
    image = Image.open(path).resize(size, Image.Resampling.BICUBIC)
    noise = np.random.default_rng(0).integers(-5, 6, (size[1], size[0], 1), np.int16)
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def deviation(data: bytes, row: Preprocessing) -> np.ndarray:
    exact, fast = (prepare_source(data, row, fast=fast).astype(int) for fast in (False, True))
    return np.abs(exact - fast)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
@pytest.mark.parametrize(("size", "resize"), [((4000, 3000), "shortest"), ((2048, 1360), "squash")])
def test_fast_is_within_three_grey_levels(path: Path, size: tuple[int, int], resize: Resize) -> None:
    difference = deviation(jpeg(enlarged(path, size), quality=90), Preprocessing(224, resize))
    assert 0 < difference.max() <= 3
    assert difference.mean() <= 0.25


@pytest.mark.parametrize("orientation", range(1, 9))
def test_fast_knows_where_a_turned_picture_ends(orientation: int) -> None:
    """1801 and 1357 are not divisible by 2: the reduced picture ends within its last row and column of pixels."""
    data = jpeg(enlarged(EXAMPLES[0], (1801, 1357)), orientation, quality=90)
    difference = deviation(data, Preprocessing(224, "squash"))
    assert 0 < difference[2:-2, 2:-2].max() <= 3
    assert difference.max() <= 10


def test_fast_leaves_small_pictures_and_other_formats_exact() -> None:
    row = Preprocessing(224)
    file = BytesIO()
    photograph(1200, 900).save(file, "PNG")
    for data in (jpeg(photograph(640, 447)), file.getvalue()):
        assert np.array_equal(prepare_source(data, row), prepare_source(data, row, fast=True))
