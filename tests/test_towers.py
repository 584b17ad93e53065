"""The torch towers against the libraries that own the families: features, vectors, patches, and the ways in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import references  # noqa: E402
from awase.encoding import families, published  # noqa: E402
from awase.encoding.checkpoints import in_memory, open_checkpoint  # noqa: E402
from awase.encoding.families import Architecture, Preprocessing, TextRule  # noqa: E402
from awase.encoding.published import PUBLISHED  # noqa: E402
from awase.encoding.towers import Towers, initialise, load_towers, normalise  # noqa: E402
from awase.errors import CheckpointError, TensorMismatch  # noqa: E402

OUTPUTS = ("vectors", "features", "patches")


@dataclass
class Peer:
    """A reference model: what it makes of prepared pixels (B, 3, S, S), and of ids with their ends."""

    image: Callable[[Any], dict[str, Any]]
    text: Callable[[Any], Any]


def hf_clip(folder: Path, **sizes: Any) -> Peer:
    model = references.tiny_hf_clip(folder, **sizes)

    def image(pixels: Any) -> dict[str, Any]:
        seen = model.vision_model(pixels)
        tokens = model.vision_model.post_layernorm(seen.last_hidden_state[:, 1:])
        vectors = model.visual_projection(seen.pooler_output)
        return {"features": seen.pooler_output, "vectors": vectors, "patches": model.visual_projection(tokens)}

    return Peer(image, lambda ids: model.text_projection(model.text_model(ids).pooler_output))


def hf_siglip(folder: Path, **sizes: Any) -> Peer:
    model = references.tiny_hf_siglip(folder, **sizes)

    def image(pixels: Any) -> dict[str, Any]:
        seen = model.vision_model(pixels)
        tokens = seen.last_hidden_state  # the pooling head over one token alone is what awase calls its patch
        alone = torch.stack([model.vision_model.head(tokens[:, i : i + 1]) for i in range(tokens.shape[1])], dim=1)
        return {"features": seen.pooler_output, "vectors": seen.pooler_output, "patches": alone}

    return Peer(image, lambda ids: model.text_model(ids).pooler_output)


def open_clip_vit(folder: Path, **sizes: Any) -> Peer:
    model = references.tiny_open_clip(folder, **sizes)
    model.visual.output_tokens = True

    def image(pixels: Any) -> dict[str, Any]:
        vectors, tokens = model.visual(pixels)
        return {"vectors": vectors, "patches": tokens @ model.visual.proj}

    return Peer(image, model.encode_text)


def open_clip_resnet(folder: Path, **sizes: Any) -> Peer:
    model = references.tiny_open_clip_resnet(folder, **sizes)
    maps: list[Any] = []
    model.visual.layer4.register_forward_hook(lambda *call: maps.append(call[2]))

    def image(pixels: Any) -> dict[str, Any]:
        vectors, pool = model.visual(pixels), model.visual.attnpool
        cells = maps.pop().flatten(2).transpose(1, 2)
        return {"vectors": vectors, "patches": pool.c_proj(pool.v_proj(cells))}

    return Peer(image, model.encode_text)


def open_clip_siglip(folder: Path, **sizes: Any) -> Peer:
    model = references.tiny_open_clip_siglip(folder, **sizes)
    return Peer(lambda pixels: {"vectors": model.encode_image(pixels)}, model.encode_text)


PEERS: dict[str, Callable[[Path], Peer]] = {
    "transformers CLIP, QuickGELU": hf_clip,
    "transformers CLIP, GELU": lambda folder: hf_clip(folder, activation="gelu"),
    "transformers SigLIP": hf_siglip,
    "open_clip ViT": open_clip_vit,
    "open_clip ViT, QuickGELU, custom text": lambda folder: open_clip_vit(folder, quick_gelu=True, custom_text=True),
    "open_clip ResNet": open_clip_resnet,
    "open_clip SigLIP": open_clip_siglip,
}
REAL: dict[str, Callable[[Path], Peer]] = {
    "ViT-B/32": lambda folder: hf_clip(folder, **references.B32),
    "ViT-L/14, few layers": lambda folder: open_clip_vit(
        folder, width=1024, layers=3, heads=16, image=224, patch=14, text_width=768, text_heads=12, dimension=768
    ),
    "RN50": lambda folder: open_clip_resnet(folder, image=224, width=64, blocks=(3, 4, 6, 3), dimension=1024),
    "SigLIP-B/16": lambda folder: hf_siglip(
        folder, width=768, layers=12, heads=12, image=224, patch=16, text_layers=12, text_width=768, mlp=3072
    ),
}


def agree(found: Any, expected: Any, tolerance: float = 1e-5) -> None:
    """Within the tolerance of the largest value, and the cosine of every row within 1e-6 of one."""
    found, expected = (np.asarray(x.detach(), np.float64) for x in (found, expected))
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert ((found * expected).sum(-1) / norms).min() >= 1 - 1e-6


def sentences(architecture: Architecture, count: int = 3) -> tuple[Any, Any]:
    """Random ids (B, L) with the end token, the largest id, at random ends, and zeros after it."""
    length = architecture.text_rule.context
    generator = np.random.default_rng(0)
    ids = generator.integers(1, 30_000, (count, length))
    ends = generator.integers(1, length, count)
    if not architecture.text_rule.fixed_length:
        ids[np.arange(length) >= ends[:, None]] = 0
        ids[np.arange(count), ends] = 49407
    return torch.from_numpy(ids), torch.from_numpy(ends)


def pictures(architecture: Architecture, count: int = 2) -> Any:
    side = architecture.preprocessing.size
    return torch.from_numpy(np.random.default_rng(1).integers(0, 256, (count, side, side, 3), dtype=np.uint8))


def compare(make: Callable[[Path], Peer], folder: Path) -> None:
    peer, checkpoint = make(folder), open_checkpoint(folder)
    towers = load_towers(checkpoint)
    pixels = normalise(pictures(checkpoint.architecture), checkpoint.architecture.preprocessing)
    ids, ends = sentences(checkpoint.architecture)
    with torch.no_grad():
        expected = peer.image(pixels)
        found = towers.image(pixels, OUTPUTS)
        assert set(found) == set(OUTPUTS)
        for name, values in expected.items():
            agree(found[name], values)
        agree(towers.text(ids, ends), peer.text(ids))


@pytest.mark.parametrize("name", PEERS)
def test_equals_the_reference(name: str, tmp_path: Path) -> None:
    compare(PEERS[name], tmp_path / "model")


@pytest.mark.long
@pytest.mark.parametrize("name", REAL)
def test_equals_the_reference_at_real_sizes(name: str, tmp_path: Path) -> None:
    compare(REAL[name], tmp_path / "model")


# ---- without a peer: every family, and what must hold of each ---------------------------------------------------


def bundled(text_width: int = 48, twins: int = 0) -> Architecture:
    """The bundled model's two towers, tiny."""
    stages = ((1, 3, 1, 1, 8), (2, 3, 2, 6, 12), (2, 5, 2, 6, 16), (1, 3, 2, 6, 16), (1, 5, 1, 6, 16), (1, 5, 2, 6, 24))
    image = families.EfficientNetLite(70, 8, stages, 64, 20, twins)
    text = families.NgramEncoder(32, 100, text_width, 16, ((2, 0), (3, 1), (5, 2)), (20, 24, 28), 1e-12)
    return Architecture("tiny bundled", image, text, 40, Preprocessing(70), TextRule("sentencepiece", 32))


