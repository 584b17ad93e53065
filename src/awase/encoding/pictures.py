"""Any source -> one decoded picture: opened, bounded, upright, opaque, eight bits. The only file that opens pictures.

It knows nothing of towers or of their sizes; `preprocessing.py` makes the square.

A picture keeps its own mode (RGB, L, P, 1, CMYK, YCbCr ...), because OpenAI's and OpenCLIP's reference resizes in that
mode and converts to RGB last, while Hugging Face's converts first: the family decides, not this file. Two deviations
from those references, where they destroy the picture: transparent pictures are laid over white (they drop the alpha
channel and show whatever colours lie beneath), and values of 16 bits keep their high byte (they clip at 255, white).
Like them, it ignores colour profiles.

Strangers' files are met in this order: what kind of file is it (no fifo, device or folder is opened), how many bytes,
what format do its first bytes show (only those listed in `FORMATS` reach a decoder), how many pixels does its header
promise, and only then are pixels decoded. Whatever goes wrong on the way is one `PictureError`.
"""

from __future__ import annotations

import importlib
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from awase.encoding.finding import find_pictures, is_address, is_picture_name, printable
from awase.encoding.formats import MEBIBYTE, excess_of, format_of, look_of
from awase.errors import AwaseError, PictureError, PictureTooLarge, UsageError

__all__ = [
    "DEFAULT_LIMITS",
    "FORMATS",
    "REDUCED_BOX",
    "Limits",
    "Openable",
    "Picture",
    "find_pictures",
    "is_address",
    "is_picture_name",
    "key_of",
    "name_of",
    "open_picture",
    "open_unread",
    "read_file",
]


class Openable(Protocol):
    """What opens afresh each time, and so may be read again, or in two threads at once: a member of an archive."""

    @property
    def name(self) -> str: ...

    def open(self, mode: str, /) -> BinaryIO: ...


Picture = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Openable | Image.Image | NDArray[Any]


@dataclass(frozen=True)
class Limits:
    """What a picture may cost before it is refused."""

    pixels: int = 89_478_485
    """Width x height, checked before anything is decoded. The default is where Pillow begins to warn: 341 MiB at the
    four bytes that Pillow spends on a pixel of colour; the largest common cameras (60 megapixels) pass."""
    bytes: int = 256 * MEBIBYTE
    """Length of a file, of a stream or of bytes in memory. Metadata costs time too, so this also bounds that."""
    address_bytes: int = 20 * MEBIBYTE
    """Length of what is fetched from an http(s) address."""
    address_seconds: float = 10.0
    """Time for one address, from looking up its name to the last byte."""
    private_addresses: bool = False
    """Whether addresses of this machine and of private networks, and ports other than 80 and 443, may be fetched."""

    def __post_init__(self) -> None:
        for limit in ("pixels", "bytes", "address_bytes", "address_seconds"):
            if not (isinstance(value := getattr(self, limit), int | float) and value > 0):
                raise UsageError(f"Limits({limit}={value!r}): a limit is a number above 0")


DEFAULT_LIMITS = Limits()

# Format -> (module, class) of its Pillow plugin. Called directly rather than through Image.open, which would import
# every plugin, and would answer a large picture with a process-wide warning instead of asking our limit.
FORMATS = {
    "JPEG": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "PNG": ("PIL.PngImagePlugin", "PngImageFile"),
    "WebP": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "GIF": ("PIL.GifImagePlugin", "GifImageFile"),
    "TIFF": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "BMP": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "PPM": ("PIL.PpmImagePlugin", "PpmImageFile"),
    "AVIF": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "HEIC": ("pi_heif", "HeifImageFile"),
}

# Where the picture lies inside its pixels, as Image.resize's `box`: a JPEG decoded at 1/8 may end within a pixel.
REDUCED_BOX = "awase_reduced_box"

