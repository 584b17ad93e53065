"""open_clip_config.json <-> `Architecture`: what OpenCLIP's settings mean, and which of them awase's towers have."""

from __future__ import annotations

import json
import re
from typing import Any, Literal

from awase.encoding.checkpoints.lazy import MOST_LAYERS
from awase.encoding.checkpoints.settings import Settings
from awase.encoding.checkpoints.stored import Weights
from awase.encoding.families import (
    OPENAI_MEAN,
    OPENAI_STD,
    Activation,
    Architecture,
    ExternalTower,
    ImageTower,
    ModifiedResNet,
    Preprocessing,
    TextRule,
    TextTower,
    TextTransformer,
    VisionTransformer,
    languages_of,
)
from awase.errors import CheckpointError, TensorMismatch

# Settings that change what a tower computes, and the only value that awase's towers have.
VISION_FIXED = {
    "ls_init_value": None,
    "attentional_pool": False,
    "no_ln_pre": False,
    "pos_embed_type": "learnable",
    "final_ln_after_pool": False,
    "pool_type": "tok",
    "block_type": "default",
}
TEXT_FIXED = {"ls_init_value": None, "embed_cls": False, "final_ln_after_pool": False, "block_type": "default"}
ATTENTION_FIXED = dict.fromkeys(
    ("qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn_inner", "scale_attn", "scale_fc"), False
)
POOLING: dict[str, Literal["end", "last"]] = {"argmax": "end", "eos": "end", "last": "last"}
# timm's SigLIP trunks: heads by size, and those that were made with the approximate GELU.
SIGLIP_TRUNK = re.compile(r"vit_(base|large|so400m|giantopt)_patch(\d+)_siglip_(\d+)(\.\w+)?")
SIGLIP_HEADS = {"base": 12, "large": 16, "so400m": 16, "giantopt": 16}
SIGLIP_TANH = re.compile(r"vit_(base_patch32|so400m_patch16|giantopt_patch\d+)_siglip_\d+|vit_large_patch16_siglip_512")


def architecture_of(model: Settings, preparation: Settings, weights: Weights, source: str) -> Architecture:
    vision, text = model.section("vision_cfg"), model.section("text_cfg")
    quick = model.flag("quick_gelu")
    image: ImageTower
    if "timm_model_name" in vision:
        image = _timm(vision, weights, source)
    elif isinstance(vision.values.get("layers"), list):
        image = _resnet(vision)
    else:
        image = _transformer(vision, quick)
    words = _external_text(text) if "hf_model_name" in text else _text(text, quick)
    rule = _text_rule(text, words)
    prepared = _preprocessing(preparation, image.image_size)
    scoring: Literal["sigmoid", "softmax"] = "sigmoid" if "logit_bias" in weights else "softmax"
    return Architecture("", image, words, model.whole("embed_dim"), prepared, rule, scoring, _languages(text))


def _only(section: Settings, *fixed: dict[str, Any]) -> None:
    """Raises CheckpointError where a setting asks for something that awase's towers do not compute."""
    for key, value in {**ATTENTION_FIXED, **{k: v for part in fixed for k, v in part.items()}}.items():
        if section.values.get(key, value) not in (value, None):
            raise section.unfit(key, json.dumps(value))


def _activation(section: Settings, quick: bool) -> Activation:
    if quick:
        return "quick_gelu"
    return section.section("act_kwargs").choice("approximate", {"none": "gelu", "tanh": "gelu_tanh"}, "none")


def _epsilon(section: Settings) -> float:
    return section.section("norm_kwargs").number("eps", 1e-5)


