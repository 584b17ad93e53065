"""The 15 common corruptions in 5 severities (Hendrycks & Dietterich, 2019, arXiv:1903.12261), made on the fly.

Parameters are those of the authors' code for ImageNet-C and pictures of 224 x 224; each corruption follows it, with
two differences: frost is drawn with the colours and the contrast of the authors' photographs of it, which are not
shipped; and no picture is saved as JPEG in between. `benchmarks/corruptions.py` runs their code beside this. A picture
comes out the same for the same seed, corruption and severity.

A corruption is a function of (x, severity's settings, rng): x float64 (H, W, 3) in [0, 1], to the same, unclipped.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Literal

import numpy as np
from PIL import Image

from awase.errors import UsageError

SIZE = 224  # of the pictures that the settings are meant for
SEVERITIES = (1, 2, 3, 4, 5)
GREY = np.array([0.299, 0.587, 0.114])  # ITU-R 601

ICE = (  # the authors' five photographs of frost: mean colour, and deviation of the grey levels within 224 x 224
    ((0.32, 0.59, 0.65), 0.065),
    ((0.77, 0.79, 0.83), 0.078),
    ((0.77, 0.79, 0.82), 0.080),
    ((0.55, 0.61, 0.66), 0.103),
    ((0.39, 0.44, 0.48), 0.140),
)
NEEDLES = 6  # directions of ice needles

Edge = Literal["reflect", "mirror", "nearest"]
Generator = np.random.Generator
Corruption = Callable[[np.ndarray, Any, Generator], np.ndarray]


def corrupt(pixels: np.ndarray, name: str, severity: int, seed: int = 0) -> np.ndarray:
    """uint8 (H, W, 3) -> the same, corrupted. seed: of this picture; the noise also depends on name and severity.

    Raises UsageError for a name that is not in CORRUPTIONS or a severity outside 1 to 5."""
    if name not in CORRUPTIONS:
        raise UsageError(f"no corruption is called {name!r}; there are {', '.join(CORRUPTIONS)}")
    if severity not in SEVERITIES:
        raise UsageError(f"severity {severity} was asked for; there are 1 to 5")
    work, settings = CORRUPTIONS[name]
    rng = np.random.default_rng([seed, severity, zlib.crc32(name.encode())])
    found = work(pixels / 255.0, settings[severity - 1], rng)
    return _bytes(found)


# ---- noise ----------------------------------------------------------------------------------------------------------


def gaussian_noise(x: np.ndarray, deviation: float, rng: Generator) -> np.ndarray:
    return x + rng.normal(0, deviation, x.shape)


def shot_noise(x: np.ndarray, photons: float, rng: Generator) -> np.ndarray:
    return np.asarray(rng.poisson(x * photons) / photons)


def impulse_noise(x: np.ndarray, share: float, rng: Generator) -> np.ndarray:
    """Salt and pepper, half each, channel by channel."""
    hit, salt = rng.random(x.shape) < share, rng.random(x.shape) < 0.5
    return np.where(hit, salt.astype(float), x)


# ---- blur -----------------------------------------------------------------------------------------------------------


def defocus_blur(x: np.ndarray, settings: tuple[float, float], rng: Generator) -> np.ndarray:
    """A disk of a radius, its edge softened by a Gaussian."""
    radius, softness = settings
    reach = max(8, int(radius))
    across = np.arange(-reach, reach + 1)
    disk = (across[:, None] ** 2 + across**2 <= radius**2).astype(float)
    edge = 1 if radius <= 8 else 2  # the softening kernel is 3 or 5 wide
    soft = np.exp(-(np.arange(-edge, edge + 1.0) ** 2) / (2 * softness**2))
    soft /= soft.sum()
    return _convolved(x, _convolved(disk[..., None], np.outer(soft, soft))[..., 0] / disk.sum())


def glass_blur(x: np.ndarray, settings: tuple[float, int, int], rng: Generator) -> np.ndarray:
    """Each pixel is taken from a place near it, from the bottom right on, between two Gaussian blurs. The authors meant
    the two to change places; their code copies one over the other, and ImageNet-C was made by it."""
    deviation, reach, times = settings
    x = _bytes(_blurred(x, deviation, edge="nearest")) / 255
    height, width, _ = x.shape
    rows, columns = np.meshgrid(
        np.arange(height - reach, reach, -1), np.arange(width - reach, reach, -1), indexing="ij"
    )
    here = (rows * width + columns).ravel()
    places = list(range(height * width))
    for _ in range(times):
        moves = rng.integers(-reach, reach, size=(len(here), 2))
        for a, b in zip(here.tolist(), (here + moves[:, 1] * width + moves[:, 0]).tolist(), strict=True):
            places[a] = places[b]
    return _blurred(x.reshape(-1, 3)[places].reshape(x.shape), deviation, edge="nearest")


def motion_blur(x: np.ndarray, settings: tuple[int, float], rng: Generator) -> np.ndarray:
    return _streaked(x, *settings, angle=rng.uniform(-45, 45))


def zoom_blur(x: np.ndarray, zooms: tuple[float, float], rng: Generator) -> np.ndarray:
    """The mean of the picture and of its zooms from 1 up to the first setting, in steps of the second."""
    steps = np.arange(1, *zooms)
    return np.asarray((x + sum(_zoomed(x, zoom) for zoom in steps)) / (len(steps) + 1))


# ---- weather --------------------------------------------------------------------------------------------------------


def snow(x: np.ndarray, settings: tuple[float, float, float, float, int, float, float], rng: Generator) -> np.ndarray:
    """Flakes (noise, zoomed, what is over a threshold, streaked), falling also upside down, on a whitened picture."""
    mean, deviation, zoom, least, radius, sharpness, kept = settings
    flakes = _zoomed(rng.normal(mean, deviation, (*x.shape[:2], 1)), zoom)
    flakes[flakes < least] = 0
    flakes = _streaked(np.clip(flakes, 0, 1), radius, sharpness, angle=rng.uniform(-135, -45))
    grey = (x @ GREY)[..., None]
    return np.asarray(kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5) + flakes + np.rot90(flakes, 2))


def frost(x: np.ndarray, settings: tuple[float, float], rng: Generator) -> np.ndarray:
    """Ice over the picture: short needles in all directions over a cloudy ground."""
    kept, ice = settings
    height, width, _ = x.shape
    colour, contrast = ICE[rng.integers(len(ICE))]
    cloud = _plasma(max(height, width), 1.4, rng)[:height, :width]
    needles = np.zeros((height, width, 1))
    for angle in rng.uniform(0, 360, NEEDLES):
        needles = np.maximum(needles, _streaked(rng.random((height, width, 1)) ** 8, 4, 3, angle))
    texture = (_standard(cloud) + _standard(needles[..., 0])) / math.sqrt(2)
    return np.asarray(kept * x + ice * (np.array(colour) + contrast * texture[..., None]))


def fog(x: np.ndarray, settings: tuple[float, float], rng: Generator) -> np.ndarray:
    density, decay = settings
    height, width, _ = x.shape
    cloud = _plasma(max(height, width), decay, rng)[:height, :width, None]
    return np.asarray((x + density * cloud) * x.max() / (x.max() + density))


def brightness(x: np.ndarray, more: float, rng: Generator) -> np.ndarray:
    """More of HSV's value: the largest channel rises by as much, at most to 1, and the others in proportion."""
    value = x.max(axis=2, keepdims=True)
    raised = np.minimum(value + more, 1)
    return np.asarray(np.where(value > 0, x * raised / np.maximum(value, 1e-12), raised))


