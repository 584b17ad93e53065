"""Any source becomes a picture or one PictureError, quickly and in little memory."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from awase.encoding.families import Preprocessing
from awase.encoding.finding import Found, search
from awase.encoding.pictures import Limits, find_pictures, is_address, name_of, open_picture
from awase.encoding.preprocessing import prepare
from awase.errors import AddressRefused, AwaseError, PictureError, PictureTooLarge, UsageError
from hostile import HEIC, HEIGHT, WIDTH, make_hostile, make_odd, photograph, saved

EXAMPLES = Path(__file__).parents[1] / "examples"
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL.TiffImagePlugin")  # about broken metadata


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return make_hostile(tmp_path_factory.mktemp("hostile"))


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {path.name: path for path in make_odd(tmp_path_factory.mktemp("odd"))}


def pixels(source: object) -> np.ndarray:
    return np.asarray(open_picture(source).convert("RGB")).astype(int)  # type: ignore[arg-type]


# ---- strangers' files ------------------------------------------------------------------------------------------------


def test_every_hostile_file_is_one_picture_error_within_five_seconds(hostile: list[Path]) -> None:
    assert len(hostile) >= 60
    for path in hostile:
        start = time.monotonic()
        with pytest.raises(PictureError) as caught:
            open_picture(path)
        assert time.monotonic() - start < 5, path.name
        assert str(path) in str(caught.value)
        assert caught.value.reason
        assert caught.value.remedy


def test_no_bomb_takes_memory(hostile: list[Path]) -> None:
    """In a process of its own, because a peak never falls: the bombs would take gigabytes."""
    pytest.importorskip("resource")
    code = """
import resource, sys
from awase.encoding.pictures import open_picture
from awase.errors import PictureError
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 2**20)
open_picture(sys.argv[1])
before = peak()
for path in sys.argv[2:]:
    try: open_picture(path)
    except PictureError: pass
print(peak() - before)
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(EXAMPLES / "cat.jpg"), *map(str, hostile)]
    grown = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert grown < 150, f"{grown} MiB"


def test_hostile_bytes_and_files_are_refused_alike(hostile: list[Path]) -> None:
    for path in (path for path in hostile if path.is_file()):
        data = path.read_bytes()
        for source in (data, BytesIO(data)):
            with pytest.raises(PictureError):
                open_picture(source)


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("program.eps", "EPS"),
        ("program.jpg", "EPS"),
        ("document.pdf", "PDF"),
        ("stars.fits", "FITS"),
        ("drawing.svg", "SVG"),
        ("page.jpg", "web page"),
        ("text.jpg", "text file"),
        ("wavelets.jp2", "JPEG 2000"),
        ("layers.psd", "Photoshop"),
        ("film.jpg", "video"),
    ],
)
def test_a_refusal_says_what_the_file_looks_like(hostile: list[Path], name: str, looks: str) -> None:
    path = next(path for path in hostile if path.name == name)
    with pytest.raises(PictureError, match=f"looks like .*{looks}.*; save it as one of JPEG"):
        open_picture(path)


def test_bombs_are_refused_by_their_header_and_the_limit_can_be_lifted(hostile: list[Path]) -> None:
    bomb = next(path for path in hostile if path.name == "bomb.png")
    with pytest.raises(PictureTooLarge, match=r"196,000,000 pixels.*limit of 89,478,485.*Limits\(pixels"):
        open_picture(bomb)
    with pytest.raises(PictureTooLarge, match=r"19,200 pixels.*limit of 19,199"):
        open_picture(photograph(), Limits(pixels=WIDTH * HEIGHT - 1))
    assert open_picture(photograph(), Limits(pixels=WIDTH * HEIGHT)).size == (WIDTH, HEIGHT)


