"""Every published layout: read, written, there and back, and equal in the libraries that own the layouts."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import references
from awase.encoding.caches import cache_folder, fingerprint_of
from awase.encoding.checkpoints import Checkpoint, in_memory, names, open_checkpoint, open_clip, write_checkpoint
from awase.encoding.checkpoints.open_clip_config import SIGLIP_TRUNK, architecture_of, configuration_of
from awase.encoding.checkpoints.safetensors_file import read_safetensors, write_safetensors
from awase.encoding.checkpoints.settings import Settings
from awase.encoding.families import ExternalTower, VisionTransformer
from awase.encoding.published import PUBLISHED
from awase.encoding.tokenizers import open_tokenizer
from awase.errors import CheckpointError, TensorMismatch, UsageError

torch = pytest.importorskip("torch")
reference_open_clip = pytest.importorskip("open_clip")
transformers = pytest.importorskip("transformers")
SMALL: dict[str, Any] = {"vocabulary": 512}  # no tokenizer takes part in these tests


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Any]]:
    """(path, reference model) of each kind, made once."""
    base = tmp_path_factory.mktemp("references")
    makers: dict[str, Callable[[Path], Any]] = {
        "hf clip": lambda p: references.tiny_hf_clip(p, **SMALL, eos=511),
        "hf clip gelu": lambda p: references.tiny_hf_clip(p, **SMALL, eos=511, activation="gelu"),
        "hf clip parts": lambda p: references.tiny_hf_clip(p, **SMALL, eos=511, shard_size="200KB"),
        "hf siglip": lambda p: references.tiny_hf_siglip(p, **SMALL),
        "open_clip": lambda p: references.tiny_open_clip(p, **SMALL),
        "open_clip quick": lambda p: references.tiny_open_clip(p, **SMALL, quick_gelu=True),
        "open_clip custom": lambda p: references.tiny_open_clip(
            p, **SMALL, custom_text=True, weights="open_clip_pytorch_model.bin"
        ),
        "open_clip resnet": lambda p: references.tiny_open_clip_resnet(p, **SMALL),
        "open_clip siglip": lambda p: references.tiny_open_clip_siglip(p, **SMALL),
        "openai plain.pt": lambda p: references.tiny_openai_pt(p, **SMALL),
        "openai jit.pt": lambda p: references.tiny_openai_pt(p, **SMALL, jit=True),
        "openai resnet.pt": lambda p: references.tiny_openai_pt(p, **SMALL, jit=True, resnet=True),
    }
    models: dict[str, Any] = {}

    def get(kind: str) -> tuple[Path, Any]:
        if kind not in models:
            models[kind] = makers[kind](base / kind)
        return base / kind, models[kind]

    return get


Made = Callable[[str], tuple[Path, Any]]


def same(a: Any, b: Any) -> None:
    """Two state dicts hold the same bits under the same names."""
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name].reshape(-1).float(), b[name].reshape(-1).float()), name


def pictures(image: int) -> Any:
    return torch.randn(3, 3, image, image, generator=torch.Generator().manual_seed(5))


def sentences(vocabulary: int, context: int) -> Any:
    """Ids of three sentences of different lengths; the largest id ends each, zeros follow."""
    ids = torch.zeros(3, context, dtype=torch.int64)
    for row, length in enumerate((3, 9, context - 1)):
        ids[row, :length] = torch.randint(1, vocabulary - 1, (length,), generator=torch.Generator().manual_seed(row))
        ids[row, length] = vocabulary - 1
    return ids


def open_clip_vectors(model: Any, image: int, context: int) -> tuple[Any, Any]:
    with torch.no_grad():
        return model.encode_image(pictures(image)), model.encode_text(sentences(512, context))


def hf_vectors(model: Any, image: int, context: int) -> tuple[Any, Any]:
    with torch.no_grad():
        found = model.get_image_features(pictures(image)), model.get_text_features(sentences(512, context))
    seen, said = (getattr(one, "pooler_output", one) for one in found)  # an object since transformers 5
    return seen, said


# ---- reading and writing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["hf clip", "hf clip gelu", "hf clip parts", "hf siglip"])
def test_hugging_face_there_and_back(made: Made, kind: str, tmp_path: Path) -> None:
    path, model = made(kind)
    checkpoint = open_checkpoint(path)
    assert checkpoint.layout == "huggingface"
    write_checkpoint(checkpoint, tmp_path / "out", "huggingface")
    again, report = type(model).from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(report[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    same(again.state_dict(), model.state_dict())
    image, context = model.config.vision_config.image_size, model.config.text_config.max_position_embeddings
    for a, b in zip(hf_vectors(again, image, context), hf_vectors(model, image, context), strict=True):
        assert torch.equal(a, b)
    assert open_checkpoint(tmp_path / "out").architecture == checkpoint.architecture


@pytest.mark.parametrize("kind", ["open_clip", "open_clip quick", "open_clip custom", "open_clip resnet"])
def test_open_clip_there_and_back(made: Made, kind: str, tmp_path: Path) -> None:
    path, model = made(kind)
    checkpoint = open_checkpoint(path)
    assert checkpoint.layout == "open_clip"
    write_checkpoint(checkpoint, tmp_path / "out", "open_clip")
    again = reference_open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    same(again.state_dict(), {name.removeprefix("text."): value for name, value in model.state_dict().items()})
    image = checkpoint.architecture.preprocessing.size
    for a, b in zip(open_clip_vectors(again, image, 77), open_clip_vectors(model, image, 77), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["openai plain.pt", "openai jit.pt", "openai resnet.pt"])
def test_openai_files(made: Made, kind: str, tmp_path: Path) -> None:
    path, model = made(kind)
    checkpoint = open_checkpoint(path)
    assert checkpoint.layout == "openai"
    assert all(value.dtype == np.float32 for value in checkpoint.load().values())
    write_checkpoint(checkpoint, tmp_path / "out", "open_clip")
    again = reference_open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    same(again.state_dict(), model.state_dict())
    image = checkpoint.architecture.preprocessing.size
    for a, b in zip(open_clip_vectors(again, image, 77), open_clip_vectors(model, image, 77), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", ["open_clip", "open_clip quick", "openai jit.pt"])
def test_open_clip_becomes_hugging_face(made: Made, kind: str, tmp_path: Path) -> None:
    path, model = made(kind)
    write_checkpoint(open_checkpoint(path), tmp_path / "out", "huggingface")
    other = transformers.CLIPModel.from_pretrained(tmp_path / "out").eval()
    for a, b in zip(hf_vectors(other, 32, 77), open_clip_vectors(model, 32, 77), strict=True):
        assert (a - b).abs().max() < 2e-5


def test_open_clip_siglip_becomes_hugging_face(made: Made, tmp_path: Path) -> None:
    path, model = made("open_clip siglip")
    write_checkpoint(open_checkpoint(path), tmp_path / "out", "huggingface")
    other = transformers.SiglipModel.from_pretrained(tmp_path / "out").eval()
    for a, b in zip(hf_vectors(other, 38, 64), open_clip_vectors(model, 38, 64), strict=True):
        assert (a - b).abs().max() < 2e-5


def test_hugging_face_becomes_open_clip(made: Made, tmp_path: Path) -> None:
    path, model = made("hf clip")
    write_checkpoint(open_checkpoint(path), tmp_path / "out", "open_clip")
    other = reference_open_clip.create_model(f"local-dir:{tmp_path / 'out'}").eval()
    for a, b in zip(open_clip_vectors(other, 32, 77), hf_vectors(model, 32, 77), strict=True):
        assert (a - b).abs().max() < 2e-5


def test_round_the_layouts_is_the_identity(made: Made, tmp_path: Path) -> None:
    first = at = open_checkpoint(made("openai jit.pt")[0])
    for step, layout in enumerate(("huggingface", "awase", "open_clip", "huggingface", "open_clip")):
        write_checkpoint(at, tmp_path / str(step), layout)  # type: ignore[arg-type]
        at = open_checkpoint(tmp_path / str(step))
    ours, theirs = first.load(), at.load()
    assert ours.keys() == theirs.keys()
    assert all(np.array_equal(ours[name], theirs[name]) for name in ours)


def test_siglip_names_of_open_clip_there_and_back(made: Made) -> None:
    path, model = made("open_clip siglip")
    checkpoint = open_checkpoint(path)
    listed = names.entries(checkpoint.architecture, open_clip.names_of(checkpoint.architecture, "text."))
    written = names.write(listed, checkpoint.load())
    expected = model.state_dict()
    assert {name: value.shape for name, value in written.items()} == {n: tuple(v.shape) for n, v in expected.items()}
    same({name: torch.from_numpy(value) for name, value in written.items()}, expected)


@pytest.mark.parametrize("old", [True, False])
def test_torch_files_old_and_new(tmp_path: Path, made: Made, old: bool) -> None:
    """Files of torch before 1.6, tensors that lie transposed, bfloat16, and a trainer's state beside the weights."""
    path, model = made("open_clip")
    state = {f"module.{name}": value for name, value in model.state_dict().items()}
    turned = "module.transformer.resblocks.0.mlp.c_fc.weight"
    state[turned] = state[turned].T.contiguous().T
    state["module.ln_final.bias"] = state["module.ln_final.bias"].bfloat16()
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.ones(3, 4))])
    content = {"epoch": 3, "name": "run", "state_dict": state, "optimizer": optimizer.state_dict()}
    shutil.copy(path / "open_clip_config.json", tmp_path)
    torch.save(content, tmp_path / "open_clip_pytorch_model.bin", _use_new_zipfile_serialization=not old)
    ours, theirs = open_checkpoint(tmp_path).load(), open_checkpoint(path).load()
    theirs["text.norm.bias"] = state["module.ln_final.bias"].float().numpy()
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)


