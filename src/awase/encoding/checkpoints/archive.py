"""torch's files (.pt, .pth, .bin) without torch: zip archives since 1.6, TorchScript, and the older plain sequence.

A file may ask for no more memory than it justifies: storages lie uncompressed inside it, every tensor lies inside its
storage, and all tensors together are no larger than twice the file (tied weights are listed more than once).
"""

from __future__ import annotations

import io
import math
import struct
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

from awase.encoding.checkpoints.pickles import Module, Place, read_pickle
from awase.encoding.checkpoints.stored import StoredTensor, Weights, itemsize
from awase.encoding.families import Shape
from awase.errors import CheckpointError

MOST_DIRECTORY_BYTES = 4 * 2**20  # the zip's own list of its parts: ViT-bigG needs 0.2 MB
MOST_PICKLE_BYTES = 16 * 2**20
LONGEST_NAME, DEEPEST = 1000, 100  # of a TorchScript module: each level repeats the names above it
_OLD_MAGIC = (
    b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."  # pickle of the number with which old files begin
)
Regions = dict[str, tuple[int, int]]  # a storage's key -> where it starts and how many bytes it has


def is_archive(file: Path) -> bool:
    """Whether this begins as torch's files do."""
    with file.open("rb") as stream:
        start = stream.read(len(_OLD_MAGIC))
    return start.startswith(b"PK\x03\x04") or start == _OLD_MAGIC


def read_archive(file: Path) -> Weights:
    """The state dict in a file of torch's: plain, under `state_dict` as trainers write it, or of a TorchScript module.

    Raises UnsafeCheckpoint where it asks for code, CheckpointError where it is damaged or something else."""
    with file.open("rb") as stream:
        old = stream.read(len(_OLD_MAGIC)) == _OLD_MAGIC
    content, regions = _read_sequence(file) if old else _read_zip(file)
    weights = {name: _stored(file, name, place, regions) for name, place in _places(content, file).items()}
    if sum(tensor.size * itemsize(tensor.dtype) for tensor in weights.values()) > 2 * file.stat().st_size:
        raise CheckpointError(f"{file} lists tensors of more than twice its own size; it is damaged or made to deceive")
    return weights


def _places(content: Any, file: Path) -> dict[str, Place]:
    """The tensors by name, without the `module.` that training on several GPUs puts before each."""
    if isinstance(content, Module):
        places = _module_places(content, file)
    else:
        if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
            content = content["state_dict"]
        if not isinstance(content, dict):
            raise CheckpointError(f"{file} holds no state dict; expected names of tensors and their values")
        places = {name: value for name, value in content.items() if isinstance(name, str) and isinstance(value, Place)}
    if not places:
        raise CheckpointError(f"{file} holds no tensors")
    if all(name.startswith("module.") for name in places):
        places = {name.removeprefix("module."): place for name, place in places.items()}
    return places


def _module_places(root: Module, file: Path) -> dict[str, Place]:
    """What `state_dict()` of a TorchScript module would list. Each object is visited once, however it is tangled."""
    places: dict[str, Place] = {}
    seen = {id(root)}
    waiting = [("", root, 1)]
    while waiting:
        prefix, module, depth = waiting.pop()
        for name, value in module.attributes.items():
            if isinstance(value, Place | Module) and (len(prefix) + len(str(name)) > LONGEST_NAME or depth > DEEPEST):
                raise CheckpointError(f"{file} has tensors named or nested beyond all measure; it is made to deceive")
            if isinstance(value, Place):
                places[f"{prefix}{name}"] = value
            elif isinstance(value, Module) and id(value) not in seen:
                seen.add(id(value))
                waiting.append((f"{prefix}{name}.", value, depth + 1))
    return places


def _stored(file: Path, name: str, place: Place, regions: Regions) -> StoredTensor:
    storage = place.storage
    if storage.key not in regions:
        raise CheckpointError(f"{file} is damaged: the numbers of tensor {name[:80]!r} are not in it")
    start, length = regions[storage.key]
    width = itemsize(storage.dtype)
    strides = None if place.strides == _in_order(place.shape) else place.strides
    tensor = StoredTensor(file, storage.dtype, place.shape, start + place.offset * width, strides)
    if tensor.size > storage.size or (place.offset + tensor.span) * width > min(length, storage.size * width):
        raise CheckpointError(f"{file} is damaged: tensor {name[:80]!r} of shape {place.shape} leaves its storage")
    return tensor