def _transformer(vision: Settings, quick: bool) -> VisionTransformer:
    _only(vision, VISION_FIXED)
    width = vision.whole("width", 768)
    return VisionTransformer(
        vision.whole("image_size", 224),
        vision.whole("patch_size", 16),
        width,
        vision.whole("layers", 12),
        max(1, width // vision.whole("head_width", 64)),
        int(width * vision.number("mlp_ratio", 4.0)),
        _activation(vision, quick),
        norm_epsilon=_epsilon(vision),
    )


def _resnet(vision: Settings) -> ModifiedResNet:
    blocks = vision.values["layers"]
    if len(blocks) != 4 or not all(type(count) is int and 0 < count <= MOST_LAYERS for count in blocks):
        raise vision.unfit("layers", "four numbers of blocks")
    width = vision.whole("width", 64)
    heads = max(1, width * 32 // vision.whole("head_width", 64))
    return ModifiedResNet(vision.whole("image_size", 224), width, tuple(blocks), heads)


def _timm(vision: Settings, weights: Weights, source: str) -> VisionTransformer | ExternalTower:
    name, size = vision.text("timm_model_name"), vision.whole("image_size", 224)
    pool, proj = (
        vision.text("timm_pool", "avg"),
        vision.text("timm_proj", "linear" if "timm_proj" not in vision.values else ""),
    )
    trunk = SIGLIP_TRUNK.fullmatch(name)
    if trunk is None or pool != "map" or proj not in ("", "none"):
        settings = (("pool", pool), ("proj", proj), ("proj_bias", vision.flag("timm_proj_bias")))
        return ExternalTower("timm", name, settings, image_size=size)
    try:
        width, _, patch, _ = weights["visual.trunk.patch_embed.proj.weight"].shape
        mlp, _ = weights["visual.trunk.blocks.0.mlp.fc1.weight"].shape
    except (KeyError, ValueError) as problem:
        raise TensorMismatch(
            f"{source} names the image tower {name}, but its weights are not that tower's"
        ) from problem
    layers = len({match[1] for key in weights if (match := re.match(r"visual\.trunk\.blocks\.(\d+)\.", key))})
    activation: Activation = "gelu_tanh" if SIGLIP_TANH.match(name) else "gelu"
    heads = SIGLIP_HEADS[trunk[1]]
    return VisionTransformer(size, patch, width, layers, heads, mlp, activation, "attention", norm_epsilon=1e-6)


def _text(text: Settings, quick: bool) -> TextTransformer:
    _only(text, TEXT_FIXED)
    width = text.whole("width", 512)
    has_projection = text.choice("proj_type", {"linear": True, "none": False}, "linear")
    kind: Literal["matrix", "linear", "none"] = "linear" if text.flag("proj_bias") else "matrix"
    return TextTransformer(
        text.whole("context_length", 77),
        text.whole("vocab_size", 49408),
        width,
        text.whole("layers", 12),
        text.whole("heads", 8),
        int(width * text.number("mlp_ratio", 4.0)),
        _activation(text, quick),
        causal=not text.flag("no_causal_mask"),
        pooling=text.choice("pool_type", POOLING, "argmax"),
        projection=kind if has_projection else "none",
        norm_epsilon=_epsilon(text),
    )


def _external_text(text: Settings) -> ExternalTower:
    """A text encoder of transformers, with OpenCLIP's pooling and projection after it."""
    settings = (("pooler", text.text("hf_pooler_type", "mean_pooler")), ("proj", text.text("hf_proj_type", "mlp")))
    return ExternalTower("transformers", text.text("hf_model_name"), settings, context=text.whole("context_length", 77))


def _text_rule(text: Settings, tower: TextTower) -> TextRule:
    """Padding takes part in the result where every position sees every other, or the last one is taken."""
    tokenizer, context = text.text("hf_tokenizer_name"), text.whole("context_length", 77)
    padded = isinstance(tower, TextTransformer) and (not tower.causal or tower.pooling == "last")
    if not tokenizer and isinstance(tower, TextTransformer):
        return TextRule("open_clip", context, padded)
    if text.section("tokenizer_kwargs").text("clean") == "canonicalize":
        gemma = text.whole("vocab_size", 49408) == 256_000
        return TextRule("siglip2_open_clip" if gemma else "siglip_open_clip", context, padded)
    return TextRule("huggingface", context, padded)


def _languages(text: Settings) -> tuple[str, ...]:
    if "hf_model_name" in text:
        return ("en", "ja") if re.search("xlm|mt5|nllb|multilingual|japanese", text.text("hf_model_name")) else ("en",)
    return languages_of(text.whole("vocab_size", 49408))


def _preprocessing(settings: Settings, size: int) -> Preprocessing:
    """OpenCLIP resizes to the tower's size whatever `size` says; an interpolation other than bilinear is bicubic."""
    std = settings.three("std", OPENAI_STD)
    if min(std) <= 0:
        raise settings.unfit("std", "numbers above 0")
    return Preprocessing(
        size,
        settings.choice("resize_mode", {"shortest": "shortest", "squash": "squash"}, "shortest"),
        "bilinear" if settings.text("interpolation") == "bilinear" else "bicubic",
        mean=settings.three("mean", OPENAI_MEAN),
        std=std,
    )


# ---- and back ------------------------------------------------------------------------------------------------------


def configuration_of(architecture: Architecture, source: str) -> dict[str, Any]:
    """The content of open_clip_config.json."""
    image, text, row = architecture.image, architecture.text, architecture.preprocessing
    siglip = isinstance(image, VisionTransformer) and image.pooling == "attention"
    if not isinstance(text, TextTransformer) or not isinstance(image, VisionTransformer | ModifiedResNet):
        raise CheckpointError(
            f"{source} ({architecture.name}) has towers that OpenCLIP does not have; layout 'awase' holds every model"
        )
    quick = text.activation == "quick_gelu"
    if quick != (getattr(image, "activation", text.activation) == "quick_gelu"):
        raise CheckpointError(f"{source}: OpenCLIP has QuickGELU in both towers or in none; use layout 'awase'")
    model: dict[str, Any] = {"embed_dim": architecture.dimension}
    if architecture.scoring == "sigmoid":
        model["init_logit_bias"] = -10
    if siglip:
        model["custom_text"] = True
    elif quick:
        model["quick_gelu"] = True
    model["vision_cfg"] = _vision_cfg(image, source)
    model["text_cfg"] = _text_cfg(text, architecture)
    prepared = {
        "mean": list(row.mean),
        "std": list(row.std),
        "interpolation": row.filter,
        "resize_mode": row.resize,
    }
    return {"model_cfg": model, "preprocess_cfg": prepared}


def _vision_cfg(image: VisionTransformer | ModifiedResNet, source: str) -> dict[str, Any]:
    if isinstance(image, ModifiedResNet):
        head = image.width * 32 // image.heads
        return {
            "image_size": image.image_size,
            "layers": list(image.blocks),
            "width": image.width,
            "head_width": head,
            "patch_size": None,
        }
    if image.pooling == "class":
        return {
            "image_size": image.image_size,
            "layers": image.layers,
            "width": image.width,
            "head_width": image.width // image.heads,
            "patch_size": image.patch_size,
            **_layer_settings(image),
        }
    sizes = {768: "base", 1024: "large", 1152: "so400m", 1536: "giantopt"}
    size = sizes.get(image.width)
    if size is None:
        raise CheckpointError(
            f"{source}: OpenCLIP names its SigLIP image towers, and none is {image.width} wide; use layout 'awase'"
        )
    return {
        "image_size": image.image_size,
        "timm_model_name": f"vit_{size}_patch{image.patch_size}_siglip_{image.image_size}",
        "timm_model_pretrained": False,
        "timm_pool": "map",
        "timm_proj": "none",
    }


def _layer_settings(tower: VisionTransformer | TextTransformer) -> dict[str, Any]:
    """What differs from OpenCLIP's defaults in every layer."""
    found: dict[str, Any] = {}
    if tower.mlp_width != 4 * tower.width:
        ratio = tower.mlp_width / tower.width
        found["mlp_ratio"] = ratio if int(tower.width * ratio) == tower.mlp_width else ratio + 1e-9
    if tower.activation == "gelu_tanh":
        found["act_kwargs"] = {"approximate": "tanh"}
    if tower.norm_epsilon != 1e-5:
        found["norm_kwargs"] = {"eps": tower.norm_epsilon}
    return found


def _text_cfg(text: TextTransformer, architecture: Architecture) -> dict[str, Any]:
    found: dict[str, Any] = {
        "context_length": text.context,
        "vocab_size": text.vocabulary,
        "width": text.width,
        "heads": text.heads,
        "layers": text.layers,
        **_layer_settings(text),
    }
    kind = architecture.text_rule.kind
    if kind.startswith("siglip"):
        version = "2" if kind.startswith("siglip2") else ""
        found["hf_tokenizer_name"] = f"timm/ViT-B-16-SigLIP{version}"
        found["tokenizer_kwargs"] = {"clean": "canonicalize"}
    elif kind == "huggingface":
        found["hf_tokenizer_name"] = architecture.name
    if not text.causal:
        found["no_causal_mask"] = True
    if text.pooling == "last":
        found["pool_type"] = "last"
    if text.projection == "linear":
        found["proj_bias"] = True
    elif text.projection == "none":
        found["proj_type"] = "none"
    return found