def test_parameters_in_torch_files(tmp_path: Path, made: Made) -> None:
    path, model = made("open_clip")
    shutil.copy(path / "open_clip_config.json", tmp_path)
    torch.save(dict(model.named_parameters()), tmp_path / "open_clip_pytorch_model.bin")
    assert np.array_equal(open_checkpoint(tmp_path).load()["logit_scale"], model.logit_scale.detach().numpy())


def test_reading_needs_no_torch(made: Made) -> None:
    paths = [str(made(kind)[0]) for kind in ("hf clip", "open_clip custom", "openai jit.pt")]
    code = (
        "import sys; from awase.encoding.checkpoints import open_checkpoint\n"
        "for path in sys.argv[1:]: open_checkpoint(path).load()\n"
        "print([m for m in ('torch', 'transformers', 'open_clip', 'onnx', 'huggingface_hub') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_real_size_is_named(tmp_path: Path) -> None:
    """ViT-B/32's sizes are recognised from the configuration alone, without a weight being read."""
    sizes = {key: value for key, value in references.B32.items() if key != "layers"}
    references.tiny_open_clip(tmp_path, **sizes, layers=1, quick_gelu=True)
    architecture = open_checkpoint(tmp_path).architecture
    assert dataclasses.replace(architecture.image, layers=12) == dataclasses.replace(  # type: ignore[type-var]
        PUBLISHED["ViT-B-32"].image, activation="quick_gelu"
    )


def test_num_batches_tracked_may_be_missing(made: Made, tmp_path: Path) -> None:
    path, _ = made("open_clip resnet")
    shutil.copytree(path, tmp_path / "old")
    file = tmp_path / "old" / "open_clip_model.safetensors"
    kept = {name: t.read() for name, t in read_safetensors(file).items() if "num_batches_tracked" not in name}
    write_safetensors(file, kept)
    assert open_checkpoint(tmp_path / "old").load()["image.bn1.num_batches_tracked"] == 0


def test_weights_that_find_no_room_leave_no_file(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=r"m\.safetensors") as refused:
            write_safetensors(tmp_path / "m.safetensors", {"weight": np.zeros(4096, np.float32)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert refused.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())


def test_written_clip_tokenizer_is_clips(tmp_path: Path) -> None:
    references.tiny_hf_clip(tmp_path / "in", layers=1, text_layers=1)
    write_checkpoint(open_checkpoint(tmp_path / "in"), tmp_path / "out", "huggingface")
    tokenizer = transformers.CLIPTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer("a photo of a cat.")["input_ids"] == [49406, 320, 1125, 539, 320, 2368, 269, 49407]


@pytest.mark.parametrize("layout", ["huggingface", "open_clip", "awase", "memory"])
def test_checkpoints_can_be_pickled(made: Made, tmp_path: Path, layout: Any) -> None:
    checkpoint = open_checkpoint(made("hf clip")[0])
    if layout == "memory":
        original = in_memory(checkpoint.architecture, checkpoint.load())
    else:
        write_checkpoint(checkpoint, tmp_path / layout, layout)
        original = open_checkpoint(tmp_path / layout)
        assert len(pickle.dumps(original)) < 100_000  # where the weights lie, not what they are
    copy = pickle.loads(pickle.dumps(original))
    assert (copy.architecture, copy.fingerprint) == (original.architecture, original.fingerprint)
    same(*({name: torch.from_numpy(values) for name, values in one.load().items()} for one in (copy, original)))


def with_tokenizer(folder: Path, change: Callable[[dict[str, int], list[str]], None]) -> Path:
    """A Hugging Face CLIP whose vocabulary's files are OpenAI's but for a change."""
    references.tiny_hf_clip(folder / "plain", layers=1, text_layers=1)
    write_checkpoint(open_checkpoint(folder / "plain"), folder / "in", "huggingface")
    vocabulary = json.loads((folder / "in" / "vocab.json").read_text("utf-8"))
    merges = (folder / "in" / "merges.txt").read_text("utf-8").splitlines()
    change(vocabulary, merges)
    (folder / "in" / "vocab.json").write_text(json.dumps(vocabulary), "utf-8")
    (folder / "in" / "merges.txt").write_text("\n".join(merges) + "\n", "utf-8")
    return folder / "in"


def swap_two_words(vocabulary: dict[str, int], merges: list[str]) -> None:
    vocabulary["cat</w>"], vocabulary["dog</w>"] = vocabulary["dog</w>"], vocabulary["cat</w>"]


def forget_merges(vocabulary: dict[str, int], merges: list[str]) -> None:
    del merges[20_000:]


@pytest.mark.parametrize("change", [swap_two_words, forget_merges])
@pytest.mark.parametrize("one_file", [False, True])
def test_open_clip_cannot_hold_another_vocabulary(tmp_path: Path, change: Any, one_file: bool) -> None:
    folder = with_tokenizer(tmp_path, change)
    if one_file:
        _one_file(folder)
    with pytest.raises(CheckpointError, match="vocabulary of its own"):
        write_checkpoint(open_checkpoint(folder), tmp_path / "out", "open_clip")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("one_file", [False, True])
def test_open_clip_gives_the_same_ids_for_openais_vocabulary(tmp_path: Path, one_file: bool) -> None:
    folder, texts = with_tokenizer(tmp_path, lambda vocabulary, merges: None), ["a photo of a cat.", "naïve 猫 café"]
    if one_file:
        _one_file(folder)
    checkpoint = open_checkpoint(folder)
    write_checkpoint(checkpoint, tmp_path / "out", "open_clip")
    copy = open_checkpoint(tmp_path / "out")
    ids = open_tokenizer(checkpoint.architecture.text_rule, checkpoint.folder)(texts).ids
    assert open_tokenizer(copy.architecture.text_rule, copy.folder)(texts).ids == ids
    theirs = reference_open_clip.get_tokenizer(f"local-dir:{tmp_path / 'out'}")(texts)
    assert [[number for number in row if number] for row in theirs.tolist()] == ids


def _one_file(folder: Path) -> None:
    """vocab.json and merges.txt as one tokenizer.json, as transformers writes it now."""
    tokenizer = transformers.CLIPTokenizerFast.from_pretrained(folder)
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink()
    tokenizer.save_pretrained(folder)
    assert (folder / "tokenizer.json").exists()


def test_a_damaged_vocabulary_is_named(tmp_path: Path) -> None:
    folder = with_tokenizer(tmp_path, lambda vocabulary, merges: None)
    (folder / "vocab.json").write_text("[1, 2")
    with pytest.raises(CheckpointError, match=r"vocab\.json"):
        write_checkpoint(open_checkpoint(folder), tmp_path / "out", "open_clip")


# ---- configurations ------------------------------------------------------------------------------------------------


def open_clip_configurations() -> dict[str, Any]:
    folder = Path(reference_open_clip.__file__).parent / "model_configs"
    return {path.stem: json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))}


