"""A run folder: what was found about one model, kept piece by piece, so that a run that was killed goes on.

    RUN/run.json            the model: a folder holds the results of one
    RUN/pieces/KEY.json     one result with its tables and examples, written as soon as it is known
    RUN/items/KEY.npz       each item's outcome, by which two runs are compared item by item
    RUN/tables/KEY.*.csv    its tables; tables/figures.csv is every figure of the run
    RUN/pictures/*.jpg      small copies of the pictures that examples show
    RUN/plots/*.svg         the charts of the report
    RUN/results.json        every result, written when the command has ended
    RUN/report.html         the same for people
    RUN/log.jsonl           when each piece was made and how long it took: times of day stand only here

Every file is whole or absent; a piece is written after what belongs to it. Knows nothing of how results are found.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from awase.encoding.pictures import Picture, name_of, open_picture
from awase.errors import DataError, PictureError, UsageError
from awase.evaluation.results import SCHEMA, Figure, Result

THUMBNAIL = 144  # pixels of the longer side: twice what a phone gives an example, for sharp screens
RESULTS, REPORT = "results.json", "report.html"
OBJECTS = ("metrics", "intervals", "counts", "settings", "provenance")  # of a piece, on which a page rests


@dataclass(frozen=True)
class Run:
    """A folder of results of one model. Make one with `open_run`."""

    folder: Path

    def holds(self, key: str, asked: Mapping[str, Any]) -> bool:
        """Whether a result is there already that answers the same question of the same data."""
        path = self.folder / "pieces" / f"{key}.json"
        return path.is_file() and _read_json(path).get("asked") == plain(asked)

    def replaces(self, key: str, result: Result) -> bool:
        """Whether `add` would put this result in the place of one that says something else."""
        path = self.folder / "pieces" / f"{key}.json"
        former = _read_json(path) if path.is_file() else {}
        now = plain(result.to_json())
        return bool(former) and any(former.get(part) != now[part] for part in ("n", "metrics", "settings"))

    def add(self, key: str, result: Result, asked: Mapping[str, Any] | None = None, seconds: float = 0.0) -> None:
        """Keeps one result; a former one of the same key is replaced. asked: what `holds` compares."""
        items = io.BytesIO()
        np.savez_compressed(items, **{name: _savable(values) for name, values in result.items.items()})  # type: ignore[arg-type]
        write(self.folder / "items" / f"{key}.npz", items.getvalue())
        for name, rows in result.tables.items():
            write(self.folder / "tables" / f"{key}.{slug(name)}.csv", as_csv(rows))
        piece = result.to_json() | {"tables": result.tables, "asked": asked or {}}
        day = piece["provenance"].pop("date", None)  # the same result on another day is the same result
        piece["examples"] = [self._keep_example(example) for example in result.examples]
        write_json(self.folder / "pieces" / f"{key}.json", piece)
        with (self.folder / "log.jsonl").open("a", encoding="utf-8") as log:
            ended = {"date": day, "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"), "seconds": round(seconds, 3)}
            log.write(json.dumps({"key": key} | ended) + "\n")

    def _keep_example(self, example: Mapping[str, Any]) -> dict[str, Any]:
        """An example whose picture is a name to show and the file of a small copy, None where it cannot be read."""
        kept = dict(example)
        if (picture := kept.pop("picture", None)) is None:
            return kept
        kept["picture"] = _short_name(picture)
        kept["thumbnail"] = None
        try:
            content = thumbnail(picture)
        except PictureError:
            return kept
        name = f"{hashlib.sha256(content).hexdigest()[:16]}.jpg"
        write(self.folder / "pictures" / name, content)
        return kept | {"thumbnail": name}

    def keys(self) -> list[str]:
        return sorted(path.stem for path in (self.folder / "pieces").glob("*.json"))

    def finish(self, failures: Sequence[str] = (), of_suite: Collection[str] | None = None) -> Path:
        """Writes results.json from the pieces, then the tables, charts and page made from it. Returns the page.

        failures: what could not be evaluated and why, a line each. of_suite: of the pieces that a suite made those that
        still answer it, None for all; what single tasks made stays."""
        from awase.evaluation.report import write_report

        pieces = {key: _read_piece(self.folder / "pieces" / f"{key}.json") for key in self.keys()}
        if of_suite is not None:
            pieces = {key: piece for key, piece in pieces.items() if key in of_suite or not piece.get("asked")}
        results = [
            {"key": key} | {name: value for name, value in piece.items() if name not in ("tables", "examples", "asked")}
            for key, piece in pieces.items()
        ]
        model = _read_json(self.folder / "run.json")["model"]
        write_json(self.folder / RESULTS, {"schema": SCHEMA, "model": model, "results": results, "failures": failures})
        write(self.folder / "tables" / "figures.csv", as_csv(_figure_rows(results)))
        return write_report(self.folder)


def open_run(folder: Path, stamp: Mapping[str, Any]) -> Run:
    """A run folder, new or to go on with. stamp: `Clip.stamp()`; results of two models do not go into one folder."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file; --out names a folder for the results of one model")
    known = folder / "run.json"
    if known.is_file():
        model = _read_json(known).get("model")
        if not isinstance(model, dict):
            raise DataError(f"{known} is damaged: it names no model; give a new or an empty folder")
        if model != plain(stamp):
            theirs, ours = _called(model), _called(stamp)
            raise UsageError(f"{folder} holds results of {theirs}, and this is {ours}; give another folder")
    elif folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"{folder} is no run folder and is not empty; give a new or an empty folder")
    else:
        write_json(known, {"schema": SCHEMA, "model": stamp})
    return Run(folder)


