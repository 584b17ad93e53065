"""awase index: folders of pictures -> a library that `awase search` asks; only what changed is opened."""

from __future__ import annotations

import argparse
import os
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awase.cli.options import (
    add_library_flag,
    add_model_flags,
    add_picture_flags,
    notice,
    open_clip,
    open_clip_for,
)
from awase.cli.output import print_json, progress
from awase.errors import UsageError

if TYPE_CHECKING:
    from awase.clip import Clip
    from awase.tasks.search.entries import Refusal
    from awase.tasks.search.indexing import Outcome
    from awase.tasks.search.scanning import Changes

SETTLED = 2.0  # seconds that a file must have been left alone before --watch opens it
PAUSE, SHARE = 5.0, 20  # seconds between two looks, and at least so many times what a look takes
WASTE = 0.25  # of the rows belonging to deleted pictures: then compacting is proposed


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "index",
        help="folders of pictures to a library that can be searched",
        description="Brings a library up to date with folders: new pictures are encoded, renamed ones recognised by "
        "their content, deleted ones forgotten. Stopped at any point, the same command goes on.",
    )
    parser.add_argument("folders", nargs="*", metavar="FOLDER", help="default: the folders that the library knows")
    add_library_flag(parser)
    parser.add_argument("--watch", action="store_true", help="go on looking for changes until interrupted")
    parser.add_argument("--again", action="store_true", help="open files once more that held no picture last time")
    parser.add_argument("--json", action="store_true", help="one object a run on stdout")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.tasks.search.store import default_library

    folder = given.db or default_library()
    roots, clip = _asked_for(given, folder)
    report, looking = _bring_up_to_date(given, clip, folder, roots)
    report.tell(folder, given.json)
    while given.watch:
        time.sleep(max(PAUSE, SHARE * looking))
        last = report
        report, looking = _bring_up_to_date(given, clip, folder, roots)
        if report.is_news_after(last):
            report.tell(folder, given.json)
    return 1 if report.failed else 0


def _asked_for(given: argparse.Namespace, folder: Path) -> tuple[list[str], Clip]:
    """The folders to look through, and the model; what is wrong with either is said before anything is made."""
    from awase.tasks.search.indexing import check_folders
    from awase.tasks.search.library import Library, is_library

    asked = list(dict.fromkeys(os.path.abspath(root) for root in given.folders))
    with Library(folder) if is_library(folder) else nullcontext() as made:
        known = made.roots() if made is not None else []  # an empty library is false
        if not asked and not known:
            raise UsageError(f"nothing to index: give folders of pictures ({folder} knows none yet)")
        check_folders(asked, known)
        return asked or known, open_clip_for(given, made) if made is not None else open_clip(given)


def _bring_up_to_date(given: argparse.Namespace, clip: Clip, folder: Path, roots: list[str]) -> tuple[Report, float]:
    """What was done, and the seconds that looking for changes took."""
    from awase.loading import BUNDLED
    from awase.tasks.search.indexing import carry_out, find_changes
    from awase.tasks.search.writing import Writer

    model, adapters = clip.name, [os.path.abspath(adapter) for adapter in given.adapter]
    if model != BUNDLED and os.path.exists(model):  # found again from wherever somebody searches
        model = os.path.abspath(model)
    with progress() as bar, Writer(folder, clip.stamp(), model, adapters) as writer:
        task = bar.add_task("looking for changes", total=None, rate="")
        started = time.monotonic()
        found = find_changes(writer, roots, clip.limits.pixels, given.again, SETTLED if given.watch else 0)
        looking = time.monotonic() - started
        report = Report(found)
        bar.update(task, description="indexing", total=len(found.todo))
        started = time.monotonic()
        try:
            for outcome in carry_out(clip, writer, roots, found):
                report.take(outcome)
                done = report.counts.total() - report.counts["forgotten"]
                bar.update(task, completed=done, rate=f"{done / (time.monotonic() - started):.0f}/s")
        except KeyboardInterrupt as stopped:
            kept = f"{_count(writer.size()[0], 'picture')} are in {folder}; the same command goes on"
            raise KeyboardInterrupt(kept) from stopped
        report.pictures, report.wasted = writer.size()
    return report, looking


@dataclass
class Report:
    """What one run did."""

    found: Changes
    counts: Counter[str] = field(default_factory=Counter)
    refused: list[Refusal] = field(default_factory=list)
    pictures: int = 0
    wasted: int = 0

    def take(self, outcome: Outcome) -> None:
        self.counts[outcome.what] += 1
        if outcome.refusal:
            self.refused.append(outcome.refusal)

    def is_news_after(self, last: Report) -> bool:
        """Whether anything changed; a file that can still not be read is tried each time, and told once."""
        return self.counts.total() > self.counts["refused"] or not set(self.refused) <= set(last.refused)

    @property
    def failed(self) -> bool:
        return bool(self.refused or self.found.refused)

    def tell(self, folder: Path, as_json: bool) -> None:
        """Bad files with reason and remedy, then the sum of it all."""
        from awase.encoding.finding import files_passed_over, printable

        if as_json:
            print_json(self.as_json(folder))
        found = self.found
        for one in self.refused:
            notice(f"{printable(one.file.path)}: {one.reason}; {one.remedy}")
        for root, kept in found.absent.items():
            notice(
                f"{printable(root)}: not there, or empty; its {kept:,} pictures stay in the library until "
                f"awase library forget {printable(root)} --db {folder}"
            )
        if found.refused:
            notice(
                f"{_count(len(found.refused), 'file')} held no picture in an earlier run and did not change "
                "since: not opened; --again opens them once more and names each"
            )
        if found.passed_over:
            notice(f"{files_passed_over(found.passed_over)}: not named like pictures")
        notice(f"{self.summary()} -> {folder}")
        if self.wasted > WASTE * (self.pictures + self.wasted):
            notice(f"{self.wasted:,} deleted pictures still take room: awase library compact --db {folder}")

    def summary(self) -> str:
        parts = [
            _count(self.counts["encoded"], "picture") + " encoded",
            f"{self.counts['known']:,} known by content" if self.counts["known"] else "",
            f"{self.found.unchanged:,} unchanged" if self.found.unchanged else "",
            f"{self.counts['forgotten']:,} forgotten" if self.counts["forgotten"] else "",
            f"{len(self.refused):,} failed, each named above" if self.refused else "",
        ]
        return ", ".join(part for part in parts if part) + f"; {_count(self.pictures, 'picture')} in all"

    def as_json(self, folder: Path) -> dict[str, Any]:
        failed = [*self.refused, *self.found.refused]
        return {
            "library": str(folder),
            "pictures": self.pictures,
            "encoded": self.counts["encoded"],
            "known": self.counts["known"],
            "unchanged": self.found.unchanged,
            "forgotten": self.counts["forgotten"],
            "absent": self.found.absent,
            "failed": [{"path": one.file.path, "reason": one.reason, "remedy": one.remedy} for one in failed],
        }


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"