def test_every_open_clip_configuration_is_read_or_refused_by_name() -> None:
    """All models that OpenCLIP knows: read, or refused with the setting that awase's towers do not have."""
    read, refused = {}, {}
    for name, config in open_clip_configurations().items():
        try:
            read[name] = architecture_of(Settings(config, name), Settings({}, name), _siglip_stub(config), name)
        except CheckpointError as problem:
            refused[name] = str(problem)
    assert len(read) >= 120
    assert all(name in text for name, text in refused.items())
    for name in ("RN50", "RN50x64", "ViT-B-32", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"):
        published = PUBLISHED[name]
        image, text = read[name].image, read[name].text
        assert dataclasses.replace(image, **_activation(published.image)) == published.image, name
        assert dataclasses.replace(text, activation=published.text.activation) == published.text, name
    assert isinstance(read["ViTamin-B"].image, ExternalTower)
    assert read["xlm-roberta-base-ViT-B-32"].text.settings == (("pooler", "mean_pooler"), ("proj", "mlp"))
    assert read["xlm-roberta-base-ViT-B-32"].languages == ("en", "ja")


def _activation(tower: Any) -> dict[str, Any]:
    return {"activation": tower.activation} if isinstance(tower, VisionTransformer) else {}


SIGLIP_ROWS = {
    "base": "siglip-base-patch16-224",
    "large": "siglip-large-patch16-256",
    "so400m": "siglip-so400m-patch14-224",
    "giantopt": "siglip2-giant-opt-patch16-256",
}


def _siglip_stub(config: Any) -> dict[str, Any]:
    """Shapes of SigLIP's trunk, which the configuration only names."""
    match = SIGLIP_TRUNK.fullmatch(config["vision_cfg"].get("timm_model_name", ""))
    if match is None:
        return {}
    row = PUBLISHED[
        {
            "base": "siglip-base-patch16-224",
            "large": "siglip-large-patch16-256",
            "so400m": "siglip-so400m-patch14-224",
        }.get(match[1], "siglip2-giant-opt-patch16-256")
    ].image
    assert isinstance(row, VisionTransformer)
    row = dataclasses.replace(row, patch_size=int(match[2]))

    @dataclasses.dataclass
    class Shaped:
        shape: tuple[int, ...]

    weights: dict[str, Any] = {f"visual.trunk.blocks.{i}.norm1.weight": Shaped((row.width,)) for i in range(row.layers)}
    weights["visual.trunk.patch_embed.proj.weight"] = Shaped((row.width, 3, row.patch_size, row.patch_size))
    weights["visual.trunk.blocks.0.mlp.fc1.weight"] = Shaped((row.mlp_width, row.width))
    return weights | {"logit_bias": Shaped(())}


@pytest.mark.parametrize("name", ["RN50x16", "ViT-B-16", "ViT-L-14", "ViT-H-14", "ViT-g-14", "ViT-bigG-14"])
def test_written_open_clip_configuration_is_open_clips(name: str) -> None:
    theirs = open_clip_configurations()[name]
    ours = json.loads(json.dumps(configuration_of(PUBLISHED[name], name)["model_cfg"]))
    for part, cls in (("vision_cfg", reference_open_clip.CLIPVisionCfg), ("text_cfg", reference_open_clip.CLIPTextCfg)):
        a, b = (dataclasses.asdict(cls(**config[part])) for config in (ours, theirs))
        assert int(a.pop("mlp_ratio") * a["width"]) == int(b.pop("mlp_ratio") * b["width"])
        assert a == b
    assert ours["embed_dim"] == theirs["embed_dim"]


@pytest.mark.parametrize("name", ["ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP-384", "ViT-L-16-SigLIP2-384"])
def test_written_siglip_configuration_names_a_tower_of_timm(name: str) -> None:
    theirs = open_clip_configurations()[name]
    row = architecture_of(Settings(theirs, name), Settings({}, name), _siglip_stub(theirs), name)
    ours = configuration_of(row, name)["model_cfg"]
    assert ours["vision_cfg"]["timm_model_name"] == theirs["vision_cfg"]["timm_model_name"]
    for key in ("no_causal_mask", "proj_bias", "pool_type", "norm_kwargs", "tokenizer_kwargs", "context_length"):
        assert ours["text_cfg"][key] == theirs["text_cfg"][key]


def test_hugging_face_configurations_may_leave_out_defaults(tmp_path: Path) -> None:
    """google/siglip-base-patch16-224 says nothing but its type."""
    from awase.encoding.checkpoints import huggingface
    from awase.encoding.checkpoints.checkpoint import named

    config = {"model_type": "siglip", "text_config": {"model_type": "siglip_text_model"}, "vision_config": {}}
    siglip = huggingface._siglip(Settings(config, "config.json"), {"text_model.head.weight": None})  # type: ignore[dict-item]
    assert named(siglip).name == "siglip-base-patch16-224"
    assert named(huggingface._clip(Settings({"model_type": "clip"}, "config.json"))).name == "ViT-B-32"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({"size": 32, "crop_size": 32, "resample": 3}, {"resize": "shortest"}),
        (
            {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}, "resample": 2},
            {"filter": "bilinear"},
        ),
        ({"size": {"height": 32, "width": 32}, "do_center_crop": False}, {"resize": "squash"}),
        ({"do_normalize": False}, {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}),
        ({"image_processor": {"image_mean": [0.1, 0.2, 0.3]}}, {"mean": (0.1, 0.2, 0.3)}),
    ],
)
def test_processor_files(made: Made, tmp_path: Path, content: dict[str, Any], expected: dict[str, Any]) -> None:
    shutil.copytree(made("hf clip")[0], tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").unlink()
    name = "processor_config.json" if "image_processor" in content else "preprocessor_config.json"
    (tmp_path / "m" / name).write_text(json.dumps(content))
    row = open_checkpoint(tmp_path / "m").architecture.preprocessing
    assert (row.size, row.rgb_first, row.crop) == (32, True, "floor")
    assert {key: getattr(row, key) for key in expected} == expected


@pytest.mark.parametrize(
    "content",
    [
        {"size": {"shortest_edge": 48}, "crop_size": 48},
        {"size": {"shortest_edge": 36}, "crop_size": 32},
        {"size": {"height": 32, "width": 16}},
        {"resample": 0},
        {"do_rescale": False},
        {"image_std": [0, 1, 1]},
        {"image_mean": "grey"},
    ],
)
def test_preparations_that_awase_lacks_are_refused(made: Made, tmp_path: Path, content: dict[str, Any]) -> None:
    shutil.copytree(made("hf clip")[0], tmp_path / "m")
    (tmp_path / "m" / "preprocessor_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"preprocessor_config\.json"):
        open_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("siglip2", "NaFlex"),
        ("clip_text_model", "one tower only"),
        ("siglip_vision_model", "one tower"),
        ("bert", "clip"),
    ],
)
def test_other_models_of_hugging_face_are_refused(tmp_path: Path, kind: str, words: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path)


