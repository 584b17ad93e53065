"""Better templates before anything is trained: chosen on pictures without labels, then, where there are any, with few.

Without labels an ensemble of templates is grown for the knowledge in its answers (Krause, Perona & Gomes, 2010; Liang
et al., 2020, arXiv:2002.08546),

    knowledge = balance x H(mean of the answers) - mean of H(answer)

high where each picture is answered surely and all pictures together use all classes. Of the criteria that need no
label, evenness alone goes along best with accuracy where classes are even, and hardly at all where they are not; this
sum gains where they are and loses nothing where they are not. `benchmarks/prompt_search.py` prints both.

With K pictures of each class the mean log-probability of their labels is added, and whether the result replaces what
was there before is decided on pictures that were held out. The published ensemble, one sentence and the data's own
sentences stay candidates to the end. Knows nothing of files."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from awase.clip import Clip, unit
from awase.encoding import prompts
from awase.encoding.scoring import Scoring, softmax
from awase.errors import UsageError
from awase.evaluation.probes import Features
from awase.learning.adaptation.holding_out import rounds

LEAST_GAIN = 1e-3  # of the objective, in nats, for which another template is taken in
ANSWERS = 2**18  # pictures x classes that a candidate is judged on: a second for a hundred candidates and 20 classes
LEAST_PICTURES = 200

Objective = Callable[[np.ndarray], float]
"""(C, D) class vectors -> how good they are."""


@dataclass(frozen=True)
class PromptSearch:
    """Settings of a search."""

    most: int = 8
    """Templates that an ensemble is grown to at most; a template may come twice."""
    balance: float = 1.5
    """What the evenness of the answers over classes weighs against their sureness. 1 is mutual information, which gains
    less; from 4 on uneven pictures are answered as if they were even."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.most < 1:
            raise UsageError(f"PromptSearch(most={self.most}): one template is the least")
        if not (math.isfinite(self.balance) and self.balance >= 0):
            raise UsageError(f"PromptSearch(balance={self.balance}): a number from 0 up")
        if self.seed < 0:
            raise UsageError(f"the seed {self.seed}: a whole number from 0 is expected")


@dataclass(frozen=True)
class Proposal:
    """A way to ask. name: "simple", "ensemble", "the data's own", "found without labels", "found with labels". vectors:
    (C, D). knowledge: the criterion. right: (n,) bool, the answers to labelled pictures while they were held out."""

    name: str
    templates: tuple[str, ...]
    vectors: np.ndarray
    knowledge: float
    right: np.ndarray | None = None

    @property
    def held_out(self) -> float | None:
        """Accuracy on pictures that were held out."""
        return None if self.right is None or not len(self.right) else float(self.right.mean())


def search(
    clip: Clip,
    names: Sequence[str],
    candidates: Sequence[str],
    known: dict[str, tuple[str, ...]],
    pictures: np.ndarray,
    labelled: Features | None = None,
    settings: PromptSearch | None = None,
) -> list[Proposal]:
    """The ways to ask, the best first: by knowledge; with labels, what does better on held-out pictures by more than a
    standard error comes before what knowledge would choose.

    candidates: sentences with {}. known: name -> sentences of sets that are there already, and stay candidates.
    pictures: (N, D) vectors without labels. labelled: a few with theirs."""
    settings = settings or PromptSearch()
    vectors = each_template(clip, names, candidates)
    drawn = few(pictures, len(names), settings.seed)

    def knowing(classes: np.ndarray) -> float:
        return knowledge(clip.scoring, drawn, classes, settings.balance)

    sets = {name: clip.classifier(names, sentences) for name, sentences in known.items()}
    found = [Proposal(name, known[name], classes, knowing(classes)) for name, classes in sets.items()]
    grown = grow(vectors, knowing, settings.most)
    found.append(_proposed("found without labels", candidates, vectors, grown, knowing))
    if labelled is None:
        return sorted(found, key=lambda proposal: -proposal.knowledge)

    def learned(few_labelled: Features) -> list[int]:
        return grow(vectors, lambda c: knowing(c) + likelihood(clip.scoring, few_labelled, c), settings.most)

    held = rounds(labelled, None, settings.seed)
    by_labels = [(ensemble(vectors, learned(labelled[kept])), other) for kept, other in held]
    found = [_judged(p, [(p.vectors, other) for _, other in held]) for p in found]
    found.append(_judged(_proposed("found with labels", candidates, vectors, learned(labelled), knowing), by_labels))
    return _best_first(found)


