"""Random views of a picture, for methods that learn from few: a part of it, perhaps mirrored.

RandomResizedCrop of at least half of the area and a flip, as Tip-Adapter has it. Which view is view number 3 of a
picture depends on its content alone, so that vectors of views are kept and shared like those of pictures."""

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
from awase.encoding.pictures import Picture, name_of, open_picture

AREA = (0.5, 1.0)
Data = TypeVar("Data", Labelled, Captioned)
ASPECT = (3 / 4, 4 / 3)
TRIALS = 10
AFFORDABLE = 8192  # views of all pictures together: some two minutes of the bundled model on two cores


class View:
    """One view of a picture, made when it is opened. content: what it depends on, 32 bytes."""

    def __init__(self, picture: Picture, content: bytes, number: int, size: int) -> None:
        self.name = f"{name_of(picture)}, view {number}"
        self.content = hashlib.sha256(content + f"view {number} of {size}".encode()).digest()
        self._picture, self._size = picture, size

    def open(self, _mode: str) -> BinaryIO:
        """The view as the bytes of a bitmap, size x size."""
        chance = np.random.default_rng(np.frombuffer(self.content, np.uint32))
        file = BytesIO()
        random_view(open_picture(self._picture).convert("RGB"), self._size, chance).save(file, "BMP")
        file.seek(0)
        return file


def view(data: Data, number: int, size: int) -> Data:
    """The same pictures, of each its view of that number."""
    pictures: Sequence[Picture] = [View(picture, content_of(picture), number, size) for picture in data.pictures]
    return replace(data, pictures=pictures)


def affordable(views: int, pictures: int) -> int:
    """How many of the wanted views to take of each picture: fewer where pictures are many, and need them less."""
    return min(views, max(1, AFFORDABLE // pictures))


def random_view(picture: Image.Image, size: int, chance: np.random.Generator) -> Image.Image:
    """(size, size): a box of random area and aspect, mirrored every second time; torchvision's RandomResizedCrop."""
    box = _box(*picture.size, chance)
    view = picture.resize((size, size), Image.Resampling.BICUBIC, box)
    return view.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if chance.random() < 0.5 else view


def _box(width: int, height: int, chance: np.random.Generator) -> tuple[float, float, float, float]:
    for _ in range(TRIALS):
        area = width * height * chance.uniform(*AREA)
        aspect = math.exp(chance.uniform(math.log(ASPECT[0]), math.log(ASPECT[1])))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            left, top = int(chance.integers(width - w + 1)), int(chance.integers(height - h + 1))
            return left, top, left + w, top + h
    return 0, 0, width, height