# ---- towers of other libraries -------------------------------------------------------------------------------------


def test_a_tower_of_timm_keeps_its_names(tmp_path: Path) -> None:
    pytest.importorskip("timm")
    from safetensors.torch import save_file

    config = {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {"timm_model_name": "test_vit", "timm_pool": "token", "timm_proj": "linear", "image_size": 160},
        "text_cfg": {"context_length": 16, "vocab_size": 99, "width": 32, "heads": 2, "layers": 1},
    }
    model = reference_open_clip.CustomTextCLIP(**{k: v for k, v in config.items() if k != "custom_text"})
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    checkpoint = open_checkpoint(tmp_path)
    tower = checkpoint.architecture.image
    assert isinstance(tower, ExternalTower)
    assert (tower.model, dict(tower.settings)["pool"], tower.image_size) == ("test_vit", "token", 160)
    tensors = checkpoint.load()
    expected = {f"image.{n.removeprefix('visual.')}" for n in model.state_dict() if n.startswith("visual.")}
    assert {name for name in tensors if name.startswith("image.")} == expected
    assert np.array_equal(tensors["image.head.proj.weight"], model.visual.head.proj.weight.detach().numpy())
    write_checkpoint(checkpoint, tmp_path / "own", "awase")
    again = open_checkpoint(tmp_path / "own")
    assert again.architecture == checkpoint.architecture
    assert all(np.array_equal(value, tensors[name]) for name, value in again.load().items())
    with pytest.raises(CheckpointError, match="awase"):
        write_checkpoint(checkpoint, tmp_path / "other", "open_clip")


