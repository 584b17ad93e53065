"""What a decoded picture shows of itself besides its vector: EXIF's facts, a thumbnail, and a hash of its looks.

Metadata are strangers' too: whatever cannot be read is left out, and never makes a picture unusable.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import re
from collections.abc import Mapping
from datetime import datetime
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

from awase.encoding.formats import format_of
from awase.encoding.pictures import REDUCED_BOX
from awase.tasks.search.entries import Details

THUMBNAIL = 256  # pixels of the longer side
QUALITY = 75
LONGEST = 2000  # characters of a description

_MAKE, _MODEL, _DESCRIPTION, _CHANGED, _ORIENTATION = 0x010F, 0x0110, 0x010E, 0x0132, 0x0112
_EXIF, _GPS = 0x8769, 0x8825
_SHOT, _DIGITISED = 0x9003, 0x9004
_CAMERAS_SAY = re.compile(r"(?i)(\w+ )*digital camera|sony dsc|dcim.*|default|untitled|image")  # and mean nothing


def content_hash(data: bytes) -> bytes:
    """16 bytes that stand for a file's content (BLAKE2b)."""
    return hashlib.blake2b(data, digest_size=16).digest()


def details_of(picture: Image.Image, unread: Image.Image, data: bytes, content: bytes) -> Details:
    """picture: as `open_picture` gives it; unread: as `open_unread` does; data: the bytes of their file."""
    exif = _exif_of(unread)
    width, height = unread.size
    if exif.get(_ORIENTATION) in (5, 6, 7, 8):
        width, height = height, width
    small = _small(picture)
    return Details(
        format=format_of(data) or "",
        width=width,
        height=height,
        content=content,
        likeness=likeness_of(small),
        thumbnail=_jpeg(small),
        taken=_taken(exif),
        camera=_camera(exif),
        **_place(exif),
        caption=_caption(exif),
    )


def likeness_of(picture: Image.Image) -> int:
    """dHash: whether brightness falls from each to the next of 9 x 8 cells, row by row, as 64 bits (Krawetz, 2013)."""
    cells = np.asarray(picture.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    return int.from_bytes(np.packbits(cells[:, :-1] > cells[:, 1:]).tobytes(), "big")


def _small(picture: Image.Image) -> Image.Image:
    """RGB or grey, the longer side at most THUMBNAIL."""
    if picture.mode not in ("RGB", "L", "CMYK", "YCbCr"):
        picture = picture.convert("RGB")  # a palette's numbers cannot be averaged
    box = picture.info.get(REDUCED_BOX, (0, 0, *picture.size))
    scale = min(1.0, THUMBNAIL / max(picture.size))
    size = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    small = picture.resize(size, Image.Resampling.BILINEAR, box, reducing_gap=1.5)
    return small if small.mode in ("RGB", "L") else small.convert("RGB")


def _jpeg(small: Image.Image) -> bytes:
    file = BytesIO()
    small.info.clear()  # no profile, comment or place of the owner travels with it
    small.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


# ---- EXIF ------------------------------------------------------------------------------------------------------------


def _exif_of(unread: Image.Image) -> Mapping[int, Any]:
    with contextlib.suppress(Exception):
        return Image.Image.getexif(unread)  # PNG's own would decode the picture again to look behind it
    return {}


def _part(exif: Mapping[int, Any], which: int) -> Mapping[int, Any]:
    with contextlib.suppress(Exception):
        if isinstance(exif, Image.Exif):
            return exif.get_ifd(which)
    return {}


def _text(value: object) -> str:
    """A tag as one line, without what a terminal would not print."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return ""
    return " ".join("".join(c if c.isprintable() else " " for c in value.split("\0")[0]).split())[:LONGEST]


def _taken(exif: Mapping[int, Any]) -> str | None:
    details = _part(exif, _EXIF)
    for value in (details.get(_SHOT), details.get(_DIGITISED), exif.get(_CHANGED)):
        with contextlib.suppress(ValueError):
            return datetime.strptime(_text(value)[:19], "%Y:%m:%d %H:%M:%S").isoformat()
    return None


def _camera(exif: Mapping[int, Any]) -> str | None:
    make, model = _text(exif.get(_MAKE)), _text(exif.get(_MODEL))
    return (model if model.lower().startswith(make.lower()) else f"{make} {model}").strip() or None


def _caption(exif: Mapping[int, Any]) -> str | None:
    text = _text(exif.get(_DESCRIPTION))
    return None if not text or _CAMERAS_SAY.fullmatch(text) else text


def _place(exif: Mapping[int, Any]) -> dict[str, float]:
    gps = _part(exif, _GPS)
    with contextlib.suppress(Exception):
        latitude, longitude = _degrees(gps[2], gps[1], "S"), _degrees(gps[4], gps[3], "W")
        if abs(latitude) <= 90 and abs(longitude) <= 180 and (latitude or longitude):  # 0, 0 is a camera without a fix
            return {"latitude": latitude, "longitude": longitude}
    return {}


def _degrees(parts: Any, reference: Any, negative: str) -> float:
    degrees, minutes, seconds = (float(part) for part in parts)
    found = degrees + minutes / 60 + seconds / 3600
    if not math.isfinite(found):
        raise ValueError(found)
    return -found if _text(reference).upper() == negative else found
