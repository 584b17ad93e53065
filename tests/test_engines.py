"""Every engine gives what torch in float32 gives, says what it runs on, and refuses what it cannot."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import pickle
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import awase
from awase.encoding import caches, engines
from awase.encoding.caches import cache_folder
from awase.encoding.checkpoints import open_checkpoint, write_checkpoint
from awase.encoding.checkpoints.checkpoint import Checkpoint, in_memory
from awase.encoding.engines import (
    Machine,
    agreement,
    graph_files,
    machine,
    on_onnxruntime,
    open_engine,
    refuse_meaningless,
)
from awase.encoding.families import ExternalTower
from awase.encoding.published import clip_vit
from awase.errors import CheckpointError, EngineError, MissingExtra, UsageError

torch = pytest.importorskip("torch")

from awase.encoding.towers import Towers, initialise  # noqa: E402
from test_towers import OUTPUTS, TINY, pictures, sentences, tiny  # noqa: E402

bf16_here = pytest.mark.skipif(not machine().computes_bf16, reason="no bf16 in this processor")


def checkpoint_of(name: str) -> Checkpoint:
    return in_memory(TINY[name], {key: value.numpy() for key, value in tiny(name).state_dict().items()})


def inputs_of(name: str, count: int = 5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ids, ends = sentences(TINY[name], count)
    return pictures(TINY[name], count).numpy(), (ids % TINY[name].text.vocabulary).numpy(), ends.numpy()


def engine_or_skip(checkpoint: Checkpoint, name: str, precision: str = "fp32") -> Any:
    try:
        return open_engine(checkpoint, name, precision)
    except MissingExtra:
        pytest.skip(f"{name} is not installed")


@pytest.mark.parametrize("name", TINY)
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_engines_equal_torch(engine: str, name: str) -> None:
    checkpoint, (pixels, ids, ends) = checkpoint_of(name), inputs_of(name)
    reference, tested = open_engine(checkpoint, "torch:cpu"), engine_or_skip(checkpoint, engine)
    expected = reference.images(pixels, OUTPUTS)
    for outputs in (OUTPUTS, ("vectors",), ("features", "vectors"), ("patches",)):
        found = tested.images(pixels, outputs)
        assert list(found) == list(outputs)
        for output, values in found.items():
            assert values.dtype == np.float32
            assert values.flags.c_contiguous
            np.testing.assert_allclose(values, expected[output], atol=1e-4 * np.abs(expected[output]).max())
    np.testing.assert_allclose(tested.texts(ids, ends), reference.texts(ids, ends), atol=1e-4)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch:cpu"])
def test_results_are_the_callers_to_keep(engine: str) -> None:
    pixels, ids, ends = inputs_of("clip")
    tested = engine_or_skip(checkpoint_of("clip"), engine)
    first, words = tested.images(pixels)["vectors"], tested.texts(ids, ends)
    before, words_before = first.copy(), words.copy()
    tested.images(pixels[::-1].copy())
    tested.texts(ids[::-1].copy(), ends[::-1].copy())
    assert np.array_equal(first, before)
    assert np.array_equal(words, words_before)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch:cpu"])
def test_shared_prefixes(engine: str) -> None:
    tested = engine_or_skip(checkpoint_of("clip"), engine)
    mask = np.zeros((1, 5, 5), bool)
    for node, parent in enumerate([0, 0, 1, 1, 3]):  # [5 6 7] and [5 6 8 9]
        mask[0, node] = mask[0, parent]
        mask[0, node, node] = True
    packed = tested.packed_texts(
        np.array([[5, 6, 7, 8, 9]]), np.array([[0, 1, 2, 2, 3]]), mask, np.array([0, 0]), np.array([2, 4])
    )
    plain = tested.texts(np.array([[5, 6, 7, 0], [5, 6, 8, 9]]), np.array([2, 3]))
    np.testing.assert_allclose(packed, plain, atol=1e-5)
    with pytest.raises(EngineError, match="causal"):
        engine_or_skip(checkpoint_of("siglip"), engine).packed_texts(*[np.zeros((1, 1), np.int64)] * 5)


@pytest.mark.parametrize("name", TINY)
def test_a_session_opened_for_speed_gives_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first runs are on weights as they lie on disk; the session is opened anew once it has proved to be used."""
    pixels, ids, ends = inputs_of(name, 2)
    tested = open_engine(checkpoint_of(name))
    first, words = tested.images(pixels)["vectors"], tested.texts(ids, ends)
    monkeypatch.setattr(on_onnxruntime, "PATIENCE", 0)
    for _ in range(2):
        np.testing.assert_allclose(tested.images(pixels)["vectors"], first, atol=1e-5)
        np.testing.assert_allclose(tested.texts(ids, ends), words, atol=1e-5)