# ---- awase's own layout --------------------------------------------------------------------------------------------


def test_own_layout_there_and_back(made: Made, tmp_path: Path) -> None:
    for kind in ("open_clip resnet", "hf siglip"):
        checkpoint = open_checkpoint(made(kind)[0])
        write_checkpoint(checkpoint, tmp_path / kind, "awase")
        again = open_checkpoint(tmp_path / kind)
        assert (again.layout, again.architecture) == ("awase", checkpoint.architecture)
        ours, theirs = checkpoint.load(), again.load()
        assert all(np.array_equal(ours[name], theirs[name]) and ours[name].shape == theirs[name].shape for name in ours)


def test_own_layout_int8_and_half(made: Made, tmp_path: Path) -> None:
    checkpoint = open_checkpoint(made("open_clip")[0])
    write_checkpoint(checkpoint, tmp_path / "m", "awase")
    tensors, name = checkpoint.load(), "text.tokens.weight"
    scale = np.abs(tensors[name]).max(1) / 127
    stored = {other: value.astype(np.float16) for other, value in tensors.items()}
    stored[name] = np.round(tensors[name] / scale[:, None]).astype(np.int8)
    write_safetensors(tmp_path / "m" / "model.safetensors", stored | {f"{name}.scale": scale})
    read = open_checkpoint(tmp_path / "m").load()
    assert read.keys() == tensors.keys()
    assert np.array_equal(read[name], stored[name] * scale[:, None])
    assert np.abs(read[name] - tensors[name]).max() <= scale.max() / 2 + 1e-6
    assert np.array_equal(read["image.norm.bias"], tensors["image.norm.bias"].astype(np.float16).astype(np.float32))
    write_safetensors(tmp_path / "m" / "model.safetensors", stored)
    with pytest.raises(CheckpointError, match=r"int8 and needs text\.tokens\.weight\.scale"):
        open_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"format": 2}, "format 2"),
        ({"dimension": "large"}, "dimension"),
        ({"dimension": -1}, "dimension"),
        ({"scoring": "guess"}, "scoring"),
        ({"image": {"kind": "Oracle"}}, "Oracle"),
        ({"text": None}, "config"),
    ],
)
def test_own_configurations_changed_by_hand(made: Made, tmp_path: Path, change: dict[str, Any], words: str) -> None:
    write_checkpoint(open_checkpoint(made("open_clip")[0]), tmp_path / "m", "awase")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path / "m")


