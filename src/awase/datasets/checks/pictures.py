"""Pictures that cannot be read, lie on their side by EXIF, are too small to show anything, or show nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from awase.datasets.checks.findings import Example, Finding, share
from awase.datasets.checks.looks import Look
from awase.datasets.checks.whole import Whole
from awase.errors import PictureError

TINY = 32  # pixels of the shorter side
SMALLER_THAN_READ = 2  # times: a picture whose shorter side is less than half of what the tower reads is blown up
BLANK = 0.995  # share of the squeezed picture that is one colour
WIDE = 3.0  # times as long as high, or the reverse: a centre cut loses two thirds


def check_pictures(whole: Whole, looks: Sequence[Look | PictureError], reads: int | None = None) -> list[Finding]:
    """reads: pixels of the square that the image tower reads, where there is a model."""
    good = [(place, look) for place, look in enumerate(looks) if isinstance(look, Look)]
    errors = [(place, look) for place, look in enumerate(looks) if isinstance(look, PictureError)]
    return [*_unreadable(whole, errors), *_turned(whole, good), *_tiny(good, reads), *_blank(good), *_wide(good)]


def _unreadable(whole: Whole, errors: Sequence[tuple[int, PictureError]]) -> Iterator[Finding]:
    if errors:
        yield Finding(
            "unreadable pictures",
            "serious",
            f"{share(len(errors), len(whole))} cannot be read.",
            len(errors),
            len(whole),
            "They are missing from every figure and every batch, and other programs may stop at them.",
            "Restore each from its source, or take it out of the data; the reason stands beside each.",
            tuple(Example((place,), f"{error.reason}; {error.remedy}") for place, error in errors),
        )


def _turned(whole: Whole, good: Sequence[tuple[int, Look]]) -> Iterator[Finding]:
    turned = [(place, look) for place, look in good if look.orientation != 1]
    if turned:
        words = {2: "mirrored", 3: "upside down", 4: "mirrored, upside down", 6: "a quarter turn to the left",
                 8: "a quarter turn to the right"}  # fmt: skip
        yield Finding(
            "pictures turned by EXIF",
            "minor",
            f"{share(len(turned), len(whole))} are stored turned or mirrored and put right by an EXIF tag.",
            len(turned),
            len(whole),
            "awase turns them upright. Programs that ignore the tag, and many training scripts do, see them lying.",
            "Save them upright and without the tag, if anything else than awase reads these files.",
            tuple(
                Example((place,), f"stored {words.get(look.orientation, 'turned and mirrored')}")
                for place, look in turned
            ),
        )


def _tiny(good: Sequence[tuple[int, Look]], reads: int | None) -> Iterator[Finding]:
    def shorter(look: Look) -> int:
        return min(look.width, look.height)

    tiny = sorted((shorter(look), place, look) for place, look in good if shorter(look) < TINY)
    if tiny:
        yield Finding(
            "tiny pictures",
            "notable",
            f"{share(len(tiny), len(good))} have a side below {TINY} pixels.",
            len(tiny),
            len(good),
            "So few pixels hardly show what they are of: the model sees a smear.",
            "Fetch them in a larger size, or leave them out: they may be icons or placeholders.",
            tuple(Example((place,), f"{look.width} x {look.height}") for _, place, look in tiny),
        )
    small = [place for place, look in good if reads and TINY <= shorter(look) < reads / SMALLER_THAN_READ]
    if reads and len(small) > len(good) / 10:
        yield Finding(
            "pictures smaller than the model reads",
            "minor",
            f"{share(len(small), len(good))} have fewer than half of the {reads} pixels a side that the model reads.",
            len(small),
            len(good),
            "They show little of what it looks for; a model trained on sharp pictures does worse on them.",
            "Use larger originals if there are any; else expect it, and judge on pictures of the same size.",
            tuple(Example((place,), "") for place in small),
        )


def _blank(good: Sequence[tuple[int, Look]]) -> Iterator[Finding]:
    blank = sorted(((look.plain, place) for place, look in good if look.plain >= BLANK), reverse=True)
    if blank:
        yield Finding(
            "near-blank pictures",
            "notable",
            f"{share(len(blank), len(good))} are one colour nearly everywhere.",
            len(blank),
            len(good),
            "They show nothing that their class or caption could be learned from, and all look alike.",
            "Look at them: failed downloads, lens caps and placeholders go; a class that is truly blank may stay.",
            tuple(Example((place,), f"{100 * plain:.1f} % one colour") for plain, place in blank),
        )


def _wide(good: Sequence[tuple[int, Look]]) -> Iterator[Finding]:
    wide = [(max(k.width, k.height) / max(1, min(k.width, k.height)), place, k) for place, k in good]
    wide = sorted((entry for entry in wide if entry[0] >= WIDE), key=lambda entry: -entry[0])
    if wide:
        yield Finding(
            "very long pictures",
            "minor",
            f"{share(len(wide), len(good))} are {WIDE:g} times as long as wide, or more.",
            len(wide),
            len(good),
            "Most models read the middle square, so that two thirds of such a picture are never seen.",
            "Cut them to what matters, or into several pictures.",
            tuple(Example((place,), f"{look.width} x {look.height}") for _, place, look in wide),
        )