def test_one_engine_many_threads() -> None:
    pixels, ids, ends = inputs_of("clip", 8)
    tested = open_engine(checkpoint_of("clip"))
    expected, words = tested.images(pixels)["vectors"], tested.texts(ids, ends)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda i: tested.images(pixels[i : i + 1])["vectors"][0] - expected[i], range(8)):
            assert np.abs(found).max() < 1e-5
        for found in pool.map(lambda i: tested.texts(ids[i : i + 1], ends[i : i + 1])[0] - words[i], range(8)):
            assert np.abs(found).max() < 1e-5


# ---- reduced precision -------------------------------------------------------------------------------------------


def mid_size() -> Checkpoint:
    architecture = clip_vit("mid", 256, (64, 8, 384, 6, 6, 1536), (256, 4, 4))
    towers = initialise(Towers(architecture), torch.Generator().manual_seed(0))
    return in_memory(architecture, {key: value.detach().numpy() for key, value in towers.state_dict().items()})


@pytest.mark.parametrize(
    ("engine", "precision"),
    [
        ("onnxruntime", "int8"),
        pytest.param("openvino", "bf16", marks=bf16_here),
        pytest.param("torch:cpu", "bf16", marks=bf16_here),
    ],
)
def test_reduced_precision_agrees(engine: str, precision: str) -> None:
    checkpoint = mid_size()
    reference, tested = open_engine(checkpoint), engine_or_skip(checkpoint, engine, precision)
    assert tested.precision == precision
    side = checkpoint.architecture.preprocessing.size
    pixels = np.random.default_rng(0).integers(0, 256, (12, side, side, 3), dtype=np.uint8)
    ids = np.random.default_rng(0).integers(1, 40_000, (12, 20))
    ends = np.full(12, 19)
    exact, quick = reference.images(pixels)["vectors"], tested.images(pixels)["vectors"]
    assert agreement(quick, exact).minimum >= 0.99
    assert agreement(quick, exact).mean < 1  # it did compute in less
    assert agreement(tested.texts(ids, ends), reference.texts(ids, ends)).minimum >= 0.99


def test_processors_without_vnni_take_seven_bits(monkeypatch: pytest.MonkeyPatch, empty_cache: Path) -> None:
    old = Machine("an older processor", "x86_64", 1, frozenset({"avx2"}))
    monkeypatch.setattr(on_onnxruntime, "machine", lambda: old)
    checkpoint, (pixels, _, _) = checkpoint_of("clip"), inputs_of("clip")
    found = open_engine(checkpoint, precision="int8").images(pixels)["vectors"]
    assert agreement(found, open_engine(checkpoint, "torch:cpu").images(pixels)["vectors"]).minimum >= 0.99
    assert [folder.name.split("-")[1] for folder in (empty_cache / "graphs").glob("*/*")] == ["int7"]


@bf16_here
def test_a_model_compiled_for_one_precision_is_not_taken_for_another() -> None:
    """OpenVINO's own cache does not tell them apart; awase's folders do."""
    checkpoint, (pixels, _, _) = checkpoint_of("quick"), inputs_of("quick")
    exact = engine_or_skip(checkpoint, "openvino", "fp32").images(pixels)["vectors"]
    quick = engine_or_skip(checkpoint, "openvino", "bf16").images(pixels)["vectors"]
    assert agreement(quick, exact).minimum >= 0.99


