"""awase search: a sentence, pictures or both -> the pictures of a library that answer, best first."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from awase.cli.options import add_library_flag, add_model_flags, add_picture_flags, notice, open_clip_for, positive
from awase.cli.output import print_json
from awase.errors import UsageError

if TYPE_CHECKING:
    from awase.tasks.search.answer import Answer
    from awase.tasks.search.store import Store

NEXT = "next"
EXAMPLES = """\
the query, in one pair of quotes:
  a man without a hat          what should not be there: also -hat, -"straw hat", 「帽子のない男性」
  "red car" "at night"         several conditions, each by itself;  2:"red car" counts twice
  ./pool.jpg at night          a picture and words;  #3 but without people: like result 3, but ...
  dog folder:italy after:2024-05 before:2025 camera:canon type:heic size:>2MB near:35.68,139.76,5km
What stands in quotes is looked for as it is."""


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "search",
        help="pictures of a library that answer a sentence or a picture",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("query", nargs="*", metavar="QUERY", help="what to look for")
    add_library_flag(parser)
    parser.add_argument("--top", type=positive, default=20, metavar="K", help="pictures a page (20)")
    parser.add_argument("--cursor", metavar="C", help='the next page: "next", or the cursor that --json told on stderr')
    parser.add_argument("--weak", action="store_true", help="--files and --copy-to take weak results too")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="one object a line, best first")
    how.add_argument("--files", action="store_true", help="paths only, one a line")
    how.add_argument("-0", dest="nul", action="store_true", help="paths only, a NUL after each, for xargs -0")
    how.add_argument("--preview", action="store_true", help="show the pictures in the terminal")
    parser.add_argument("--copy-to", type=Path, metavar="DIR", help="copy the files there; nothing is written over")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.tasks.search.searching import Searcher
    from awase.tasks.search.store import open_library

    with open_library(given.db) as library:
        if not len(library):
            raise UsageError(f"{library.address} holds no pictures yet; awase index FOLDER --db {library.address}")
        before = Remembered(library)
        query, cursor = _asked(given, before)
        searcher = Searcher(library, open_clip_for(given, library))
        answer = searcher.search(query, top=given.top, cursor=cursor, results=before.ids)
        before.keep(query, answer)
        _show(given, searcher, answer)
        return _copied(given.copy_to, _taken(given, answer)) if given.copy_to else 0


def _asked(given: argparse.Namespace, before: Remembered) -> tuple[str, str | None]:
    """The query, and where to go on."""
    query = " ".join(given.query)
    if given.cursor != NEXT:
        if not query.strip():
            raise UsageError('say what to look for: awase search "a red car"')
        return query, given.cursor
    if before.cursor is None or query not in ("", before.query):
        of = "that query" if before.cursor else "the search before"
        raise UsageError(f"there is no next page of {of}; search first, or leave out --cursor")
    return before.query, before.cursor


def _show(given: argparse.Namespace, searcher: Any, answer: Answer) -> None:
    if given.json:
        for hit in answer:
            print_json(hit.as_json())
        if answer.cursor:
            notice(f"next page: --cursor {answer.cursor}")
    elif given.files or given.nul:
        for path in _taken(given, answer):
            sys.stdout.flush()
            sys.stdout.buffer.write(os.fsencode(path) + (b"\0" if given.nul else b"\n"))
        sys.stdout.flush()
    else:
        from awase.cli.listing import show_answer

        show_answer(answer, searcher.store, searcher.clip.runs_on, given.preview)


def _taken(given: argparse.Namespace, answer: Answer) -> list[str]:
    """Paths for other programs: of what is relevant, unless --weak."""
    taken = [hit.path for hit in answer if given.weak or hit.relevance == "relevant"]
    if left := len(answer) - len(taken):
        notice(f"{left} weak result{'s' if left > 1 else ''} left out; --weak takes them too")
    return taken


def _copied(folder: Path, paths: Sequence[str]) -> int:
    from awase.tasks.search.copying import copy_into

    failed = 0
    for copied in copy_into(folder, paths):
        if copied.error:
            notice(str(copied.error))
            failed += 1
    notice(f"{len(paths) - failed} of {len(paths)} copied to {folder}")
    return 1 if failed else 0


class Remembered:
    """The search before in the same library, for #3 and --cursor next. In the cache: losing it loses nothing else."""

    def __init__(self, library: Store) -> None:
        from awase.encoding.caches import cache_folder

        place = os.fsencode(os.path.realpath(library.address))  # "library" is another one in another folder
        self._file = cache_folder() / "searches" / f"{hashlib.sha256(place).hexdigest()[:32]}.json"
        self._ids_of = [library.identity, library.generation]
        self.query, self.ids, self.cursor = "", list[int](), None
        try:
            found = json.loads(self._file.read_bytes())
            if found["ids_of"] == self._ids_of:
                self.query, self.cursor = str(found["query"]), found["cursor"]
                self.ids = [int(id) for id in found["ids"]]
        except (OSError, ValueError, TypeError, KeyError):
            pass

    def keep(self, query: str, answer: Answer) -> None:
        from awase.encoding.caches import write_atomically

        shown = [hit.id for hit in answer]
        ids = self.ids[: answer.before] + shown if len(self.ids) >= answer.before else shown
        kept = {"query": query, "ids_of": self._ids_of, "ids": ids, "cursor": answer.cursor}
        write_atomically(self._file, json.dumps(kept).encode())
