"""awase: CLIP as one practical system. Two encoders put pictures and sentences into one space.

import awase
clip = awase.load()
clip.classify("cats.png", ["cat", "dog"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from awase.adapter import Adapter
    from awase.adapter_files import read_adapter, write_adapter
    from awase.clip import NONE_OF_THESE, Clip, LanguageWarning, Score, TextCutWarning
    from awase.encoding.checkpoints import Checkpoint, open_checkpoint, write_checkpoint
    from awase.encoding.families import Architecture
    from awase.encoding.pictures import Limits, find_pictures
    from awase.encoding.prompts import templates
    from awase.encoding.published import PUBLISHED
    from awase.errors import (
        AddressRefused,
        AwaseError,
        CheckpointError,
        DataError,
        EngineError,
        LibraryError,
        MissingExtra,
        PictureError,
        PictureTooLarge,
        TensorMismatch,
        TextError,
        UnsafeCheckpoint,
        UsageError,
    )
    from awase.loading import load
    from awase.tasks.search.searching import Searcher

__version__ = "0.1.0"

# Every public name and where it lives; a module is imported when one of its names is first used.
_HOMES = {
    "awase.loading": ["load"],
    "awase.adapter": ["Adapter"],
    "awase.adapter_files": ["read_adapter", "write_adapter"],
    "awase.clip": ["Clip", "Score", "NONE_OF_THESE", "TextCutWarning", "LanguageWarning"],
    "awase.encoding.checkpoints": ["Checkpoint", "open_checkpoint", "write_checkpoint"],
    "awase.encoding.families": ["Architecture"],
    "awase.encoding.published": ["PUBLISHED"],
    "awase.encoding.pictures": ["Limits", "find_pictures"],
    "awase.encoding.prompts": ["templates"],
    "awase.errors": [
        "AwaseError",
        "PictureError",
        "PictureTooLarge",
        "AddressRefused",
        "TextError",
        "CheckpointError",
        "UnsafeCheckpoint",
        "TensorMismatch",
        "DataError",
        "LibraryError",
        "EngineError",
        "MissingExtra",
        "UsageError",
    ],
    "awase.tasks.search.searching": ["Searcher"],
}
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names}
__all__ = [
    "NONE_OF_THESE",
    "PUBLISHED",
    "Adapter",
    "AddressRefused",
    "Architecture",
    "AwaseError",
    "Checkpoint",
    "CheckpointError",
    "Clip",
    "DataError",
    "EngineError",
    "LanguageWarning",
    "LibraryError",
    "Limits",
    "MissingExtra",
    "PictureError",
    "PictureTooLarge",
    "Score",
    "Searcher",
    "TensorMismatch",
    "TextCutWarning",
    "TextError",
    "UnsafeCheckpoint",
    "UsageError",
    "__version__",
    "find_pictures",
    "load",
    "open_checkpoint",
    "read_adapter",
    "templates",
    "write_adapter",
    "write_checkpoint",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'awase' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
