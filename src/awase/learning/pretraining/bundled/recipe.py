"""Everything that is chosen about the bundled model: recipes/bundled.toml, read."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from awase.errors import UsageError
from awase.learning.loop import Schedule


@dataclass(frozen=True)
class Phase:
    """One stretch of training. Both projections, the classifier's rows for the labelled sets and the sentence encoder's
    layers after its sum always learn."""

    schedule: Schedule
    pairs: dict[str, int]
    """Pictures with sentences in a step, of each set."""
    named: int
    """Pictures of labelled sets in a step."""
    sets: int
    """Labelled sets that these come from."""
    others: int = 0
    """Sentences of other pictures in a step, as further rivals."""
    small: float = 0.2
    """Part of the pictures that is seen small."""
    japanese: float = 0.33
    """Part of the pictures told in Japanese, where they can be."""
    named_weight: float = 0.6
    """Weight of the class names' loss beside the contrastive one."""
    concept_weight: float = 0.5
    """Weight of the classifier's cross entropy on pictures of labelled sets, whose classes are concepts."""
    known_part: float = 0.0
    """Part of the right answer there that is left to what the backbone says of the whole, clear picture."""
    unnamed: tuple[str, ...] = ()
    """Sets among `pairs` whose pictures show none of those classes, so far as is known."""
    unnamed_weight: float = 0.0
    """Weight of the same there, where the right answer is what the backbone says of the whole, clear picture."""
    left_out: float = 0.0
    """Part of the pictures whose mixture is of the backbone's own names alone, so that all else must serve too."""
    translated: int = 0
    """English sentences in a step that are to be told from one another by their Japanese translations."""
    translated_weight: float = 0.3
    restrained: int = 0
    """Sentences in a step that are held to what the sentence encoder made of them before."""
    restraint_weight: float = 5.0
    """Weight of one minus the mean cosine between the two."""
    dropout: float = 0.6
    """Part of the features that is left out before the projection and before the rows of the classifier that learn."""
    tower: bool = False
    """Whether the twins of the image tower's last blocks learn too."""
    clear_weight: float = 0.0
    """Weight of the divergence of what the backbone's classifier says of a twin's features from what it says of the
    whole, clear picture by the frozen blocks."""
    concept_gain: float = 1.2
    """Length of the mixture of concepts beside the free unit direction."""
    whitening: float = 0.0
    """How far the concepts are whitened: 0 leaves the names' directions, 1/2 makes them equally strong."""


@dataclass(frozen=True)
class Recipe:
    """Everything that is chosen. The phases follow one another on the same weights. The model has the concept gain and
    the whitening of the stretch that is named last here."""

    phases: tuple[Phase, ...]
    ends: tuple[Phase, ...] = ()
    """Phases that all start from the weights of the phases before; what follows them is the mean of what they leave.
    Wortsman et al., 2022 (arXiv:2203.05482): such a mean is better than each of them, at no cost later."""
    rounds: tuple[tuple[Phase, ...], ...] = ()
    """More ends. Those of a round start from the mean so far: of `ends`, or of the model that is begun from, which
    counts as one, and of all earlier rounds' ends. The model is the mean of them all. Ramé et al., 2024
    (arXiv:2406.16768), average in rounds likewise."""
    kind_weight: float = 0.0
    """Weight of what a concept is a kind of beside its name, in the model that is written."""
    average: float = 0.98
    """How slowly the moving average of the weights forgets that each phase leaves."""
    seeds: tuple[int, ...] = (0,)
    """Phases and ends are run from each of these and averaged; the rounds' ends take them in turn."""
    bfloat16: bool = False
    """Train in bfloat16, losses apart: several times faster where a processor has products of it, slower elsewhere."""


def read_recipe(file: Path) -> Recipe:
    """Raises UsageError for a setting that does not exist or does not fit."""
    try:
        values = tomllib.loads(file.read_text("utf-8"))
        phases, ends = (tuple(_phase(settings) for settings in values.pop(part, ())) for part in ("phases", "ends"))
        rounds = tuple(_round(ends, **settings) for settings in values.pop("rounds", ()))
        seeds = tuple(values.pop("seeds", Recipe.seeds))
        recipe = Recipe(phases, ends, rounds, seeds=seeds, **values)
    except OSError as problem:
        raise UsageError(f"{file}: {problem.strerror}; expected a recipe like recipes/bundled.toml") from problem
    except (ValueError, TypeError, KeyError) as problem:
        raise UsageError(f"{file}: {problem}; the settings are the fields of Recipe, Phase and Schedule") from problem
    if not recipe.phases or not recipe.seeds:
        raise UsageError(f"{file}: a recipe has a phase and a seed at least")
    return recipe


def _phase(settings: dict[str, Any]) -> Phase:
    schedule, unnamed = Schedule(**settings.pop("schedule")), tuple(settings.pop("unnamed", ()))
    return Phase(schedule, unnamed=unnamed, **settings)


def _round(known: Sequence[Phase], ends: Sequence[dict[str, Any]]) -> tuple[Phase, ...]:
    return tuple(_like(known, **settings) for settings in ends)


def _like(
    known: Sequence[Phase], like: int, schedule: Mapping[str, Any] = MappingProxyType({}), **settings: Any
) -> Phase:
    """End number `like`, counted from 0, with other settings."""
    if like not in range(len(known)):
        raise ValueError(f"like = {like}: the number of an end, counted from 0, and there are {len(known)}")
    end = known[like]
    return dataclasses.replace(end, schedule=dataclasses.replace(end.schedule, **schedule), **settings)


def quick(recipe: Recipe) -> Recipe:
    """The same in two steps of each phase."""

    def short(phases: Sequence[Phase]) -> tuple[Phase, ...]:
        return tuple(
            dataclasses.replace(phase, schedule=dataclasses.replace(phase.schedule, steps=2)) for phase in phases
        )

    rounds = tuple(short(ends) for ends in recipe.rounds)
    return dataclasses.replace(recipe, phases=short(recipe.phases), ends=short(recipe.ends), rounds=rounds)