def test_agreement_of_what_is_equal_and_what_is_not() -> None:
    vectors = np.random.default_rng(0).standard_normal((20, 8)).astype(np.float32) + 5
    same = agreement(3 * vectors, vectors)
    assert (same.minimum, same.centred_minimum, same.count) == (pytest.approx(1), pytest.approx(1, abs=1e-4), 20)
    shuffled = agreement(vectors[::-1], vectors)
    assert shuffled.mean > 0.9  # they share a cone, so the plain cosine flatters
    assert shuffled.centred_mean < 0.5
    assert "centred" in str(shuffled)


# ---- the cache -----------------------------------------------------------------------------------------------------


def untouchable(checkpoint: Checkpoint) -> Checkpoint:
    def load() -> dict[str, np.ndarray]:
        raise AssertionError("the checkpoint was opened although its graphs are in the cache")

    return dataclasses.replace(checkpoint, load=load)


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_a_warm_start_opens_no_checkpoint(empty_cache: Path) -> None:
    checkpoint, (pixels, ids, ends) = checkpoint_of("clip"), inputs_of("clip")
    cold = open_engine(checkpoint)
    vectors, words = cold.images(pixels)["vectors"], cold.texts(ids, ends)
    warm = open_engine(untouchable(checkpoint))
    assert np.array_equal(warm.images(pixels)["vectors"], vectors)
    assert np.array_equal(warm.texts(ids, ends), words)


def test_text_alone_builds_no_image_tower(empty_cache: Path) -> None:
    _, ids, ends = inputs_of("clip")
    checkpoint = checkpoint_of("clip")
    open_engine(checkpoint).texts(ids, ends)
    assert [folder.name.partition("-")[0] for folder in (empty_cache / "graphs").glob("*/*")] == ["text"]


def test_other_settings_over_the_same_weights_are_another_graph(empty_cache: Path) -> None:
    checkpoint, (pixels, _, _) = checkpoint_of("clip"), inputs_of("clip")
    changed = dataclasses.replace(TINY["clip"], image=dataclasses.replace(TINY["clip"].image, activation="quick_gelu"))
    other = in_memory(changed, checkpoint.load())
    difference = open_engine(checkpoint).images(pixels)["vectors"] - open_engine(other).images(pixels)["vectors"]
    assert np.abs(difference).max() > 1e-3


def test_a_damaged_cache_is_made_again(empty_cache: Path) -> None:
    checkpoint, (pixels, _, _) = checkpoint_of("clip"), inputs_of("clip")
    expected = open_engine(checkpoint).images(pixels)["vectors"]
    for file in (empty_cache / "graphs").glob("*/*/*"):
        file.write_bytes(b"")
    assert np.array_equal(open_engine(checkpoint).images(pixels)["vectors"], expected)