# ---- digital --------------------------------------------------------------------------------------------------------


def contrast(x: np.ndarray, kept: float, rng: Generator) -> np.ndarray:
    mean = x.mean(axis=(0, 1))
    return np.asarray((x - mean) * kept + mean)


def elastic_transform(x: np.ndarray, settings: tuple[float, float, float], rng: Generator) -> np.ndarray:
    """A random affine map, then a smooth field of moves (Simard et al., 2003)."""
    strength, smoothness, jitter = settings
    height, width, _ = x.shape
    centre, arm = np.array([height, width]) // 2, min(height, width) // 3
    corners = np.array([centre + arm, [centre[0] + arm, centre[1] - arm], centre - arm], np.float64)[:, ::-1]
    moved = corners + rng.uniform(-jitter, jitter, (3, 2))
    backwards = np.linalg.solve(np.c_[moved, np.ones(3)], corners)  # (3, 2): where a pixel comes from
    across, down = np.meshgrid(np.arange(width), np.arange(height))
    x = _looked_up(x, np.stack([across, down, np.ones_like(across)], axis=-1) @ backwards, edge="mirror")
    moves = strength * _blurred(rng.uniform(-1, 1, (height, width, 2)), smoothness, truncate=3)
    return _looked_up(x, np.stack([across, down], axis=-1) + moves)