def test_bytes_over_the_limit_are_refused_from_every_source(tmp_path: Path) -> None:
    data = saved(photograph(), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    for source in (path, data, BytesIO(data)):
        assert open_picture(source, Limits(bytes=len(data))).size == (WIDTH, HEIGHT)
        if isinstance(source, BytesIO):
            source.seek(0)
        with pytest.raises(PictureTooLarge, match=r"limit of .* bytes.*Limits\(bytes"):
            open_picture(source, Limits(bytes=len(data) - 1))


def test_an_endless_stream_is_cut_at_the_limit() -> None:
    class Endless:
        read_so_far = 0

        def read(self, size: int) -> bytes:
            self.read_so_far += size
            return bytes(size)

    stream = Endless()
    with pytest.raises(PictureTooLarge):
        open_picture(stream, Limits(bytes=5_000_000))  # type: ignore[arg-type]
    assert stream.read_so_far == 5_000_001


def mutated(seed: int, whole: list[bytes]) -> bytes:
    """One of the pictures with some bytes changed, a stretch copied elsewhere, or the end cut off."""
    chance = random.Random(seed)
    data = bytearray(chance.choice(whole))
    for _ in range(chance.choice((1, 2, 5, 30))):
        place = chance.randrange(min(len(data), chance.choice((64, 600, 10**9))))  # headers more often
        match chance.randrange(4):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                data[place : place + 4] = chance.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff"))
            case 2:
                start = chance.randrange(len(data))
                data[place : place + 16] = data[start : start + 16]
            case 3 if chance.random() < 0.2:
                del data[max(place, 1) :]
    return bytes(data)


def fuzz(seeds: range, odd: dict[str, Path]) -> None:
    whole = [path.read_bytes() for path in odd.values()]
    row = Preprocessing(32)
    opened = 0
    for seed in seeds:
        data = mutated(seed, [picture for picture in whole if len(picture) < 60_000])
        try:
            assert prepare(open_picture(data, Limits(pixels=10**7)), row).shape == (32, 32, 3)
            opened += 1
        except AwaseError:
            pass
        except BaseException as escaped:
            raise AssertionError(f"seed {seed}: {escaped!r} escaped") from escaped
    assert 0 < opened < len(seeds)


@pytest.mark.filterwarnings("ignore")
def test_mutated_pictures_raise_nothing_but_picture_errors(odd: dict[str, Path]) -> None:
    fuzz(range(2_000), odd)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
def test_many_mutated_pictures_raise_nothing_but_picture_errors(odd: dict[str, Path]) -> None:
    fuzz(range(1_000, 21_000), odd)


# ---- odd files -------------------------------------------------------------------------------------------------------


def test_every_odd_file_is_opened_and_prepared(odd: dict[str, Path]) -> None:
    for path in odd.values():
        picture = open_picture(path)
        assert picture.mode in ("RGB", "L", "P", "1", "CMYK", "YCbCr"), path.name
        for row in (Preprocessing(64), Preprocessing(64, "squash", rgb_first=True)):
            assert prepare(picture, row).shape == (64, 64, 3)


STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> Image.Transpose that a camera leaves to be undone


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "deviation"), [("PNG", 0), ("TIFF", 0), ("WEBP", 6), ("AVIF", 6), ("JPEG", 6)])
def test_all_eight_orientations_are_the_same_picture(kind: str, deviation: float, orientation: int) -> None:
    upright = photograph()
    stored = upright.transpose(Image.Transpose(STORED[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    opened = open_picture(saved(stored, kind, exif=exif))
    assert opened.size == upright.size
    assert np.abs(np.asarray(opened).astype(int) - np.asarray(upright)).mean() <= deviation
    assert np.array_equal(pixels(opened), np.asarray(opened))  # opened once more, it is not turned once more


def test_alpha_is_laid_over_white(odd: dict[str, Path]) -> None:
    colours = Image.new("RGBA", (20, 10), (200, 0, 0, 0))
    colours.paste((0, 100, 0, 255), (0, 0, 10, 10))
    colours.putpixel((15, 5), (0, 0, 0, 128))
    expected = np.full((10, 20, 3), 255)
    expected[:, :10] = (0, 100, 0)
    expected[5, 15] = 127
    for source in (saved(colours, "PNG"), saved(colours, "WEBP", lossless=True), colours, np.asarray(colours)):
        assert np.array_equal(pixels(source), expected)
    transparent = Image.new("P", (4, 4), 7)
    transparent.putpalette([100] * 768)
    for data in (saved(transparent, "PNG", transparency=7), saved(transparent, "GIF", transparency=7)):
        assert (pixels(data) == 255).all()
    assert (pixels(saved(Image.new("LA", (4, 4), (0, 0)), "PNG")) == 255).all()
    assert pixels(odd["palette_alpha.png"]).max() == 255


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_unused_transparency_changes_nothing(mode: str) -> None:
    """The reference would see the same pixels in the same mode."""
    picture = photograph().convert(mode)
    alpha = {"RGB": "RGBA", "L": "LA"}
    if mode == "P":
        with_room = open_picture(saved(picture, "PNG", transparency=bytes([255] * 256)))
    else:
        with_room = open_picture(saved(picture.convert(alpha[mode]), "PNG"))
    assert with_room.mode == mode
    assert np.array_equal(pixels(with_room), pixels(picture))


def test_sixteen_bits_and_floats_are_scaled_to_eight(odd: dict[str, Path]) -> None:
    grey = pixels(odd["grey.png"])
    for name in ("deep.png", "deep.tif", "deep.pgm", "floats.tif"):
        assert np.array_equal(pixels(odd[name]), grey), name
    assert np.array_equal(pixels(odd["deep_colour.png"]), np.asarray(photograph()))


def test_integers_of_32_bits_are_refused_where_white_is_anyones_guess() -> None:
    grey = np.asarray(photograph().convert("L")).astype(np.int32)
    with pytest.raises(PictureError, match=r"32 bits from \d+ to \d+.*8 or 16 bits"):
        open_picture(saved(Image.fromarray(grey), "TIFF"))
    assert np.array_equal(open_picture(saved(Image.fromarray(grey * 257), "TIFF")), grey)
    dark = b"P5 2 1 65535\n" + np.array([[0, 255]], ">u2").tobytes()
    assert (pixels(dark) == 0).all()  # the file itself says that its white is 65535


@pytest.mark.parametrize("limit", ["pixels", "bytes", "address_bytes", "address_seconds"])
def test_limits_of_nothing_are_refused(limit: str) -> None:
    for value in (0, -1, None, "9"):
        with pytest.raises(UsageError, match=limit):
            Limits(**{limit: value})  # type: ignore[arg-type]


def test_remedies_name_the_flag_and_the_setting() -> None:
    data = saved(photograph(), "PNG")
    for limits, said in (
        (Limits(pixels=1), r"--max-pixels, Limits\(pixels"),
        (Limits(bytes=1), r"--max-bytes, Limits\(bytes"),
    ):
        with pytest.raises(PictureTooLarge, match=said):
            open_picture(data, limits)
    for address in ("http://127.0.0.1/a.jpg", "http://example.com:8080/a.jpg"):
        with pytest.raises(AddressRefused, match=r"--private-addresses, Limits\(private_addresses=True\)"):
            open_picture(address)
    with pytest.raises(AddressRefused, match="no server answers there in time") as caught:
        open_picture("http://127.0.0.1:9/a.jpg", Limits(private_addresses=True))
    assert "--private-addresses" not in str(caught.value)


def test_a_great_limit_of_bytes_takes_no_memory(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(saved(photograph(), "PNG"))
    assert open_picture(tmp_path / "a.png", Limits(bytes=2**63 - 1)).size == (WIDTH, HEIGHT)


def test_the_first_frame_is_taken(odd: dict[str, Path]) -> None:
    first = np.asarray(photograph()).astype(int)
    for name, path in odd.items():
        if name.startswith("two_frames"):
            assert np.abs(pixels(path) - first).mean() < 12, name


def test_cmyk_and_video_colours_keep_their_mode_and_look_the_same(odd: dict[str, Path]) -> None:
    first = np.asarray(photograph()).astype(int)
    for name, mode in (("cmyk.jpg", "CMYK"), ("cmyk.tif", "CMYK"), ("video_colours.tif", "YCbCr")):
        assert open_picture(odd[name]).mode == mode
        assert np.abs(pixels(odd[name]) - first).mean() < 5, name


def test_names_are_not_trusted(odd: dict[str, Path]) -> None:
    assert np.array_equal(pixels(odd["png_named.jpg"]), np.asarray(photograph()))
    assert open_picture(odd["heic_named.jpg"]).size == (64, 48)


def test_heic_shows_the_cat() -> None:
    cat = Image.open(EXAMPLES / "cat.jpg").resize((64, 48))
    assert np.abs(pixels(HEIC) - np.asarray(cat).astype(int)).mean() < 15


# ---- sources ---------------------------------------------------------------------------------------------------------


def test_every_kind_of_source_gives_the_same_picture(tmp_path: Path) -> None:
    data = saved(photograph(), "PNG")
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    expected = np.asarray(photograph())
    sources = [str(path), path, data, bytearray(data), memoryview(data), BytesIO(data), Image.open(path), photograph()]
    with path.open("rb") as file:
        for source in [*sources, file, expected]:
            assert np.array_equal(pixels(source), expected), name_of(source)


def test_arrays() -> None:
    colour = np.asarray(photograph())
    grey = colour[..., 0]
    for array, expected in (
        (grey, grey),
        (grey[..., None], grey),
        (colour[:, ::-1], colour[:, ::-1]),
        (grey.astype(np.uint16) * 257, grey),
        (colour.astype(">u2") * 257, colour),
        (colour / 255, colour),
        ((colour / 255).astype(np.float32), colour),
        ((colour / 255).astype(np.float16), colour),
    ):
        opened = open_picture(array)
        assert opened.mode == ("RGB" if expected.ndim == 3 else "L")
        assert np.array_equal(np.asarray(opened), expected), (array.shape, array.dtype)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((3, 20, 20), np.uint8), r"shape \(3, 20, 20\)"),
        (np.zeros((2, 20, 20, 3), np.uint8), "shape"),
        (np.zeros((0, 20, 3), np.uint8), "shape"),
        (np.zeros(20, np.uint8), "shape"),
        (np.zeros((20, 20), np.int64), "type int64"),
        (np.zeros((20, 20), bool), "type bool"),
        (np.zeros((20, 20), complex), "type complex128"),
        (np.full((20, 20), 255.0), "floats from 255 to 255"),
        (np.full((20, 20), -0.1), "floats from -0.1"),
        (np.full((20, 20), np.nan), "floats from nan"),
        (np.full((20, 20), "a"), "type <U1"),
    ],
)
def test_arrays_that_are_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(PictureError, match=reason):
        open_picture(array)


def test_other_objects_are_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(saved(photograph(), "PNG"))
    for source in (None, 3, ["a.jpg"], {"a": 1}, object()):
        with pytest.raises(PictureError, match="give a path, bytes"):
            open_picture(source)  # type: ignore[arg-type]
    with (tmp_path / "picture.png").open(encoding="latin-1") as text, pytest.raises(PictureError, match="binary mode"):
        open_picture(text)  # type: ignore[arg-type]
    for path in (tmp_path / "absent.jpg", "", "nul\0.jpg", "x" * 5_000):
        with pytest.raises(PictureError):
            open_picture(path)
    closed = Image.open(tmp_path / "picture.png")
    closed.close()
    with pytest.raises(PictureError):
        open_picture(closed)


def test_addresses_go_through_the_guarded_fetcher() -> None:
    for address in (
        "http://127.0.0.1/cat.jpg",
        "https://localhost/cat.jpg",
        "file:///etc/passwd",
        "data:image/png,abc",
    ):
        with pytest.raises(AddressRefused):
            open_picture(address)


def test_the_users_own_picture_stays_as_it_was() -> None:
    image = photograph().convert("RGBA")
    image.putalpha(100)
    exif = image.getexif()
    exif[0x0112] = 6
    before = image.tobytes()
    assert open_picture(image).size == (HEIGHT, WIDTH)
    assert (image.mode, image.size, image.tobytes()) == ("RGBA", (WIDTH, HEIGHT), before)


def test_pillow_keeps_its_own_settings_and_warns_of_nothing(hostile: list[Path]) -> None:
    settings = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for path in hostile:
            with pytest.raises(PictureError):
                open_picture(path)
        open_picture(saved(Image.new("1", (9_400, 9_500)), "PNG"))  # 89.3 million pixels
    assert not [warning for warning in caught if issubclass(warning.category, Image.DecompressionBombWarning)]
    assert settings == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES) == (89_478_485, False)


