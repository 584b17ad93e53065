"""What is looked at while a model trains: how good it is, how fast it goes, and the known ways in which it goes wrong.

A run's folder has evaluations.jsonl beside the loop's log.jsonl. Knows nothing of how batches are made."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from awase.clip import Clip
from awase.datasets import open_captioned, open_labelled
from awase.evaluation.results import Result
from awase.evaluation.retrieval import retrieval
from awase.evaluation.zero_shot import zero_shot
from awase.learning.pretraining.recipe import Watch
from awase.learning.state import read_lines

EVALUATIONS, UNREADABLE = "evaluations.jsonl", "unreadable.jsonl"


def evaluate(clip: Clip, watch: Watch) -> list[Result]:
    """Retrieval and zero-shot classification on the sets that a recipe names."""
    found = [retrieval(clip, open_captioned(*_path_and_split(path))) for path in watch.retrieval]
    return [*found, *(zero_shot(clip, open_labelled(*_path_and_split(path))) for path in watch.zero_shot)]


def refuse_missing(watch: Watch) -> None:
    """Raises what evaluating would, where a set is not there: before a run rather than after it."""
    for path in watch.retrieval:
        open_captioned(*_path_and_split(path))
    for path in watch.zero_shot:
        open_labelled(*_path_and_split(path))


def _path_and_split(path: str) -> tuple[str, str]:
    """ "data/flickr8k:dev" -> ("data/flickr8k", "dev"); validation where no split is told."""
    place, colon, split = path.rpartition(":")
    return (place, split) if colon and "/" not in split and place != "hub" else (path, "val")


def note_evaluation(folder: Path, step: int, results: Sequence[Result]) -> None:
    """Adds what was found after `step` steps to a run's folder."""
    with (folder / EVALUATIONS).open("a", encoding="utf-8") as file:
        for result in results:
            file.write(json.dumps({"step": step, **result.to_json()}) + "\n")


def read_evaluations(folder: Path) -> list[dict[str, Any]]:
    """The last one of each (step, task, data): a run that was killed may have made some twice."""
    lines = read_lines(folder / EVALUATIONS)
    found = {(line["step"], line["task"], line["data"], line["split"]): line for line in lines}
    return sorted(found.values(), key=lambda line: line["step"])


def unreadable(folder: Path) -> list[dict[str, str]]:
    """Pictures that a run could not read, each once, and why."""
    file = folder / UNREADABLE
    found: dict[str, dict[str, str]] = {}
    for line in file.read_text("utf-8", "replace").splitlines() if file.is_file() else []:
        with suppress(ValueError):  # of a line that a kill cut short
            found[line] = json.loads(line)
    return list(found.values())


@dataclass
class Alarms:
    """Hears every step, and says once of each known failure that it is there. batch: B, of all processes; with it the
    loss of a model that knows nothing is ln B."""

    batch: int
    most_scale: float
    contrastive: bool = True
    wait: int = 200
    """Steps that a failure lasts before it is told."""
    _since: dict[str, int] = field(default_factory=dict)
    _told: set[str] = field(default_factory=set)

    def hear(self, step: int, told: Mapping[str, float]) -> list[str]:
        """What to say of a step; mostly nothing."""
        likeness, scale, pairs = (told.get(key, math.nan) for key in ("likeness", "scale", "pairs"))
        ignorant = math.log(self.batch)
        signs = {
            f"the loss of pairs stays at ln {self.batch} = {ignorant:.2f}, that of guessing: is the rate too high or "
            "too low, and do sentences belong to their pictures?": self.contrastive and pairs > 0.98 * ignorant,
            f"the scale of cosines stays at its largest, {self.most_scale:g}: pairs are told apart too easily, or the "
            "rate is too high": scale >= 0.999 * self.most_scale,
            f"the vectors of different pictures are nearly one (mean cosine {likeness:.3f}): the features have "
            "collapsed": likeness > 0.97,
        }
        found = []
        for name, sign in zip(("loss", "scale", "likeness"), signs.items(), strict=True):
            message, there = sign
            if not there:
                self._since.pop(name, None)
            elif step - self._since.setdefault(name, step) >= self.wait and name not in self._told:
                self._told.add(name)
                found.append(f"step {step}: {message}")
        return found
