"""Tiny random checkpoints in every published layout, made by the libraries that own the layouts.

Each maker writes a checkpoint and returns the library's own model, in evaluation mode, to compare with. Sizes are
keyword arguments; `B32` holds those of ViT-B/32 for the few tests that want the real size. Every weight is random,
biases and norms included, so that a tensor put in the wrong place shows."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest

B32: dict[str, Any] = {
    "width": 768,
    "layers": 12,
    "heads": 12,
    "image": 224,
    "patch": 32,
    "text_width": 512,
    "text_layers": 12,
    "text_heads": 8,
    "dimension": 512,
}
OPENAI_STATISTICS = {
    "mean": [0.48145466, 0.4578275, 0.40821073],
    "std": [0.26862954, 0.26130258, 0.27577711],
}


def tiny_hf_clip(
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    image: int = 32,
    patch: int = 8,
    text_width: int = 48,
    text_layers: int = 3,
    text_heads: int = 4,
    context: int = 77,
    vocabulary: int = 49408,
    dimension: int = 40,
    activation: str = "quick_gelu",
    eos: int = 49407,
    shard_size: str | None = None,
    seed: int = 0,
) -> Any:
    """A Hugging Face `CLIPModel` folder; `shard_size` ("200KB") splits the weights into several files."""
    transformers = pytest.importorskip("transformers")
    config = transformers.CLIPConfig(
        vision_config={
            "hidden_size": width,
            "intermediate_size": 4 * width,
            "num_hidden_layers": layers,
            "num_attention_heads": heads,
            "image_size": image,
            "patch_size": patch,
            "hidden_act": activation,
        },
        text_config={
            "hidden_size": text_width,
            "intermediate_size": 4 * text_width,
            "num_hidden_layers": text_layers,
            "num_attention_heads": text_heads,
            "max_position_embeddings": context,
            "vocab_size": vocabulary,
            "hidden_act": activation,
            "eos_token_id": eos,
        },
        projection_dim=dimension,
    )
    model = _randomised(transformers.CLIPModel(config), seed)
    _save(model, folder, shard_size)
    preparation = {
        "image_processor_type": "CLIPImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": image},
        "do_center_crop": True,
        "crop_size": {"height": image, "width": image},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "do_convert_rgb": True,
        "image_mean": OPENAI_STATISTICS["mean"],
        "image_std": OPENAI_STATISTICS["std"],
    }
    _write_json(folder / "preprocessor_config.json", preparation)
    return model


def tiny_hf_siglip(
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    image: int = 38,
    patch: int = 8,
    text_layers: int = 3,
    text_width: int = 64,
    context: int = 64,
    vocabulary: int = 32_000,
    mlp: int = 172,
    shard_size: str | None = None,
    seed: int = 0,
) -> Any:
    """A Hugging Face `SiglipModel` folder, of fixed resolution. SigLIP2's differ in `vocabulary=256_000` only."""
    transformers = pytest.importorskip("transformers")
    towers = {"intermediate_size": mlp, "num_attention_heads": heads}
    config = transformers.SiglipConfig(
        vision_config={
            **towers,
            "hidden_size": width,
            "num_hidden_layers": layers,
            "image_size": image,
            "patch_size": patch,
        },
        text_config={
            **towers,
            "hidden_size": text_width,
            "num_hidden_layers": text_layers,
            "max_position_embeddings": context,
            "vocab_size": vocabulary,
            "projection_size": width,
        },
    )
    model = _randomised(transformers.SiglipModel(config), seed)
    _save(model, folder, shard_size)
    preparation = {
        "image_processor_type": "SiglipImageProcessor",
        "do_resize": True,
        "size": {"height": image, "width": image},
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    _write_json(folder / "preprocessor_config.json", preparation)
    return model


def tiny_open_clip(
    folder: Path,
    *,
    width: int = 64,
    layers: int = 2,
    heads: int = 4,
    image: int = 32,
    patch: int = 8,
    text_width: int = 48,
    text_layers: int = 3,
    text_heads: int = 4,
    context: int = 77,
    vocabulary: int = 49408,
    dimension: int = 40,
    quick_gelu: bool = False,
    custom_text: bool = False,
    weights: str = "open_clip_model.safetensors",
    seed: int = 0,
    **text: Any,
) -> Any:
    """An OpenCLIP folder with a ViT; `text` are further keys of text_cfg. `weights` may end in .bin or .pth."""
    vision = {
        "image_size": image,
        "layers": layers,
        "width": width,
        "patch_size": patch,
        "head_width": width // heads,
    }
    config = {
        "embed_dim": dimension,
        "quick_gelu": quick_gelu,
        "custom_text": custom_text,
        "vision_cfg": vision,
        "text_cfg": _open_clip_text(context, vocabulary, text_width, text_heads, text_layers) | text,
    }
    return _open_clip(folder, config, OPENAI_STATISTICS, weights, seed)


def tiny_open_clip_resnet(
    folder: Path,
    *,
    image: int = 64,
    width: int = 16,
    blocks: tuple[int, int, int, int] = (1, 2, 1, 1),
    context: int = 77,
    vocabulary: int = 49408,
    dimension: int = 40,
    seed: int = 0,
) -> Any:
    """An OpenCLIP folder with a ModifiedResNet (8 heads in its attention pool)."""
    config = {
        "embed_dim": dimension,
        "quick_gelu": True,
        "vision_cfg": {"image_size": image, "layers": list(blocks), "width": width, "patch_size": None},
        "text_cfg": _open_clip_text(context, vocabulary, 64, 4, 2),
    }
    return _open_clip(folder, config, OPENAI_STATISTICS, "open_clip_model.safetensors", seed)


def tiny_open_clip_siglip(
    folder: Path, *, image: int = 38, context: int = 64, vocabulary: int = 32_000, tanh: bool = False, seed: int = 0
) -> Any:
    """An OpenCLIP folder with timm's SigLIP trunk, 12 heads of 8. `tanh`: the approximate GELU in the text tower."""
    _tiny_timm_siglip()
    text = _open_clip_text(context, vocabulary, 96, 12, 2) | {
        "hf_tokenizer_name": "timm/ViT-B-16-SigLIP",
        "tokenizer_kwargs": {"clean": "canonicalize"},
        "no_causal_mask": True,
        "proj_bias": True,
        "pool_type": "last",
        "norm_kwargs": {"eps": 1e-6},
    }
    if tanh:
        text["act_kwargs"] = {"approximate": "tanh"}
    config = {
        "embed_dim": 96,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": {
            "image_size": image,
            "timm_model_name": f"vit_base_patch8_siglip_{image}",
            "timm_model_pretrained": False,
            "timm_pool": "map",
            "timm_proj": "none",
        },
        "text_cfg": text,
    }
    preparation = {
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
    }
    return _open_clip(folder, config, preparation, "open_clip_model.safetensors", seed)


