"""The fifteen corruptions: the right shape, repeatable, worse with severity, and what is made of accuracy under"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, map_coordinates, zoom

import awase
from awase import Clip, DataError, EngineError, UsageError
from awase.datasets.hashing import content_of
from awase.encoding.families import Preprocessing
from awase.encoding.preprocessing import prepare_source
from awase.encoding.samples import sample_cuts
from awase.evaluation import corruptions as module
from awase.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from awase.evaluation.robustness import Corrupted, effective_robustness, robustness, robustness_figures
from colours import coloured

# Where severity is the size of one thing; the settings of the others were put in order by the authors' eyes.
RISING = {"gaussian_noise", "shot_noise", "impulse_noise", "defocus_blur", "zoom_blur", "brightness", "contrast",
          "pixelate", "jpeg_compression"}  # fmt: skip


@pytest.fixture(scope="module")
def photograph() -> np.ndarray:
    return prepare_source(sample_cuts()[0], Preprocessing(224))


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.sqrt(((a.astype(float) - b) ** 2).mean()))


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_each_severity_is_a_repeatable_picture_further_from_the_clean_one(name: str, photograph: np.ndarray) -> None:
    found = [corrupt(photograph, name, severity, seed=3) for severity in SEVERITIES]
    for severity, pixels in zip(SEVERITIES, found, strict=True):
        assert pixels.shape == photograph.shape
        assert pixels.dtype == np.uint8
        assert distance(pixels, photograph) > 1
        if severity in (1, 5):
            np.testing.assert_array_equal(pixels, corrupt(photograph, name, severity, seed=3))
    distances = [distance(pixels, photograph) for pixels in found]
    assert name not in RISING or distances == sorted(distances)
    assert name == "elastic_transform" or distances[0] < distances[4]


def test_there_are_fifteen_and_seeds_matter_where_there_is_chance(photograph: np.ndarray) -> None:
    assert len(CORRUPTIONS) == 15
    fixed = {"defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression"}
    for name in CORRUPTIONS:
        same = np.array_equal(corrupt(photograph, name, 2, seed=1), corrupt(photograph, name, 2, seed=2))
        assert same == (name in fixed), name


def test_odd_sizes_and_plain_pictures() -> None:
    for shape in ((100, 160, 3), (225, 64, 3)):
        for name in CORRUPTIONS:
            for grey in (0, 255):
                assert corrupt(np.full(shape, grey, np.uint8), name, 5).shape == shape


# Mean absolute difference from the clean picture at severities 1 to 5, over all cuts of the sample photographs, by the
# code that made ImageNet-C (frost: with its photographs), as `benchmarks/corruptions.py 24` prints it.
AUTHORS = {
    "gaussian_noise": (15.14, 22.12, 31.74, 43.13, 57.48),
    "shot_noise": (13.81, 20.98, 29.50, 43.75, 54.93),
    "impulse_noise": (3.83, 7.68, 11.47, 21.69, 34.32),
    "defocus_blur": (6.47, 7.81, 10.17, 12.00, 13.74),
    "glass_blur": (7.53, 7.61, 11.81, 11.38, 12.85),
    "motion_blur": (8.27, 11.21, 14.79, 17.63, 19.59),
    "zoom_blur": (12.35, 14.67, 16.08, 17.70, 19.10),
    "snow": (39.04, 64.51, 64.19, 78.66, 93.18),
    "frost": (63.17, 81.28, 80.36, 85.01, 87.64),
    "fog": (45.18, 49.66, 55.19, 52.92, 57.15),
    "brightness": (16.80, 32.53, 45.64, 56.89, 66.68),
    "contrast": (25.09, 29.29, 33.47, 37.66, 39.75),
    "elastic_transform": (32.62, 39.67, 13.19, 12.92, 14.81),
    "pixelate": (3.82, 4.45, 5.53, 6.73, 7.56),
    "jpeg_compression": (5.29, 6.04, 6.65, 7.90, 9.82),
}
TOLERANCE = {"frost": 0.2, "fog": 0.12, "elastic_transform": 0.15, "motion_blur": 0.05, "snow": 0.05}  # drawn by chance


@pytest.mark.long
def test_each_severity_goes_as_far_as_the_authors() -> None:
    pictures = [prepare_source(cut, Preprocessing(224)) for cut in sample_cuts()]
    for name, theirs in AUTHORS.items():
        for severity, expected in zip(SEVERITIES, theirs, strict=True):
            found = [corrupt(x, name, severity, seed).astype(float) - x for seed, x in enumerate(pictures)]
            assert np.abs(found).mean() == pytest.approx(expected, rel=TOLERANCE.get(name, 0.01)), (name, severity)


def test_noise_has_the_stated_strength() -> None:
    grey = np.full((224, 224, 3), 128, np.uint8)
    assert corrupt(grey, "gaussian_noise", 1).std() / 255 == pytest.approx(0.08, rel=0.03)
    assert corrupt(grey, "shot_noise", 1).std() / 255 == pytest.approx(np.sqrt(0.502 / 60), rel=0.03)
    hit = corrupt(grey, "impulse_noise", 3)
    assert np.isin(hit, (0, 255)).mean() == pytest.approx(0.09, rel=0.05)


def test_contrast_and_brightness_by_hand() -> None:
    picture = np.zeros((2, 2, 3), np.uint8)
    picture[0] = 200
    np.testing.assert_allclose(corrupt(picture, "contrast", 5)[:, :, 0], [[105, 105], [95, 95]], atol=1)
    red = np.full((2, 2, 3), (100, 50, 0), np.uint8)
    assert corrupt(red, "brightness", 2)[0, 0].tolist() == [151, 75, 0]  # cut off, as the authors do


def test_parts_equal_scipys() -> None:
    x = np.random.default_rng(0).random((60, 80, 3))
    expected = gaussian_filter(x, (1.7, 1.7, 0), mode="reflect", truncate=4)
    np.testing.assert_allclose(module._blurred(x, 1.7), expected, atol=1e-10)
    wide = gaussian_filter(x, (40, 40, 0), mode="reflect", truncate=3)
    np.testing.assert_allclose(module._blurred(x, 40, truncate=3), wide, atol=1e-10)
    kernel = np.random.default_rng(1).random((5, 7))
    channel = convolve(x[..., 1], kernel, mode="mirror")
    np.testing.assert_allclose(module._convolved(x, kernel)[..., 1], channel, atol=1e-10)
    places = np.random.default_rng(2).uniform(-30, 120, (60, 80, 2))
    found = map_coordinates(x[..., 2], [places[..., 1], places[..., 0]], order=1, mode="reflect")
    np.testing.assert_allclose(module._looked_up(x, places)[..., 2], found, atol=1e-10)
    mirrored = map_coordinates(x[..., 2], [places[..., 1], places[..., 0]], order=1, mode="mirror")
    np.testing.assert_allclose(module._looked_up(x, places, "mirror")[..., 2], mirrored, atol=1e-10)
    near = gaussian_filter(x, (1.7, 1.7, 0), mode="nearest", truncate=4)
    np.testing.assert_allclose(module._blurred(x, 1.7, edge="nearest"), near, atol=1e-10)
    np.testing.assert_allclose(module._zoomed(x, 1.0), x)
    middle = x[(60 - 47) // 2 : (60 - 47) // 2 + 47, (80 - 62) // 2 : (80 - 62) // 2 + 62]  # of 60 / 1.3 and 80 / 1.3
    np.testing.assert_allclose(module._zoomed(x, 1.3), zoom(middle, (1.3, 1.3, 1), order=1)[:60, :80], atol=1e-10)
    np.testing.assert_allclose(module._streaked(x, 5, 3, 0)[:, 20:], x[:, 20:], atol=1)


def test_a_name_or_severity_that_is_not_there(photograph: np.ndarray) -> None:
    with pytest.raises(UsageError, match="gaussian_noise, shot_noise"):
        corrupt(photograph, "rain", 1)
    with pytest.raises(UsageError, match="1 to 5"):
        corrupt(photograph, "fog", 0)


# ---- figures ---------------------------------------------------------------------------------------------------------


def test_figures_of_a_hand_made_table() -> None:
    clean = np.array([True, True, True, False])
    corrupted = np.array([[[1, 1, 0, 0], [1, 0, 0, 0]], [[1, 1, 1, 1], [0, 0, 0, 0]]], bool)  # 2 kinds, 2 severities
    figures = robustness_figures(clean, corrupted, ["fog", "snow"], {"fog": 0.5, "snow": 0.25})
    assert figures["clean"].value == 0.75
    assert figures["fog"].value == 3 / 8
    assert figures["accuracy"].value == pytest.approx((3 / 8 + 1 / 2) / 2)
    assert figures["relative"].value == pytest.approx(figures["accuracy"].value / 0.75)
    assert figures["mce"].value == pytest.approx(((5 / 8) / 0.5 + (1 / 2) / 0.25) / 2)
    assert "effective_robustness" not in figures
    for figure in figures.values():
        assert figure.interval
        assert figure.interval[0] <= figure.value <= figure.interval[1]


def test_effective_robustness_is_the_height_above_the_line() -> None:
    assert effective_robustness(0.7, 0.7, (1.0, 0.0)) == pytest.approx(0)
    assert effective_robustness(0.6, 0.8, (1.0, -1.0)) == pytest.approx(0.6 - 0.8 / (0.8 + 0.2 * np.e))
    assert effective_robustness(1.0, 1.0, (1.0, 0.0)) == pytest.approx(1e-3)


def test_robustness_of_a_clip(clip: Clip) -> None:
    data = coloured("test", 4)
    asked = {"corruptions": ["gaussian_noise", "contrast"], "severities": [1, 5]}
    result = robustness(clip, data, **asked, pictures=10, line=(1.0, 0.0))  # type: ignore[arg-type]
    assert result.n == len(result.items["picture"]) == 10
    assert result.figures["clean"].value == result.items["clean"].mean()
    assert result.figures["accuracy"].value == pytest.approx(result.items["correct"].mean())
    assert result.figures["effective_robustness"].interval
    assert [row["corruption"] for row in result.tables["corruptions"]] == ["gaussian noise", "contrast"]
    again = robustness(clip, data, **asked, pictures=10, line=(1.0, 0.0))  # type: ignore[arg-type]
    assert again.figures == result.figures
    with pytest.raises(DataError, match="one class each"):
        robustness(clip, replace(data, targets=np.eye(4, dtype=bool)[data.targets]))
    with pytest.raises(UsageError, match="the mCE divides"):
        robustness(clip, data, corruptions=["fog"], reference={"snow": 0.3})


class Watched:
    """An engine that counts the pictures it is shown, and may break after so many."""

    def __init__(self, engine: Any, most: int | None = None, factor: float = 1.0) -> None:
        self._engine, self._most, self._factor, self.shown = engine, most, factor, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def images(self, pixels: np.ndarray, outputs: tuple[str, ...]) -> dict[str, np.ndarray]:
        self.shown += len(pixels)
        if self._most is not None and self.shown > self._most:
            raise KeyboardInterrupt
        return {name: values * self._factor for name, values in self._engine.images(pixels, outputs).items()}


def test_a_run_that_was_broken_off_goes_on(clip: Clip) -> None:
    data = coloured("test", 2, seed=5)
    asked: Any = {"corruptions": ["fog", "contrast"], "severities": [1, 5]}
    broken = Watched(clip.engine, most=20)
    with pytest.raises(KeyboardInterrupt):
        robustness(replace(clip, engine=broken), data, **asked)
    rest = Watched(clip.engine)
    found = robustness(replace(clip, engine=rest), data, **asked)
    assert rest.shown == 6 * 8 - 16  # the pictures, their squares and four corruptions; two of these were there
    again = Watched(clip.engine)
    assert robustness(replace(clip, engine=again), data, **asked).figures == found.figures
    assert again.shown == 0


def test_vectors_that_are_not_numbers_are_refused(clip: Clip) -> None:
    data = coloured("test", 1, seed=6)
    with pytest.raises(EngineError, match="not finite"), np.errstate(invalid="ignore"):
        robustness(replace(clip, engine=Watched(clip.engine, factor=np.nan)), data)


def test_chance_depends_on_what_the_picture_is_and_not_on_where_it_stands(clip: Clip) -> None:
    picture = coloured("test", 1).pictures[0]
    made = [Corrupted(picture, content_of(picture), "fog", 3, seed, clip.limits) for seed in (0, 0, 1)]
    pixels = [np.asarray(Image.open(one.open())) for one in made]
    np.testing.assert_array_equal(pixels[0], pixels[1])
    assert not np.array_equal(pixels[0], pixels[2])
    assert made[0].content == made[1].content != made[2].content
    assert made[0].content != replace(made[0], severity=2).content