def pixelate(x: np.ndarray, scale: float, rng: Generator) -> np.ndarray:
    picture = Image.fromarray(_bytes(x))
    small = picture.resize((int(picture.width * scale), int(picture.height * scale)), Image.Resampling.BOX)
    return np.asarray(small.resize(picture.size, Image.Resampling.BOX)) / 255


def jpeg_compression(x: np.ndarray, quality: int, rng: Generator) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(_bytes(x)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file)) / 255


# ---- parts ----------------------------------------------------------------------------------------------------------


def _bytes(x: np.ndarray) -> np.ndarray:
    """[0, 1] -> uint8, cut off and not rounded, as the authors do; what came from a byte goes back to it."""
    return np.asarray(np.clip(x, 0, 1) * 255 + 1e-6, np.uint8)


def _blurred(x: np.ndarray, deviation: float, truncate: float = 4, edge: Edge = "reflect") -> np.ndarray:
    """A Gaussian blur of (H, W, K): a matrix product from each side, cheap at any width."""
    down, across = (_blur_matrix(size, deviation, truncate, edge) for size in x.shape[:2])
    height, width, channels = x.shape
    tall = (down @ x.reshape(height, -1)).reshape(x.shape)
    wide = across @ tall.transpose(1, 0, 2).reshape(width, -1)
    return np.asarray(wide.reshape(width, height, channels).transpose(1, 0, 2))


@cache
def _blur_matrix(size: int, deviation: float, truncate: float, edge: Edge) -> np.ndarray:
    reach = int(truncate * deviation + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-(offsets**2) / (2 * deviation**2))
    columns = _inside(np.arange(size)[:, None] + offsets, size, edge)
    matrix = np.zeros((size, size))
    np.add.at(matrix, (np.arange(size)[:, None], columns), weights / weights.sum())
    return matrix


