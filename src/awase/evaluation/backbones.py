"""Feature extractors that are no Clip, for the CLIP paper's comparison: zero-shot against a probe on another backbone.

A backbone is a function from uint8 (B, S, S, 3) RGB to (B, F) features with the preparation of pictures that it was
trained with. `from_onnx`, `from_torch` and `from_timm` make one from what people have. The bundled model's own backbone
needs nothing of this: its features before the projection are what `linear_probe` reads from a Clip.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from awase import __version__
from awase.datasets.hashing import data_hash
from awase.datasets.labelled import Labelled
from awase.encoding.engines import onnx_runtime
from awase.encoding.families import Preprocessing
from awase.encoding.pictures import Limits
from awase.encoding.pipeline import encode_stream
from awase.encoding.preprocessing import prepare_source
from awase.errors import DataError, EngineError, MissingExtra, UsageError
from awase.evaluation.vectors import PictureVectors

IMAGENET = Preprocessing(224, filter="bilinear", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
BATCH = 8


@dataclass(frozen=True)
class Backbone:
    """run: uint8 (B, S, S, 3) RGB -> (B, F) features. weights: a hash that tells it from others, "" if unknown."""

    name: str
    run: Callable[[np.ndarray], np.ndarray]
    preprocessing: Preprocessing = IMAGENET
    weights: str = ""


def from_onnx(path: str | PathLike[str], preprocessing: Preprocessing = IMAGENET) -> Backbone:
    """An ONNX file with one input, float32 (B, 3, S, S) of which mean and standard deviation are taken off here, or
    uint8 (B, S, S, 3), and the features as its first output. Raises EngineError where that is not so."""
    path = Path(path)
    try:
        session = onnx_runtime().InferenceSession(str(path), providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has no common base for what it raises here
        raise EngineError(f"{path} is no ONNX model that runs here: {problem}") from problem
    inputs = session.get_inputs()
    if len(inputs) != 1 or len(inputs[0].shape) != 4 or inputs[0].type not in ("tensor(float)", "tensor(uint8)"):
        raise EngineError(f"{path} takes {[(i.name, i.type, i.shape) for i in inputs]}; one picture input is expected")
    output = session.get_outputs()[0].name
    takes_bytes = inputs[0].type == "tensor(uint8)"

    def run(pixels: np.ndarray) -> np.ndarray:
        prepared = pixels if takes_bytes else normalised(pixels, preprocessing)
        return _pooled(session.run([output], {inputs[0].name: prepared})[0])

    return Backbone(path.stem, run, preprocessing, hashlib.sha256(path.read_bytes()).hexdigest())


def from_torch(module: Any, name: str, preprocessing: Preprocessing = IMAGENET) -> Backbone:
    """A torch module from (B, 3, S, S) to features (B, F) or maps (B, F, H, W), which are averaged. It is put into
    evaluation mode and stays on its device."""
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

    return Backbone(name, run, preprocessing, _hash_of(module))


def from_timm(name: str, pretrained: bool = True) -> Backbone:
    """A timm model by name, without its classifier, prepared as its configuration says (the crop is the whole square).

    Weights come from timm, over the network unless it has them; `pretrained` False leaves them random."""
    try:
        import timm
    except ImportError as problem:
        raise UsageError(f"{name} is a model of timm, which is not installed: pip install timm") from problem
    module = timm.create_model(name, pretrained=pretrained, num_classes=0)
    said = timm.data.resolve_model_data_config(module)
    preprocessing = Preprocessing(
        said["input_size"][-1],
        filter="bilinear" if said["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(said["mean"]),
        std=tuple(said["std"]),
    )
    return from_torch(module, f"timm/{name}", preprocessing)


def backbone_features(backbone: Backbone, data: Labelled) -> PictureVectors:
    """A row of features for each picture that can be read; DataError where there is none, EngineError for NaN."""

    def prepare(source: Any) -> np.ndarray:
        return prepare_source(source, backbone.preprocessing, Limits())

    rows, kept, errors = [], [], []
    for found in encode_stream(data.pictures, prepare, lambda pixels: {"features": backbone.run(pixels)}, BATCH):
        if found.error:
            errors.append(found.error)
        elif found.outputs:
            rows.append(np.asarray(found.outputs["features"], np.float32))
            kept.append(found.index)
    if not rows:
        raise DataError(f"{data.name}: none of its {len(data)} pictures can be read")
    features = np.stack(rows)
    if not np.isfinite(features).all():
        raise EngineError(f"{backbone.name} gives features that are not numbers (NaN or infinity)")
    return PictureVectors(features, np.array(kept, np.int64), errors)


def backbone_provenance(backbone: Backbone, data: Labelled) -> dict[str, Any]:
    return {
        "model": {"model": backbone.name, "fingerprint": backbone.weights},
        "data": {"name": data.name, "split": data.split, "n": len(data), "sha256": data_hash(data)},
        "versions": {"awase": __version__, "numpy": np.__version__},
    }


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


def _hash_of(module: Any) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(value.detach().cpu().float().numpy()).tobytes())
    return digest.hexdigest()
