"""awase encode: pictures and sentences to a file of vectors; goes on after being killed."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from awase.cli.options import add_model_flags, add_picture_flags, notice, open_clip, read_lines
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
    parser.add_argument("--batch-size", type=int, default=8, metavar="N", help="pictures per run of the tower (8)")
    add_model_flags(parser)
    add_picture_flags(parser)
    parser.set_defaults(run=run)


def run(given: argparse.Namespace) -> int:
    from awase.encoding.pictures import find_pictures
    from awase.encoding.vectorfile import VectorFile

    if given.batch_size < 1:
        raise UsageError(f"--batch-size {given.batch_size}: at least 1")
    if not given.pictures and not given.texts:
        raise UsageError("nothing to encode: give pictures, folders or --texts F")
    sources = list(dict.fromkeys(str(picture) for picture in find_pictures(given.pictures)))
    texts = [line for line in read_lines(given.texts) if line] if given.texts else []
    clip = replace(open_clip(given), batch_size=given.batch_size)
    file = VectorFile(given.out, clip.stamp(), clip.dimension)
    try:
        failed = _encode(clip, file, sources)
        count = file.finish((s for s in sources if s not in failed), texts, clip.encode_texts(texts))
    finally:
        file.close()
    notice(f"{count} pictures and {len(texts)} sentences -> {given.out} ({clip.runs_on})")
    if failed:
        notice(f"{len(failed)} pictures failed, each named above")
    return 1 if failed else 0


def _encode(clip: Clip, file: VectorFile, sources: list[str]) -> set[str]:
    """Encodes what the file does not hold yet, a batch at a time; returns the sources that could not be read."""
    todo = [source for source in sources if not file.holds(source)]
    if len(todo) < len(sources):
        notice(f"{len(sources) - len(todo)} of {len(sources)} pictures were encoded by an earlier run")
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