def _convolved(x: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """(H, W, K) with an odd (h, w) kernel, edges reflected about the last pixel."""
    rows, columns = kernel.shape[0] // 2, kernel.shape[1] // 2
    padded = np.pad(x, ((rows, rows), (columns, columns), (0, 0)), mode="reflect")
    shape = padded.shape[:2]
    spectrum = np.fft.rfft2(padded, axes=(0, 1)) * np.fft.rfft2(kernel, shape)[..., None]
    full = np.fft.irfft2(spectrum, shape, axes=(0, 1))
    return np.asarray(full[2 * rows :, 2 * columns :])


def _streaked(x: np.ndarray, radius: int, deviation: float, angle: float) -> np.ndarray:
    """Blur along a line at an angle in degrees, one-sided, with the weights of half a Gaussian."""
    width = 2 * radius + 1
    weights = np.exp(-(np.arange(width) ** 2) / (2 * deviation**2))
    height, length, _ = x.shape
    padded = np.pad(x, ((width, width), (width, width), (0, 0)), mode="edge")
    found = np.zeros_like(x)
    for i, weight in enumerate(weights / weights.sum()):
        top = width + math.ceil(i * math.sin(math.radians(angle)) - 0.5)
        left = width + math.ceil(i * math.cos(math.radians(angle)) - 0.5)
        found += weight * padded[top : top + height, left : left + length]
    return found


def _zoomed(x: np.ndarray, zoom: float) -> np.ndarray:
    """The middle, `zoom` times larger, bilinear: first the rows, then the columns. The middle is a whole number of
    pixels, whose first and last come out first and last; what is too much of that is cut off."""
    for axis in (0, 1):
        size = x.shape[axis]
        middle = math.ceil(size / zoom)
        large = round(middle * zoom)
        start = (size - middle) // 2
        trimmed = (large - size) // 2 + np.arange(size)
        places = start + trimmed * ((middle - 1) / max(large - 1, 1))
        whole = np.minimum(places.astype(int), size - 2)
        part = (places - whole).reshape(-1, *[1] * (2 - axis))
        x = np.take(x, whole, axis) * (1 - part) + np.take(x, whole + 1, axis) * part
    return x


def _looked_up(x: np.ndarray, places: np.ndarray, edge: Edge = "reflect") -> np.ndarray:
    """(H, W, K) at (h, w, 2) places (across, down), bilinear."""
    height, width, channels = x.shape
    whole = np.floor(places).astype(int)
    right, low = (places - whole)[..., 0, None], (places - whole)[..., 1, None]
    columns = [_inside(whole[..., 0] + by, width, edge) for by in (0, 1)]
    rows = [_inside(whole[..., 1] + by, height, edge) * width for by in (0, 1)]
    flat = x.reshape(-1, channels)
    upper, lower = ((1 - right) * flat[row + columns[0]] + right * flat[row + columns[1]] for row in rows)
    return np.asarray((1 - low) * upper + low * lower)


def _inside(places: np.ndarray, size: int, edge: Edge) -> np.ndarray:
    """Whole places anywhere on a line of `size`, brought onto it: d c b a | a b c d | d c b a by "reflect",
    d c b | a b c d | c b a by "mirror", a a a | a b c d | d d d by "nearest"."""
    if edge == "nearest":
        return np.asarray(np.clip(places, 0, size - 1))
    if edge == "mirror":
        return np.asarray(size - 1 - np.abs(places % max(2 * size - 2, 1) - (size - 1)))
    places = places % (2 * size)
    return np.asarray(np.minimum(places, 2 * size - 1 - places))


def _standard(x: np.ndarray) -> np.ndarray:
    """Moved and stretched to mean 0 and deviation 1."""
    return np.asarray((x - x.mean()) / max(x.std(), 1e-12))


def _plasma(least: int, decay: float, rng: Generator) -> np.ndarray:
    """Clouds in [0, 1], a square that wraps round, by the diamond-square rule: finer wobbles shrink by the square of
    `decay`, for the authors' code multiplies its wobble by itself."""
    size = 1 << max(8, math.ceil(math.log2(least)))
    cloud = np.zeros((size, size))
    step, wobble = size, 100.0
    while step >= 2:
        half = step // 2
        corners = cloud[::step, ::step]
        square = corners + np.roll(corners, -1, 0)
        square = square + np.roll(square, -1, 1)
        shape = square.shape
        cloud[half::step, half::step] = square / 4 + wobble * rng.uniform(-1, 1, shape)
        centres = cloud[half::step, half::step]
        above = centres + np.roll(centres, 1, 0) + corners + np.roll(corners, -1, 1)
        cloud[::step, half::step] = above / 4 + wobble * rng.uniform(-1, 1, shape)
        beside = centres + np.roll(centres, 1, 1) + corners + np.roll(corners, -1, 0)
        cloud[half::step, ::step] = beside / 4 + wobble * rng.uniform(-1, 1, shape)
        step, wobble = half, wobble / decay**2
    cloud -= cloud.min()
    return np.asarray(cloud / cloud.max())


# name -> (how, the settings of severities 1 to 5)
CORRUPTIONS: dict[str, tuple[Corruption, Sequence[Any]]] = {
    "gaussian_noise": (gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": (shot_noise, (60, 25, 12, 5, 3)),
    "impulse_noise": (impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "defocus_blur": (defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": (glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": (motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": (zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": (
        snow,
        (
            (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "frost": (frost, ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75))),
    "fog": (fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "brightness": (brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": (contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "elastic_transform": (
        elastic_transform,
        ((488, 170.8, 24.4), (488, 19.52, 48.8), (12.2, 2.44, 4.88), (17.08, 2.44, 4.88), (29.28, 2.44, 4.88)),
    ),
    "pixelate": (pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": (jpeg_compression, (25, 18, 15, 10, 7)),
}