def tiny_openai_pt(
    file: Path,
    *,
    jit: bool = False,
    resnet: bool = False,
    half: bool = True,
    image: int = 32,
    patch: int = 8,
    layers: int = 2,
    text_layers: int = 3,
    width: int = 64,
    text_width: int = 64,
    vocabulary: int = 49408,
    dimension: int = 40,
    seed: int = 0,
) -> Any:
    """An OpenAI `.pt` file: a TorchScript archive (`jit`) or a plain state dict, with OpenAI's mixed precision.

    Returns OpenCLIP's model holding the same values in float32. Heads are 64 wide, as in all of OpenAI's models."""
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    vision: dict[str, Any] = {"image_size": image, "layers": layers, "width": width, "patch_size": patch}
    if resnet:
        vision = {"image_size": 64, "layers": [1, 2, 1, 1], "width": 16, "patch_size": None}
    text = _open_clip_text(77, vocabulary, text_width, text_width // 64, text_layers)
    model = open_clip.CLIP(dimension, open_clip.CLIPVisionCfg(**vision), open_clip.CLIPTextCfg(**text), quick_gelu=True)
    _randomised(model, seed)
    if half:
        open_clip.convert_weights_to_lp(model, torch.float16)
    extras = {"input_resolution": vision["image_size"], "context_length": 77, "vocab_size": vocabulary}
    scalars = {name: torch.tensor(value) for name, value in extras.items()}
    if jit:
        _trace(copy.deepcopy(model), scalars, vision["image_size"], half).save(file)
    else:
        torch.save({**model.state_dict(), **scalars}, file)
    return model.float().eval()


def _trace(model: Any, scalars: dict[str, Any], image: int, half: bool) -> Any:
    """The model as TorchScript, with OpenAI's three scalars among its buffers."""
    import torch

    for name, value in scalars.items():
        model.__dict__.pop(name, None)
        model.register_buffer(name, value)
    pictures = torch.zeros(1, 3, image, image, dtype=torch.float16 if half else torch.float32)
    ids = torch.zeros(1, 77, dtype=torch.int64)
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # the trace is never run
        return torch.jit.trace(model.eval(), (pictures, ids), check_trace=False)


def _open_clip_text(context: int, vocabulary: int, width: int, heads: int, layers: int) -> dict[str, Any]:
    return {"context_length": context, "vocab_size": vocabulary, "width": width, "heads": heads, "layers": layers}


def _open_clip(folder: Path, config: dict[str, Any], preparation: dict[str, Any], weights: str, seed: int) -> Any:
    torch = pytest.importorskip("torch")
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    keywords = {key: value for key, value in config.items() if key != "custom_text"}
    kind = open_clip.CustomTextCLIP if config.get("custom_text") else open_clip.CLIP
    model = _randomised(kind(**keywords), seed)
    folder.mkdir(parents=True, exist_ok=True)
    if weights.endswith(".safetensors"):
        save_file({name: value.contiguous() for name, value in model.state_dict().items()}, folder / weights)
    else:
        wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
        torch.save({"epoch": 3, "name": "tiny", "state_dict": wrapped}, folder / weights)
    _write_json(folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preparation})
    return model


