"""How well sentences describe pictures: CLIPScore and RefCLIPScore (Hessel et al., 2021, arXiv:2104.08718).

    CLIPScore    = 2.5 * max(cos(picture, "A photo depicts " + caption), 0)                              in [0, 2.5]
    RefCLIPScore = harmonic mean of CLIPScore and max(max over references of cos(caption, reference), 0)

The prefix stands before references too; a corpus's score is the mean. Published values are of OpenAI's ViT-B/32:
scores of other models compare among themselves only. A Japanese sentence has no published prefix and is taken as it is.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.columns import sound
from awase.encoding.pictures import Picture, is_address, name_of
from awase.encoding.prompts import language_of
from awase.errors import DataError
from awase.evaluation.intervals import bootstrap
from awase.evaluation.provenance import provenance
from awase.evaluation.results import Figure, Result
from awase.evaluation.vectors import left_out, picture_vectors, sentence_vectors

WEIGHT = 2.5
PREFIX = "A photo depicts "
SCORES: tuple[str, ...] = ("clip_score", "ref_clip_score")
SEPARATOR = "|"  # between references in a table's cell


@dataclass(frozen=True)
class Pair:
    """A caption to be judged against a picture, and what people wrote about that picture, if anything."""

    picture: Picture
    caption: str
    references: tuple[str, ...] = ()


def clip_score(cosines: np.ndarray) -> np.ndarray:
    """Cosines of pictures with their captions -> CLIPScores, in [0, 2.5]."""
    return np.asarray(WEIGHT * np.maximum(cosines, 0))


def ref_clip_score(scores: np.ndarray, best_references: np.ndarray) -> np.ndarray:
    """(N,) CLIPScores and (N,) cosines of each caption with its nearest reference -> RefCLIPScores.

    The part between texts is not multiplied by 2.5. Where both parts are 0, so is their harmonic mean."""
    near = np.maximum(best_references, 0)
    total = scores + near
    return np.asarray(2 * scores * near / np.where(total > 0, total, 1))


def score_pairs(clip: Clip, pairs: Sequence[Pair], name: str = "pairs") -> Result:
    """Scores of every pair and their mean. Pictures that cannot be read are left out and named in the notes.

    items: "clip_score", "pair" (its index), "picture" and, where every pair has references, "ref_clip_score". Raises
    DataError where there are no pairs, or none whose picture can be read."""
    data = _as_captioned(pairs, name)
    pictures = picture_vectors(clip, data, "vectors")
    place = np.full(len(data), -1)
    place[pictures.kept] = np.arange(len(pictures.kept))
    kept = np.flatnonzero(place[data.owners] >= 0)
    if not len(kept):
        raise DataError(f"{name}: there is no pair whose picture can be read")
    judged, owners = [pairs[i] for i in kept.tolist()], data.owners[kept]
    captions, remarks = sentence_vectors(clip, [_prefixed(pair.caption) for pair in judged])
    scores = clip_score(np.einsum("nd,nd->n", pictures.rows[place[owners]], captions).astype(np.float64))
    items = {"clip_score": scores, "pair": kept, "picture": owners}
    if all(pair.references for pair in judged):
        nearest = _nearest_reference(clip, captions, [pair.references for pair in judged])
        items["ref_clip_score"] = ref_clip_score(scores, nearest)
    figures: dict[str, Figure] = {
        key: Figure(float(items[key].mean()), bootstrap(items[key], clusters=owners), len(kept))
        for key in SCORES
        if key in items
    }
    return Result(
        task="caption-scores",
        data=name,
        split=data.split,
        model=clip.name,
        n=len(kept),
        figures=figures,
        settings={"weight": WEIGHT, "prefix": PREFIX},
        items=items,
        tables={"pairs": _rows(pairs, items)},
        notes=[*left_out(pictures.errors), *remarks, *_notes(clip, pairs)],
        provenance=provenance(clip, data),
    )


def read_pairs(path: str | PathLike[str]) -> list[Pair]:
    """Pairs from .csv, .tsv or .jsonl with "picture", "caption" and, if there are, "references".

    A picture's path is taken from the file's folder. References: in JSON a list, in a table sentences with | between.
    Raises DataError for a file that cannot be read, a missing column or an empty cell, with its line."""
    path = Path(path)
    readers: Mapping[str, Callable[[Path], Iterable[tuple[int, dict[str, Any]]]]] = {
        ".csv": lambda path: _table(path, ","),
        ".tsv": lambda path: _table(path, "\t"),
        ".jsonl": _json_lines,
    }
    if path.suffix.lower() not in readers:
        raise DataError(f"{path}: pairs are read from .csv, .tsv or .jsonl with the columns picture and caption")
    try:
        pairs = [_pair(row, path, line) for line, row in readers[path.suffix.lower()](path)]
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(f"{path} cannot be read: {problem}; give a UTF-8 file") from problem
    if not pairs:
        raise DataError(f"{path} holds no pairs; a row for each is expected")
    return pairs


# ---- parts ----------------------------------------------------------------------------------------------------------


def _prefixed(sentence: str) -> str:
    return PREFIX + sentence if language_of(sentence) == "en" else sentence


def _as_captioned(pairs: Sequence[Pair], name: str) -> Captioned:
    """Each picture once, however many captions of it are judged."""
    if not pairs:
        raise DataError(f"{name}: there are no pairs to score")
    keys = [str(p.picture) if isinstance(p.picture, (str, PathLike)) else id(p.picture) for p in pairs]
    first: dict[object, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    place = {key: row for row, key in enumerate(first)}
    owners = np.array([place[key] for key in keys], np.int64)
    return Captioned(name, "all", [pairs[i].picture for i in first.values()], [p.caption for p in pairs], owners)


def _nearest_reference(clip: Clip, captions: np.ndarray, references: Sequence[Sequence[str]]) -> np.ndarray:
    """(N,) the largest cosine of each caption with one of its references."""
    flat = [_prefixed(sentence) for row in references for sentence in row]
    owners = np.repeat(np.arange(len(references)), [len(row) for row in references])
    vectors, _ = sentence_vectors(clip, flat)
    nearest = np.full(len(references), -1.0)
    np.maximum.at(nearest, owners, np.einsum("nd,nd->n", vectors, captions[owners]))
    return nearest


def _rows(pairs: Sequence[Pair], items: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    rows = []
    for row, index in enumerate(items["pair"]):
        pair = pairs[index]
        scores = {key: float(items[key][row]) for key in SCORES if key in items}
        rows.append({"picture": name_of(pair.picture), "caption": pair.caption, **scores})
    return rows


def _notes(clip: Clip, pairs: Sequence[Pair]) -> list[str]:
    notes = []
    with_references = sum(bool(pair.references) for pair in pairs)
    if 0 < with_references < len(pairs):
        notes.append(f"RefCLIPScore is left out: {len(pairs) - with_references:,} of {len(pairs):,} lack references")
    if japanese := sum(language_of(pair.caption) == "ja" for pair in pairs):
        notes.append(f"{japanese:,} captions are Japanese and were encoded without the prefix")
    return notes


def _table(path: Path, delimiter: str) -> Iterable[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, delimiter=delimiter, strict=True)
        for row in reader:
            sentences = (row.get("references") or "").split(SEPARATOR)
            yield reader.line_num, {**row, "references": [s.strip() for s in sentences if s.strip()]}


def _json_lines(path: Path) -> Iterable[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(path.read_text("utf-8-sig").split("\n"), 1):  # U+2028 ends no line of JSON
        if line.strip():
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as problem:
                raise DataError(f"{path}, line {number} is not JSON: {problem}") from problem
            yield number, row if isinstance(row, dict) else {}


def _pair(row: Mapping[str, Any], path: Path, line: int) -> Pair:
    for column in ("picture", "caption"):
        if not isinstance(row.get(column), str) or not row[column].strip():
            raise DataError(f"{path}, line {line} has no {column}; each row needs a picture and a caption")
    references = row.get("references") or []
    if not isinstance(references, list) or not all(isinstance(sentence, str) for sentence in references):
        raise DataError(f"{path}, line {line}: references are a list of sentences, not {references!r}")
    picture = row["picture"]
    where = picture if is_address(picture) else path.parent / picture
    return Pair(where, sound(row["caption"]), tuple(map(sound, references)))
