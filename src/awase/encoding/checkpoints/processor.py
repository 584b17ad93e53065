"""Hugging Face's preprocessor_config.json (processor_config.json since version 5) <-> `Preprocessing`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, Literal

from awase.encoding.checkpoints.folder import find
from awase.encoding.checkpoints.settings import Settings, read_settings
from awase.encoding.families import Preprocessing
from awase.errors import CheckpointError

# PIL's numbers for its filters.
FILTERS: dict[int, Literal["bicubic", "bilinear"]] = {2: "bilinear", 3: "bicubic"}


def read_preprocessing(folder: Path, default: Preprocessing) -> Preprocessing:
    """`default`, changed by what the folder's file says. Raises CheckpointError for a preparation that ends in another
    size than the tower's or leaves out a step that awase always takes."""
    file = find(folder, "preprocessor_config.json", "processor_config.json")
    if file is None:
        return default
    settings = read_settings(file)
    if "image_processor" in settings:
        settings = settings.section("image_processor")
    for step in ("do_resize", "do_rescale"):
        if not settings.flag(step, True):
            raise settings.unfit(step, "true")
    resize, size = _size(settings, default)
    if size != default.size:
        raise CheckpointError(f"{file} prepares pictures of {size} pixels for a tower that eats {default.size}")
    prepared = dataclasses.replace(
        default,
        resize=resize,
        filter=settings.choice("resample", FILTERS, 3),
        mean=settings.three("image_mean", default.mean),
        std=settings.three("image_std", default.std),
    )
    if not settings.flag("do_normalize", True):
        prepared = dataclasses.replace(prepared, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    if min(prepared.std) <= 0:
        raise settings.unfit("image_std", "numbers above 0")
    return prepared


def _size(settings: Settings, default: Preprocessing) -> tuple[Literal["shortest", "squash"], int]:
    """How a picture is brought to a square, and the square's side. Files of before 2022 give a plain number."""
    crops = settings.flag("do_center_crop", default.resize == "shortest")
    shortest, side = _sides(settings, "size", default.size)
    if not crops:
        if shortest is not None:
            raise settings.unfit("do_center_crop", "true where size is a shortest edge")
        return "squash", side
    _, cropped = _sides(settings, "crop_size", default.size)
    if cropped != (side if shortest is None else shortest):
        raise settings.unfit("crop_size", "the same size as in `size`")
    return ("squash" if shortest is None else "shortest"), cropped


def _sides(settings: Settings, key: str, default: int) -> tuple[int | None, int]:
    """(shortest edge or None, side). A plain number is a shortest edge for `size`."""
    value = settings.values.get(key)
    if not isinstance(value, dict):
        side = settings.whole(key, default)
        return side, side
    inner = settings.section(key)
    if "shortest_edge" in inner:
        side = inner.whole("shortest_edge")
        return side, side
    height, width = inner.whole("height", default), inner.whole("width", default)
    if height != width:
        raise settings.unfit(key, "a square")
    return None, height


def processor_of(row: Preprocessing, kind: Literal["CLIP", "Siglip"]) -> dict[str, Any]:
    """The content of preprocessor_config.json."""
    square = {"height": row.size, "width": row.size}
    crop = {"do_center_crop": row.resize == "shortest", "crop_size": square} if kind == "CLIP" else {}
    return {
        "image_processor_type": f"{kind}ImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": row.size} if row.resize == "shortest" else square,
        "resample": {name: number for number, name in FILTERS.items()}[row.filter],
        **crop,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": list(row.mean),
        "image_std": list(row.std),
    }
