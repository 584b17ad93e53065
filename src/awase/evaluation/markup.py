"""HTML, written safely: pages, tables and words. Class names, captions and file names come from strangers, so whatever
is not markup of our own goes through `text`; the policy in a page's head has the browser refuse the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from awase.evaluation.words import word_for, written, written_interval

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
# Control characters, halves of surrogate pairs, characters that turn the direction of what follows, and no characters.
_UNSHOWABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def page(title: str, body: str) -> str:
    """A whole HTML document round a body."""
    style = (Path(__file__).parent / "data" / "report.css").read_text("utf-8")
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}"><meta name="color-scheme" content="light dark">'
        f"<title>{text(title)}</title><style>{style}</style>"
    )
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>{body}</body></html>\n'


def text(value: object) -> str:
    """A stranger's words as HTML: markup escaped, what cannot be shown replaced by U+FFFD."""
    return escape(_UNSHOWABLE.sub("\ufffd", str(value)))


def table(title: str, rows: Sequence[Mapping[str, Any]], variant: str = "") -> str:
    """Rows as a table that folds: its columns as they come, "low" and "high" as one interval."""
    columns = [c for c in dict.fromkeys(name for row in rows for name in row) if c != "high"]
    numbers = {c for c in columns if all(isinstance(row.get(c), (int, float, type(None))) for row in rows)} - {"low"}
    shares = {c for c in numbers if _is_share(c, [row.get(c) for row in rows])}
    heads = "".join(f"<th{_NUMBER if c in numbers else ''}>{_heading(c)}</th>" for c in columns)
    lines = []
    for row in rows:
        cells = (_ends(row) if c == "low" else _cell(row.get(c), c in numbers, c in shares) for c in columns)
        lines.append(f"<tr>{''.join(cells)}</tr>")
    body = f"<table><thead><tr>{heads}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    summary = f"<summary>{text(title)} <small>({len(rows):,})</small></summary>"
    return f'<details class="more">{summary}<div class="scroll"{lang(variant)}>{body}</div></details>'


def _heading(column: str) -> str:
    return {"low": "95 % interval", "n": "n"}.get(column) or text(word_for(column).name)


_NUMBER = ' class="num"'


def _is_share(column: str, values: Sequence[Any]) -> bool:
    fractions = any(isinstance(value, float) for value in values)
    return fractions and word_for(column).share and all(0 <= value <= 1 for value in values if value is not None)


def _cell(value: Any, number: bool, share: bool) -> str:
    if share and value is not None:
        return f'<td class="num share" style="--v:{100 * value:.1f}%">{text(written(value))}</td>'
    if number:
        return f"<td{_NUMBER}>{text(written(value, share=False))}</td>"
    if isinstance(value, (list, tuple)):
        value = ", ".join(map(str, value))
    return f"<td>{text('' if value is None else value)}</td>"


def _ends(row: Mapping[str, Any]) -> str:
    low, high = row.get("low"), row.get("high")
    return (
        f'<td class="soft">{text(written_interval((low, high))) if low is not None and high is not None else ""}</td>'
    )


def lang(variant: str) -> str:
    """The attribute by which a browser chooses Japanese forms of characters."""
    return ' lang="ja"' if variant.startswith("Japanese") else ""


def titled(name: str) -> str:
    """ "mean_rank" -> "Mean rank"."""
    return (name[:1].upper() + name[1:]).replace("_", " ")


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(words: Sequence[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    return " and ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)