def _best_first(found: Sequence[Proposal]) -> list[Proposal]:
    """By held-out accuracy, led by the one that knowledge chooses unless another is surely better."""
    leader = max(found[:-1], key=lambda p: p.knowledge)
    ranked = sorted(found, key=lambda p: p.held_out or 0.0, reverse=True)
    for other in ranked:
        if leader.right is not None and other.right is not None:
            gain = other.right.astype(np.float64) - leader.right
            if len(gain) > 1 and gain.mean() > gain.std(ddof=1) / len(gain) ** 0.5:
                return [other, *(p for p in ranked if p is not other)]
    return [leader, *(p for p in ranked if p is not leader)]


def each_template(clip: Clip, names: Sequence[str], candidates: Sequence[str]) -> np.ndarray:
    """(T, C, D) unit vectors: what each candidate alone makes of each name."""
    asked = prompts.class_prompts(names, candidates)
    return clip.encode_texts([row[t] for t in range(len(candidates)) for row in asked]).reshape(
        len(candidates), len(names), -1
    )


def grow(vectors: np.ndarray, objective: Objective, most: int) -> list[int]:
    """Which of (T, C, D) templates, greedily: each round the one with which the ensemble is best, again the same one if
    that is it (Caruana et al., ICML 2004); ends where none helps."""
    chosen: list[int] = []
    total, best = np.zeros(vectors.shape[1:], np.float32), -math.inf
    while len(chosen) < most:
        scores = [objective(unit(total + one)) for one in vectors]
        first = int(np.argmax(scores))
        if scores[first] < best + LEAST_GAIN:
            break
        chosen.append(first)
        total, best = total + vectors[first], scores[first]
    return chosen


def ensemble(vectors: np.ndarray, chosen: Sequence[int]) -> np.ndarray:
    """(C, D) unit vectors of a choice."""
    return unit(vectors[list(chosen)].sum(axis=0))


def knowledge(scoring: Scoring, pictures: np.ndarray, classes: np.ndarray, balance: float) -> float:
    """In nats. Answers are shared out among the classes in every family, for to judge them evenness is needed."""
    answers = softmax(scoring.scale * (pictures @ classes.T))
    return balance * float(_entropy(answers.mean(axis=0))) - float(_entropy(answers).mean())


def likelihood(scoring: Scoring, labelled: Features, classes: np.ndarray) -> float:
    """The mean log-probability of the labels, in nats."""
    answers = softmax(scoring.scale * (labelled.rows @ classes.T))
    own = answers[np.arange(len(labelled)), labelled.targets]
    return float(np.log(np.maximum(own, 1e-12)).mean())


def few(pictures: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """As many of (N, D) as candidates are judged on, drawn."""
    count = max(LEAST_PICTURES, ANSWERS // classes)
    return (
        pictures if len(pictures) <= count else pictures[np.random.default_rng(seed).permutation(len(pictures))[:count]]
    )


def _entropy(answers: np.ndarray) -> np.ndarray:
    return np.asarray(-(answers * np.log(np.maximum(answers, 1e-12))).sum(axis=-1))


def _proposed(
    name: str, candidates: Sequence[str], vectors: np.ndarray, chosen: Sequence[int], knowing: Objective
) -> Proposal:
    classes = ensemble(vectors, chosen)
    return Proposal(name, tuple(candidates[i] for i in chosen), classes, knowing(classes))


def _judged(proposal: Proposal, held: Sequence[tuple[np.ndarray, Features]]) -> Proposal:
    right = [(other.rows @ classes.T).argmax(axis=1) == other.targets for classes, other in held]
    return replace(proposal, right=np.concatenate(right) if right else np.empty(0, bool))
