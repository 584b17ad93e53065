"""awase encode: pictures and sentences to a file of vectors; goes on after being killed."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.options import (
    add_model_flags,
    add_picture_flags,
    notice,
    open_clip,
    pictures_from,
    positive,
    read_lines,
)
from awase.cli.output import progress
from awase.errors import UsageError

if TYPE_CHECKING:
    import numpy as np

    from awase.clip import Clip
    from awase.encoding.vectorfile import VectorFile


def add_to(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("encode", help="pictures and sentences to a file of vectors")
    parser.add_argument("pictures", nargs="*", metavar="PICTURE-OR-FOLDER", help="files, folders, patterns, addresses")
    parser.add_argument("--out", required=True, type=Path, metavar="F", help="vectors.npz or vectors.parquet")
    parser.add_argument("--texts", metavar="F", help='sentences, one a line ("-" reads standard input)')
    parser.add_argument("--batch-size", type=positive, default=8, metavar="N", help="pictures per run of the tower (8)")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.encoding.vectorfile import VectorFile, check_out

    check_out(given.out)
    sources, texts = _asked_for(given)
    clip = replace(open_clip(given), batch_size=given.batch_size)
    file = VectorFile(given.out, clip.stamp(), clip.dimension)
    try:
        failed = _encode(clip, file, sources)
        if sources and len(failed) == len(sources):
            notice(f"every picture failed ({len(failed)}), each named above; {given.out} was not written")
            return 1
        count = file.finish((s for s in sources if s not in failed), texts, clip.encode_texts(texts))
    finally:
        file.close()
    notice(f"{_count(count, 'picture')} and {_count(len(texts), 'sentence')} -> {given.out} ({clip.runs_on})")
    if failed:
        notice(f"{_count(len(failed), 'picture')} failed, each named above")
    return 1 if failed else 0


def _asked_for(given: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The pictures, each once, and the sentences; finding none is wrong use, lest an empty file replace a good one."""
    sources = list(dict.fromkeys(map(str, pictures_from(given.pictures))))
    texts = [line for line in read_lines(given.texts) if line] if given.texts is not None else []
    if not sources and not texts:
        what = f"no sentences in {given.texts}" if given.texts else "nothing to encode"
        raise UsageError(f"{what}: give pictures, folders or --texts F with one sentence a line")
    return sources, texts


def _encode(clip: Clip, file: VectorFile, sources: list[str]) -> set[str]:
    """Encodes what the file does not hold yet, a batch at a time; returns the sources that could not be read."""
    todo = file.missing(sources)
    if len(todo) < len(sources):
        notice(f"an earlier run encoded {len(sources) - len(todo)} of {_count(len(sources), 'picture')}")
    failed: set[str] = set()
    batch: list[tuple[str, np.ndarray]] = []
    started = time.monotonic()
    with progress() as bar:
        task = bar.add_task("encoding", total=len(todo), rate="")
        for done, encoded in enumerate(clip.stream(todo), 1):
            if encoded.error:
                failed.add(str(encoded.source))
                bar.console.print(f"awase: {encoded.error}", markup=False, highlight=False, soft_wrap=True)
            elif encoded.outputs:
                batch.append((str(encoded.source), encoded.outputs["vectors"]))
            if len(batch) == clip.batch_size or done == len(todo):
                _write(file, batch)
                batch = []
                rate = done / (time.monotonic() - started)
                bar.update(task, completed=done, rate=f"{rate:.0f}/s")
    return failed


def _write(file: VectorFile, batch: list[tuple[str, np.ndarray]]) -> None:
    import numpy as np

    if batch:
        file.append([source for source, _ in batch], np.stack([vector for _, vector in batch]))


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
