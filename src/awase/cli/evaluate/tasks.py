"""awase evaluate zero-shot, calibration, robustness, linear-probe, retrieval, composition: one task on one data set."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING

from awase.cli.evaluate.showing import add_output_flags, deliver, open_model, run_of, watching
from awase.cli.options import add_model_flags, add_picture_flags, limits_from, notice, open_clip
from awase.errors import UsageError

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.datasets import Labelled
    from awase.evaluation.backbones import Backbone

LABELLED = {
    "zero-shot": "how often is the likeliest class name the right one",
    "calibration": "are the probabilities true",
    "robustness": "how much accuracy is left under 15 common corruptions",
}
CAPTIONED = {
    "retrieval": "is the right caption found for a picture, and the right picture for a caption",
    "composition": "is the right caption told from a swapped, negated or exchanged one",
}


def add_to(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    for name, says in LABELLED.items():
        parser = _parser(kinds, name, says, run_labelled)
        _add_class_flags(parser)
        _add_word_flags(parser)
        if name == "calibration":
            parser.add_argument("--validation", metavar="S", help="split on which a temperature is chosen")
        if name == "robustness":
            parser.add_argument("--pictures", type=int, metavar="N", help="at most so many, drawn (default: 200)")
    parser = _parser(kinds, "linear-probe", "a linear classifier on the model's features", run_probe, split="--test")
    _add_class_flags(parser)
    _add_probe_flags(parser)
    for name, says in CAPTIONED.items():
        parser = _parser(kinds, name, says, run_captioned)
        parser.add_argument("--captions", default="captions", metavar="C", help="column of sentences, as captions_ja")
        if name == "composition":
            parser.add_argument("--published", action="store_true", help="DATA is ARO's, SugarCrepe's or Winoground's")
            parser.add_argument("--pictures", metavar="DIR", help="where ARO's or SugarCrepe's pictures lie")


def _parser(
    kinds: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    says: str,
    run: Callable[[argparse.Namespace], int],
    split: str = "--split",
) -> argparse.ArgumentParser:
    parser = kinds.add_parser(name, help=says)
    parser.add_argument("data", metavar="DATA", help="folder, archive or table of a data set")
    parser.add_argument(split, dest="split", metavar="S", help="measured on (default: test, or else validation)")
    add_output_flags(parser)
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)
    return parser


def _add_class_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--definition", metavar="NAME", help="names and templates of a published set, as eurosat")
    parser.add_argument("--column", metavar="C", help="of a table with several: the one that holds the class")


def _add_word_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--language", metavar="L", help="of the class names: en, ja (default: en where there are any)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--template", metavar="T", help='a sentence with {} for the class, as "a drawing of a {}."')
    says = "as simple, ensemble, kinds, or a .json or .txt file (default: the set's own, or simple)"
    which.add_argument("--templates", metavar="NAME", help=says)


def _add_probe_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--backbone", metavar="B", help="instead of the model: timm:NAME, FILE.onnx or features:MODEL")
    parser.add_argument("--train", default="train", metavar="S", help="split that is fitted on (train)")
    parser.add_argument("--validation", metavar="S", help="split that chooses the strength (default: a fifth of train)")
    parser.add_argument("--shots", metavar="1,4,16", help="also with so many pictures of each class")
    parser.add_argument("--seeds", type=int, default=3, metavar="N", help="drawings of pictures for each number (3)")


def run_labelled(given: argparse.Namespace) -> int:
    from awase.evaluation.tasks import evaluate_labelled

    most = getattr(given, "pictures", None)
    if most is not None and most < 1:
        raise UsageError(f"--pictures {most}: at least 1")
    data = _open(given, given.split)
    validation = _choosable(given, data) if getattr(given, "validation", None) else None
    templates = [given.template] if given.template else given.templates
    clip = open_clip(given)
    run = run_of(given, clip)
    with watching(data.name) as bar:
        result = evaluate_labelled(clip, given.kind, data, given.language, templates, validation, most, bar)
    return deliver(given, clip, run, result)


def run_probe(given: argparse.Namespace) -> int:
    from awase.evaluation.linear_probe import linear_probe

    shots = _numbers(given.shots) if given.shots else None
    if given.seeds < 1:
        raise UsageError(f"--seeds {given.seeds}: at least 1")
    train, test = _open(given, given.train), _open(given, given.split)
    validation = _choosable(given, test) if given.validation else None
    model = _probed(given)
    run = run_of(given, model)
    return deliver(given, model, run, linear_probe(model, train, test, validation, shots, given.seeds))


def _probed(given: argparse.Namespace) -> Clip | Backbone:
    from awase.evaluation.backbones import open_backbone
    from awase.evaluation.sides import FEATURES

    if given.backbone is None:
        return open_clip(given)
    if given.model or given.adapter:
        raise UsageError("--backbone takes the place of --model and --adapter; give one of the two")
    if given.backbone.startswith(FEATURES):  # what a probe reads of a model anyway
        return open_model(given, given.backbone.removeprefix(FEATURES))
    return open_backbone(given.backbone, given.threads, limits_from(given))


def _open(given: argparse.Namespace, split: str | None) -> Labelled:
    from awase.evaluation.tasks import open_classes

    return open_classes(given.data, split, given.definition, given.column)


def _choosable(given: argparse.Namespace, data: Labelled) -> Labelled | None:
    from awase.evaluation.tasks import choosable

    found, notes = choosable(data, _open(given, given.validation), given.split)
    for note in notes:
        notice(note)
    return found


def _numbers(text: str) -> list[int]:
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        numbers = [0]
    if min(numbers) < 1:
        raise UsageError(f"--shots {text}: numbers above 0 with commas between them, as 1,4,16")
    return numbers


def run_captioned(given: argparse.Namespace) -> int:
    from awase.datasets import open_captioned
    from awase.evaluation.tasks import evaluate_captioned

    if given.kind == "composition" and (given.published or given.pictures):
        return _run_published(given)
    data = open_captioned(given.data, given.split, given.captions)
    clip = open_clip(given)
    run = run_of(given, clip)
    with watching(data.name) as bar:
        result = evaluate_captioned(clip, given.kind, data, bar)
    return deliver(given, clip, run, result)


def _run_published(given: argparse.Namespace) -> int:
    from awase.evaluation.composition import published

    clip = open_clip(given)
    run = run_of(given, clip)
    with watching(given.data) as bar:
        result = published(clip, given.data, given.pictures, bar)
    return deliver(given, clip, run, result)