def _in_order(shape: Shape) -> tuple[int, ...]:
    """The strides of a tensor whose numbers lie one after the other."""
    return tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))


class _Directory(io.FileIO):
    """A file that will not read a zip directory out of all proportion."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > MOST_DIRECTORY_BYTES:
            raise zipfile.BadZipFile(f"its list of parts has {size} bytes")
        return super().read(size)


def _read_zip(file: Path) -> tuple[Any, Regions]:
    try:
        with _Directory(file) as stream, zipfile.ZipFile(stream) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, EOFError, OverflowError) as problem:
        raise CheckpointError(f"{file} is not a whole archive of torch's ({problem}); fetch it again") from problem
    roots = [entry.filename.removesuffix("data.pkl") for entry in entries if entry.filename.endswith("/data.pkl")]
    if len(roots) != 1:
        raise CheckpointError(f"{file} is a zip archive, but not one that torch writes: {len(roots)} lists of tensors")
    root = roots[0]
    parts = [
        entry for entry in entries if entry.filename == f"{root}data.pkl" or entry.filename.startswith(f"{root}data/")
    ]
    if len({entry.filename for entry in parts}) != len(parts):
        raise CheckpointError(f"{file} names one part twice; it is damaged or made to deceive")
    size = file.stat().st_size
    if sum(entry.file_size for entry in parts) > size:
        raise CheckpointError(f"{file} has parts larger than itself; it is damaged or made to deceive")
    with file.open("rb") as whole:
        regions = {entry.filename.removeprefix(root): _region(file, whole, entry, size) for entry in parts}
        start, length = regions.pop("data.pkl")
        if length > MOST_PICKLE_BYTES:
            raise CheckpointError(f"{file} lists its tensors in {length} bytes; {MOST_PICKLE_BYTES} are read at most")
        whole.seek(start)
        content = read_pickle(whole.read(length), str(file)).value
    return content, {key.removeprefix("data/"): region for key, region in regions.items()}


def _region(file: Path, stream: BinaryIO, entry: zipfile.ZipInfo, size: int) -> tuple[int, int]:
    """Where a part's bytes lie: after the 30 bytes, name and extra field that repeat the directory's entry."""
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise CheckpointError(f"{file}: part {entry.filename[:80]!r} is compressed or encrypted; torch writes neither")
    local = b""
    if 0 <= entry.header_offset < size:
        stream.seek(entry.header_offset)
        local = stream.read(30)
    if len(local) < 30 or not local.startswith(b"PK\x03\x04"):
        raise CheckpointError(f"{file} is damaged: part {entry.filename[:80]!r} is not where its directory says")
    name, extra = struct.unpack("<HH", local[26:])
    start = entry.header_offset + 30 + name + extra
    if start + entry.file_size > size:
        raise CheckpointError(f"{file} is damaged: part {entry.filename[:80]!r} ends after the file does")
    return start, entry.file_size


def _read_sequence(file: Path) -> tuple[Any, Regions]:
    """torch before 1.6: pickles of a number, a version, the machine, the content and the storages' keys, then each
    storage as its count (8 bytes) and its numbers."""
    with file.open("rb") as stream:
        program = stream.read(MOST_PICKLE_BYTES)
        size, end = file.stat().st_size, 0
        for _ in ("magic number", "version", "machine"):
            end = read_pickle(program, str(file), end).end
        content = read_pickle(program, str(file), end)
        keys = read_pickle(program, str(file), content.end)
        regions: Regions = {}
        start = keys.end
        for key in keys.value if isinstance(keys.value, list) else []:
            storage = content.storages.get(key) if isinstance(key, str) else None
            stream.seek(start)
            if storage is None or stream.read(8) != struct.pack("<q", storage.size):
                raise CheckpointError(f"{file} is damaged: its storages are not those that its list of tensors names")
            regions[key] = (start + 8, storage.size * itemsize(storage.dtype))
            start += 8 + regions[key][1]
    if start > size:
        raise CheckpointError(f"{file} is damaged: it should have {start} bytes and has {size}; fetch it again")
    return content.value, regions