_ORIENTATION = 0x0112
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def open_picture(source: Picture, limits: Limits = DEFAULT_LIMITS, at_least: int | None = None) -> Image.Image:
    """The first frame of `source`, decoded, upright, opaque, of eight bits, in its own mode (see the module's text).

    source: a path, the bytes of a file, a binary file object (read from where it stands), what has `open("rb")` (a
    member of an archive), an http(s) address (under `limits`), a PIL image, or an array: (H, W), (H, W, 1), (H, W, 3)
    RGB or (H, W, 4) RGBA; uint8, uint16 (65535 is white) or floats in 0..1 (1 is white).
    at_least: permission to decode a JPEG at 1/2, 1/4 or 1/8 of its size while both sides keep `at_least` pixels;
    `preprocessing.prepare` then places the picture as it would the whole one.

    Raises PictureError (PictureTooLarge, AddressRefused) and nothing else.
    """
    name = name_of(source)
    with _refusing(name):
        if isinstance(source, np.ndarray):
            return _over_white(_from_array(source, name, limits))
        if isinstance(source, Image.Image):
            return _finish(source, name, limits, None)
        data = _read(source, name, limits)
        _check_length(len(data), name, limits)
        return _finish(_opened(data, name), name, limits, at_least)


def open_unread(source: Picture, limits: Limits = DEFAULT_LIMITS) -> Image.Image:
    """Format, size, mode and metadata as the file has them: no pixel is decoded yet, nothing is turned. An array or a
    PIL image is what it is. Raises PictureError."""
    name = name_of(source)
    with _refusing(name):
        if isinstance(source, Image.Image):
            return source
        if isinstance(source, np.ndarray):
            return _from_array(source, name, limits)
        data = _read(source, name, limits)
        _check_length(len(data), name, limits)
        return _opened(data, name)


def name_of(source: object) -> str:
    """What messages call a source: a path as given, unprintable characters escaped; an address without password."""
    text, longest = key_of(source), 4096
    if isinstance(source, str) and is_address(source):
        text, longest = re.sub(r"//[^/@]*@", "//...@", text), 200
    text = text if len(text) <= longest else f"{text[: longest - 50]}...{text[-40:]}"
    return printable(text) or "''"


def key_of(source: object) -> str:
    """The name of a source whole and as it is, by which the pictures of a data set are told apart; not for messages."""
    if isinstance(source, (str, os.PathLike)):
        return os.fsdecode(source)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return f"<{len(source):,} bytes>"
    if isinstance(source, Image.Image):
        return os.fsdecode(getattr(source, "filename", "")) or f"<PIL image {source.size} {source.mode}>"
    if isinstance(source, np.ndarray):
        return f"<array {source.shape} {source.dtype}>"
    named = getattr(source, "name", None)
    return named if isinstance(named, str) and named else f"<{type(source).__name__}>"


# ---- from a source to bytes ------------------------------------------------------------------------------------------


def _read(source: object, name: str, limits: Limits) -> bytes:
    """The file behind a source, at most one byte over the limit; never waits on a fifo or a device."""
    if isinstance(source, str) and is_address(source):
        from awase.encoding.fetching import fetch  # ssl and http.client take 30 ms that files need not pay

        size = min(limits.address_bytes, limits.bytes)
        return fetch(source, bytes_limit=size, seconds=limits.address_seconds, private=limits.private_addresses)
    if isinstance(source, (str, os.PathLike)):
        return read_file(os.fsdecode(source), limits)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source)
    if callable(getattr(source, "open", None)):
        with cast(Openable, source).open("rb") as stream:
            return _read_stream(stream, name, limits.bytes)
    if callable(getattr(source, "read", None)):
        return _read_stream(cast(BinaryIO, source), name, limits.bytes)
    remedy = "give a path, bytes, a binary file object, an http(s) address, a PIL image or a NumPy array"
    raise PictureError(name, "is nothing that a picture can be read from", remedy)


