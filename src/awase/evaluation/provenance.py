"""What a figure rests on, so that someone else can make it again: command, model, data, versions, machine."""

from __future__ import annotations

import platform
import shlex
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from awase import __version__
from awase.clip import Clip
from awase.datasets.captioned import Captioned
from awase.datasets.hashing import data_hash
from awase.datasets.labelled import Labelled
from awase.encoding.engines.machine import machine
from awase.evaluation.backbones import Backbone


def provenance(model: Clip | Backbone, data: Labelled | Captioned, command: str | None = None) -> dict[str, Any]:
    """JSON-ready facts. command: this process's own where None. The date is the day (UTC), without a time, so that a
    run that was killed and went on says the same as one that was not."""
    processor = machine()
    engine, device = (model.engine.name, model.engine.device) if isinstance(model, Clip) else (model.engine, "cpu")
    return {
        "command": command if command is not None else _command(),
        "model": {"name": model.name, **stamp_of(model)},
        "data": {"name": data.name, "split": data.split, "n": len(data), "sha256": data_hash(data)},
        "versions": {
            "awase": __version__,
            "numpy": np.__version__,
            "python": platform.python_version(),
            engine: _version_of(engine),
        },
        "machine": {
            "processor": processor.processor,
            "cores": processor.cores,
            "features": sorted(processor.features),
            "device": device,
        },
        "date": datetime.now(UTC).date().isoformat(),
    }


def stamp_of(model: Clip | Backbone) -> dict[str, Any]:
    """What answers depend on: what vectors do, and the head that an adapter brought."""
    head = model.head if isinstance(model, Clip) else None
    return model.stamp() | ({"head": head.digest} if head else {})


def _command() -> str:
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _version_of(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
