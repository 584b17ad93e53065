"""The fifteen corruptions: the right shape, repeatable, worse with severity, and what is made of accuracy under"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.ndimage import convolve, gaussian_filter, map_coordinates

import awase
from awase import Clip, DataError, UsageError
from awase.encoding.families import Preprocessing
from awase.encoding.preprocessing import prepare_source
from awase.encoding.samples import sample_cuts
from awase.evaluation import corruptions as module
from awase.evaluation.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from awase.evaluation.robustness import effective_robustness, robustness, robustness_figures
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
    assert corrupt(red, "brightness", 2)[0, 0].tolist() == [151, 76, 0]


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
    np.testing.assert_allclose(module._zoomed(x, 1.0), x)
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
