"""The published sizes of CLIP, OpenCLIP, SigLIP and SigLIP2, from the papers' tables and the released configurations.

A new size is one row here; `families.py` says what a row is made of."""

from __future__ import annotations

from awase.encoding.families import (
    HALF,
    Activation,
    Architecture,
    ModifiedResNet,
    Preprocessing,
    TextRule,
    TextTransformer,
    VisionTransformer,
    languages_of,
)


def clip_vit(
    name: str,
    dimension: int,
    image: tuple[int, int, int, int, int, int],
    text: tuple[int, int, int],
    activation: Activation = "gelu",
) -> Architecture:
    """A CLIP ViT from (size, patch, width, layers, heads, mlp width) and the text tower's (width, heads, layers)."""
    size, patch, width, layers, heads, mlp = image
    tower = VisionTransformer(size, patch, width, layers, heads, mlp, activation)
    return Architecture(name, tower, _clip_text(text, activation), dimension, Preprocessing(size), TextRule("clip", 77))


def clip_resnet(
    name: str, dimension: int, size: int, width: int, blocks: tuple[int, int, int, int], text: tuple[int, int, int]
) -> Architecture:
    tower = ModifiedResNet(size, width, blocks, heads=width // 2)
    return Architecture(
        name, tower, _clip_text(text, "quick_gelu"), dimension, Preprocessing(size), TextRule("clip", 77)
    )


def _clip_text(text: tuple[int, int, int], activation: Activation) -> TextTransformer:
    width, heads, layers = text
    return TextTransformer(77, 49408, width, layers, heads, 4 * width, activation)


def siglip(
    name: str,
    size: int,
    patch: int,
    vision: tuple[int, int, int, int],
    vocabulary: int,
    context: int = 64,
    text: tuple[int, int, int, int] | None = None,
) -> Architecture:
    """SigLIP or SigLIP2 at a fixed resolution, from (width, layers, heads, mlp width) of each tower."""
    width, layers, heads, mlp = vision
    text_width, text_layers, text_heads, text_mlp = text or vision
    image = VisionTransformer(size, patch, width, layers, heads, mlp, "gelu_tanh", "attention", 1e-6)
    words = TextTransformer(
        context, vocabulary, text_width, text_layers, text_heads, text_mlp, "gelu_tanh", False, "last", "linear", 1e-6
    )
    rule = TextRule("siglip2" if vocabulary == 256_000 else "siglip", context, fixed_length=True)
    prepared = Preprocessing(size, "squash", rgb_first=True, mean=HALF, std=HALF)
    return Architecture(name, image, words, width, prepared, rule, "sigmoid", languages_of(vocabulary))


_BASE, _LARGE, _SO400M = (768, 12, 12, 3072), (1024, 24, 16, 4096), (1152, 27, 16, 4304)

PUBLISHED: dict[str, Architecture] = {
    row.name: row
    for row in (
        clip_resnet("RN50", 1024, 224, 64, (3, 4, 6, 3), (512, 8, 12)),
        clip_resnet("RN101", 512, 224, 64, (3, 4, 23, 3), (512, 8, 12)),
        clip_resnet("RN50x4", 640, 288, 80, (4, 6, 10, 6), (640, 10, 12)),
        clip_resnet("RN50x16", 768, 384, 96, (6, 8, 18, 8), (768, 12, 12)),
        clip_resnet("RN50x64", 1024, 448, 128, (3, 15, 36, 10), (1024, 16, 12)),
        clip_vit("ViT-B-32", 512, (224, 32, 768, 12, 12, 3072), (512, 8, 12)),
        clip_vit("ViT-B-16", 512, (224, 16, 768, 12, 12, 3072), (512, 8, 12)),
        clip_vit("ViT-L-14", 768, (224, 14, 1024, 24, 16, 4096), (768, 12, 12)),
        clip_vit("ViT-L-14-336", 768, (336, 14, 1024, 24, 16, 4096), (768, 12, 12)),
        clip_vit("ViT-H-14", 1024, (224, 14, 1280, 32, 16, 5120), (1024, 16, 24)),
        clip_vit("ViT-g-14", 1024, (224, 14, 1408, 40, 16, 6144), (1024, 16, 24)),
        clip_vit("ViT-bigG-14", 1280, (224, 14, 1664, 48, 16, 8192), (1280, 20, 32)),
        siglip("siglip-base-patch16-224", 224, 16, _BASE, 32_000),
        siglip("siglip-base-patch16-256", 256, 16, _BASE, 32_000),
        siglip("siglip-base-patch16-384", 384, 16, _BASE, 32_000),
        siglip("siglip-base-patch16-512", 512, 16, _BASE, 32_000),
        siglip("siglip-large-patch16-256", 256, 16, _LARGE, 32_000),
        siglip("siglip-large-patch16-384", 384, 16, _LARGE, 32_000),
        siglip("siglip-so400m-patch14-224", 224, 14, _SO400M, 32_000, context=16),
        siglip("siglip-so400m-patch14-384", 384, 14, _SO400M, 32_000),
        siglip("siglip2-base-patch32-256", 256, 32, _BASE, 256_000),
        siglip("siglip2-base-patch16-224", 224, 16, _BASE, 256_000),
        siglip("siglip2-base-patch16-256", 256, 16, _BASE, 256_000),
        siglip("siglip2-base-patch16-384", 384, 16, _BASE, 256_000),
        siglip("siglip2-base-patch16-512", 512, 16, _BASE, 256_000),
        siglip("siglip2-large-patch16-256", 256, 16, _LARGE, 256_000),
        siglip("siglip2-large-patch16-384", 384, 16, _LARGE, 256_000),
        siglip("siglip2-large-patch16-512", 512, 16, _LARGE, 256_000),
        siglip("siglip2-so400m-patch14-224", 224, 14, _SO400M, 256_000),
        siglip("siglip2-so400m-patch14-384", 384, 14, _SO400M, 256_000),
        siglip("siglip2-so400m-patch16-256", 256, 16, _SO400M, 256_000),
        siglip("siglip2-so400m-patch16-384", 384, 16, _SO400M, 256_000),
        siglip("siglip2-so400m-patch16-512", 512, 16, _SO400M, 256_000),
        siglip("siglip2-giant-opt-patch16-256", 256, 16, (1536, 40, 16, 6144), 256_000, text=_SO400M),
        siglip("siglip2-giant-opt-patch16-384", 384, 16, (1536, 40, 16, 6144), 256_000, text=_SO400M),
    )
}
