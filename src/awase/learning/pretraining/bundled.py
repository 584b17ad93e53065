"""The bundled model: heads and the sentence encoder's last layers on a frozen image tower, then twins of its last
blocks with them, from several seeds and in rounds that begin from the mean so far.

    python -m awase.learning.pretraining.bundled recipes/bundled.toml WORK OUT

WORK is what recipes/prepare_bundled.py made; OUT becomes awase's own folder. How it is stored: `compact`."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.checkpoints.checkpoint import Checkpoint
from awase.encoding.towers import load_towers
from awase.encoding.towers.efficientnet import EfficientNetLite
from awase.encoding.towers.ngrams import NgramEncoder
from awase.errors import AwaseError, UsageError
from awase.learning.averaging import Average
from awase.learning.loop import Losses, Schedule, train
from awase.learning.losses import class_names, contrastive, divergence
from awase.learning.pretraining.compact import as_stored, write_compact
from awase.learning.pretraining.prepared import Batch, Prepared, Sampler
from awase.learning.pretraining.products import LastBlocks, twins_of

AT_A_TIME = 64  # pictures; the maps of more leave the processor's caches, and a step takes twice as long
CONCEPTS_EVERY = 8  # steps; between them the concepts stay as the text tower named them last


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
    except (OSError, ValueError, TypeError, KeyError) as problem:
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


class Space:
    """Both towers as far as they are trained here, over pictures and sentences that are frozen up to there."""

    def __init__(self, checkpoint: Checkpoint, data: Prepared, recipe: Recipe) -> None:
        towers = load_towers(checkpoint)
        self.image, self.text = cast(EfficientNetLite, towers.image), cast(NgramEncoder, towers.text)
        self.data, self.bfloat16 = data, recipe.bfloat16
        self.gain, self.whitening, self.kind_weight = 1.0, 0.0, 0.0
        self.last_blocks = LastBlocks(*twins_of(self.image), data.side)
        # The logarithms of three scales: a caption is told from hundreds, a class name from a few of its set.
        kinds = ("pairs", "names", "translations")
        self.scales = nn.ParameterDict({name: towers.logit_scale.detach().clone() for name in kinds})
        with torch.no_grad():
            self.before = torch.cat([self.text.sentence(part.float()) for part in torch.split(data.sums, 8192)])
        self.known = self.image.classifier.requires_grad_(False)
        self.learned = nn.Linear(self.known.in_features, self.known.out_features - data.known)
        nn.init.zeros_(self.learned.weight)
        nn.init.constant_(self.learned.bias, -1)

    @torch.no_grad()
    def write_learned(self) -> None:
        """Puts the rows that were learned into the tower's own classifier."""
        self.known.weight[self.data.known :] = self.learned.weight
        self.known.bias[self.data.known :] = self.learned.bias

    @torch.no_grad()
    def read_learned(self) -> None:
        """Takes them from there."""
        self.learned.weight.copy_(self.known.weight[self.data.known :])
        self.learned.bias.copy_(self.known.bias[self.data.known :])

    def set_mixture(self, phase: Phase) -> None:
        """Sets how concepts are whitened and how long their mixture is."""
        self.gain, self.whitening = phase.concept_gain, phase.whitening

    def fast(self) -> torch.autocast:
        """Where weights are trained, products may be of bfloat16; what is measured or kept is float32."""
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16 and torch.is_grad_enabled())

    def encoded(self, ids: Tensor) -> Tensor:
        """(..., w) unit vectors of prepared sentences as the sentence encoder has them, before the projection."""
        with self.fast():
            return self.text.sentence(self.data.sums[ids].float()).float()

    def sentences(self, ids: Tensor) -> Tensor:
        """(..., D) unit vectors of prepared sentences."""
        with self.fast():
            return F.normalize(self.text.projection(self.encoded(ids)).float(), dim=-1)

    @torch.no_grad()
    def concepts(self) -> Tensor:
        """(K, D): what the classifier can name, by its names in both languages and by what these are kinds of, in the
        space as it is now."""
        names, kinds = (
            F.normalize(torch.stack([self.sentences(ids) for ids in said.values()]).sum(0), dim=-1)
            for said in (self.data.concepts, self.data.kinds)
        )
        told = F.normalize(names + self.kind_weight * kinds, dim=-1)
        return F.normalize(told @ whitener(names, self.whitening), dim=-1)

    def tuned(self, maps: Tensor) -> Tensor:
        """Maps (B, P, C) -> (B, F) through the twins as they are now."""
        with self.fast():
            return torch.cat([cast(Tensor, self.last_blocks(part)) for part in torch.split(maps, AT_A_TIME)])

    def knows(self, features: Tensor) -> Tensor:
        """Features (B, F) -> the logits of the classifier's rows (B, 1000) that the backbone came with."""
        rows = self.data.known
        with self.fast():
            return F.linear(features, self.known.weight[:rows], self.known.bias[:rows]).float()

    def named(self, features: Tensor, dropout: float = 0.0) -> Tensor:
        """Features (B, F) -> logits of all rows of the classifier (B, K), those learned here among them."""
        with self.fast():
            learned = self.learned(F.dropout(features, dropout)).float()
        return torch.cat([self.knows(features), learned], dim=-1)

    def pictures(
        self,
        frozen: Tensor,
        tuned: Tensor,
        concepts: Tensor,
        dropout: float = 0.0,
        left_out: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Features (B, F) of the frozen blocks and of their twins -> unit vectors (B, D), and the classifier's logits
        (B, K). The tower's own formula, but with concepts that follow the text tower as it learns. left_out (B,):
        which mixtures are to do without what was learned."""
        with self.fast():
            free = self.image.projection(F.dropout(torch.cat([frozen, tuned], dim=-1), dropout)).float()
        logits = self.named((frozen + tuned) / 2, dropout)
        heard = logits
        if left_out is not None:
            learned = torch.arange(logits.shape[1]) >= self.data.known
            heard = logits.masked_fill(left_out[:, None] & learned, float("-inf"))
        mixture = heard.softmax(-1) @ concepts
        return F.normalize(F.normalize(free, dim=-1) + self.gain * mixture, dim=-1), logits

    def trained(self, tower: bool) -> dict[str, nn.Parameter]:
        text = self.text
        modules: dict[str, nn.Module] = {"image.projection": self.image.projection, "text.projection": text.projection}
        modules |= {"text.mix": text.mix, "text.dense": text.dense, "learned": self.learned}
        weights = {f"{part}.{name}": w for part, module in modules.items() for name, w in module.named_parameters()}
        weights |= {f"scales.{name}": w for name, w in self.scales.items()}
        return weights | (dict(self.last_blocks.named_parameters()) if tower else {})


def whitener(vectors: Tensor, power: float) -> Tensor:
    """(D, D): by it, directions that many of the (K, D) vectors share become weaker, at power 1/2 all equally strong.
    Names that lie near one another are then told apart by more than the little in which they differ. Soft ZCA
    whitening: Diera et al., 2024 (arXiv:2411.17538), with a power in place of their large epsilon."""
    strengths, directions = torch.linalg.eigh((vectors.T @ vectors / len(vectors)).double())
    weakened = directions * (strengths.clamp_min(0) + 1e-4).pow(-power)
    return cast(Tensor, (weakened @ directions.T).float())


class Step:
    """The loss of a step of one phase, as the training loop asks for it."""

    def __init__(self, space: Space, phase: Phase, chance: np.random.Generator) -> None:
        self.space, self.phase, self.chance = space, phase, chance
        numbers = phase.named, phase.sets, phase.others, phase.japanese
        self.sampler = Sampler(space.data, phase.pairs, *numbers, chance)
        self.concepts = space.concepts()

    def __call__(self, step: int) -> Losses:
        if step % CONCEPTS_EVERY == 0:
            self.concepts = self.space.concepts()
        return self.of_pictures(self.sampler()) | self.of_sentences()

    def of_pictures(self, batch: Batch) -> dict[str, Tensor]:
        space, phase, data = self.space, self.phase, self.space.data
        crops = data.draw_crops(len(batch.pictures), phase.small, self.chance)
        tuned = frozen = data.draw("features", batch.pictures, crops)
        if phase.tower:
            tuned = space.tuned(data.draw("maps", batch.pictures, crops))
        left_out = torch.from_numpy(self.chance.random(len(crops)) < phase.left_out)
        vectors, logits = space.pictures(frozen, tuned, self.concepts, phase.dropout, left_out)
        clear = space.knows(data.draw("features", batch.pictures, np.zeros_like(crops))).softmax(-1)
        paired = len(batch.pictures) - len(batch.labels)
        scales = {name: scale.exp() for name, scale in space.scales.items()}
        sets = batch.set_of_picture, batch.set_of_name
        named = class_names(vectors[paired:], space.sentences(batch.names), batch.labels, *sets, scales["names"])
        parts = {
            "pairs": contrastive(vectors[:paired], space.sentences(batch.sentences), scales["pairs"]),
            "names": phase.named_weight * named,
            "concepts": phase.concept_weight * F.cross_entropy(logits[paired:], self.right(batch, clear[paired:])),
        }
        if phase.unnamed_weight:
            rows = [i for i, row in enumerate(batch.pictures[:paired]) if data.train[row]["set"] in phase.unnamed]
            parts["unnamed"] = phase.unnamed_weight * F.cross_entropy(logits[rows], self.padded(clear[rows]))
        if phase.clear_weight:
            parts["clear"] = phase.clear_weight * divergence(space.knows(tuned), clear)
        return parts

    def right(self, batch: Batch, known: Tensor) -> Tensor:
        """(N, K) probabilities: the class of each labelled picture, and in part what the backbone knew (N, 1000)."""
        part = self.phase.known_part
        return (1 - part) * F.one_hot(batch.concepts, len(self.concepts)) + part * self.padded(known)

    def padded(self, known: Tensor) -> Tensor:
        """(N, 1000) -> (N, K): nought for what the backbone did not know."""
        return F.pad(known, (0, len(self.concepts) - known.shape[1]))

    def of_sentences(self) -> dict[str, Tensor]:
        space, phase, data = self.space, self.phase, self.space.data
        parts: dict[str, Tensor] = {}
        if phase.translated:
            both = torch.from_numpy(data.translations[self.chance.choice(len(data.translations), phase.translated)])
            english, japanese = space.sentences(both[:, 0]), space.sentences(both[:, 1])
            told = contrastive(english, japanese, space.scales["translations"].exp())
            parts["translations"] = phase.translated_weight * told
        if phase.restrained:
            ids = torch.from_numpy(self.chance.choice(len(data.sums), phase.restrained))
            cosines = (space.encoded(ids) * space.before[ids]).sum(-1)
            parts["restraint"] = phase.restraint_weight * (1 - cosines.mean())
        return parts


def learn(space: Space, phase: Phase, recipe: Recipe, seed: int, chance: np.random.Generator) -> None:
    """Runs one phase; the weights change in place, to their moving average."""
    space.set_mixture(phase)
    weights = space.trained(phase.tower)
    average = Average(weights, recipe.average)
    train(weights, Step(space, phase, chance), phase.schedule, report, seed=seed, average=average)
    with torch.no_grad():
        for name, weight in weights.items():
            weight.copy_(average.tensors[name])


Weights = dict[str, Tensor]


def ends_from(seed: int, checkpoint: Checkpoint, data: Prepared, recipe: Recipe) -> Iterator[Weights]:
    """What each of the recipe's ends leaves, or the phases where it has none."""
    torch.manual_seed(seed)
    space = Space(checkpoint, data, recipe)
    chance = chance_of(seed, 0)
    for phase in recipe.phases:
        learn(space, phase, recipe, seed, chance)
    start = copied(space.trained(tower=True))
    for number, phase in enumerate(recipe.ends):
        yield end_of(phase, start, space, recipe, seed, 1 + number)
    if not recipe.ends:
        yield start


def rounds_from(start: Weights, space: Space, recipe: Recipe) -> Weights:
    """The mean of `start` and of the ends of all rounds."""
    found, seeds = [start], itertools.cycle(recipe.seeds)
    stretch = itertools.count(1 + len(recipe.ends))
    for ends in recipe.rounds:
        so_far = mean(found)
        found += [end_of(phase, so_far, space, recipe, next(seeds), next(stretch)) for phase in ends]
    return mean(found)


def end_of(phase: Phase, start: Weights, space: Space, recipe: Recipe, seed: int, stretch: int) -> Weights:
    """What the phase makes of the weights `start`."""
    assign(space, start)
    learn(space, phase, recipe, seed, chance_of(seed, stretch))
    return copied(space.trained(tower=True))


def chance_of(seed: int, stretch: int) -> np.random.Generator:
    """What a stretch of training draws its batches by: the phases are number 0, ends and rounds follow."""
    return np.random.default_rng([seed, stretch])


def mean(left: Sequence[Weights]) -> Weights:
    return {name: torch.stack([one[name] for one in left]).mean(0) for name in left[0]}


def copied(weights: Mapping[str, Tensor]) -> Weights:
    return {name: weight.detach().clone() for name, weight in weights.items()}


@torch.no_grad()
def assign(space: Space, weights: Weights) -> None:
    """Sets the weights that there are."""
    trained = space.trained(tower=True)
    for name, weight in weights.items():
        trained[name].copy_(weight)


def report(step: int, told: dict[str, float]) -> None:
    """One JSON line on stderr for every twentieth step."""
    if step % 20 == 0:
        print(json.dumps({"step": step, **{name: round(value, 4) for name, value in told.items()}}), file=sys.stderr)


@torch.no_grad()
def calibrated(space: Space, scales: Tensor) -> float:
    """The scale of cosines that surprises least on the labelled sets' validation pictures: least mean over the sets,
    and over both languages, of the mean negative log likelihood, with the simple template. Guo et al., 2017
    (arXiv:1706.04599)."""
    data, concepts = space.data, space.concepts()
    maps, features = (data.stored("val", kind, 0) for kind in ("maps", "features"))
    parts = [slice(i, i + AT_A_TIME) for i in range(0, len(maps), AT_A_TIME)]
    read = [(torch.tensor(features[part]).float(), torch.tensor(maps[part]).float()) for part in parts]
    vectors = torch.cat([space.pictures(frozen, space.tuned(x), concepts)[0] for frozen, x in read])
    surprise = torch.zeros(len(scales))
    for name in dict.fromkeys(row["set"] for row in data.val):
        classes = data.classes[name]
        mine = [i for i, row in enumerate(data.val) if row["set"] == name]
        labels = torch.tensor([list(classes).index(data.val[i]["class"]) for i in mine])
        for language in ("en", "ja"):
            names = space.sentences(torch.tensor([sentences[language][-1] for sentences in classes.values()]))
            cosines = vectors[mine] @ names.T
            surprise += torch.stack([F.cross_entropy(scale * cosines, labels) for scale in scales])
    return float(scales[surprise.argmin()])


@torch.no_grad()
def finished(space: Space, checkpoint: Checkpoint, recipe: Recipe) -> dict[str, np.ndarray]:
    """Every tensor of the model, rounded as it will be stored: the concepts as that text tower names them, the scale
    calibrated with those weights."""
    space.kind_weight = recipe.kind_weight
    space.write_learned()
    trained: dict[str, Tensor] = {}
    for side, tower in (("image", space.image), ("text", space.text)):
        trained |= {f"{side}.{name}": weight for name, weight in tower.state_dict().items()}
    for name, weight in trained.items():
        weight.copy_(torch.from_numpy(as_stored(name, weight.numpy())))
    space.read_learned()
    trained |= {"image.concepts": space.concepts(), "image.concept_gain": torch.tensor(space.gain)}
    trained["logit_scale"] = torch.tensor(calibrated(space, torch.arange(5, 60, 0.5))).log()
    return {name: trained[name].numpy() for name in checkpoint.architecture.tensors()}


def make(recipe: Recipe, prepared: Path, out: Path, begin: Checkpoint | None = None) -> None:
    """Trains and writes the model. Deterministic by the recipe's seeds on one machine.

    begin: a model that an earlier run made, in the place of what the phases and their ends would leave. Raises
    UsageError where it is of another architecture, or the recipe has no rounds."""
    checkpoint, data = open_checkpoint(prepared / "start"), Prepared(prepared)
    space = Space(checkpoint, data, recipe)
    if begin is None:
        start = mean([end for seed in recipe.seeds for end in ends_from(seed, checkpoint, data, recipe)])
    else:
        refuse_unfit(begin, checkpoint, recipe)
        start = copied(space.trained(tower=True)) | trained_weights_of(begin, data, recipe)
    assign(space, rounds_from(start, space, recipe))
    space.set_mixture([*recipe.phases, *recipe.ends, *itertools.chain(*recipe.rounds)][-1])
    write_compact(checkpoint, finished(space, checkpoint, recipe), out)


def refuse_unfit(made: Checkpoint, start: Checkpoint, recipe: Recipe) -> None:
    if not recipe.rounds:
        raise UsageError("the recipe has no rounds to go on with from a model")
    if dataclasses.replace(made.architecture, name=start.architecture.name) != start.architecture:
        raise UsageError(f"{made.source} is of another architecture than what was prepared, and cannot be gone on from")


def trained_weights_of(made: Checkpoint, data: Prepared, recipe: Recipe) -> Weights:
    """What was trained of a model, but for the scales of its losses, which no model keeps."""
    space = Space(made, data, recipe)
    space.read_learned()
    return {name: weight for name, weight in copied(space.trained(tower=True)).items() if not name.startswith("scales")}


def main() -> None:
    parser = argparse.ArgumentParser(description="Train the bundled model.")
    parser.add_argument("recipe", type=Path, help="a TOML file: recipes/bundled.toml")
    parser.add_argument("prepared", type=Path, help="the folder that recipes/prepare_bundled.py made")
    parser.add_argument("out", type=Path, help="the model's folder")
    parser.add_argument("--seeds", type=int, nargs="+", metavar="S", help="other seeds than the recipe's")
    parser.add_argument("--begin", type=Path, metavar="MODEL", help="only the rounds, from this model")
    parser.add_argument("--quick", action="store_true", help="two steps of each phase: a trial run")
    given = parser.parse_args()
    try:
        recipe = read_recipe(given.recipe)
        recipe = dataclasses.replace(recipe, seeds=tuple(given.seeds or recipe.seeds))
        begin = open_checkpoint(given.begin) if given.begin else None
        make(quick(recipe) if given.quick else recipe, given.prepared, given.out, begin)
    except AwaseError as problem:
        sys.exit(f"{parser.prog}: {problem}")


def quick(recipe: Recipe) -> Recipe:
    """The same in two steps of each phase."""

    def short(phases: Sequence[Phase]) -> tuple[Phase, ...]:
        return tuple(
            dataclasses.replace(phase, schedule=dataclasses.replace(phase.schedule, steps=2)) for phase in phases
        )

    rounds = tuple(short(ends) for ends in recipe.rounds)
    return dataclasses.replace(recipe, phases=short(recipe.phases), ends=short(recipe.ends), rounds=rounds)


if __name__ == "__main__":
    main()