def _called(stamp: Mapping[str, Any]) -> str:
    fingerprint = str(stamp.get("fingerprint", ""))[:12]
    return f"{stamp.get('name') or stamp.get('family')} ({fingerprint}, {stamp.get('engine')} {stamp.get('precision')})"


def read_run(folder: Path) -> list[Result]:
    """The results of a finished run, in the order of results.json, with items, tables and examples.

    Raises DataError for a folder that is no run, is unfinished, or was written by a later version."""
    path = folder / RESULTS
    if not path.is_file():
        if (folder / "run.json").is_file():
            raise DataError(f"{folder} is a run that was not finished; give its command again and it goes on")
        raise DataError(f"{folder} is no run folder (it has no {RESULTS}); make one with --out {folder}")
    found = _read_json(path)
    if found.get("schema") != SCHEMA:
        raise DataError(f"{path} has schema {found.get('schema')}, and this awase reads {SCHEMA}: update awase")
    try:
        return [_result(folder, piece) for piece in found["results"]]
    except (KeyError, TypeError, AttributeError) as problem:
        raise DataError(f"{path} is damaged ({problem!r}); give the command that made it again") from problem


def read_failures(folder: Path) -> list[str]:
    """What a run could not evaluate and why, a line each."""
    found = _read_json(folder / RESULTS).get("failures", [])
    return [str(line) for line in found] if isinstance(found, list) else []


def _result(folder: Path, piece: Mapping[str, Any]) -> Result:
    key, intervals, counts = str(piece["key"]), piece["intervals"], piece["counts"]
    more = folder / "pieces" / f"{slug(key)}.json"
    shown = _read_json(more) if more.is_file() else {}
    return Result(
        task=piece["task"],
        data=piece["data"],
        split=piece["split"],
        model=piece["model"],
        n=piece["n"],
        figures={
            name: Figure(math.nan if value is None else value, _pair(intervals.get(name)), counts[name])
            for name, value in piece["metrics"].items()
        },
        settings=piece["settings"],
        items=_read_items(folder / "items" / f"{slug(key)}.npz"),
        tables=shown.get("tables", {}),
        examples=shown.get("examples", []),
        notes=piece["notes"],
        provenance=piece["provenance"],
    )


def _pair(ends: Sequence[float] | None) -> tuple[float, float] | None:
    return None if ends is None or None in ends else (ends[0], ends[1])


def _read_items(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError) as problem:
        raise DataError(f"{path}: each item's outcome cannot be read ({problem}); make the run again") from problem


# ---- names -----------------------------------------------------------------------------------------------------------


def key_of(result: Result) -> str:
    """What a result is called among the files of a run: data, split, task, and what it was asked in."""
    said = [result.settings.get(name) for name in ("column", "language", "templates")]
    return slug("_".join([result.data, result.split, result.task, *(word for word in said if isinstance(word, str))]))


def slug(text: str) -> str:
    """A name that every file system takes; what had to be changed is told apart by a hash."""
    safe = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "x"
    if safe == text and len(text) <= 120:
        return safe
    return f"{safe[:111]}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"


def _short_name(picture: Picture) -> str:
    """The last two parts of a path: enough to find a picture again, and nothing of whose machine it lay on."""
    return "/".join(name_of(picture).replace("\\", "/").split("/")[-2:])


# ---- values and files ------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """The same in JSON's own types: NumPy's numbers become Python's, what is not finite None, a path its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value if isinstance(value, str) or value is None else str(value)


def thumbnail(picture: Picture) -> bytes:
    """A small JPEG made anew from the pixels: nothing of the original file, its metadata included, is carried over."""
    image = open_picture(picture, at_least=2 * THUMBNAIL).convert("RGB")
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    image.info.clear()
    content = io.BytesIO()
    image.save(content, "JPEG", quality=72, optimize=True)
    return content.getvalue()


def as_csv(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Rows as CSV with a header. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    listed = [{name: _cell(value) for name, value in row.items()} for row in rows]
    columns = list(dict.fromkeys(name for row in listed for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(listed)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _cell(value: Any) -> Any:
    value = plain(value)
    if isinstance(value, (list, dict)):
        return json.dumps(value, ensure_ascii=False)
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _figure_rows(results: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row for each figure of each result."""
    rows = []
    for result in results:
        said = {name: result["settings"].get(name, "") for name in ("language", "column", "templates")}
        for name, value in result["metrics"].items():
            low, high = result["intervals"].get(name) or (None, None)
            where = {part: result[part] for part in ("task", "data", "split", "model")}
            rows.append(where | said | {"figure": name, "value": value, "low": low, "high": high}
                        | {"n": result["counts"][name]})  # fmt: skip
    return rows


def _savable(values: Any) -> np.ndarray:
    array = np.asarray(values)
    return array.astype(str) if array.dtype == object else array  # objects would need pickle


def write_json(path: Path, value: Any) -> None:
    write(path, (json.dumps(plain(value), indent=1, allow_nan=False) + "\n").encode())


def write(path: Path, content: bytes) -> None:
    """Writes a file that is seen whole or not at all. Raises DataError where the folder does not take it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".partial")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except OSError:
            os.unlink(name)
            raise
    except OSError as problem:
        raise DataError(f"{path} cannot be written ({problem.strerror}); give a folder that can") from problem


def _read_piece(path: Path) -> dict[str, Any]:
    found = _read_json(path)
    for part in ("task", "data", "split", "model", *OBJECTS):
        if not isinstance(found.get(part), dict if part in OBJECTS else str):
            raise DataError(f"{path} is damaged: {part!r} is not there; remove it and give the command again")
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as problem:
        raise DataError(f"{path} cannot be read ({problem}); remove it and give the command again") from problem
    if not isinstance(found, dict):
        raise DataError(f"{path} is damaged: an object is expected; remove it and give the command again")
    return found
