"""awase prompts: better words for the same classes, before anything is trained."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip, positive
from awase.cli.output import print_json, show, table

if TYPE_CHECKING:
    from awase.datasets import Labelled
    from awase.learning.adaptation.better_prompts import Found

EFFECTS = 20  # descriptions in the table
MOVES = 2  # confusions told of each


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("prompts", help="better words for the same classes, without training")
    kinds = parser.add_subparsers(dest="kind", metavar="TASK", required=True)
    _add_search(kinds)


def _add_search(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = kinds.add_parser(
        "search",
        help="templates and descriptions that suit these pictures",
        description="Finds sentences to ask for the classes of a data set with: without labels, or with few (--shots), "
        "and says what descriptions of classes do. The choice never sees a test split.",
        epilog="awase classify x.jpg --labels-file F --templates FILE and awase evaluate zero-shot DATA --templates "
        "FILE take what --out writes.",
    )
    parser.add_argument("data", metavar="DATA", help="folder, archive or table of a data set")
    parser.add_argument("--split", default="train", metavar="S", help="pictures to choose on (default: train)")
    parser.add_argument("--validation", metavar="S", help="pictures to judge on (default: val, where there is one)")
    parser.add_argument("--definition", metavar="NAME", help="names of a published set, as eurosat")
    parser.add_argument("--column", metavar="C", help="of a table with several: the one that holds the class")
    parser.add_argument("--language", metavar="L", help="of the class names: en, ja (default: en where there are any)")
    parser.add_argument("--shots", type=positive, metavar="K", help="let labels of K pictures of each class take part")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="by which pictures are drawn (0)")
    parser.add_argument("--kind-of-thing", metavar="X", help='what all classes are, as "bird" (default: guessed)')
    parser.add_argument("--descriptions", metavar="FILE", help=".json, .toml or .tsv: class -> sentences")
    group = parser.add_argument_group("output")
    group.add_argument(
        "--out", type=Path, metavar="FILE", help="a file that --templates takes, replaced where it is there"
    )
    group.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run_search)


def run_search(given: argparse.Namespace) -> int:
    from awase.encoding.wordings import read_descriptions, write_wording
    from awase.evaluation.runs import plain
    from awase.learning.adaptation.better_prompts import better_prompts
    from awase.learning.adaptation.prompt_search import PromptSearch

    descriptions = read_descriptions(given.descriptions) if given.descriptions else None
    data, validation = _opened(given)
    clip = open_clip(given)
    found = better_prompts(
        clip,
        data,
        validation,
        given.language,
        given.shots,
        given.kind_of_thing,
        descriptions,
        PromptSearch(seed=given.seed),
    )
    if given.json:
        print_json(plain(found.to_json()))
    else:
        _show(found, clip.runs_on)
    if given.out:
        write_wording(given.out, found.wording, found.language, found.record)
        notice(f"written: {given.out}; take it with --templates {given.out}")
    return 0


def _opened(given: argparse.Namespace) -> tuple[Labelled, Labelled | None]:
    """Pictures to choose on, and those to judge on: the split asked for, or another named like a validation split."""
    from awase.datasets import find_sets
    from awase.datasets.splits import kind_of
    from awase.evaluation.tasks import open_classes

    data = open_classes(given.data, given.split, given.definition, given.column)
    there = [split for one in find_sets(given.data) for split in one.splits if kind_of(split) == "val"]
    judged = given.validation or next((split for split in there if split != data.split), None)
    return data, open_classes(given.data, judged, given.definition, given.column) if judged else None


def _show(found: Found, runs_on: str) -> None:
    from rich.markup import escape

    from awase.evaluation.words import written, written_interval

    held = any(row.held_out is not None for row in found.rows)
    shown = table(escape(f"{found.data}: ways to ask, the best first by {'held-out labels' if held else 'knowledge'}"))
    for column in ("ask with", "sentences", "knowledge", *(["held out"] if held else []), "accuracy", "95 % interval"):
        shown.add_column(column, justify="left" if column == "ask with" else "right")
    for row in found.rows:
        cells = [escape(row.name), str(row.sentences), f"{row.knowledge:.3f}"]
        cells += [written(row.held_out) if row.held_out is not None else ""] if held else []
        shown.add_row(*cells, written(row.accuracy), written_interval(row.interval))
    first = found.rows[0]
    chosen = "\n".join(f"  {escape(sentence)}" for sentence in dict.fromkeys(found.wording))
    gains = "; ".join(
        f"{100 * gain.value:+.1f} points over {name} ({100 * gain.interval[0]:+.1f} to {100 * gain.interval[1]:+.1f})"
        for name, gain in found.gains.items()
    )
    note = f"{escape(found.note)}\n" if found.note else ""
    kinds = f"kind of thing: {', '.join(found.kinds)}. " if found.kinds else ""
    show(
        shown,
        f"Accuracy is of {first.n:,} {escape(found.judged_on)}. {escape(kinds)}\n",
        f"{note}Chosen, {escape(found.chosen)}: {gains}\n{chosen}\n",
        f"[dim]{escape(runs_on)}[/dim]",
    )
    if found.effects:
        _show_effects(found)


def _show_effects(found: Found) -> None:
    from rich.markup import escape

    share = found.wording.share
    shown = table(f"Descriptions: {share:.0%} of a class is best; what each sentence does")
    for column in ("class", "sentence", "moves", "right", "which", "reads more like"):
        shown.add_column(column, justify="right" if column in ("moves", "right") else "left", overflow="fold")
    for effect in found.effects[:EFFECTS]:
        moves = [f"{a} → {b} {count}" for (a, b), count in list(effect.towards.items())[:MOVES]]
        gained = "" if effect.gained is None else f"{effect.gained:+d}"
        cells = (effect.name, effect.sentence, str(effect.moved), gained, ", ".join(moves), effect.reads_like)
        shown.add_row(*map(escape, cells))
    advice = (
        "A sentence that moves nothing says nothing new; one that moves pictures wrongly, or reads more like another "
    )
    advice += "class, names what both have: say what only this class has."
    show(shown, advice)
    for name, count in found.unseen.items():
        show(f"{escape(name)}: no picture of it in the data, {count:,} are answered so")
