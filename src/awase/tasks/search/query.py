"""What somebody typed -> what is looked for: one parser for the terminal, a page and an API, English and Japanese.

    red car                     one sentence, for the encoder as it is
    red car without people      ... and something that should not be there; also 「人のいない赤い車」, `-people`,
    red car -"a lot of people"  `-"..."`: a minus takes the word or the quoted phrase that follows it
    "red car" "at night"        several conditions, each scored by itself; also red car + at night
    2:golden retriever + beach  the first counts twice
    ./pool.jpg at night         a picture and words; also https://..., picture:"my pool.jpg", id:123 of a library
    #3 but without people       the third of the results before
    red car folder:italy after:2024-05 camera:canon type:heic size:>2MB near:35.68,139.76,5km      filters; -type:png

What stands in quotes is never taken apart. Full-width forms of all these signs mean the same. The result prints back:
`parse(str(query)) == query`. Nothing is opened or looked up here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import PurePath
from typing import Literal, cast

from awase.encoding.finding import is_address, is_picture_name, printable
from awase.errors import UsageError
from awase.tasks.search.negation import part
from awase.tasks.search.store import Circle, Filter, FilterKind, Span

LONGEST = 2000  # characters of a query
MOST_CLAUSES = 32
LIGHTEST, HEAVIEST = 0.01, 100.0
Kind = Literal["words", "picture", "result"]


@dataclass(frozen=True)
class Clause:
    """One thing that a picture should show, or should not."""

    text: str
    """The sentence; a path or an address; "#3" (of the results before) or "id:123" (of the library)."""
    kind: Kind = "words"
    negative: bool = False
    weight: float = 1.0
    """How much it counts beside the other clauses: 0.01 to 100."""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise UsageError("a clause of a query is empty; say what to look for")
        if not LIGHTEST <= self.weight <= HEAVIEST:
            raise UsageError(f"the weight {self.weight:g} of {self.text!r}: give one from {LIGHTEST} to {HEAVIEST:g}")
        if self.kind == "result" and not re.fullmatch(r"(#|id:)[0-9]{1,18}", self.text):
            raise UsageError(f"a result is #3, or id:12 of the library; {self.text!r} was given")
        if self.kind == "words":
            if any("\ud800" <= letter <= "\udfff" for letter in self.text):
                raise UsageError(f"{printable(self.text)}: these words are no valid Unicode; type them anew, in UTF-8")
            object.__setattr__(self, "text", " ".join(self.text.split()))

    def __str__(self) -> str:
        weight = "" if self.weight == 1 else f"{_number(self.weight)}:"
        body = {"words": "", "picture": "picture:", "result": None}[self.kind]
        return "-" * self.negative + weight + (self.text if body is None else body + _quoted(self.text))


@dataclass(frozen=True)
class Query:
    """What to look for, what not, and where."""

    clauses: tuple[Clause, ...]
    filters: tuple[Filter, ...] = ()
    wanted: tuple[Clause, ...] = field(init=False, repr=False, compare=False)
    unwanted: tuple[Clause, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "wanted", tuple(clause for clause in self.clauses if not clause.negative))
        object.__setattr__(self, "unwanted", tuple(clause for clause in self.clauses if clause.negative))
        if not self.wanted:
            told = " ".join(map(str, (*self.clauses, *map(show_filter, self.filters))))
            what = f"only what should not be there ({told})" if self.unwanted else f"no more than filters ({told})"
            what = what if told else "nothing"
            raise UsageError(
                f'the query says {what}; say also what to look for, such as "a street without cars"; '
                "words in quotes are looked for as they are"
            )
        if len(self.clauses) > MOST_CLAUSES:
            raise UsageError(f"the query has {len(self.clauses)} clauses; {MOST_CLAUSES} are the most")

    def __str__(self) -> str:
        return " ".join([*map(str, self.clauses), *map(show_filter, self.filters)])


def parse(text: str) -> Query:
    """Reads a query. Raises UsageError that shows the place, for what cannot be meant."""
    if not isinstance(text, str):
        raise UsageError(f"a query is a string, and {text!r} was given")
    if len(text) > LONGEST:
        raise UsageError(f"the query has {len(text):,} characters; {LONGEST:,} are the most")
    reader = _Reader(text, _plain(text))
    reader.read()
    return Query(tuple(reader.clauses()), tuple(reader.filters))


# ---- from characters to clauses --------------------------------------------------------------------------------------

# One character for one, so that places in the plain text are places in what was typed.
_PLAIN = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | {
    ord(odd): plain for plain, odds in {"-": "−‐‑﹣", '"': "“”„〝〟", " ": "\u3000\xa0\t\n\r"}.items() for odd in odds
}
_QUOTES = '["“”„〝〟＂]'
_ATOM = re.compile(
    r"""(?P<sign>[-+](?=[^\s\d+-]|\d+(?:\.\d+)?:[^\s\d]))?
    (?P<weight>\d+(?:\.\d+)?:(?=[^\s\d/]))?
    (?P<key>[a-z]{2,12}:(?=\S))?
    (?:[「『](?P<corners>[^「」『』]*)[」』](?=\s|$)  # quotes only where they stand alone
      | "(?P<quoted>(?:[^"]|"")*)(?P<closed>")?
      | (?P<word>[^\s"]\S*))""",
    re.VERBOSE | re.IGNORECASE,
)
_RESULT = re.compile(r"#\d{1,6}(?![0-9A-Za-z_])")
_BEFORE_PICTURE = re.compile(r"(?:^|\s)(?:(?:more |something )?like|similar to)$", re.IGNORECASE)
_AFTER_PICTURE = re.compile(
    r"^(?:(?:,\s*)?(?:but|and|with)(?:\s+with(?!out))?\s+(?!not\b|no\b)|(?:に似た|のような|みたいな|だけど|でも|で|と)[、\s]*)",
    re.IGNORECASE,
)


@dataclass(eq=False)
class _Run:
    """Plain words that make one sentence together, wherever operators stand between them."""

    weight: float = 1.0
    words: list[str] = field(default_factory=list)
    after_picture: bool = False

    def clauses(self) -> list[Clause]:
        sentence = " ".join(self.words)
        if self.after_picture:
            sentence = _AFTER_PICTURE.sub("", sentence)
        wanted, unwanted = part(sentence)
        found = [(wanted, False)] if wanted.strip(" 、。,.") else []
        return [
            Clause(words, "words", negative, self.weight) for words, negative in found + [(u, True) for u in unwanted]
        ]


class _Reader:
    def __init__(self, text: str, plain: str) -> None:
        self.text, self.plain = text, plain
        self.filters: list[Filter] = []
        self.run = _Run()  # that the next plain word joins
        self.parts: list[Clause | _Run] = []

    def clauses(self) -> list[Clause]:
        return [c for its in self.parts for c in (its.clauses() if isinstance(its, _Run) else [its])]

    def read(self) -> None:
        place = 0
        while place < len(self.plain):
            if self.plain[place].isspace():
                place += 1
            else:
                place = self._atom(place)

    def _atom(self, place: int) -> int:
        """Reads one word, quoted phrase, picture or filter; returns where the next begins."""
        found = _ATOM.match(self.plain, place)
        assert found is not None  # whatever is no white space is a word
        if found["word"] == "+":
            self._new_run(1.0)
            return found.end()
        if found["quoted"] is not None and not found["closed"]:
            self._refuse(found.start("quoted") - 1, len(self.text), 'a quote that is opened and not closed; add a "')
        weight = self._weight(found)
        group = next(name for name in ("word", "quoted", "corners") if found[name] is not None)
        value = self.text[slice(*found.span(group))]
        if found["key"] and group == "word" and is_address(found["key"] + value):
            self._word(found["key"] + value, weight, found)
        elif found["key"]:
            self._keyed(found["key"][:-1].lower(), _unquoted(value) if group == "quoted" else value, weight, found)
        elif group == "word":
            return self._word(value, weight, found)
        elif not value.strip():
            self._refuse(*found.span(), "empty quotes; say what to look for between them")
        else:
            text = _unquoted(value) if group == "quoted" else value
            self.parts.append(Clause(text, "words", found["sign"] == "-", weight))
        return found.end()

    def _word(self, value: str, weight: float, found: re.Match[str]) -> int:
        negative, plain = found["sign"] == "-", found["word"] or ""
        reference = _RESULT.match(plain)
        begins = found["sign"] or found["weight"] or not self.run.words  # "player #3" is words
        if reference and (begins or self._led_to_picture()):
            self._picture(Clause(reference[0], "result", negative, weight))
            return found.start("word") + reference.end()
        if _is_picture(value):
            self._led_to_picture()
            self._picture(Clause(value, "picture", negative, weight))
        elif negative:
            self.parts.append(Clause(value.rstrip(",、，;") or value, "words", True, weight))
        else:
            if found["weight"] or found["sign"]:
                self._new_run(weight)
            if not self.run.words:
                self.parts.append(self.run)
            self.run.words.append(value)
        return found.end()

    def _keyed(self, key: str, value: str, weight: float, found: re.Match[str]) -> None:
        negative = found["sign"] == "-"
        whole = found.span()
        if key in ("picture", "image"):
            self._picture(Clause(value, "picture", negative, weight))
        elif key == "id":
            if not re.fullmatch("[0-9]{1,18}", plain := _plain(value)):
                self._refuse(*whole, "id: is followed by the number that --json shows")
            self._picture(Clause(f"id:{plain}", "result", negative, weight))
        elif key in _FILTERS:
            try:
                self.filters.append(Filter(cast(FilterKind, key), _FILTERS[key](value), negative))
            except (UsageError, ValueError) as problem:
                self._refuse(*whole, str(problem))
        else:
            known = ", ".join(f"{name}:" for name in _FILTERS)
            self._refuse(
                *whole, f"there is no filter {key}: ({known} there are); to look for the words, put quotes round"
            )

    def _picture(self, clause: Clause) -> None:
        self.parts.append(clause)
        if not self.run.words:
            self.run.after_picture = True

    def _led_to_picture(self) -> bool:
        """Takes "more like" away before a picture; whether it stood there."""
        sentence = " ".join(self.run.words)
        found = _BEFORE_PICTURE.search(sentence)
        if found:
            self.run.words = sentence[: found.start()].split()
            if not self.run.words:
                self.parts.remove(self.run)
        return found is not None

    def _new_run(self, weight: float) -> None:
        self.run = _Run(weight)

    def _weight(self, found: re.Match[str]) -> float:
        if found["weight"] is None:
            return 1.0
        weight = float(found["weight"][:-1])
        if not LIGHTEST <= weight <= HEAVIEST:
            self._refuse(*found.span("weight"), f"a weight is a number from {LIGHTEST} to {HEAVIEST:g}")
        return weight

    def _refuse(self, start: int, end: int, why: str) -> None:
        around = self.text[max(0, start - 30) : start], self.text[start:end][:60], self.text[end : end + 30]
        raise UsageError(printable(f"in the query {around[0]}>>{around[1]}<<{around[2]}: {why}"))


def _plain(text: str) -> str:
    """The same length, with half-width operators, spaces and quotes."""
    return text.translate(_PLAIN)


def _is_picture(word: str) -> bool:
    local = word.startswith(("./", "../", "~/", ".\\", "..\\")) or is_picture_name(
        PurePath(word.replace("\\", "/")).name
    )
    return is_address(word) or (local and not word.startswith("-"))


def _quoted(text: str) -> str:
    return '"' + re.sub(_QUOTES, lambda found: found[0] * 2, text) + '"'


def _unquoted(text: str) -> str:
    return re.sub(f"({_QUOTES}){_QUOTES}", r"\1", text)


# ---- filters ---------------------------------------------------------------------------------------------------------


def _date(text: str) -> str:
    """2024, 2024-5, 2024/05/03, 2024年5月3日 -> 2024, 2024-05, 2024-05-03."""
    found = re.fullmatch(r"(\d{4})(?:[-/.年](\d{1,2})(?:[-/.月](\d{1,2}))?)?[年月日]?", _plain(text))
    return "-".join(part.zfill(2) for part in found.groups() if part) if found else text


_UNITS = {
    "": ("bytes", 1),
    "b": ("bytes", 1),
    "kb": ("bytes", 10**3),
    "mb": ("bytes", 10**6),
    "gb": ("bytes", 10**9),
    "p": ("pixels", 1),
    "mp": ("pixels", 10**6),
    "px": ("side", 1),
}


def _size(text: str) -> Span:
    found = re.fullmatch(r"(>=?|<=?)?(\d+(?:\.\d+)?)(?:(?:-|\.\.)(\d+(?:\.\d+)?))?([a-z]*)", _plain(text).lower())
    if not found or found[4] not in _UNITS or bool(found[1]) == bool(found[3]):
        raise UsageError("a size is >2MB, <500KB, 1MB-5MB as 1-5MB, >12MP (megapixels) or >4000px (the longer side)")
    of, unit = _UNITS[found[4]]
    value = float(found[2]) * unit
    if found[3]:
        return Span(of, value, float(found[3]) * unit)  # type: ignore[arg-type]
    return Span(of, value, None) if found[1].startswith(">") else Span(of, None, value)  # type: ignore[arg-type]


def _near(text: str) -> Circle:
    found = re.fullmatch(r"(-?\d+(?:\.\d+)?),(-?\d+(?:\.\d+)?)(?:,(\d+(?:\.\d+)?)(?:km)?)?", _plain(text).lower())
    if not found or abs(float(found[1])) > 90 or abs(float(found[2])) > 180:
        raise UsageError(
            "a place is latitude,longitude in degrees, and if you like kilometres round it: 35.68,139.76,5km"
        )
    return Circle(float(found[1]), float(found[2]), float(found[3] or 10))


_FILTERS: dict[str, Callable[[str], str | Span | Circle]] = {
    "folder": str,
    "after": _date,
    "before": _date,
    "camera": str,
    "type": _plain,
    "size": _size,
    "near": _near,
}


def show_filter(its: Filter) -> str:
    """A filter as it is typed."""
    value = its.value
    if isinstance(value, Span):
        unit = {"bytes": "b", "pixels": "p", "side": "px"}[value.of]
        least, most = (None if end is None else _number(end) for end in (value.least, value.most))
        text = f"{least}-{most}{unit}" if least and most else f">{least}{unit}" if least else f"<{most}{unit}"
    elif isinstance(value, Circle):
        text = ",".join(map(_number, (value.latitude, value.longitude, value.kilometres))) + "km"
    else:
        text = value if re.fullmatch(r'[^\s"]+', value) else _quoted(value)
    return f"{'-' * its.without}{its.kind}:{text}"


def _number(value: float) -> str:
    """As it is typed: exact, and never 1e-05."""
    return format(Decimal(repr(float(value))).normalize(), "f")