def test_threads_share_nothing(odd: dict[str, Path], hostile: list[Path]) -> None:
    def outcome(path: Path) -> object:
        try:
            return pixels(path).sum()
        except PictureError as error:
            return str(error)

    paths = [*odd.values(), *(path for path in hostile if not path.name.startswith("bomb"))]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(outcome, paths * 2)) == [outcome(path) for path in paths] * 2


def test_a_reduced_jpeg_keeps_at_least_the_sides_asked_for() -> None:
    data = saved(photograph(1_600, 1_203), "JPEG")
    for at_least, expected in ((None, (1_600, 1_203)), (602, (1_600, 1_203)), (601, (800, 602)), (150, (200, 151))):
        assert open_picture(data, at_least=at_least).size == expected


# ---- names and folders -----------------------------------------------------------------------------------------------


def test_names_in_messages() -> None:
    assert name_of("photos/猫.jpg") == "photos/猫.jpg"
    assert name_of(Path("a.jpg")) == "a.jpg"
    assert name_of("two\nlines\x1b[31m.jpg") == r"two\nlines\x1b[31m.jpg"
    assert name_of("http://user:secret@example.com/a.jpg") == "http://...@example.com/a.jpg"
    assert name_of(b"abc") == "<3 bytes>"
    assert name_of(np.zeros((2, 3), np.uint8)) == "<array (2, 3) uint8>"
    assert name_of(photograph()) == "<PIL image (160, 120) RGB>"
    assert len(name_of("data:" + "x" * 10**6)) <= 200
    name_of(os.fsdecode(b"\xff\xfe.jpg")).encode("utf-8")


