"""Whether a state on disk is what was written: a SHA-256 over its tensors, or over each file of a folder. Disks and
cables flip bits, and a weight that changed so looks like any other."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

CHECKSUMS = "checksums.json"


def checksum(text: str, tensors: Iterable[tuple[str, Tensor]]) -> str:
    """Of a text and of tensors with their names, types and shapes, in the order in which they come."""
    digest = hashlib.sha256(text.encode())
    for name, tensor in tensors:
        digest.update(f"\n{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def note_checksums(folder: Path) -> Path:
    """Writes FOLDER/checksums.json, of every file that lies there; returns its path."""
    file = folder / CHECKSUMS
    file.write_text(json.dumps(_of_files(folder), indent=1), "utf-8")
    return file


def refuse_changed(folder: Path) -> None:
    """Raises ValueError unless a folder's files are those that `note_checksums` saw; OSError where none were noted."""
    noted, there = dict(json.loads((folder / CHECKSUMS).read_text("utf-8"))), _of_files(folder)
    if changed := sorted(name for name in {**noted, **there} if noted.get(name) != there.get(name)):
        raise ValueError(f"{', '.join(changed[:3])}: not as written")


def _of_files(folder: Path) -> dict[str, str]:
    """Name -> SHA-256; several files at a time, as there is one from each process."""
    files = sorted(path for path in folder.iterdir() if path.name != CHECKSUMS)
    with ThreadPoolExecutor() as pool:
        return dict(zip((file.name for file in files), pool.map(_of_file, files), strict=True))


def _of_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
