"""awase library: is a picture library whole, give room back, forget a folder, build the sidecar for very large ones."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from awase.cli.options import add_library_flag, add_model_flags, add_picture_flags, notice, open_clip_for
from awase.cli.output import print_json
from awase.errors import UsageError


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("library", help="check, compact or trim a library of pictures")
    verbs = parser.add_subparsers(metavar="VERB", required=True)
    check = verbs.add_parser("check", help="read all of it and compare it with its seals; exit code 1 if damaged")
    check.add_argument("--mend", action="store_true", help="forget damaged pictures; awase index encodes them again")
    check.add_argument("--json", action="store_true", help="one object on stdout")
    compact = verbs.add_parser("compact", help="give the room of deleted pictures back")
    quicken = verbs.add_parser(
        "accelerate", help="build the approximate index of a very large library, and print its measured recall"
    )
    add_model_flags(quicken)
    add_picture_flags(quicken)
    forget = verbs.add_parser("forget", help="forget a folder and its pictures; the files stay")
    forget.add_argument("folder", metavar="FOLDER")
    for verb, run in ((check, _check), (compact, _compact), (quicken, _accelerate), (forget, _forget)):
        add_library_flag(verb)
        verb.set_defaults(run=run)


def _folder(given: argparse.Namespace) -> Path:
    from awase.tasks.search.store import default_library

    return given.db or default_library()


def _check(given: argparse.Namespace) -> int:
    from awase.encoding.finding import printable
    from awase.tasks.search.checking import check, mend

    folder = _folder(given)
    found = check(folder)
    if given.json:
        print_json({"library": str(folder), "pictures": found.pictures} | vars(found))
    for path in found.damaged:
        notice(f"{printable(path)}: what the library keeps of it is damaged")
    for fault in found.faults:
        notice(f"{folder}: {fault}; move it away and index again")
    if found.damaged and given.mend and not found.faults:
        mend(folder, found)
        notice(f"forgotten: {len(found.damaged):,}; awase index --db {folder} encodes what was damaged again")
        return 0
    if found.damaged and not found.faults:
        notice(f"--mend forgets these, and awase index --db {folder} encodes them again")
    if not given.json:
        print(f"{folder}: {found.pictures:,} pictures are whole, {len(found.damaged):,} damaged")
    return 1 if found.damaged or found.faults else 0


def _compact(given: argparse.Namespace) -> int:
    from awase.tasks.search.writing import Writer

    folder = _folder(given)
    before = _bytes(folder)
    with Writer(folder) as writer:
        writer.compact()
        pictures, _ = writer.size()
    notice(f"{folder}: {pictures:,} pictures, {before / 1e6:,.1f} MB -> {_bytes(folder) / 1e6:,.1f} MB")
    return 0


def _accelerate(given: argparse.Namespace) -> int:
    from awase.encoding.prompts import background
    from awase.tasks.search.library import EXACT_ROWS, Library
    from awase.tasks.search.writing import Writer

    folder = _folder(given)
    with Library(folder) as made:
        sentences = open_clip_for(given, made).encode_texts([*background("sentences"), *background("things")])
    with Writer(folder) as writer:
        measured = writer.build_ann(sentences)
    told = ", ".join(
        f"{100 * recall:.1f} % for {what}"
        for recall, what in ((measured.recall_of_pictures, "pictures"), (measured.recall_of_sentences, "sentences"))
        if recall is not None
    )
    print(f"{folder}: {measured.covers:,} rows in {measured.seconds:,.0f} s, {measured.bytes / 1e6:,.0f} MB")
    asked = f"{measured.queries} held-out queries, {measured.milliseconds:.1f} ms each"
    print(f"of the exact ten best it finds {told} ({asked})")
    if measured.covers <= EXACT_ROWS:
        notice(f"up to {EXACT_ROWS:,} rows search stays exact, and this waits until there are more")
    return 0


def _bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file()) if folder.is_dir() else 0


def _forget(given: argparse.Namespace) -> int:
    from awase.encoding.finding import printable
    from awase.tasks.search.library import Library
    from awase.tasks.search.writing import Writer

    folder, root = _folder(given), os.path.abspath(given.folder)
    with Library(folder) as made:
        known = made.roots()
    with Writer(folder) as writer:
        count = writer.forget_root(root)
    if not count and root not in known:
        listed = ", ".join(map(printable, known)) or "none"
        raise UsageError(f"{printable(root)}: the library has no picture of it; its folders: {listed}")
    notice(f"{printable(root)}: {count:,} pictures forgotten; the files stay")
    return 0