def test_absurd_sizes_are_refused_at_once(made: Made, tmp_path: Path) -> None:
    write_checkpoint(open_checkpoint(made("open_clip")[0]), tmp_path / "m", "awase")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["text"]["layers"] = 4_000_000
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="4000000 layers"):
        open_checkpoint(tmp_path / "m")
    config["preprocessing"]["size"] = 0
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="pictures of 0 pixels"):
        open_checkpoint(tmp_path / "m")
    config["preprocessing"] |= {"size": 32, "enlarge": -1.0}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"enlarged -1\.0 times"):
        open_checkpoint(tmp_path / "m")


def test_heads_must_divide_the_width(made: Made, tmp_path: Path) -> None:
    for side in ("vision", "text"):
        shutil.copytree(made("hf clip")[0], tmp_path / side)
        config = json.loads((tmp_path / side / "config.json").read_text())
        config[f"{side}_config"]["num_attention_heads"] = 5
        (tmp_path / side / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match="5 heads in a tower"):
            open_checkpoint(tmp_path / side)
    write_checkpoint(open_checkpoint(made("hf clip")[0]), tmp_path / "m", "awase")
    for heads in (0, 5):
        config = json.loads((tmp_path / "m" / "config.json").read_text())
        config["text"]["heads"] = heads
        (tmp_path / "m" / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=f"{heads} heads in a tower"):
            open_checkpoint(tmp_path / "m")


# ---- what does not fit ---------------------------------------------------------------------------------------------


