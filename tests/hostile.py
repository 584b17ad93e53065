"""Files from strangers: those that must be refused (`make_hostile`) and odd ones that must be opened (`make_odd`).

Everything is generated, from a fixed seed; nothing is larger than some 20 MB. Other tests import the two makers."""

from __future__ import annotations

import base64
import os
import struct
import sys
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

# Pillow's own limits would refuse what some tests need, so pictures are small and bombs are written byte by byte.
WIDTH, HEIGHT = 160, 120

# A photograph of 64 x 48 pixels: no library of the tests' can write HEIC.
HEIC = base64.b85decode(
    "0000SW^{RQXk}?*00000ZE0pPXk}?*ZE0a<0004fZDn*}000000000XXk=`10000000000aA{+700000000000000000000B57=IV*mgE07O6l"
    "0RRC200001p#T8@00000009*M001LtX>Mi!000000RR916=`l}WdZ;I000310BCk&F#rGn01j|zbZr0t000010002}X>f9I0002pX>en20001X"
    "Xm(>m0RwOV0058x000009`FGC{rLC*01pFT0096PKmiN^|NjGU00093kN^M!000939=ZZRVE_RDDnbDP18@KU0|1Z!00RI30{|YNAb|yz>g1-m"
    "xCm%4AOHXZ10VnZ0{|gn00967L;=Bbz=;3=025<xY;ta6Y<K_x01W^JfB*mh6lrsCWdHyG00000KmY&$KmY&$C}V74Z~y=RKmY&$0RR91FaQ7m"
    "0RR91000000{{R2@Bjb+0ssI25O8UDX#fBK00RgJ2mk;87-?{AVE_OC000000RRC7fdT^sga7~m9c^S`bN~PW5hww#8GxAV<ycE4=q+6d-d$*g"
    "GepLbY<C33%Obp5!<O?ti;(hYPMwNDTJ-Ut?BtkIClxJuP8I15y9$NQZJSg%MT*bfAXlGp<wVfH2(cwsh_O9BuTmT%TmzBm)!(*97ff8FmGdoy"
    "RVEy>im%PeJ&k%<+!V`;8Lb57GH1f3x>A|EVbDf|za$#}@VqvrZfC|2CTDMA$!e{O23U0O0y6>y5-&r$Y9ZE@Qc2a|c;xrw#$POhi_05fCfOjS"
    "UYdMs`Vji510g%Lfd8@GD_SYoz;B3l)fbR!r17V|?eyCuPbiqNeRTAKCuNWsswZ!|ieLMHGHzD+#^Gi^nGIgu0nlDC)tOEQq`&"
)


def photograph(width: int = WIDTH, height: int = HEIGHT, seed: int = 0) -> Image.Image:
    """Something smooth with edges and a little noise, different in every corner."""
    y, x = np.mgrid[0:height, 0:width] / np.array([height, width]).reshape(2, 1, 1)
    noise = np.random.default_rng(seed).normal(0, 0.02, (height, width, 3))
    colours = np.stack([x, y, (x - 0.3) ** 2 + (y - 0.6) ** 2 < 0.1], axis=2) * 0.9 + noise
    return Image.fromarray((colours.clip(0, 1) * 255).astype(np.uint8))


def saved(image: Image.Image, kind: str, **settings: Any) -> bytes:
    file = BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def make_hostile(folder: Path) -> list[Path]:
    """Writes files that must be refused, each with one PictureError; returns their paths (over 100)."""
    paths = [_written(folder, name, data) for name, data in [*_truncated(), *_bombs(), *_damaged(), *_strangers()]]
    return paths + list(_not_files(folder))


def make_odd(folder: Path) -> list[Path]:
    """Writes odd files that must be opened; returns their paths (over 40)."""
    return [_written(folder, name, data) for name, data in [*_modes(), *_containers(), *_shapes(), *_names()]]