def test_what_another_process_has_just_made_is_taken(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be reading it already."""
    build, made = graph_files._graph, list[Path]()

    def overtaken(*which: Any) -> Any:
        if not made:
            made.append(empty_cache)
            made[0] = graph_files.graph_folder(*which)
            (made[0] / "its own").touch()
        return build(*which)

    monkeypatch.setattr(graph_files, "_graph", overtaken)
    assert graph_files.graph_folder(checkpoint_of("clip"), "text", "fp32") == made[0]
    assert (made[0] / "its own").exists()


def zeros(content: bytes) -> bytes:
    return bytes(len(content))


def noise(content: bytes) -> bytes:
    return np.random.default_rng(0).bytes(len(content))


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


def half_zeros(content: bytes) -> bytes:
    return cut(content) + bytes(len(content) - len(content) // 2)


@pytest.mark.parametrize("damage", [zeros, noise, cut, half_zeros])
@pytest.mark.parametrize("file", ["weights.bin", "pooled.onnx", "checksums.json"])
@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_damage_that_still_opens_is_noticed(
    empty_cache: Path, engine: str, file: str, damage: Callable[[bytes], bytes]
) -> None:
    """Weights of zeros or noise give vectors like any others; nothing but a comparison tells."""
    checkpoint, (pixels, _, _) = checkpoint_of("clip"), inputs_of("clip")
    expected = engine_or_skip(checkpoint, engine).images(pixels)["vectors"]
    (damaged,) = (empty_cache / "graphs").glob(f"*/*/{file}")
    damaged.write_bytes(damage(damaged.read_bytes()))
    loads = []

    def load() -> dict[str, np.ndarray]:
        loads.append(1)
        return checkpoint.load()

    counted = dataclasses.replace(checkpoint, load=load)
    for _ in range(2):
        assert np.array_equal(engine_or_skip(counted, engine).images(pixels)["vectors"], expected)
    assert len(loads) == 1  # built again once, and then trusted


def test_checksums_look_at_all_parts_of_a_large_file(tmp_path: Path) -> None:
    content = np.random.default_rng(0).bytes(5 * 2**20)
    (tmp_path / "weights.bin").write_bytes(content)
    caches.write_checksums(tmp_path)
    assert caches.is_intact(tmp_path)
    run = 2 * len(content) // caches.PAGES
    for start in (0, len(content) // 3, len(content) - run):
        (tmp_path / "weights.bin").write_bytes(content[:start] + bytes(run) + content[start + run :])
        assert not caches.is_intact(tmp_path)


def test_leftovers_of_killed_builds_are_removed(empty_cache: Path) -> None:
    old, fresh = (empty_cache / "graphs" / "abc" / f".text-fp32-v1.{name}" for name in ("old", "fresh"))
    for folder in (old, fresh):
        folder.mkdir(parents=True)
        (folder / "weights.bin").write_bytes(b"half of them")
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    checkpoint, (_, ids, ends) = checkpoint_of("clip"), inputs_of("clip")
    open_engine(checkpoint).texts(ids, ends)
    assert not old.exists()
    assert fresh.exists()  # another process may be at work on it


def test_no_room_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
    with pytest.raises(EngineError, match="AWASE_CACHE"):
        open_engine(checkpoint_of("clip")).images(inputs_of("clip")[0])


def test_a_cache_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    monkeypatch.setenv("AWASE_CACHE", "~/mine")
    assert cache_folder() == tmp_path / "mine"


@pytest.mark.skipif(sys.platform != "linux", reason="how Linux tells of home folders")
def test_a_user_without_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("HOME", "XDG_CACHE_HOME", "AWASE_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    assert cache_folder().is_dir()
    assert cache_folder() == cache_folder()
    pixels, _, _ = inputs_of("clip")
    assert open_engine(checkpoint_of("clip")).images(pixels)["vectors"].shape == (5, 40)


@pytest.mark.skipif(os.name == "nt", reason="permissions are not Windows'")
def test_a_cache_that_cannot_be_written_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AWASE_CACHE", str(tmp_path / "file" / "cache"))
    pixels, _, _ = inputs_of("clip")
    assert open_engine(checkpoint_of("clip")).images(pixels)["vectors"].shape == (5, 40)


def test_a_warm_start_imports_neither_onnx_nor_torch(tmp_path: Path, empty_cache: Path) -> None:
    checkpoint, (_, ids, ends) = checkpoint_of("clip"), inputs_of("clip")
    open_engine(checkpoint).texts(ids, ends)
    code = (
        "import sys, numpy as np, pickle\n"
        "from awase.encoding.checkpoints.checkpoint import Checkpoint\n"
        "from awase.encoding.engines import open_engine\n"
        "from awase.encoding.published import clip_vit\n"
        "a = clip_vit('tiny CLIP', 40, (32, 8, 64, 3, 4, 256), (48, 4, 3))\n"
        f"c = Checkpoint(a, {checkpoint.fingerprint!r}, 'memory', 'memory', None, dict)\n"
        "open_engine(c).texts(np.ones((1, 4), np.int64), np.array([3]))\n"
        "print(sorted({'onnx', 'torch', 'openvino'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---- what is damaged, what leaves the machine, what goes to other processes -----------------------------------------


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch:cpu"])
def test_tokens_that_the_tower_does_not_know(engine: str) -> None:
    tested = engine_or_skip(checkpoint_of("clip"), engine)
    beyond = np.array([[5, 1_000_000]])
    says = f"memory: its tokenizer gives token 1000000, .* 0 to {TINY['clip'].text.vocabulary - 1} only"
    with pytest.raises(CheckpointError, match=says):
        tested.texts(beyond, np.array([1]))
    with pytest.raises(CheckpointError, match=says):
        tested.packed_texts(
            beyond, np.array([[0, 1]]), np.tri(2, dtype=bool)[None], np.zeros(1, np.int64), np.ones(1, np.int64)
        )


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(engine: str, number: float) -> None:
    tensors = {name: values.copy() for name, values in checkpoint_of("clip").load().items()}
    tensors["image.positions"][0, 0] = number
    damaged = in_memory(TINY["clip"], tensors)
    pixels, ids, ends = inputs_of("clip")
    with pytest.raises(CheckpointError, match=r"image\.positions"):
        engine_or_skip(damaged, engine).images(pixels)
    assert np.isfinite(engine_or_skip(damaged, engine).texts(ids, ends)).all()  # the other tower is whole


@pytest.mark.parametrize("number", [0.0, np.nan, np.inf])
def test_meaningless_vectors_are_refused(number: float) -> None:
    vectors = np.ones((3, 4), np.float32)
    assert refuse_meaningless(vectors, "some model") is vectors
    vectors[1] = number
    with pytest.raises(EngineError, match="some model"):
        refuse_meaningless(vectors, "some model")


def test_no_vector_of_a_damaged_model_reaches_a_score() -> None:
    """torch reads weights as they are."""
    tensors = {name: values.copy() for name, values in checkpoint_of("clip").load().items()}
    tensors["image.positions"][0, 0] = np.nan
    tensors["text.projection.weight"][:] = 0
    clip = awase.load(in_memory(TINY["clip"], tensors), engine="torch:cpu")
    with pytest.raises(EngineError, match="memory on torch fp32, cpu"):
        clip.encode_images([np.zeros((32, 32, 3), np.uint8)])
    with pytest.raises(EngineError, match="memory on torch fp32, cpu"):
        clip.encode_texts(["a"])
    with pytest.raises(EngineError, match="memory on torch fp32, cpu"):
        clip.encode_texts([f"number {i}" for i in range(300)])  # whose beginnings are shared


def test_nothing_but_one_module_imports_onnx_runtime() -> None:
    root = Path(awase.__file__).parent
    importing = [p for p in root.rglob("*.py") if re.search(r"^\s*(import|from) onnxruntime", p.read_text(), re.M)]
    assert [path.name for path in importing] == ["runtime.py"]


@pytest.mark.skipif(sys.platform != "linux", reason="where Linux keeps a process's open files")
def test_classifying_tells_nobody(tmp_path: Path) -> None:
    """ONNX Runtime's wheels would lay out a queue in ~/.cache/Microsoft and post it from a thread of their own."""
    code = (
        "import os, sys, time, numpy as np, awase\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'): raise SystemExit(f'{event} {arguments}')\n"
        "sys.addaudithook(refuse)\n"
        "clip = awase.load()\n"
        "assert len(clip.classify(np.zeros((64, 64, 3), np.uint8), ['cat', '犬'])) == 2\n"
        "time.sleep(0.3)\n"
        "links = [f'/proc/self/fd/{name}' for name in os.listdir('/proc/self/fd')]\n"
        "opened = [os.readlink(link) for link in links if os.path.lexists(link)]\n"
        "print([name for name in opened if name.startswith('socket:') or 'Microsoft' in name])"
    )
    environment = {k: v for k, v in os.environ.items() if k not in ("ORT_DISABLE_TELEMETRY", "AWASE_CACHE")}
    environment |= {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == "[]"
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["awase"]
    assert [path.name for path in tmp_path.iterdir()] == ["cache"]


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "torch:cpu"])
def test_engines_can_be_pickled(engine: str, tmp_path: Path) -> None:
    write_checkpoint(checkpoint_of("clip"), tmp_path / "model", "awase")
    checkpoint, (pixels, ids, ends) = open_checkpoint(tmp_path / "model"), inputs_of("clip")
    original = engine_or_skip(checkpoint, engine)
    before = original.images(pixels)["vectors"], original.texts(ids, ends)
    pickled = pickle.dumps(original)
    assert len(pickled) < 100_000  # what to open, not the weights
    copy = pickle.loads(pickled)
    assert (copy.name, copy.device, copy.precision) == (original.name, original.device, original.precision)
    np.testing.assert_allclose(copy.images(pixels)["vectors"], before[0], atol=1e-6)
    np.testing.assert_allclose(copy.texts(ids, ends), before[1], atol=1e-6)


