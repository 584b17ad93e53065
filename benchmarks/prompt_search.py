"""What `awase prompts search` gains, and which criterion without labels goes along with accuracy.

    python benchmarks/prompt_search.py FOLDER [--sets N] [--shots 4,16]

FOLDER holds domains, clothing10, signdigits10 and fashion_attr as folders or archives. Everything is chosen on training
pictures and judged on validation pictures. The bundled model was trained on the training pictures of domains and of
fashion_attr, on none of clothing10 and signdigits10."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from peer import machine
from scipy.stats import spearmanr

import awase
from awase.clip import Clip
from awase.datasets import Labelled, find_sets
from awase.encoding.scoring import Scoring, softmax
from awase.evaluation.candidates import candidate_templates, guessed_kinds
from awase.evaluation.intervals import paired_bootstrap
from awase.evaluation.tasks import open_classes
from awase.evaluation.vectors import picture_vectors
from awase.learning.adaptation.better_prompts import better_prompts
from awase.learning.adaptation.prompt_search import PromptSearch, each_template

ALONE = {"clothing10": None, "signdigits10": None, "fashion_attr": "type"}  # set -> column of its classes
LANGUAGES = ("en", "ja")


@dataclass(frozen=True)
class Split:
    """A set of `domains` or one of `ALONE`, to choose on and to judge on."""

    train: Labelled
    val: Labelled


def opened(folder: Path, most: int) -> tuple[list[Split], dict[str, Split]]:
    def split(location: str, column: str | None = None) -> Split:
        return Split(open_classes(location, "train", None, column), open_classes(location, "val", None, column))

    domains = [split(found.location) for found in find_sets(_at(folder, "domains"))][:most]
    return domains, {name: split(_at(folder, name), column) for name, column in ALONE.items()}


def _at(folder: Path, name: str) -> str:
    return str(folder / name if (folder / name).exists() else folder / f"{name}.tar")


# ---- which criterion -------------------------------------------------------------------------------------------------


def criteria(scoring: Scoring, pictures: np.ndarray, vectors: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(name -> (T,) the criterion of each template alone, (T, N) its answers)."""
    cosines = np.einsum("nd,tcd->tnc", pictures, vectors)
    answers = softmax(scoring.scale * cosines)
    ranked = np.sort(answers, axis=2)
    entropy = -(answers * np.log(answers + 1e-12)).sum(axis=2)
    mean = answers.mean(axis=1)
    evenness = -(mean * np.log(mean + 1e-12)).sum(axis=1)
    taken = cosines.argmax(axis=2)
    above = cosines - cosines.mean(axis=1, keepdims=True)
    inside = np.stack([(one @ one.T).mean() for one in vectors])
    return {
        "confidence": ranked[:, :, -1].mean(axis=1),
        "margin": (ranked[:, :, -1] - ranked[:, :, -2]).mean(axis=1),
        "sureness (minus entropy)": -entropy.mean(axis=1),
        "best cosine": cosines.max(axis=2).mean(axis=1),
        "best cosine above the mean picture's": above.max(axis=2).mean(axis=1),
        "spread of the classes' vectors": -inside,
        "agreement with the vote of all": (taken == answers.mean(axis=0).argmax(axis=1)).mean(axis=1),
        "evenness over classes": evenness,
        "mutual information (balance 1)": evenness - entropy.mean(axis=1),
        "knowledge (balance 1.5)": 1.5 * evenness - entropy.mean(axis=1),
    }, taken


def correlations(clip: Clip, splits: list[Split], language: str, uneven: bool) -> dict[str, float]:
    """Spearman's, of each criterion and true accuracy over single templates; the mean over sets."""
    found: dict[str, list[float]] = {}
    chance = np.random.default_rng(0)
    for split in splits:
        names = split.train.names[language]
        own = split.train.templates.get(language, ())
        vectors = each_template(
            clip, names, candidate_templates(names, language, own, guessed_kinds(clip, names, language))
        )
        seen = picture_vectors(clip, split.train)
        rows, targets = seen.rows, split.train.targets[seen.kept]
        if uneven:
            kept = _zipf(targets, chance)
            rows, targets = rows[kept], targets[kept]
        values, taken = criteria(clip.scoring, rows, vectors)
        accuracy = (taken == targets).mean(axis=1)
        for name, value in values.items():
            if np.ptp(value) > 0 and np.ptp(accuracy) > 0:
                found.setdefault(name, []).append(float(spearmanr(value, accuracy)[0]))
    return {name: float(np.mean(values)) for name, values in found.items()}


