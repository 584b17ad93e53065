"""What a file is, told from its first bytes alone: names and extensions are never trusted.

It opens nothing and knows nothing of pixels; `pictures.py` hands the formats named here to their decoders.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MEBIBYTE = 2**20

_OPENED: tuple[tuple[bytes, str], ...] = (
    (rb"\xff\xd8\xff", "JPEG"),
    (rb"\x89PNG\r\n\x1a\n", "PNG"),
    (rb"RIFF....WEBP", "WebP"),
    (rb"GIF8[79]a", "GIF"),
    (rb"II\*\0|MM\0\*|II\+\0|MM\0\+", "TIFF"),
    (rb"BM", "BMP"),
    (rb"P[1-6]\s", "PPM"),
    (rb"....ftypavi[fs]", "AVIF"),
    (rb"....ftyp(mif1|msf1)(.{4})*?avi[fs]", "AVIF"),  # a general container: the compatible brands tell
    (rb"....ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "HEIC"),
)
_NOT_OPENED: tuple[tuple[bytes, str], ...] = (
    (rb"%!PS|\xc5\xd0\xd3\xc6", "an EPS or PostScript drawing, which can run programs"),
    (rb"%PDF", "a PDF document"),
    (rb"SIMPLE  =", "a FITS image"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000 picture"),
    (rb"\0\0\0\x0cJXL |\xff\x0a", "a JPEG XL picture"),
    (rb"8BPS", "a Photoshop document"),
    (rb"\0\0[\x01\x02]\0[^\0]\0", "a Windows icon"),
    (rb"....ftyp|\x1a\x45\xdf\xa3|RIFF....AVI ", "a video"),
    (rb"PK\x03\x04|\x1f\x8b|7z\xbc\xaf|BZh|\xfd7zXZ|Rar!", "an archive"),
    (rb"(\xef\xbb\xbf)?\s*<(\?xml|svg|!doctype svg|!--)", "an SVG drawing or another XML file"),
    (rb"(\xef\xbb\xbf)?\s*<(!doctype )?html", "a web page"),
    (rb"version https://git-lfs", "a Git LFS pointer, whose file was not fetched"),
    (rb"([\t\n\r\x20-\x7e]|[\xc2-\xf4][\x80-\xbf]{1,3}){16}", "a text file"),
)

# Far more than cameras and editors write. Pillow walks these pieces in Python and joins EXIF segments in quadratic
# time, so that a few megabytes of them can keep it busy for minutes.
_JPEG_METADATA = 16 * MEBIBYTE
_PIECES = 2**16
_BARE_MARKERS = bytes([0x01, *range(0xD0, 0xDA)])  # TEM, RSTn, SOI, EOI: markers without a length


def format_of(data: bytes) -> str | None:
    """ "JPEG", "PNG", "WebP", "GIF", "TIFF", "BMP", "PPM", "AVIF", "HEIC", or None for anything else."""
    return _first_match(_OPENED, data[:64], 0)


def look_of(data: bytes) -> str | None:
    """What a file that is none of those looks like ("a PDF document"), for messages."""
    return _first_match(_NOT_OPENED, data[:512], re.IGNORECASE)


def excess_of(kind: str, data: bytes) -> str | None:
    """Why a file's structure alone would cost too much to read ("has more than ..."), or None."""
    if kind not in ("JPEG", "PNG"):
        return None
    for count, position in enumerate(_jpeg_segments(data) if kind == "JPEG" else _png_chunks(data)):
        if count > _PIECES:
            return f"is in more than {_PIECES:,} pieces"
        if kind == "JPEG" and position > _JPEG_METADATA:
            return f"has more than {_JPEG_METADATA // MEBIBYTE} MiB of metadata before its pixels"
    return None


def _first_match(table: tuple[tuple[bytes, str], ...], data: bytes, flags: int) -> str | None:
    return next((what for pattern, what in table if re.match(pattern, data, flags | re.DOTALL)), None)


def _jpeg_segments(data: bytes) -> Iterator[int]:
    """Where each segment, padding byte or stretch of junk begins, up to the start of the scan."""
    position = 2
    while position >= 0 and (marker := data[position + 1 : position + 2]) not in (b"", b"\xda"):
        yield position
        if data[position] != 0xFF or marker in (b"\x00", b"\xff"):
            position = data.find(b"\xff", position + 1)
        else:
            length = 0 if marker in _BARE_MARKERS else int.from_bytes(data[position + 2 : position + 4], "big")
            position += 2 + length
    if position >= 0:
        yield position


def _png_chunks(data: bytes) -> Iterator[int]:
    position = 8
    while position < len(data):
        yield position
        position += 12 + int.from_bytes(data[position : position + 4], "big")