def _changed(made: Made, tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None]) -> Path:
    folder = tmp_path / "m"
    shutil.copytree(made("hf clip")[0], folder)
    tensors = {name: tensor.read() for name, tensor in read_safetensors(folder / "model.safetensors").items()}
    change(tensors)
    write_safetensors(folder / "model.safetensors", tensors)
    return folder


def test_missing_left_over_and_misshapen_tensors_are_named(made: Made, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if "text_model.encoder.layers.1.mlp" in name]:
            tensors[f"my.{name}"] = tensors.pop(name)
        tensors["visual_projection.weight"] = np.zeros((41, 64), np.float32)

    with pytest.raises(TensorMismatch) as caught:
        open_checkpoint(_changed(made, tmp_path, change))
    message = str(caught.value)
    assert "4 missing (text_model.encoder.layers.1.mlp.fc1" in message
    assert "4 left over (my.text_model" in message
    assert "visual_projection.weight (41, 64), expected (40, 64)" in message
    assert "looks like ViT-64x2-8-32" in message


def test_the_first_five_names_are_listed(made: Made, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        for name in [name for name in tensors if name.startswith("vision_model")]:
            del tensors[name]

    with pytest.raises(TensorMismatch) as caught:
        open_checkpoint(_changed(made, tmp_path, change))
    assert str(caught.value).count("vision_model.") == 5
    assert ", ...)" in str(caught.value)


def test_position_ids_are_ignored(made: Made, tmp_path: Path) -> None:
    def change(tensors: dict[str, np.ndarray]) -> None:
        tensors["text_model.embeddings.position_ids"] = np.arange(77)[None]

    assert (
        open_checkpoint(_changed(made, tmp_path, change)).load().keys()
        == open_checkpoint(made("hf clip")[0]).load().keys()
    )


def test_in_memory_checks_too(made: Made) -> None:
    checkpoint = open_checkpoint(made("open_clip")[0])
    tensors = checkpoint.load()
    held = in_memory(checkpoint.architecture, tensors)
    assert held.fingerprint == in_memory(checkpoint.architecture, dict(reversed(tensors.items()))).fingerprint
    tensors["logit_scale"] = tensors["logit_scale"] + 1
    assert in_memory(checkpoint.architecture, tensors).fingerprint != held.fingerprint
    del tensors["logit_scale"]
    with pytest.raises(TensorMismatch, match="1 missing"):
        in_memory(checkpoint.architecture, tensors)


def test_openai_files_of_another_kind(tmp_path: Path) -> None:
    torch.save({"fc.weight": torch.ones(2, 2), "fc.bias": torch.ones(2)}, tmp_path / "resnet.pt")
    with pytest.raises(TensorMismatch, match=r"fc\.bias, fc\.weight"):
        open_checkpoint(tmp_path / "resnet.pt")


def test_open_clip_widths_need_a_configuration(made: Made, tmp_path: Path) -> None:
    references.tiny_open_clip(tmp_path / "m", width=1280, heads=16, layers=1, text_width=64, text_heads=1, **SMALL)
    shutil.move(tmp_path / "m" / "open_clip_model.safetensors", tmp_path / "alone.safetensors")
    with pytest.raises(CheckpointError, match="width 1280"):
        open_checkpoint(tmp_path / "alone.safetensors")


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ([], "holds nothing"),
        (["readme.md", "weights.h5"], "readme.md, weights.h5"),
        (["config.json"], "model_type|type ''"),
        (["open_clip_config.json"], "embed_dim|no weights"),
    ],
)
def test_folders_without_a_checkpoint(tmp_path: Path, files: list[str], words: str) -> None:
    for name in files:
        (tmp_path / name).write_text("{}")
    with pytest.raises(CheckpointError, match=words):
        open_checkpoint(tmp_path)


