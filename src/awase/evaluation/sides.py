"""One side of a comparison by its name: a run as it lies there, or a model whose run is made where it is missing.

    RUN               a run folder
    MODEL             a name, directory or file of a model: every job of a suite
    features:MODEL    the features of its image tower, before the projection: linear probes
    timm:NAME         any other backbone, as FILE.onnx is: linear probes

Where one side is made of linear probes the other is zero-shot classification on the same sets: the CLIP paper's figure
5. A run that is made here lies in a folder named by all that it depends on, and goes on when it was killed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from awase import __version__
from awase.clip import Clip
from awase.errors import UsageError
from awase.evaluation.backbones import Backbone, is_backbone
from awase.evaluation.provenance import stamp_of
from awase.evaluation.runs import RESULTS, open_run, plain, slug
from awase.evaluation.suite import Outcome, Suite, Watch, run_suite, with_probes

FEATURES = "features:"

Open = Callable[[str], Clip | Backbone]
"""Opens a model or a backbone by its name."""


@dataclass(frozen=True)
class Side:
    """name: as given. run: the folder of its results. outcome: what was done to have them, None for a run that was
    given."""

    name: str
    run: Path
    outcome: Outcome | None = None


def is_run(name: str) -> bool:
    return any((Path(name) / file).is_file() for file in ("run.json", RESULTS))


def makes_probes(name: str) -> bool:
    return not is_run(name) and (name.startswith(FEATURES) or is_backbone(name))


def sides(
    names: tuple[str, str],
    suite: Suite | None,
    folder: Path,
    open_model: Open,
    quick: bool = False,
    watch: Watch | None = None,
) -> tuple[Side, Side]:
    """Both sides, whatever is missing run into folders below `folder`. Raises UsageError for models without a suite."""
    missing = [name for name in names if not is_run(name)]
    if missing and suite is None:
        raise UsageError(
            f"{missing[0]} is no run folder; give --suite SUITE.toml, and it is taken for a model that is run on that"
        )
    probed = any(map(makes_probes, names))
    found = []
    for name in names:
        if suite is None or is_run(name):
            found.append(Side(name, Path(name)))
            continue
        task = "linear-probe" if makes_probes(name) else "zero-shot"
        model = open_model(name.removeprefix(FEATURES))
        found.append(_made(name, model, with_probes(suite, task) if probed else suite, folder, quick, watch))
    return found[0], found[1]


def _made(name: str, model: Clip | Backbone, suite: Suite, folder: Path, quick: bool, watch: Watch | None) -> Side:
    asked = plain({"awase": __version__, "model": stamp_of(model), "suite": asdict(suite), "quick": quick})
    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode()).hexdigest()[:12]
    place = folder / f"{slug(Path(name).name)}-{digest}"
    return Side(name, place, run_suite(model, suite, open_run(place, stamp_of(model)), quick, watch))