def _written(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(data)
    return path


# ---- to be refused ---------------------------------------------------------------------------------------------------


def _formats() -> dict[str, bytes]:
    image = photograph()
    return {
        "jpg": saved(image, "JPEG", quality=85),
        "png": saved(image, "PNG"),
        "webp": saved(image, "WEBP", quality=80),
        "gif": saved(image, "GIF"),
        "tif": saved(image, "TIFF", compression="tiff_lzw"),
        "bmp": saved(image, "BMP"),
        "ppm": saved(image, "PPM"),
        "avif": saved(image, "AVIF", quality=60),
        "heic": HEIC,
    }


def _truncated() -> Iterator[tuple[str, bytes]]:
    for extension, data in _formats().items():
        for eighth in range(8):
            yield f"cut_{eighth}.{extension}", data[: max(1, len(data) * eighth // 8)]
    progressive = saved(photograph(), "JPEG", progressive=True)
    yield "cut_progressive.jpg", progressive[: len(progressive) // 2]


def png(width: int, height: int, raw: bytes, depth: int = 8, colour: int = 0, before: bytes = b"") -> bytes:
    """A PNG of one deflated stream: colour 0 is grey, 2 RGB, 3 palette, 6 RGBA."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + before + chunk(b"IDAT", raw) + chunk(b"IEND", b"")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def tiff(tags: dict[int, tuple[int, int, int]], data: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory: tag -> (type, count, value); `data` starts at byte 8."""
    entries = b"".join(struct.pack("<HHII", tag, *entry) for tag, entry in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def tiff_tags(width: int, height: int, length: int, compression: int = 1) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, width),
        257: (4, 1, height),
        258: (3, 1, 8),
        259: (3, 1, compression),
        262: (3, 1, 1),
        273: (4, 1, 8),
        277: (3, 1, 1),
        278: (4, 1, height),
        279: (4, 1, length),
    }


def _deflated_zeros(count: int) -> bytes:
    press = zlib.compressobj(9)
    blocks = [press.compress(bytes(2**20)) for _ in range(count // 2**20)]
    return b"".join([*blocks, press.compress(bytes(count % 2**20)), press.flush()])


def _bombs() -> Iterator[tuple[str, bytes]]:
    side = 14_000
    yield "bomb.png", png(side, side, _deflated_zeros(side * (side // 8 + 1)), depth=1)
    yield "bomb_claimed.png", png(2**31 - 1, 2**31 - 1, zlib.compress(b""))
    packed = zlib.compress(bytes(10_000))
    yield "bomb.tif", tiff(tiff_tags(60_000, 60_000, len(packed), compression=8), packed)
    tags = tiff_tags(16, 16, len(packed), compression=8)
    tiles = {322: (4, 1, 40_000), 323: (4, 1, 40_000), 324: (4, 1, 8), 325: (4, 1, len(packed))}
    yield "bomb_tile.tif", tiff({tag: tags[tag] for tag in tags if tag not in (273, 278, 279)} | tiles, packed)
    gif = bytearray(saved(Image.new("L", (8, 8)), "GIF"))
    gif[6:10] = b"\xff" * 4
    yield "bomb_screen.gif", bytes(gif)
    gif = bytearray(saved(Image.new("L", (8, 8)), "GIF"))
    frame = gif.index(b",")
    gif[frame + 5 : frame + 9] = b"\xff" * 4
    yield "bomb_frame.gif", bytes(gif)
    lossless = struct.pack("<BI", 0x2F, 16_382 | 16_382 << 14) + bytes(59)
    yield "bomb.webp", b"RIFF" + struct.pack("<I", 12 + 64) + b"WEBPVP8L" + struct.pack("<I", 64) + lossless
    header = struct.pack("<IIIIiiHH", 1_000, 0, 54, 40, 50_000, 50_000, 1, 24)
    yield "bomb.bmp", b"BM" + header + bytes(24 + 900)
    yield "bomb.ppm", b"P6 100000 100000 255\n" + bytes(1_000)
    jpeg = bytearray(saved(photograph(), "JPEG"))
    start = jpeg.index(b"\xff\xc0")
    jpeg[start + 5 : start + 9] = b"\xff\xdc" * 2
    yield "bomb.jpg", bytes(jpeg)
    for extension, data in (("avif", saved(photograph(), "AVIF")), ("heic", HEIC)):
        place = data.index(b"ispe") + 8
        for side in (12_000, 60_000):  # over our limit, and over the libraries' own
            yield f"bomb_{side}.{extension}", data[:place] + struct.pack(">II", side, side) + data[place + 8 :]
    yield from _metadata_bombs()


def _metadata_bombs() -> Iterator[tuple[str, bytes]]:
    jpeg = saved(photograph(), "JPEG")
    exif = b"\xff\xe1" + struct.pack(">H", 65_535) + b"Exif\0\0MM\0*" + bytes(65_523)
    yield "bomb_exif.jpg", jpeg[:2] + exif * 300 + jpeg[2:]
    yield "bomb_junk.jpg", jpeg[:20] + bytes(20_000_000) + jpeg[20:]  # after the first segment
    yield "bomb_padding.jpg", jpeg[:20] + b"\xff" * 5_000_000 + jpeg[20:]
    yield "bomb_segments.jpg", jpeg[:20] + b"\xff\xfe\0\2" * 1_000_000 + jpeg[20:]
    profile = b"icc\0\0" + _deflated_zeros(100 * 2**20)
    pixels = zlib.compress(bytes(17 * 16))
    yield "bomb_icc.png", png(16, 16, pixels, before=chunk(b"iCCP", profile))
    text = chunk(b"zTXt", b"key\0\0" + _deflated_zeros(50 * 2**20))
    yield "bomb_text.png", png(16, 16, pixels, before=text)
    many = chunk(b"zTXt", b"key\0\0" + _deflated_zeros(2**20 - 1))
    yield "bomb_texts.png", png(16, 16, pixels, before=many * 100)
    yield "bomb_chunks.png", png(16, 16, pixels, before=chunk(b"teSt", b"") * 1_000_000)


def _damaged() -> Iterator[tuple[str, bytes]]:
    whole = _formats()
    signatures = {"jpg": 3, "png": 8, "webp": 12, "gif": 6, "tif": 4, "bmp": 2, "ppm": 3, "avif": 12, "heic": 12}
    for extension, length in signatures.items():
        yield f"signature_only.{extension}", whole[extension][:length]
        yield f"signature_and_noise.{extension}", whole[extension][:length] + np.random.default_rng(1).bytes(5_000)
    yield "zero_bytes.jpg", b""
    yield "one_byte.jpg", b"\xff"
    yield "zeros.jpg", bytes(10_000)
    yield "no_sides.png", png(0, 0, zlib.compress(b""))
    yield "no_sides.ppm", b"P6 0 0 255\n"
    yield "checksum.png", whole["png"][:20] + b"\1" + whole["png"][21:]
    middle = len(whole["png"]) // 2
    yield "flipped.png", whole["png"][:middle] + bytes(64) + whole["png"][middle + 64 :]
    yield "no_frame.jpg", b"\xff\xd8" + whole["jpg"][whole["jpg"].index(b"\xff\xda") :]
    yield "no_strips.tif", tiff({tag: entry for tag, entry in tiff_tags(16, 16, 256).items() if tag != 273})
    yield "strip_outside.tif", tiff(tiff_tags(16, 16, 256) | {273: (4, 1, 10**9)}, bytes(256))
    values = np.linspace(0, 255, 64, dtype=np.float32).reshape(8, 8)
    yield "floats_to_255.tif", saved(Image.fromarray(values), "TIFF")
    yield "nan.tif", saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF")
    yield "negative.tif", saved(Image.fromarray(np.full((8, 8), -5, np.int32)), "TIFF")


def _strangers() -> Iterator[tuple[str, bytes]]:
    yield "text.jpg", b"I am a text, not a picture.\n"
    yield "japanese.jpg", "絵ではなく、文です。\n".encode()
    yield "page.jpg", b"<!DOCTYPE html><html><body>404 Not Found</body></html>"
    yield "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><image href="file:///etc/passwd"/></svg>'
    yield "drawing.png", b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "aaaa">]><svg>&a;</svg>'
    yield "program.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n(/tmp/marker) (w) file closefile\n"
    yield "program.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"
    yield "document.pdf", b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n"
    cards = [f"{key:8}= {value:>20}" for key, value in (("SIMPLE", "T"), ("BITPIX", "8"), ("NAXIS", "0"))]
    yield "stars.fits", "".join(f"{card:80}" for card in [*cards, "END"]).ljust(2880).encode()
    yield "layers.psd", b"8BPS\0\1" + bytes(100)
    yield "icon.ico", saved(photograph(32, 32), "ICO")
    yield "wavelets.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(100)
    yield "new.jxl", b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(100)
    yield "archive.png", b"PK\3\4" + bytes(100)
    yield "packed.tif", b"\x1f\x8b\x08" + bytes(100)
    yield "film.jpg", b"\0\0\0\x18ftypmp42" + bytes(100)
    yield "targa.tga", saved(photograph(), "TGA")
    yield "program.gif", b"\x7fELF" + bytes(100)
    yield "noise.jpg", np.random.default_rng(2).bytes(20_000)


def _not_files(folder: Path) -> Iterator[Path]:
    (folder / "folder.jpg").mkdir()
    yield folder / "folder.jpg"
    if sys.platform == "win32":
        return
    for name, target in (
        ("dangling.jpg", "nowhere.jpg"),
        ("circle.jpg", "circle.jpg"),
        ("device.jpg", "/dev/zero"),
        ("null.jpg", "/dev/null"),
        ("link_to_folder.jpg", "folder.jpg"),
    ):
        (folder / name).symlink_to(target)
        yield folder / name
    os.mkfifo(folder / "fifo.jpg")
    yield folder / "fifo.jpg"
    if os.geteuid() != 0:  # root may read everything
        locked = _written(folder, "locked.jpg", saved(photograph(), "JPEG"))
        locked.chmod(0)
        yield locked


# ---- to be opened ----------------------------------------------------------------------------------------------------


def _modes() -> Iterator[tuple[str, bytes]]:
    image = photograph()
    yield "cmyk.jpg", saved(image.convert("CMYK"), "JPEG")
    yield "cmyk.tif", saved(image.convert("CMYK"), "TIFF")
    yield "video_colours.tif", saved(image.convert("YCbCr"), "TIFF")
    yield "grey.jpg", saved(image.convert("L"), "JPEG")
    yield "grey.png", saved(image.convert("L"), "PNG")
    yield "one_bit.png", saved(image.convert("1"), "PNG")
    yield "one_bit.tif", saved(image.convert("1"), "TIFF", compression="group4")
    yield "palette.png", saved(image.quantize(64), "PNG")
    yield "palette_alpha.png", saved(image.quantize(64), "PNG", transparency=bytes([0, 128] + [255] * 62))
    yield "palette_key.gif", saved(image.quantize(64), "GIF", transparency=3)
    grey_alpha = Image.merge("LA", (image.convert("L"), image.getchannel(0)))
    yield "grey_alpha.png", saved(grey_alpha, "PNG")
    with_alpha = Image.merge("RGBA", (*image.split(), image.getchannel(1)))
    for extension, kind in (("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("avif", "AVIF")):
        yield f"alpha.{extension}", saved(with_alpha, kind)
    yield "colour_key.png", saved(image, "PNG", transparency=(0, 0, 0))
    deep = np.asarray(image.convert("L")).astype(np.uint16) * 257
    yield "deep.png", saved(Image.fromarray(deep), "PNG")
    yield "deep.tif", saved(Image.fromarray(deep), "TIFF")
    yield "deep.pgm", b"P5 160 120 65535\n" + deep.astype(">u2").tobytes()
    colours = np.asarray(image).astype(">u2") * 257
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in colours)
    yield "deep_colour.png", png(WIDTH, HEIGHT, zlib.compress(lines), depth=16, colour=2)
    yield "floats.tif", saved(Image.fromarray((deep / 65535).astype(np.float32)), "TIFF")


def _containers() -> Iterator[tuple[str, bytes]]:
    image, other = photograph(), photograph(seed=1).transpose(Image.Transpose.ROTATE_180)
    whole = _formats()
    yield from ((f"plain.{extension}", data) for extension, data in whole.items())
    for extension, kind in (("gif", "GIF"), ("png", "PNG"), ("webp", "WEBP"), ("tif", "TIFF"), ("avif", "AVIF")):
        yield f"two_frames.{extension}", saved(image, kind, save_all=True, append_images=[other])
    yield "two_frames.mpo.jpg", saved(image, "MPO", save_all=True, append_images=[other])
    yield "progressive.jpg", saved(image, "JPEG", progressive=True)
    yield "lossless.webp", saved(image, "WEBP", lossless=True)
    yield "big_endian.tif", saved(image, "TIFF", big_tiff=True)
    yield "jpeg_inside.tif", saved(image, "TIFF", compression="jpeg")
    yield "plain_numbers.ppm", b"P3 2 1 255\n255 0 0  0 0 255\n"
    yield "trailing_garbage.jpg", whole["jpg"] + bytes(10_000)
    yield "broken_exif.jpg", saved(image, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    yield "profile.jpg", saved(image, "JPEG", icc_profile=bytes(200_000))
    yield "circle.tif", tiff(tiff_tags(16, 16, 256), bytes(256))[:-4] + struct.pack("<I", 8 + 256)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        yield f"orientation_{orientation}.jpg", saved(image, "JPEG", exif=exif)


def _shapes() -> Iterator[tuple[str, bytes]]:
    for width, height in ((1, 1), (1, 20_000), (20_000, 1), (3, 2), (2, 700), (5_000, 4)):
        yield f"shape_{width}x{height}.png", saved(photograph(width, height), "PNG")


def _names() -> Iterator[tuple[str, bytes]]:
    whole = _formats()
    yield "png_named.jpg", whole["png"]
    yield "jpeg_named.png", whole["jpg"]
    yield "heic_named.jpg", whole["heic"]
    yield "webp_named.jpeg", whole["webp"]
    yield "no_extension", whole["jpg"]
    yield "猫 と 犬.jpg", whole["jpg"]
    if sys.platform != "win32":
        yield "two\nlines \x1b[31m.jpg", whole["jpg"]