TINY = {
    "clip": published.clip_vit("tiny CLIP", 40, (32, 8, 64, 3, 4, 256), (48, 4, 3)),
    "quick": published.clip_vit("tiny quick CLIP", 40, (36, 8, 64, 2, 4, 256), (48, 4, 2), "quick_gelu"),
    "resnet": published.clip_resnet("tiny ResNet", 40, 64, 16, (1, 2, 1, 1), (64, 4, 2)),
    "siglip": published.siglip("tiny SigLIP", 38, 8, (64, 3, 4, 172), 32_000, context=16),
    "bundled": bundled(),
    "bundled with twins": bundled(twins=6),
}


def tiny(name: str) -> Towers:
    """Towers with random weights, gains and biases among them, in evaluation mode."""
    torch.manual_seed(0)
    towers = initialise(Towers(TINY[name]), torch.Generator().manual_seed(0))
    with torch.no_grad():
        for key, parameter in towers.named_parameters():
            if parameter.ndim < 2 and not key.startswith("logit"):
                parameter.add_(0.1 * torch.randn(parameter.shape))
        for key, statistic in towers.named_buffers():
            if key.endswith(("mean", "var")):
                statistic.add_(0.2 * torch.rand(statistic.shape))
    return towers.eval()


@pytest.mark.parametrize("name", TINY)
def test_names_and_shapes_are_those_of_the_family(name: str) -> None:
    found = {key: tuple(value.shape) for key, value in tiny(name).state_dict().items()}
    assert found == TINY[name].tensors()


@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_published_towers_have_the_names_of_their_family(name: str) -> None:
    with torch.device("meta"):
        towers = Towers(PUBLISHED[name])
    assert {key: tuple(value.shape) for key, value in towers.state_dict().items()} == PUBLISHED[name].tensors()


