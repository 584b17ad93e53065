"""The files of a checkpoint's folder: which are there, which may be followed, how a new folder appears all at once."""

from __future__ import annotations

import contextlib
import hashlib
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path

from awase.encoding.caches import fingerprint_of
from awase.encoding.checkpoints.archive import is_archive, read_archive
from awase.encoding.checkpoints.safetensors_file import read_safetensors
from awase.encoding.checkpoints.settings import read_settings
from awase.encoding.checkpoints.stored import Weights
from awase.errors import CheckpointError, UsageError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "vocab.json",
    "merges.txt",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)


def find(folder: Path, *names: str) -> Path | None:
    """The first of the names that is a file here. A link may lead to a file of this folder, or of the hub's cache when
    the folder is a snapshot there; one that leads elsewhere raises CheckpointError."""
    home = folder.resolve()
    roots = [home, home.parent.parent / "blobs"] if home.parent.name == "snapshots" else [home]
    for name in names:
        file = folder / name
        if not file.is_file():
            continue
        if not any(file.resolve().is_relative_to(root) for root in roots):
            raise CheckpointError(f"{file} is a link that leads out of its folder; put the file itself there")
        return file
    return None


def listing(folder: Path) -> str:
    """What lies in a folder, for messages."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:12]) + (f" and {len(names) - 12} more" if len(names) > 12 else "") if names else "nothing"


def read_weights(file: Path) -> Weights:
    """The tensors of one file: safetensors by its name, else whatever of torch's formats it begins as."""
    if file.suffix == ".safetensors":
        return read_safetensors(file)
    if is_archive(file):
        return read_archive(file)
    raise CheckpointError(
        f"{file} is neither a safetensors file nor one of torch's; awase reads .safetensors, .pt, .bin"
    )


def shards(index: Path) -> list[Path]:
    """The files that `model.safetensors.index.json` names, which must lie beside it."""
    names = read_settings(index).section("weight_map").values.values()
    files = []
    for name in sorted({str(name) for name in names}):
        file = find(index.parent, name) if Path(name).name == name else None
        if file is None:
            raise CheckpointError(f"{index} names the file {name[:200]!r}, which is not in its folder")
        files.append(file)
    return files


def fingerprint(files: list[Path], about: str) -> str:
    """SHA-256 (hex) of weight files, and of `about`: what else decides a vector."""
    digest = hashlib.sha256(about.encode())
    for file in files:
        digest.update(fingerprint_of(file).encode())
    return digest.hexdigest()


def copy_tokenizer(origin: Path | None, target: Path) -> None:
    """Copies the files of a tokenizer, where the checkpoint brings one."""
    for name in TOKENIZER_FILES:
        file = find(origin, name) if origin else None
        if file is not None:
            shutil.copyfile(file, target / name)


@contextlib.contextmanager
def appearing(folder: Path) -> Iterator[Path]:
    """A folder to write into, which takes its name when all is written. Raises UsageError where the name is taken,
    CheckpointError where the disk refuses."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(f"{folder} already exists and is not empty; name a new folder")
    temporary = folder.with_name(f".{folder.name}.{uuid.uuid4().hex}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as problem:
        raise CheckpointError(f"{folder} could not be written: {problem}; nothing was left there") from problem
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