def test_a_clip_works_in_another_process() -> None:
    clip, words = awase.load(checkpoint_of("clip")), ["a cat", "a dog"]
    expected = clip.encode_texts(words)  # the graph is open and the vocabulary read, and neither can travel
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        np.testing.assert_allclose(pool.submit(clip.encode_texts, words).result(), expected, atol=1e-6)


# ---- choosing and refusing -----------------------------------------------------------------------------------------


def test_what_auto_chooses() -> None:
    checkpoint = checkpoint_of("clip")
    chosen = open_engine(checkpoint)
    assert (chosen.name, chosen.device, chosen.precision) == ("onnxruntime", "cpu", "fp32")
    assert open_engine(checkpoint, precision="int8").name == "onnxruntime"
    if machine().computes_bf16:
        assert engine_or_skip(checkpoint, "auto", "bf16").name == "openvino"
    else:
        with pytest.raises((EngineError, MissingExtra)):
            open_engine(checkpoint, precision="bf16")


@pytest.mark.parametrize("engine", ["tensorflow", "onnxruntime:cuda", "", "openvino:gpu"])
def test_unknown_engines(engine: str) -> None:
    with pytest.raises(UsageError, match="unknown"):
        open_engine(checkpoint_of("clip"), engine)


def test_unknown_precisions() -> None:
    with pytest.raises(UsageError, match="fp64"):
        open_engine(checkpoint_of("clip"), precision="fp64")


