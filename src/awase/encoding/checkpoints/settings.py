"""Reading a stranger's JSON: every value is fetched by name with the type and range that it must have."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from awase.errors import CheckpointError

MOST_BYTES = 4 * 2**20
MOST_WHOLE = 2**22  # no size of any model is larger; it keeps products of a few of them far from trouble
Option = TypeVar("Option")


class Settings:
    """A JSON object of a file. `place` says where it stands ("config.json, text_config")."""

    def __init__(self, values: dict[str, Any], place: str) -> None:
        self.values = values
        self.place = place

    def __contains__(self, key: str) -> bool:
        return self.values.get(key) is not None

    def section(self, key: str) -> Settings:
        """The object under a key; empty where there is none."""
        value = self.values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.unfit(key, "an object")
        return Settings(value or {}, f"{self.place}, {key}")

    def whole(self, key: str, default: int | None = None, most: int = MOST_WHOLE) -> int:
        """A whole number from 1 to `most`. A list of equal numbers, as for a square's sides, counts as one of them."""
        value = self.values.get(key)
        if value is None:
            value = default
        if isinstance(value, list) and value and all(side == value[0] for side in value):
            value = value[0]
        if type(value) is not int or not 1 <= value <= most:
            raise self.unfit(key, f"a whole number from 1 to {most}")
        return value

    def number(self, key: str, default: float) -> float:
        value = self.values.get(key)
        if value is None:
            return default
        if type(value) not in (int, float) or not 0 < value < 1e6:
            raise self.unfit(key, "a number above 0")
        return float(value)

    def three(self, key: str, default: tuple[float, float, float]) -> tuple[float, float, float]:
        """A number for each colour."""
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, list | tuple) or len(value) != 3:
            raise self.unfit(key, "three numbers")
        if not all(type(part) in (int, float) and -1e3 < part < 1e3 for part in value):
            raise self.unfit(key, "three numbers")
        return float(value[0]), float(value[1]), float(value[2])

    def text(self, key: str, default: str = "") -> str:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, str) or len(value) > 1000:
            raise self.unfit(key, "a short text")
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        value = self.values.get(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.unfit(key, "true or false")
        return value

    def choice(self, key: str, options: Mapping[Any, Option], default: Any) -> Option:
        """What the value stands for among `options`."""
        value = self.values.get(key, default)
        value = default if value is None else value
        if not isinstance(value, str | int) or value not in options:
            raise self.unfit(key, f"one of {', '.join(map(str, options))}")
        return options[value]

    def unfit(self, key: str, expected: str) -> CheckpointError:
        given = json.dumps(self.values.get(key))[:100]
        return CheckpointError(f"{self.place}: {key} is {given}; awase reads {expected} there")


def read_settings(file: Path) -> Settings:
    """Raises CheckpointError where the file is no JSON object or far too long."""
    if file.stat().st_size > MOST_BYTES:
        raise CheckpointError(f"{file} has {file.stat().st_size} bytes; a configuration has at most {MOST_BYTES}")
    try:
        values = json.loads(file.read_bytes().decode())
    except (ValueError, RecursionError) as problem:
        raise CheckpointError(f"{file} is not JSON; fetch it again") from problem
    if not isinstance(values, dict):
        raise CheckpointError(f"{file} is not a JSON object; expected settings by name")
    return Settings(values, str(file))


def write_settings(file: Path, values: dict[str, Any]) -> None:
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    file.write_text(text, encoding="utf-8", errors="backslashreplace")  # names of files need not be valid Unicode