def test_addresses_are_told_from_paths() -> None:
    assert all(map(is_address, ("http://a/b", "HTTPS://a", "file:///x", "gopher://x", "data:abc", "ftp://x", "http:x")))
    assert not any(
        map(is_address, ("a.jpg", "C:\\a.jpg", "c:/a.jpg", "a:b.jpg", "./http/a", Path("http://a"), b"http://"))
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.heic",
        "sub/deep/d.tiff",
        ".git/e.jpg",
        "[1].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def test_folders_globs_and_files_are_found_in_order(folder: Path) -> None:
    everything = ["[1].jpg", "a.PNG", "b.jpg", "folder.jpg", "sub/c.heic", "sub/deep/d.tiff"]
    assert find_pictures([folder]) == [folder / name for name in everything]
    assert find_pictures([str(folder / "*.jpg")]) == [folder / "[1].jpg", folder / "b.jpg"]
    assert find_pictures([str(folder / "**" / "*.tiff")]) == [folder / "sub/deep/d.tiff"]
    assert find_pictures([folder / "[1].jpg"]) == [folder / "[1].jpg"]
    given = [folder / "notes.txt", str(folder / "b.jpg"), "https://example.com/a.jpg", folder / "sub"]
    assert find_pictures(given) == [
        folder / "notes.txt",
        folder / "b.jpg",
        "https://example.com/a.jpg",
        folder / "sub/c.heic",
        folder / "sub/deep/d.tiff",
    ]
    assert find_pictures([]) == []


def test_a_missing_path_is_handed_on_and_stops_no_other(folder: Path) -> None:
    for missing in ("absent.jpg", "absent/*.jpg", "y" * 300 + ".jpg"):
        found = find_pictures([folder / missing, folder / "b.jpg"])
        assert found == [folder / missing, folder / "b.jpg"]
        with pytest.raises(PictureError, match=r"does not exist|too long"):
            open_picture(found[0])


def test_nothing_found_is_wrong_use_and_says_what_was_passed_over(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").touch()
    (tmp_path / ".hidden").touch()
    for nothing in (tmp_path, tmp_path / "*.pdf"):
        with pytest.raises(UsageError, match=r"no pictures found in .*; 1 other file passed over"):
            find_pictures([nothing])
    with pytest.raises(UsageError, match=r"no pictures found in .*\*\.gif; check"):
        find_pictures([tmp_path / "*.gif"])
    (tmp_path / "a.jpg").touch()
    assert search([tmp_path, tmp_path / "**" / "*"]) == Found([str(tmp_path / "a.jpg")] * 2, 1)


@pytest.mark.parametrize("given", ["photos", Path("photos"), None, 3, [None], [""]])
def test_what_is_no_list_of_paths_is_refused(given: object) -> None:
    with pytest.raises(UsageError):
        find_pictures(given)  # type: ignore[arg-type]


@pytest.mark.skipif(sys.platform == "win32", reason="links need rights on Windows")
def test_patterns_do_not_follow_links_in_circles(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.jpg").touch()
    for i in range(8):
        (tmp_path / "sub" / f"up{i}").symlink_to("..")
    start = time.monotonic()
    for pattern in ("**/*.jpg", "**/**/*.jpg", "**/*", "**"):
        assert find_pictures([tmp_path / pattern]) == [tmp_path / "sub" / "a.jpg"], pattern
    assert find_pictures([tmp_path / "sub" / "up0" / "*" / "a.jpg"]) == [tmp_path / "sub" / "up0" / "sub" / "a.jpg"]
    assert time.monotonic() - start < 2


def test_a_folder_of_hostile_files_is_listed_whole(hostile: list[Path]) -> None:
    found = find_pictures([hostile[0].parent])
    assert {path for path in hostile if path.suffix in (".jpg", ".png", ".tif", ".gif", ".heic")} <= set(found)
