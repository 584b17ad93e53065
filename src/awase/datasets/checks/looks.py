"""What a picture looks like, from its header and a squeezed copy: enough for every check without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from awase.encoding.pictures import DEFAULT_LIMITS, Limits, Picture, open_picture, open_unread
from awase.errors import PictureError

SMALL = 64  # pixels to which both sides are squeezed, by averaging, before anything is measured
THUMB = 32
PLAIN = 8  # grey levels within which pixels count as one colour
_ORIENTATION, _MAKE, _MODEL = 0x0112, 0x010F, 0x0110
AT_ONCE = 1024  # pictures given to the threads in one go

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Look:
    """One picture. width, height: as it is seen, after EXIF's turn. orientation: EXIF's, 1 is upright. camera: as its
    EXIF has it. thumb: (32, 32, 3) uint8, the whole picture squeezed. plain: the share of the squeezed picture within 8
    grey levels of its median. border: what stands round it: "white", "black", "plain" or "" for anything else."""

    width: int
    height: int
    format: str
    mode: str
    orientation: int
    camera: str
    thumb: np.ndarray
    plain: float
    border: str


def look_at(picture: Picture, limits: Limits = DEFAULT_LIMITS) -> Look:
    """Raises PictureError where the picture cannot be read."""
    header = open_unread(picture, limits)
    orientation, camera = _exif(header)
    seen = open_picture(picture, limits, at_least=2 * SMALL)
    small = np.asarray(seen.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BOX), np.float32)
    width, height = header.size if orientation < 5 else header.size[::-1]
    grey = small.mean(axis=2)
    return Look(
        width,
        height,
        header.format or "",
        header.mode,
        orientation,
        camera,
        small.reshape(THUMB, SMALL // THUMB, THUMB, SMALL // THUMB, 3).mean(axis=(1, 3)).astype(np.uint8),
        float((np.abs(grey - np.median(grey)) <= PLAIN).mean()),
        _border(small),
    )


def look_at_all(
    pictures: Sequence[Picture], limits: Limits = DEFAULT_LIMITS, progress: Progress | None = None
) -> list[Look | PictureError]:
    """A look at each, or why it cannot be read, in order."""

    def attempt(picture: Picture) -> Look | PictureError:
        try:
            return look_at(picture, limits)
        except PictureError as error:
            return error

    found: list[Look | PictureError] = []
    with ThreadPoolExecutor(thread_name_prefix="awase-look") as pool:
        for start in range(0, len(pictures), AT_ONCE):
            for one in pool.map(attempt, pictures[start : start + AT_ONCE]):
                found.append(one)
                if progress:
                    progress(len(found), len(pictures))
    return found


def _exif(header: Image.Image) -> tuple[int, str]:
    """(orientation, camera); metadata that cannot be read say nothing."""
    try:
        exif = header.getexif()
    except Exception:
        return 1, ""
    orientation = exif.get(_ORIENTATION, 1)
    words = [str(exif.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
    camera = " ".join(word for word in words if word)[:60]
    return (orientation if isinstance(orientation, int) and 1 <= orientation <= 8 else 1), camera


def _border(small: np.ndarray) -> str:
    """Of the outermost pixels of (64, 64, 3): one colour, if nine in ten are near their median."""
    edge = np.concatenate([small[:2].reshape(-1, 3), small[-2:].reshape(-1, 3), small[:, :2].reshape(-1, 3),
                           small[:, -2:].reshape(-1, 3)])  # fmt: skip
    middle = np.median(edge, axis=0)
    if (np.abs(edge - middle).max(axis=1) <= 2 * PLAIN).mean() < 0.9:
        return ""
    return "white" if middle.min() >= 240 else "black" if middle.max() <= 15 else "plain"
