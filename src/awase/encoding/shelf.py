"""The shelf: which models awase can load by name, and which of them lie on this disk."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from awase.encoding.checkpoints import Checkpoint, open_checkpoint
from awase.encoding.families import Architecture
from awase.encoding.published import PUBLISHED
from awase.errors import AwaseError

# Hub repositories of published sizes; any other repository of the same families loads by its name too.
HUB = {
    "openai/clip-vit-base-patch32": "ViT-B-32",
    "openai/clip-vit-base-patch16": "ViT-B-16",
    "openai/clip-vit-large-patch14": "ViT-L-14",
    "openai/clip-vit-large-patch14-336": "ViT-L-14-336",
    "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K": "ViT-B-32",
    "hf-hub:laion/CLIP-ViT-B-16-laion2B-s34B-b88K": "ViT-B-16",
    "hf-hub:laion/CLIP-ViT-L-14-laion2B-s32B-b82K": "ViT-L-14",
    "hf-hub:laion/CLIP-ViT-H-14-laion2B-s32B-b79K": "ViT-H-14",
    "hf-hub:laion/CLIP-ViT-g-14-laion2B-s34B-b88K": "ViT-g-14",
    "hf-hub:laion/CLIP-ViT-bigG-14-laion2B-39B-b160k": "ViT-bigG-14",
    "google/siglip-base-patch16-224": "siglip-base-patch16-224",
    "google/siglip-large-patch16-384": "siglip-large-patch16-384",
    "google/siglip-so400m-patch14-384": "siglip-so400m-patch14-384",
    "google/siglip2-base-patch16-224": "siglip2-base-patch16-224",
    "google/siglip2-large-patch16-384": "siglip2-large-patch16-384",
    "google/siglip2-so400m-patch14-384": "siglip2-so400m-patch14-384",
}


@dataclass(frozen=True)
class Model:
    """One line of the shelf. megabytes: on this disk, None where it would have to be downloaded first."""

    name: str
    family: str
    languages: tuple[str, ...]
    image_size: int
    dimension: int
    parameters: int
    megabytes: float | None
    engines: tuple[str, ...]


def models() -> list[Model]:
    """The bundled model, then every hub model known by name or found in the hub's cache."""
    bundled = open_checkpoint(Path(__file__).parent / "bundled")
    found = [_model("awase (bundled)", bundled.architecture, _size(bundled))]
    cached = _cached()
    for name, family in HUB.items():
        on_disk = cached.pop(name.removeprefix("hf-hub:"), None)
        found.append(_model(name, PUBLISHED[family], _size(on_disk) if on_disk else None))
    found += [_model(name, other.architecture, _size(other)) for name, other in cached.items()]
    return found


def _model(name: str, architecture: Architecture, megabytes: float | None) -> Model:
    counted = {n: s for n, s in architecture.tensors().items() if "running_" not in n and "num_batches" not in n}
    parameters = sum(math.prod(shape) for shape in counted.values())
    engines = ("torch",) if architecture.external else ("onnxruntime", "openvino", "torch")
    size, dimension = architecture.preprocessing.size, architecture.dimension
    return Model(name, architecture.name, architecture.languages, size, dimension, parameters, megabytes, engines)


def _size(checkpoint: Checkpoint) -> float:
    folder = checkpoint.folder or Path(checkpoint.source)
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


def _cached() -> dict[str, Checkpoint]:
    """Models in the hub's own cache, by repository name; a repository that is no CLIP is passed over."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return {}
    found = {}
    for repository in sorted(repositories, key=lambda its: its.repo_id):
        for revision in repository.revisions:
            try:
                found[repository.repo_id] = open_checkpoint(revision.snapshot_path)
            except AwaseError:
                continue
    return found
