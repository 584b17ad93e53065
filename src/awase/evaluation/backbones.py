"""Feature extractors that are no Clip, for the CLIP paper's comparison: zero-shot against a probe on another backbone.

A backbone is a function from uint8 (B, S, S, 3) RGB to (B, F) features with the preparation of pictures that it was
trained with. `open_backbone` takes a name as a command line has it; `from_onnx`, `from_timm` and `from_torch` make one
from what people have. The bundled model's own backbone needs nothing of this: its features before the projection are
what `linear_probe` reads from a Clip.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from awase.datasets.labelled import Labelled
from awase.encoding.engines import onnx_runtime
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import Limits, Picture
from awase.encoding.pipeline import Encoded, encode_stream
from awase.encoding.preprocessing import prepare_source
from awase.errors import EngineError, MissingExtra, UsageError
from awase.evaluation.vectors import PictureVectors, Progress, rows_of_pictures

IMAGENET = Preprocessing(224, filter="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
BATCH = 8
TIMM, ONNX = "timm:", ".onnx"  # how a name begins or ends that means a backbone
# In a graph's bytes, the entry "location" of a tensor that lies in another file: two strings, each after its length.
_LOCATION = re.compile(rb"\x0a\x08location\x12(?:([\x01-\x7f])|([\x80-\xff])([\x01-\x7f]))")


@dataclass(frozen=True)
class Backbone:
    """run: uint8 (B, S, S, 3) RGB -> (B, F) features. weights: a hash that tells it from others, "" if unknown: its
    features are then not kept. engine: the package that runs it."""

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    preprocessing: Preprocessing = IMAGENET
    weights: str = ""
    engine: str = "numpy"
    limits: Limits = field(default_factory=Limits)

    @property
    def runs_on(self) -> str:
        return f"{self.name}, a backbone on {self.engine}"

    def stamp(self) -> dict[str, Any]:
        """What its features depend on, as `Clip.stamp` says it of vectors."""
        preparation = {name: str(value) for name, value in asdict(self.preprocessing).items()}
        return {
            "name": self.name,
            "fingerprint": self.weights,
            "engine": self.engine,
            "precision": "as given",
            "preparation": preparation,
        }


def is_backbone(name: str) -> bool:
    """Whether a name on a command line means a backbone: timm:NAME or FILE.onnx."""
    return name.startswith(TIMM) or name.lower().endswith(ONNX)


def open_backbone(name: str, threads: int | None = None, limits: Limits | None = None) -> Backbone:
    """timm:NAME or an ONNX file. Raises UsageError for other names, EngineError for a file that does not run."""
    if name.startswith(TIMM):
        found = from_timm(name.removeprefix(TIMM))
    elif name.lower().endswith(ONNX):
        found = from_onnx(name, threads=threads)
    else:
        raise UsageError(
            f"{name!r} is no backbone: give timm:NAME, FILE.onnx or features:MODEL; any torch module is one from "
            "Python, by from_torch"
        )
    return replace(found, limits=limits or Limits())


def from_onnx(
    path: str | PathLike[str], preprocessing: Preprocessing = IMAGENET, threads: int | None = None
) -> Backbone:
    """An ONNX file with one input, float32 (B, 3, S, S) of which mean and standard deviation are taken off here, or
    uint8 (B, S, S, 3), and the features as its first output. Where the file says S, pictures get that size. Raises
    UsageError where there is no file, EngineError for one that does not fit."""
    path = Path(path)
    if not path.is_file():
        raise UsageError(f"{path} is no file; a backbone is timm:NAME or an ONNX file")
    onnxruntime = onnx_runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads or 0, 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has no common base for what it raises here
        raise EngineError(f"{path} is no ONNX model that runs here: {problem}") from problem
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(uint8)"):
        raise EngineError(f"{path} takes {[(i.name, i.type, i.shape) for i in inputs]}; one picture input is expected")
    (name, shape), output = (inputs[0].name, inputs[0].shape), session.get_outputs()[0].name
    takes_bytes = inputs[0].type == "tensor(uint8)"
    side = shape[1] if takes_bytes else shape[2]
    if isinstance(side, int) and side > 0:
        preprocessing = replace(preprocessing, size=side)
    one_by_one = shape[0] == 1

    def run(pixels: np.ndarray) -> np.ndarray:
        prepared = pixels if takes_bytes else normalised(pixels, preprocessing)
        parts = [prepared[i : i + 1] for i in range(len(prepared))] if one_by_one else [prepared]
        try:
            return _pooled(np.concatenate([session.run([output], {name: part})[0] for part in parts]))
        except EngineError:
            raise
        except Exception as problem:
            raise EngineError(f"{path} cannot run on pictures of shape {prepared.shape}: {problem}") from problem

    return Backbone(path.stem, run, preprocessing, _hash_of_file(path), "onnxruntime")


def from_torch(module: Any, name: str, preprocessing: Preprocessing = IMAGENET) -> Backbone:
    """A torch module from (B, 3, S, S) to features (B, F) or maps (B, F, H, W), which are averaged. It is put into
    evaluation mode and stays on its device.

    Features are kept under `name` and a hash of the weights, taken now: the module must not change afterwards, and
    another computation with equal weights wants another name."""
    try:
        import torch
    except ImportError as problem:
        raise MissingExtra("a torch backbone", "torch") from problem
    module = module.eval()
    device = next((value.device for value in module.parameters()), torch.device("cpu"))

    def run(pixels: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            prepared = torch.from_numpy(normalised(pixels, preprocessing)).to(device)
            return _pooled(module(prepared).float().cpu().numpy())

    return Backbone(name, run, preprocessing, _hash_of(module), "torch")


def from_timm(name: str, pretrained: bool = True) -> Backbone:
    """A timm model by name, without its classifier, prepared as its configuration says (the crop is the whole square).

    Weights come from timm, over the network unless it has them; `pretrained` False leaves them random."""
    try:
        import timm
    except ImportError as problem:
        raise UsageError(f"{name} is a model of timm, which is not installed: pip install timm") from problem
    except Exception as problem:  # torchvision, which it imports, may not fit this torch
        raise UsageError(f"timm, of which {name} is a model, cannot be imported: {problem}") from problem
    try:
        module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    except Exception as problem:  # an unknown name, no network, no weights: each of its own kind
        raise UsageError(
            f"timm has no model {name!r} or cannot fetch its weights ({problem}); timm.list_pretrained() names them"
        ) from problem
    said = timm.data.resolve_model_data_config(module)
    preprocessing = Preprocessing(
        said["input_size"][-1],
        filter="bilinear" if said["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
    )
    return from_torch(module, f"timm/{name}", preprocessing)


def backbone_features(backbone: Backbone, data: Labelled, progress: Progress | None = None) -> PictureVectors:
    """A row of features for each picture that can be read, kept as a Clip's are; DataError where there is none,
    EngineError for NaN."""

    def prepare(source: Picture) -> np.ndarray:
        return prepare_source(source, backbone.preprocessing, backbone.limits)

    def run(pixels: np.ndarray) -> dict[str, np.ndarray]:
        features = np.asarray(backbone.run(pixels), np.float32)
        if not np.isfinite(features).all():
            raise EngineError(f"{backbone.runs_on}: features that are not numbers (NaN or infinity)")
        return {"features": features}

    def stream(pictures: Iterator[Picture]) -> Iterator[Encoded]:
        return encode_stream(pictures, prepare, run, BATCH)

    facts = {"stamp": backbone.stamp()} if backbone.weights else None
    return rows_of_pictures(facts, data, stream, "features", progress)


def normalised(pixels: np.ndarray, preprocessing: Preprocessing) -> np.ndarray:
    """uint8 (B, S, S, 3) -> float32 (B, 3, S, S) without mean and standard deviation."""
    mean, std = (np.array(given, np.float32) for given in (preprocessing.mean, preprocessing.std))
    values = (pixels / np.float32(255) - mean) / std
    return np.ascontiguousarray(values.transpose(0, 3, 1, 2))


def _pooled(values: np.ndarray) -> np.ndarray:
    """(B, F) as it is; maps (B, F, H, W) averaged over place."""
    if values.ndim == 4:
        return np.asarray(values.mean(axis=(2, 3)))
    if values.ndim != 2:
        raise EngineError(f"a backbone gave an array of shape {values.shape}; (B, F) or (B, F, H, W) is expected")
    return values


def _hash_of_file(path: Path) -> str:
    """Of an ONNX file and of the files beside it that hold its weights, where they are not inside."""
    graph = path.read_bytes()
    digest, places = hashlib.sha256(graph), set[bytes]()
    for found in _LOCATION.finditer(graph):
        short, low, high = found.groups()
        length = short[0] if short else low[0] - 0x80 + (high[0] << 7)
        places.add(graph[found.end() : found.end() + length])
    files = (path.parent / os.fsdecode(place) for place in sorted(places))
    for named in filter(Path.is_file, files):  # what a model says of itself may have a "location" too
        with named.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _hash_of(module: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()