@pytest.mark.parametrize(
    ("name", "engine", "precision", "says"),
    [
        ("clip", "onnxruntime", "bf16", "bf16"),
        ("clip", "openvino", "int8", "int8"),
        ("clip", "torch:cpu", "fp16", "fp16"),
        ("clip", "torch:tpu", "fp32", "no device"),
        ("resnet", "onnxruntime", "int8", "convolutional"),
        ("bundled", "auto", "int8", "convolutional"),
    ],
)
def test_what_cannot_run_says_so_at_once(name: str, engine: str, precision: str, says: str) -> None:
    with pytest.raises(EngineError, match=says):
        open_engine(checkpoint_of(name), engine, precision)


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_towers_of_other_libraries_run_in_torch_only(engine: str) -> None:
    architecture = dataclasses.replace(TINY["clip"], image=ExternalTower("timm", "vit_tiny_patch16_224"))
    with pytest.raises(EngineError, match="torch"):
        open_engine(dataclasses.replace(checkpoint_of("clip"), architecture=architecture), engine)


def test_missing_packages_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = checkpoint_of("clip")  # while torch can still be imported
    for module in ("openvino", "torch", "awase.encoding.towers"):
        monkeypatch.setitem(sys.modules, module, None)
    for engine, extra in (("openvino", r"awase\[openvino\]"), ("torch", r"awase\[torch\]")):
        with pytest.raises(MissingExtra, match=extra):
            open_engine(checkpoint, engine)


def test_the_machine_is_described() -> None:
    assert machine().cores >= 1
    assert str(machine().cores) in engines.describe_machine()
    assert set(engines.available_engines()) == {"onnxruntime", "openvino", "torch"}
    assert "fp32" in engines.available_engines()["onnxruntime"]