def read_file(path: str, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a picture's file, whatever is in it; at most one over the limit, should it grow meanwhile.

    Raises PictureError (PictureTooLarge) for what is no file, may not be read or is over the limit."""
    name = name_of(path)

    def opener(path: str, flags: int) -> int:  # not blocking, should a fifo take the file's place after the look at it
        return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))

    try:
        _check_kind(os.stat(path).st_mode, name)
        with open(path, "rb", opener=opener) as file:
            status = os.fstat(file.fileno())
            _check_kind(status.st_mode, name)
            _check_length(status.st_size, name, limits)
            return file.read(min(status.st_size, limits.bytes) + 1)  # Python takes the memory at once
    except FileNotFoundError as problem:
        if os.path.islink(path):
            raise PictureError(name, "is a link to a file that does not exist", "restore the file") from problem
        raise PictureError(name, "does not exist", "check the name") from problem
    except PermissionError as problem:
        raise PictureError(name, "may not be read by this user", "change its permissions") from problem
    except (OSError, ValueError) as problem:
        raise PictureError(name, f"cannot be read ({_short(problem)})", "check the path and its disk") from problem


def _check_kind(mode: int, name: str) -> None:
    if stat.S_ISDIR(mode):
        remedy = "give the folder itself to a command that takes folders, and check that it may be listed"
        raise PictureError(name, "is a folder, not a picture", remedy)
    if not stat.S_ISREG(mode):
        raise PictureError(name, "is a pipe, socket or device, not a file", "save the picture to a file first")


def _read_stream(stream: BinaryIO, name: str, limit: int) -> bytes:
    parts, length = [], 0
    while length <= limit and (part := stream.read(min(limit + 1 - length, MEBIBYTE))):
        if not isinstance(part, bytes):
            raise PictureError(name, "was opened as text", 'open it in binary mode, open(path, "rb")')
        parts.append(part)
        length += len(part)
    return b"".join(parts)


def _check_length(length: int, name: str, limits: Limits) -> None:
    if not length:
        raise PictureError(name, "is empty (0 bytes)", "copy or download it again")
    if length > limits.bytes:
        reason = f"is over the limit of {limits.bytes:,} bytes"
        raise PictureTooLarge(name, reason, "make it smaller, or raise the limit: --max-bytes, Limits(bytes=...)")


# ---- from bytes to a picture -----------------------------------------------------------------------------------------


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Turns whatever a decoder raises into one PictureError about `name`."""
    try:
        yield
    except AwaseError:
        raise
    except Image.DecompressionBombError as problem:  # where a plugin asks Pillow's limit before we can ask ours
        remedy = "make it smaller, or raise Pillow's limit, PIL.Image.MAX_IMAGE_PIXELS, beside Limits(pixels=...)"
        raise PictureTooLarge(name, f"is too large for Pillow ({_short(problem)})", remedy) from problem
    except MemoryError as problem:
        raise PictureTooLarge(name, "needs more memory than there is", "make it smaller") from problem
    except Exception as problem:
        reason = f"is damaged or cut short ({_short(problem)})"
        raise PictureError(name, reason, "copy or download it again, or save it anew in an editor") from problem


def _short(problem: BaseException) -> str:
    return (str(problem).split("\n")[0] or type(problem).__name__)[:160]


def _opened(data: bytes, name: str) -> Image.Image:
    """Format, size and mode are read, pixels not yet."""
    kind = format_of(data)
    if kind is None:
        looks = look_of(data)
        reason = f"looks like {looks}" if looks else "is of no known picture format"
        raise PictureError(name, reason, f"save it as one of {', '.join(FORMATS)}")
    if excess := excess_of(kind, data):
        raise PictureTooLarge(name, excess, "save it anew in an editor, without metadata")
    module, plugin = FORMATS[kind]
    image: Image.Image = getattr(importlib.import_module(module), plugin)(BytesIO(data))
    return image


def _finish(image: Image.Image, name: str, limits: Limits, at_least: int | None) -> Image.Image:
    """An opened but perhaps unread image -> decoded, upright, of eight bits, opaque."""
    _check_pixels(image.width * image.height, name, limits)
    tile = getattr(image, "tag_v2", {})  # a TIFF's one tile may be larger than the whole picture
    width, height = tile.get(322, 0), tile.get(323, 0)
    _check_pixels(width * height if isinstance(width, int) and isinstance(height, int) else 0, name, limits)
    reduced = image.draft(image.mode, (at_least, at_least)) if at_least else None
    image.load()
    orientation, made_of_16 = _orientation_of(image), image.format in ("PNG", "PPM")
    box = _place_box(reduced[1], image.size, orientation) if reduced else None
    if orientation != 1:
        image = image.transpose(_TRANSPOSES[orientation])
        for metadata in ("exif", "xmp", "Raw profile type exif"):  # so that nobody turns it a second time
            image.info.pop(metadata, None)
    image = _over_white(_eight_bits(image, name, made_of_16))
    if box and box != (0, 0, *image.size):
        image.info[REDUCED_BOX] = box
    return image


def _check_pixels(pixels: int, name: str, limits: Limits) -> None:
    if pixels > limits.pixels:
        reason = f"has {pixels:,} pixels, over the limit of {limits.pixels:,}"
        raise PictureTooLarge(name, reason, "make it smaller, or raise the limit: --max-pixels, Limits(pixels=...)")


def _orientation_of(image: Image.Image) -> int:
    """EXIF's orientation, 1 (upright) to 8; metadata that cannot be read do not make the picture unusable."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:
        return 1
    return orientation if isinstance(orientation, int) and orientation in _TRANSPOSES else 1


def _place_box(
    box: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """Where (0, 0, x, y) of a picture of `size` lies after the picture is turned upright."""
    (width, height), (right, bottom) = size, box[2:]
    left, top = (width - right) * (orientation in (2, 3, 7, 8)), (height - bottom) * (orientation in (3, 4, 6, 7))
    placed = left, top, left + right, top + bottom
    return (placed[1], placed[0], placed[3], placed[2]) if orientation >= 5 else placed


def _eight_bits(image: Image.Image, name: str, made_of_16: bool) -> Image.Image:
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "I":  # how Pillow holds grey PGM and PNG files of 16 bits, and TIFF files of 32
        least, most = int(values.min()), int(values.max())
        if least < 0 or most > 65535 or (0 < most <= 255 and not made_of_16):
            reason = f"has integers of 32 bits from {least} to {most}, so that nobody can tell which of them is white"
            raise PictureError(name, reason, "save it with 8 or 16 bits a channel")
        values = values.astype(np.uint16)
    return Image.fromarray(_to_bytes(values, name))


def _to_bytes(values: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """uint8 as it is; the high byte of 16 bits (as Pillow reads 16-bit colour); floats in 0..1 times 255, rounded."""
    if values.dtype == np.uint8:
        return values
    if values.dtype.kind == "u" and values.dtype.itemsize == 2:
        return (values >> 8).astype(np.uint8)
    if values.dtype.kind != "f":
        raise PictureError(name, f"has values of type {values.dtype}", "give uint8, uint16, or floats in 0..1")
    if not (values.min() >= 0 and values.max() <= 1):  # written so that NaN is refused
        reason = f"has floats from {values.min():.4g} to {values.max():.4g}"
        raise PictureError(name, reason, "scale them to 0..1, or give uint8")
    return np.rint(values * np.float32(255)).astype(np.uint8)


def _from_array(array: NDArray[Any], name: str, limits: Limits) -> Image.Image:
    shape = array.shape
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in (1, 3, 4)) or 0 in shape:
        remedy = "give (H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, one picture at a time, channels last"
        raise PictureError(name, f"has the shape {shape}", remedy)
    _check_pixels(shape[0] * shape[1], name, limits)
    values = np.ascontiguousarray(_to_bytes(array, name))
    return Image.fromarray(values[..., 0] if shape[2:] == (1,) else values)


def _over_white(image: Image.Image) -> Image.Image:
    """Laid over white where it is transparent; one that only has room for transparency loses just that."""
    if not image.has_transparency_data:
        return image
    colours = image.convert("RGBA")
    alpha = colours.getchannel("A")
    if alpha.getextrema()[0] == 255:
        opaque = {"RGBA": "RGB", "RGBa": "RGB", "LA": "L", "PA": "RGB"}.get(image.mode)
        image = image.convert(opaque) if opaque else image.copy()
        image.info.pop("transparency", None)
        return image
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(colours, mask=alpha)
    return canvas