def _tiny_timm_siglip() -> None:
    """timm knows SigLIP's trunks by name only, all large: teach it one more name, for these tests alone."""
    pytest.importorskip("timm")
    import timm

    if "vit_base_patch8_siglip_38" in timm.list_models("*siglip_38"):
        return
    from timm.models.vision_transformer import VisionTransformer

    def vit_base_patch8_siglip_38(pretrained: bool = False, **keywords: Any) -> Any:
        sizes: dict[str, Any] = {"img_size": 38, "patch_size": 8, "embed_dim": 96, "depth": 2, "num_heads": 12}
        for unused in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
            keywords.pop(unused, None)
        return VisionTransformer(**sizes, class_token=False, **keywords)

    vit_base_patch8_siglip_38.__module__ = "timm.models.vision_transformer"
    timm.models.register_model(vit_base_patch8_siglip_38)


def _randomised(model: Any, seed: int) -> Any:
    """Every parameter and running statistic random, at a size that keeps activations near one."""
    torch = pytest.importorskip("torch")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim >= 2:
                value.normal_(0, 1 / math.sqrt(value[0].numel()), generator=generator)
            elif name.endswith("logit_scale"):
                value.fill_(2.6593)
            elif name.endswith("logit_bias"):
                value.fill_(-10)
            elif name.endswith("weight"):
                value.normal_(1, 0.2, generator=generator)
            else:
                value.normal_(0, 0.2, generator=generator)
        for name, value in model.named_buffers():
            if name.endswith("running_mean"):
                value.normal_(0, 0.2, generator=generator)
            elif name.endswith("running_var"):
                value.uniform_(0.5, 1.5, generator=generator)
    return model.eval()


def _save(model: Any, folder: Path, shard_size: str | None) -> None:
    model.save_pretrained(folder, **({"max_shard_size": shard_size} if shard_size else {}))


def _write_json(file: Path, content: dict[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2))