@pytest.mark.parametrize("name", TINY)
def test_a_batch_changes_nothing(name: str) -> None:
    towers = tiny(name)
    pixels = normalise(pictures(TINY[name], 64), TINY[name].preprocessing)
    ids, ends = sentences(TINY[name], 64)
    ids %= TINY[name].text.vocabulary
    with torch.no_grad():
        together, alone = towers.image(pixels, OUTPUTS), towers.image(pixels[5:6], OUTPUTS)
        for output in OUTPUTS:
            agree(alone[output], together[output][5:6])
        agree(towers.text(ids[7:8], ends[7:8]), towers.text(ids, ends)[7:8])


@pytest.mark.parametrize("name", ["clip", "resnet", "bundled"])
def test_what_lies_after_the_end_is_not_felt(name: str) -> None:
    towers = tiny(name)
    ids = torch.randint(1, TINY[name].text.vocabulary, (3, 12))
    ends = torch.tensor([3, 6, 11])
    other = torch.where(torch.arange(12) > ends[:, None], 7, ids)
    with torch.no_grad():
        agree(towers.text(other, ends), towers.text(ids, ends))
        agree(towers.text(ids[:1, :4], ends[:1]), towers.text(ids, ends)[:1])


def test_siglip_feels_its_padding() -> None:
    towers, ids = tiny("siglip"), torch.randint(1, 1000, (1, 16))
    padded = ids.clone()
    padded[:, 10:] = 1
    with torch.no_grad():
        assert (towers.text(ids, torch.tensor([9])) - towers.text(padded, torch.tensor([9]))).abs().max() > 1e-3


@pytest.mark.parametrize("name", TINY)
def test_text_is_differentiable_from_its_embeddings(name: str) -> None:
    towers = tiny(name)
    ids, ends = torch.randint(1, 100, (2, TINY[name].text_rule.context)), torch.tensor([5, 8])
    embeddings = towers.text.tokens(ids).detach().requires_grad_()
    vectors = towers.text.forward_embeddings(embeddings, ends)
    agree(vectors, towers.text(ids, ends))
    vectors.square().sum().backward()
    assert embeddings.grad is not None
    felt = embeddings.grad.abs().sum(-1) > 0
    if name != "siglip":
        assert torch.equal(felt, torch.arange(ids.shape[1]) <= ends[:, None])  # all up to the end, nothing after it
    else:
        assert felt.all()


def test_shared_prefixes_are_exact() -> None:
    """[5 6 7] and [5 6 8 9] share 5 6: five nodes instead of seven."""
    towers = tiny("clip")
    parents = [0, 0, 1, 1, 3]
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    for node, parent in enumerate(parents):
        mask[0, node] = mask[0, parent]
        mask[0, node, node] = True
    with torch.no_grad():
        packed = towers.text.forward_packed(
            torch.tensor([[5, 6, 7, 8, 9]]),
            torch.tensor([[0, 1, 2, 2, 3]]),
            mask,
            torch.tensor([0, 0]),
            torch.tensor([2, 4]),
        )
        agree(packed, towers.text(torch.tensor([[5, 6, 7, 0], [5, 6, 8, 9]]), torch.tensor([2, 3])))


def test_normalise_is_the_reference_formula() -> None:
    rule = Preprocessing(4)
    pixels = torch.arange(48, dtype=torch.uint8).reshape(1, 4, 4, 3)
    mean, std = (torch.tensor(part).reshape(3, 1, 1) for part in (rule.mean, rule.std))
    assert torch.equal(normalise(pixels, rule), (pixels.permute(0, 3, 1, 2) / 255 - mean) / std)


def test_training_leaves_the_checkpoint_as_it_was() -> None:
    tensors = {key: value.numpy() for key, value in tiny("clip").state_dict().items()}
    checkpoint = in_memory(TINY["clip"], tensors)
    towers = load_towers(checkpoint)
    with torch.no_grad():
        towers.image.norm.weight.zero_()
    assert np.abs(checkpoint.load()["image.norm.weight"]).min() > 0


def test_initialisation_follows_openai() -> None:
    architecture = published.clip_vit("small", 128, (64, 8, 256, 4, 4, 1024), (192, 3, 6))
    towers = initialise(Towers(architecture), torch.Generator().manual_seed(3))
    spreads = {key: value.std().item() for key, value in towers.named_parameters() if value.ndim >= 2}
    expected = {
        "text.tokens.weight": 0.02,
        "text.positions": 0.01,
        "text.blocks.3.attention.qkv.weight": 192**-0.5,
        "text.blocks.3.attention.out.weight": (2 * 6 * 192) ** -0.5,
        "text.blocks.3.mlp.up.weight": (2 * 192) ** -0.5,
        "text.blocks.3.mlp.down.weight": (2 * 6 * 192) ** -0.5,
        "text.projection.weight": 192**-0.5,
        "image.positions": 256**-0.5,
        "image.projection.weight": 256**-0.5,
    }
    assert {name: spreads[name] for name in expected} == pytest.approx(expected, rel=0.03)
    assert towers.logit_scale.item() == pytest.approx(np.log(1 / 0.07))
    again = initialise(Towers(architecture), torch.Generator().manual_seed(3))
    assert torch.equal(again.image.patch.weight, towers.image.patch.weight)


