"""A decoded picture -> the square of RGB bytes that a tower eats, pixel for pixel as the family's reference makes it.

It knows nothing of files (`pictures.py`) and nothing of weights. Dividing by 255 and removing mean and standard
deviation are the tower's own first layers, so a batch of squares is a quarter of the size of what others pass around.

References: OpenAI's `_transform` and OpenCLIP's `image_transform` (torchvision on PIL), and the PIL image processors of
`transformers`, which round the crop's place down where torchvision rounds halves to even.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from awase.encoding.families import Preprocessing
from awase.encoding.pictures import DEFAULT_LIMITS, REDUCED_BOX, Limits, Picture, open_picture

Box = tuple[float, float, float, float]

_FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# A whole resized picture beyond this (64 MiB as RGB) is not made; at 224 pixels that is an aspect ratio of 334.
_RESIZED_PIXELS = 2**24
_FAST_MARGIN = 3  # sides of a reduced JPEG over the target


def prepare_source(
    source: Picture, row: Preprocessing, limits: Limits = DEFAULT_LIMITS, fast: bool = False
) -> NDArray[np.uint8]:
    """`prepare` for anything that `open_picture` opens: (S, S, 3) uint8, RGB.

    fast: a JPEG is decoded at 1/2, 1/4 or 1/8 of its size where that leaves three times the target and more, which is
    some four times faster from 4000 x 3000 to 224. On photographs at most 3 grey levels off the exact result inside and
    .2 on average; up to 10 on the outermost pixels where a side is not divisible by the reduction. (At twice the target
    it would be 7 levels inside.) Other pictures are exact.

    Raises PictureError.
    """
    return prepare(open_for(source, row, limits, fast), row)


def open_for(source: Picture, row: Preprocessing, limits: Limits = DEFAULT_LIMITS, fast: bool = False) -> Image.Image:
    """What `prepare_source` prepares, for whoever wants more of the picture than the square. Raises PictureError."""
    return open_picture(source, limits, at_least=_FAST_MARGIN * row.size if fast else None)


def prepare(picture: Image.Image, row: Preprocessing) -> NDArray[np.uint8]:
    """(S, S, 3) uint8, RGB, for S = row.size. `picture` is what `open_picture` gave.

    Equal in every pixel to the references. The one exception: where the shorter side at S would make the longer one
    so long that the picture has more than 2**24 pixels, only the middle is computed; Pillow may then take its two
    passes in the other order, which shows where they clip, at hard edges.
    """
    box: Box = picture.info.get(REDUCED_BOX, (0, 0, *picture.size))
    if row.rgb_first:
        picture = picture.convert("RGB")
    n = row.inner_side(min(box[2] - box[0], box[3] - box[1]))
    if row.resize == "squash":
        square = picture.resize((n, n), _FILTERS[row.filter], box)
    else:
        square = _centre(picture, box, row, n)
    return bordered(np.array(square.convert("RGB")), row)


def bordered(square: NDArray[np.uint8], row: Preprocessing) -> NDArray[np.uint8]:
    """(n, n, 3) in the middle of the mean colour, which a tower takes for nothing at all; (S, S, 3)."""
    n = len(square)
    if n == row.size:
        return square
    whole = np.empty((row.size, row.size, 3), np.uint8)
    whole[:] = np.rint(255 * np.array(row.mean))
    start = (row.size - n) // 2
    whole[start : start + n, start : start + n] = square
    return whole


def _centre(picture: Image.Image, box: Box, row: Preprocessing, n: int) -> Image.Image:
    """The shorter side of `box` scaled to n pixels, then the middle square."""
    width, height = resized_size(box[2] - box[0], box[3] - box[1], n)
    left, top = crop_offset(width - n, row.crop), crop_offset(height - n, row.crop)
    if width * height <= _RESIZED_PIXELS:
        whole = picture.resize((width, height), _FILTERS[row.filter], box)
        return whole.crop((left, top, left + n, top + n))
    x, y = (box[2] - box[0]) / width, (box[3] - box[1]) / height  # source pixels for one of the result
    part = box[0] + left * x, box[1] + top * y, box[0] + (left + n) * x, box[1] + (top + n) * y
    return picture.resize((n, n), _FILTERS[row.filter], part)


def resized_size(width: float, height: float, shorter: int) -> tuple[int, int]:
    """(width, height) with the shorter side at `shorter` and the longer one cut to an integer, as torchvision does."""
    if width <= height:
        return shorter, int(shorter * height / width)
    return int(shorter * width / height), shorter


def crop_offset(excess: int, rule: str) -> int:
    """Pixels cut before the middle of a side that is `excess` too long: halves to even ("round") or down ("floor")."""
    return round(excess / 2) if rule == "round" else excess // 2