def _zipf(targets: np.ndarray, chance: np.random.Generator) -> np.ndarray:
    """Pictures so that the k-th class, in drawn order, keeps 1 / k of its own, one at the least."""
    kept = []
    for rank, label in enumerate(chance.permutation(np.unique(targets)), 1):
        own = chance.permutation(np.flatnonzero(targets == label))
        kept.append(own[: max(1, round(len(own) / rank))])
    return np.sort(np.concatenate(kept))


# ---- what is gained --------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """Right answers of each way to ask, picture by picture, and which set each picture is of."""

    right: dict[str, list[np.ndarray]]
    sets: list[int]

    def add(self, answers: dict[str, np.ndarray]) -> None:
        number = len(set(self.sets))
        for name, right in answers.items():
            self.right.setdefault(name, []).append(right)
        self.sets += [number] * len(next(iter(answers.values())))


def judged(clip: Clip, split: Split, language: str, shots: int | None, settings: PromptSearch) -> dict[str, np.ndarray]:
    found = better_prompts(clip, split.train, split.val, language, shots, settings=settings)
    names = [name.strip() for name in split.val.names[language]]
    seen = picture_vectors(clip, split.val)
    targets = split.val.targets[seen.kept]
    asked = {"simple": "simple", "ensemble": "ensemble", "found": tuple(found.wording)}
    if own := split.val.templates.get(language):
        asked["the data's own"] = own
    return {name: (seen.rows @ clip.classifier(names, how).T).argmax(axis=1) == targets for name, how in asked.items()}


def print_gains(title: str, tally: Tally) -> None:
    """Means over sets, each counted once; gains with sets as clusters where there are several, else by picture."""
    means = {name: np.array([part.mean() for part in parts]) for name, parts in tally.right.items()}
    words = [f"{name} {100 * values.mean():.1f}" for name, values in means.items()]
    gains = []
    for name in ("simple", "ensemble"):
        if len(means["found"]) > 1:
            gain = paired_bootstrap(means["found"], means[name])
        else:
            gain = paired_bootstrap(tally.right["found"][0], tally.right[name][0])
        gains.append(
            f"{100 * gain.value:+.1f} over {name} ({100 * gain.interval[0]:+.1f} to {100 * gain.interval[1]:+.1f})"
        )
    print(f"{title:36} {', '.join(words)}; {'; '.join(gains)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=int, default=1000, help="of domains, at most")
    parser.add_argument("--shots", default="4,16")
    given = parser.parse_args()
    clip = awase.load()
    print(machine(), clip.runs_on)
    domains, alone = opened(given.folder, given.sets)
    for uneven in (False, True):
        print(f"\nSpearman's correlation with accuracy over single templates, mean of {len(domains)} sets' training "
              f"pictures{', drawn unevenly (Zipf)' if uneven else ''}")  # fmt: skip
        found = {language: correlations(clip, domains, language, uneven) for language in LANGUAGES}
        for name in found["en"]:
            values = "  ".join(f"{language} {found[language].get(name, np.nan):+.2f}" for language in LANGUAGES)
            print(f"  {name:40} {values}", flush=True)
    print("\nAccuracy on validation pictures, %")
    for shots in (None, *(int(part) for part in given.shots.split(",") if part)):
        for language in LANGUAGES:
            for title, splits in _titled(domains, alone):
                tally = Tally({}, [])
                for split in splits:
                    tally.add(judged(clip, split, language, shots, PromptSearch()))
                print_gains(f"{title}, {language}, {f'{shots} shots' if shots else 'no labels'}", tally)


def _titled(domains: list[Split], alone: dict[str, Split]) -> Iterator[tuple[str, list[Split]]]:
    yield f"domains, {len(domains)} sets", domains
    for name, split in alone.items():
        yield name, [replace(split)]


if __name__ == "__main__":
    main()