def test_residual_branches_of_a_new_resnet_are_silent() -> None:
    towers = initialise(Towers(TINY["resnet"]), torch.Generator().manual_seed(0))
    assert towers.image.layer2[0].bn3.weight.abs().max() == 0
    assert towers.image.bn3.weight.min() == 1


# ---- towers of other libraries -------------------------------------------------------------------------------------


def open_clip_folder(folder: Path, vision: dict[str, Any], text: dict[str, Any], dimension: int = 24) -> Any:
    """An OpenCLIP folder with towers of timm or transformers, and OpenCLIP's own model of it."""
    open_clip = pytest.importorskip("open_clip")
    from safetensors.torch import save_file

    torch.manual_seed(0)
    config = {"embed_dim": dimension, "vision_cfg": vision, "text_cfg": text}
    model = open_clip.CustomTextCLIP(**config).eval()
    folder.mkdir()
    save_file(
        {name: value.contiguous() for name, value in model.state_dict().items()}, folder / "open_clip_model.safetensors"
    )
    settings = {"model_cfg": {**config, "custom_text": True}, "preprocess_cfg": references.OPENAI_STATISTICS}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    return model


PLAIN_TEXT = {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
PLAIN_VISION = {"image_size": 32, "layers": 1, "width": 32, "patch_size": 8, "head_width": 16}


@pytest.mark.parametrize(
    ("model", "pool", "proj"),
    [
        ("test_vit", "token", "linear"),
        ("test_vit", "avg", "mlp"),
        ("test_vit2", "avg", ""),
        ("test_resnet", "avg", "linear"),
        ("test_convnext", "", "linear"),
    ],
)
def test_image_towers_of_timm(model: str, pool: str, proj: str, tmp_path: Path) -> None:
    pytest.importorskip("timm")
    vision = {"timm_model_name": model, "timm_pool": pool, "timm_proj": proj, "image_size": 160}
    peer = open_clip_folder(tmp_path / "model", vision, PLAIN_TEXT)
    checkpoint = open_checkpoint(tmp_path / "model")
    towers = load_towers(checkpoint)
    pixels = normalise(pictures(checkpoint.architecture), checkpoint.architecture.preprocessing)
    with torch.no_grad():
        found = towers.image(pixels, OUTPUTS)
        agree(found["vectors"], peer.encode_image(pixels))
        assert found["patches"].shape == (2, {"test_vit": 100, "test_vit2": 100}.get(model, 25), 24)


@pytest.mark.parametrize("pooler", ["mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler"])
def test_text_towers_of_transformers(pooler: str, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    config = transformers.XLMRobertaConfig(vocab_size=500, max_position_embeddings=40, pad_token_id=1, **sizes)
    config.save_pretrained(tmp_path / "encoder")
    text = {"hf_model_name": str(tmp_path / "encoder"), "hf_pooler_type": pooler, "hf_proj_type": "mlp"}
    text |= {"hf_model_pretrained": False, "context_length": 16, "hf_tokenizer_name": str(tmp_path / "encoder")}
    peer = open_clip_folder(tmp_path / "model", PLAIN_VISION, text)
    towers = load_towers(open_checkpoint(tmp_path / "model"))
    ids, ends = torch.randint(5, 500, (3, 16)), torch.tensor([4, 9, 15])
    ids[torch.arange(16) > ends[:, None]] = 1
    with torch.no_grad():
        agree(towers.text(ids, ends), peer.encode_text(ids))
        agree(towers.text.forward_embeddings(towers.text.tokens(ids), ends), peer.encode_text(ids))


def test_an_encoder_whose_configuration_cannot_be_had(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    tower = families.ExternalTower("transformers", str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match="nowhere"):
        Towers(dataclasses.replace(TINY["clip"], text=tower))


def test_weights_that_are_not_those_of_the_external_tower(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    tower = families.ExternalTower("timm", "test_vit", (("pool", "token"), ("proj", "linear")), image_size=160)
    architecture = dataclasses.replace(TINY["clip"], image=tower)
    tensors = {name: value.numpy() for name, value in tiny("clip").state_dict().items()}
    with pytest.raises(TensorMismatch, match="trunk"):
        load_towers(in_memory(architecture, tensors))
