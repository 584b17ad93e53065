"""What figures are called and how numbers are written, wherever a person reads them: tables, reports, plots.

Knows nothing of how a figure is computed; a figure that it does not know is shown under its own name."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from awase.evaluation.results import Figure, Result

TASKS = {
    "zero-shot": "Zero-shot classification",
    "retrieval": "Retrieval",
    "linear-probe": "Linear probe",
    "calibration": "Calibration",
    "robustness": "Robustness",
    "composition": "Compositional understanding",
    "caption-scores": "Caption scores",
}
NO_LANGUAGE = {"linear-probe": "Features", "caption-scores": "Pairs"}  # what stands where others name a language
LANGUAGES = {"en": "English", "ja": "Japanese"}


@dataclass(frozen=True)
class Word:
    """How a figure is called. share: a fraction, written in per cent. rises: more is better. way: of two, which."""

    name: str
    share: bool = True
    rises: bool = True
    way: str = ""


_WORDS = {
    "top1": Word("Top-1 accuracy"),
    "top5": Word("Top-5 accuracy"),
    "mean_top1_top5": Word("Mean of top-1 and top-5 accuracy"),
    "mean_per_class": Word("Accuracy, mean over classes"),
    "roc_auc": Word("Area under the ROC curve"),
    "map": Word("Mean average precision"),
    "ece": Word("Expected calibration error", rises=False),
    "adaptive_ece": Word("Calibration error, equal bins", rises=False),
    "nll": Word("Negative log-likelihood", share=False, rises=False),
    "brier": Word("Brier score", share=False, rises=False),
    "temperature": Word("Temperature", share=False),
    "classwise_ece": Word("Calibration error, mean over classes", rises=False),
    "error_rate": Word("Wrong among the answered", rises=False),
    "set_size": Word("Mean size of the sets", share=False, rises=False),
    "jpeg_compression": Word("JPEG compression"),
    "clean": Word("Accuracy on clean pictures"),
    "relative": Word("Share of clean accuracy that is kept"),
    "mce": Word("Mean corruption error", rises=False),
    "map_11_point": Word("Mean average precision, 11 points"),
    "clip_score": Word("CLIPScore", share=False),
    "ref_clip_score": Word("RefCLIPScore", share=False),
    "mean_recall": Word("Mean recall"),
    "effective_robustness": Word("Effective robustness"),
    "accuracy": Word("Accuracy"),
    "mean_over_kinds": Word("Accuracy, mean over kinds"),
    "text": Word("Both captions found"),
    "image": Word("Both pictures found"),
    "group": Word("All of a pair right"),
}
MEASURES = {  # by which two results are compared
    "correct": Word("Accuracy"),
    "text_to_picture": Word("Mean reciprocal rank, sentence → picture", share=False, way="sentence → picture"),
    "picture_to_text": Word("Mean reciprocal rank, picture → sentence", share=False, way="picture → sentence"),
    "clip_score": Word("CLIPScore", share=False),
}
PART = ", "  # between a figure's name and the group of pictures that it is about
_RECALL = re.compile(r"(?P<way>\w+?)_r(?P<k>\d+)")
_SHOTS = re.compile(r"top1_(?P<n>\d+)_shot")
_RANK = re.compile(r"(?P<way>\w+?)_(?P<which>median|mean)_rank")
_WAYS = {"image_to_text": "Picture → sentence", "text_to_image": "Sentence → picture"}


def word_for(figure: str) -> Word:
    """What a figure is called; names of several parts ("image_to_text_r5") are read part by part."""
    if figure in _WORDS:
        return _WORDS[figure]
    if PART in figure:
        whole, part = figure.split(PART, 1)
        return replace(word_for(whole), name=f"{word_for(whole).name}, {part}")
    if match := _RECALL.fullmatch(figure):
        return Word(f"{_way(match['way'])}, R@{match['k']}")
    if match := _SHOTS.fullmatch(figure):
        return Word(f"Top-1 accuracy, {match['n']} shots" if match["n"] != "1" else "Top-1 accuracy, 1 shot")
    if figure.endswith("_scaled"):
        plain = word_for(figure.removesuffix("_scaled"))
        return replace(plain, name=f"{plain.name}, temperature scaled")
    if match := _RANK.fullmatch(figure):
        return Word(f"{_way(match['way'])}, {match['which']} rank", share=False, rises=False)
    return Word(figure.replace("_", " ").capitalize(), share=not _is_plain(figure))


def _way(way: str) -> str:
    return _WAYS.get(way, way.replace("_", " ").capitalize())


def _is_plain(figure: str) -> bool:
    """Whether a figure that has no word of its own is a plain number rather than a share."""
    return any(part in figure for part in ("nll", "brier", "rank", "temperature", "score", "size", "seconds", "count"))


def written(value: float | None, share: bool = True) -> str:
    """0.6123 -> "61.2 %", or "0.612" where it is no share. What is not a number is a dash."""
    if value is None or math.isnan(value):
        return "–"
    if share:
        text = f"{100 * value:.1f} %"
    else:
        text = f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
    return text.replace("-", "−") if "e" not in text else text


def written_interval(interval: Sequence[float] | None, share: bool = True) -> str:
    """(0.589, 0.651) -> "58.9–65.1 %"; nothing where there is none. Negative ends are set apart by a word."""
    if interval is None:
        return ""
    low, high = (written(end, share).removesuffix(" %") for end in interval)
    dash = " to " if min(interval) < 0 else "–"
    return f"{low}{dash}{high}{' %' if share else ''}"


def sentence_for(name: str, figure: Figure) -> str:
    """ "Top-1 accuracy 61.2 % (58.9–65.1 %, n = 500)"."""
    word = word_for(name)
    within = [written_interval(figure.interval, word.share), f"n = {figure.n:,}"]
    return f"{word.name} {written(figure.value, word.share)} ({', '.join(part for part in within if part)})"


def task_name(task: str) -> str:
    return TASKS.get(task, task.replace("-", " ").capitalize())


def variant_of(result: Result) -> str:
    """In which words a task was done: "English", "Japanese", or the column that captions came from."""
    if result.task in NO_LANGUAGE:
        return NO_LANGUAGE[result.task]
    column = str(result.settings.get("column", "captions"))
    language = str(result.settings.get("language") or column.removeprefix("captions").strip("_") or "en")
    return LANGUAGES.get(language, language)


def variants_of(results: Sequence[Result]) -> list[str]:
    """The same of several results. Where a set has one task twice in one language, all of that task and language are
    told apart by their templates ("English, ensemble"), and what is still alike is numbered."""
    asked = [(result.task, variant_of(result)) for result in results]
    counts = Counter((*words, result.data, result.split) for words, result in zip(asked, results, strict=True))
    several, seen, found = {key[:2] for key, count in counts.items() if count > 1}, Counter[tuple[str, ...]](), []
    for (task, variant), result in zip(asked, results, strict=True):
        if (task, variant) in several and (templates := result.settings.get("templates")):
            variant = f"{variant}, {templates}"
        place = task, variant, result.data, result.split
        seen[place] += 1
        found.append(variant if seen[place] == 1 else f"{variant}, {seen[place]}")
    return found


def headline_of(result: Result) -> str | None:
    """The figure by which a result is known: the one that its data name, else the first of the usual ones."""
    usual = (str(result.settings.get("metric", "")), "top1", "mean_recall", "ece", "accuracy", *result.figures)
    return next((name for name in usual if name in result.figures), None)