def test_no_such_place(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a file"):
        open_checkpoint(tmp_path / "nothing")


def test_a_file_beside_its_configuration(made: Made) -> None:
    with pytest.raises(CheckpointError, match="open its folder"):
        open_checkpoint(made("open_clip custom")[0] / "open_clip_pytorch_model.bin")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("vision_cfg", "no_ln_pre", True),
        ("vision_cfg", "pool_type", "avg"),
        ("vision_cfg", "layers", 0),
        ("vision_cfg", "image_size", [32, 64]),
        ("vision_cfg", "width", "wide"),
        ("text_cfg", "qk_norm", True),
        ("text_cfg", "pool_type", "first"),
        ("text_cfg", "embed_cls", True),
    ],
)
def test_open_clip_settings_that_awase_lacks(made: Made, tmp_path: Path, section: str, key: str, value: Any) -> None:
    shutil.copytree(made("open_clip")[0], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "open_clip_config.json").read_text())
    config["model_cfg"][section][key] = value
    (tmp_path / "m" / "open_clip_config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=f"{section}.*{key}"):
        open_checkpoint(tmp_path / "m")


@pytest.mark.parametrize(("kind", "layout"), [("open_clip resnet", "huggingface"), ("hf siglip", "open_clip")])
def test_layouts_without_such_a_tower(made: Made, tmp_path: Path, kind: str, layout: Any) -> None:
    with pytest.raises(CheckpointError, match="awase"):
        write_checkpoint(open_checkpoint(made(kind)[0]), tmp_path / "out", layout)
    assert list(tmp_path.iterdir()) == []


# ---- writing is all or nothing -------------------------------------------------------------------------------------


def test_a_broken_load_leaves_nothing(made: Made, tmp_path: Path) -> None:
    def broken() -> dict[str, np.ndarray]:
        raise MemoryError

    checkpoint = dataclasses.replace(open_checkpoint(made("open_clip")[0]), load=broken)
    with pytest.raises(MemoryError):
        write_checkpoint(checkpoint, tmp_path / "out", "awase")
    assert list(tmp_path.iterdir()) == []


def test_written_files_are_as_readable_as_any(made: Made, tmp_path: Path) -> None:
    write_checkpoint(open_checkpoint(made("open_clip")[0]), tmp_path / "out", "awase")
    assert len({path.stat().st_mode for path in (tmp_path / "out").iterdir()}) == 1


def test_a_folder_with_content_is_never_written_over(made: Made, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("three years")
    with pytest.raises(UsageError, match="not empty"):
        write_checkpoint(open_checkpoint(made("open_clip")[0]), tmp_path, "awase")
    with pytest.raises(UsageError, match="layout"):
        write_checkpoint(open_checkpoint(made("open_clip")[0]), tmp_path / "new", "onnx")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


# ---- fingerprints --------------------------------------------------------------------------------------------------


def test_a_changed_file_is_noticed(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(made("open_clip")[0], folder)
    first = open_checkpoint(folder).fingerprint
    shutil.move(folder, tmp_path / "elsewhere")
    assert open_checkpoint(tmp_path / "elsewhere").fingerprint == first
    file = tmp_path / "elsewhere" / "open_clip_model.safetensors"
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert open_checkpoint(tmp_path / "elsewhere").fingerprint != first


def test_settings_take_part_in_the_fingerprint(made: Made, tmp_path: Path) -> None:
    shutil.copytree(made("open_clip")[0], tmp_path / "m")
    config = json.loads((tmp_path / "m" / "open_clip_config.json").read_text())
    config["model_cfg"]["quick_gelu"] = True
    (tmp_path / "m" / "open_clip_config.json").write_text(json.dumps(config))
    assert open_checkpoint(tmp_path / "m").fingerprint != open_checkpoint(made("open_clip")[0]).fingerprint


def test_a_large_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "weights"
    file.write_bytes(b"abc")
    digest = fingerprint_of(file)
    assert not (tmp_path / "cache").exists(), "a file written this second may change within the clock's tick"
    monkeypatch.setattr("time.time_ns", lambda: file.stat().st_mtime_ns + 10**10)
    assert fingerprint_of(file) == digest
    (memory,) = (cache_folder() / "fingerprints").iterdir()
    memory.write_text("f" * 64)
    assert fingerprint_of(file) == "f" * 64, "the memory is what answers"
    memory.write_text("nonsense")
    assert fingerprint_of(file) == digest


# ---- the hub -------------------------------------------------------------------------------------------------------


def test_the_hub_without_a_network() -> None:
    for name in ("openai/clip-vit-base-patch32", "hf-hub:laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "ViT-B/32"):
        with pytest.raises(CheckpointError, match="network"):
            open_checkpoint(name)


def hub_snapshot(origin: Path, cache: Path, repository: str) -> Path:
    """The origin's files as the hub's cache keeps them: links into a folder of blobs."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / ("0" * 40)
    for folder in (home / "blobs", home / "refs", snapshot):
        folder.mkdir(parents=True)
    (home / "refs" / "main").write_text("0" * 40)
    for number, file in enumerate(sorted(origin.iterdir())):
        shutil.copy(file, home / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    return snapshot


def test_a_snapshot_of_the_hub_is_read_through_its_links(made: Made, tmp_path: Path) -> None:
    snapshot = hub_snapshot(made("hf clip")[0], tmp_path, "org/tiny")
    assert open_checkpoint(snapshot).layout == "huggingface"


def test_a_name_is_found_in_the_hubs_cache(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_snapshot(made("hf clip parts")[0], tmp_path, "org/tiny")
    constants = pytest.importorskip("huggingface_hub").constants
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub._snapshot_download.constants.HF_HUB_CACHE", str(tmp_path))
    checkpoint = open_checkpoint("org/tiny")
    assert isinstance(checkpoint, Checkpoint)
    assert checkpoint.source == "org/tiny"
    assert checkpoint.folder is not None
    assert checkpoint.folder.name == "0" * 40
