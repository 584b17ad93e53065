"""Random views of a picture, for methods that learn from few: a part of it, perhaps mirrored.

RandomResizedCrop of at least half of the area and a flip, as Tip-Adapter has it; a part of few pixels is enlarged no
further than the model enlarges a picture. Which view is view number 3 of a picture depends on its content alone, so
that vectors of views are kept and shared like those of pictures."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from io import BytesIO
from typing import BinaryIO, TypeVar

import numpy as np
from PIL import Image

from awase.datasets.captioned import Captioned
from awase.datasets.hashing import content_of
from awase.datasets.labelled import Labelled
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import Picture, name_of, open_picture
from awase.encoding.preprocessing import bordered

AREA = (0.5, 1.0)
Data = TypeVar("Data", Labelled, Captioned)
ASPECT = (3 / 4, 4 / 3)
TRIALS = 10
AFFORDABLE = 8192  # views of all pictures together: some two minutes of the bundled model on two cores


class View:
    """One view of a picture, made when it is opened. content: what it depends on, 32 bytes."""

    def __init__(self, picture: Picture, content: bytes, number: int, row: Preprocessing) -> None:
        self.name = f"{name_of(picture)}, view {number}"
        self.content = hashlib.sha256(content + f"view {number} of {row.size}".encode()).digest()
        self._picture, self._row = picture, row

    def open(self, _mode: str) -> BinaryIO:
        """The view as the bytes of a bitmap, size x size."""
        chance = np.random.default_rng(np.frombuffer(self.content, np.uint32))
        file = BytesIO()
        random_view(open_picture(self._picture).convert("RGB"), self._row, chance).save(file, "BMP")
        file.seek(0)
        return file


def view(data: Data, number: int, row: Preprocessing) -> Data:
    """The same pictures, of each its view of that number."""
    pictures: Sequence[Picture] = [View(picture, content_of(picture), number, row) for picture in data.pictures]
    return replace(data, pictures=pictures)


def affordable(views: int, pictures: int) -> int:
    """How many of the wanted views to take of each picture: fewer where pictures are many, and need them less."""
    return min(views, max(1, AFFORDABLE // pictures))


def random_view(picture: Image.Image, row: Preprocessing, chance: np.random.Generator) -> Image.Image:
    """(size, size): a box of random area and aspect, mirrored every second time; torchvision's RandomResizedCrop, with
    the border that the model gives to small pictures."""
    left, top, right, bottom = box = _box(*picture.size, chance)
    n = row.inner_side(min(right - left, bottom - top))
    view = picture.resize((n, n), Image.Resampling.BICUBIC, box)
    if chance.random() < 0.5:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return Image.fromarray(bordered(np.asarray(view), row))


def _box(width: int, height: int, chance: np.random.Generator) -> tuple[float, float, float, float]:
    for _ in range(TRIALS):
        area = width * height * chance.uniform(*AREA)
        aspect = math.exp(chance.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(chance.integers(width - w + 1)), int(chance.integers(height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height
