"""The ONNX graphs against the torch towers that they must equal, run by ONNX Runtime."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from awase.encoding.caches import is_intact
from awase.encoding.engines import onnx_runtime
from awase.encoding.graphs.builder import Graph, quantise
from awase.encoding.graphs.towers import image_graph, text_graph
from awase.encoding.published import clip_vit
from awase.errors import EngineError

torch = pytest.importorskip("torch")

from awase.encoding.checkpoints import open_checkpoint  # noqa: E402
from awase.encoding.towers import Towers, initialise, normalise  # noqa: E402
from test_towers import OUTPUTS, PEERS, REAL, TINY, pictures, sentences, tiny  # noqa: E402


def run(model: onnx.ModelProto | Path, inputs: dict[str, Any], outputs: Sequence[str] = ("vectors",)) -> list[Any]:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = onnx_runtime().InferenceSession(source, providers=["CPUExecutionProvider"])
    return session.run(list(outputs), {value.name: np.asarray(inputs[value.name]) for value in session.get_inputs()})


def agree(found: Any, expected: Any, tolerance: float = 1e-4) -> None:
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= tolerance * max(1.0, np.abs(expected).max())
    norms = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert ((found * expected).sum(-1) / norms).min() >= 0.99999


def tensors_of(towers: Towers) -> dict[str, np.ndarray]:
    return {key: value.numpy() for key, value in towers.state_dict().items()}


@pytest.mark.parametrize("name", TINY)
def test_image_graphs_equal_torch(name: str) -> None:
    towers, architecture = tiny(name), TINY[name]
    graph, pixels = image_graph(architecture, tensors_of(towers)), pictures(architecture, 5)
    with torch.no_grad():
        expected = towers.image(normalise(pixels, architecture.preprocessing), OUTPUTS)
    onnx.checker.check_model(graph.model(), full_check=True)
    for outputs in (OUTPUTS, ("vectors", "features"), ("patches",)):
        found = run(graph.model(outputs), {"pixels": pixels}, outputs)
        for output, values in zip(outputs, found, strict=True):
            assert values.dtype == np.float32
            agree(values, expected[output], 1e-5)


@pytest.mark.parametrize("name", TINY)
def test_text_graphs_equal_torch(name: str) -> None:
    towers, architecture = tiny(name), TINY[name]
    model = text_graph(architecture, tensors_of(towers)).model(("vectors",))
    onnx.checker.check_model(model, full_check=True)
    ids, ends = sentences(architecture, 4)
    ids %= architecture.text.vocabulary
    with torch.no_grad():
        expected = towers.text(ids, ends)
    agree(run(model, {"ids": ids, "ends": ends})[0], expected, 1e-5)
    if name != "siglip":  # whose sentences are never cut
        length = int(ends[:2].max()) + 1
        agree(run(model, {"ids": ids[:2, :length], "ends": ends[:2]})[0], expected[:2], 1e-5)


@pytest.mark.parametrize("name", TINY)
def test_a_batch_changes_nothing(name: str) -> None:
    tensors, pixels = tensors_of(tiny(name)), pictures(TINY[name], 64)
    model = image_graph(TINY[name], tensors).model(("vectors",))
    agree(run(model, {"pixels": pixels[9:10]})[0], run(model, {"pixels": pixels})[0][9:10], 1e-5)
    ids, ends = sentences(TINY[name], 64)
    model, ids = text_graph(TINY[name], tensors).model(("vectors",)), ids % TINY[name].text.vocabulary
    agree(run(model, {"ids": ids[9:10], "ends": ends[9:10]})[0], run(model, {"ids": ids, "ends": ends})[0][9:10], 1e-5)


@pytest.mark.parametrize("name", ["open_clip ViT", "transformers SigLIP", "open_clip ResNet"])
def test_from_file_to_graph_equals_the_reference(name: str, tmp_path: Path) -> None:
    compare_with_the_reference(PEERS[name], tmp_path / "model")


@pytest.mark.long
@pytest.mark.parametrize("name", REAL)
def test_equals_the_reference_at_real_sizes(name: str, tmp_path: Path) -> None:
    compare_with_the_reference(REAL[name], tmp_path / "model")


def compare_with_the_reference(make: Any, folder: Path) -> None:
    peer, checkpoint = make(folder), open_checkpoint(folder)
    architecture, tensors = checkpoint.architecture, checkpoint.load()
    pixels, (ids, ends) = pictures(architecture), sentences(architecture)
    with torch.no_grad():
        expected = peer.image(normalise(pixels, architecture.preprocessing))
        texts = peer.text(ids)
    names = list(expected)
    image_graph(architecture, tensors).save(folder / "image", {"model.onnx": names})
    for values, name in zip(run(folder / "image" / "model.onnx", {"pixels": pixels}, names), names, strict=True):
        agree(values, expected[name])
    text_graph(architecture, tensors).save(folder / "text", {"model.onnx": ("vectors",)})
    agree(run(folder / "text" / "model.onnx", {"ids": ids, "ends": ends})[0], texts)


def test_the_same_graph_twice_is_the_same_file(tmp_path: Path) -> None:
    tensors = tensors_of(tiny("clip"))
    for folder in ("a", "b"):
        image_graph(TINY["clip"], tensors).save(tmp_path / folder, {"m.onnx": OUTPUTS})
    for file in ("m.onnx", "weights.bin"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_pooled_graphs_leave_out_what_only_patches_need() -> None:
    graph = image_graph(TINY["clip"], tensors_of(tiny("clip")))
    pooled, dense = graph.model(("vectors", "features")), graph.model()
    assert len(pooled.graph.node) < len(dense.graph.node)
    assert [value.name for value in pooled.graph.output] == ["vectors", "features"]
    assert {weight.name for weight in pooled.graph.initializer} <= {weight.name for weight in dense.graph.initializer}


def test_saving_where_the_folder_is_already_there_keeps_it(tmp_path: Path) -> None:
    graph = text_graph(TINY["clip"], tensors_of(tiny("clip")))
    graph.save(tmp_path / "graph", {"text.onnx": ("vectors",)})
    before = (tmp_path / "graph" / "text.onnx").stat().st_mtime_ns
    graph.save(tmp_path / "graph", {"text.onnx": ("vectors",)})
    assert (tmp_path / "graph" / "text.onnx").stat().st_mtime_ns == before
    assert os.listdir(tmp_path) == ["graph"]  # nothing half-written is left


def test_shared_prefixes_equal_torch() -> None:
    towers = tiny("clip")
    model = text_graph(TINY["clip"], tensors_of(towers)).model(("packed",))
    mask = np.zeros((1, 5, 5), bool)
    for node, parent in enumerate([0, 0, 1, 1, 3]):  # [5 6 7] and [5 6 8 9]
        mask[0, node] = mask[0, parent]
        mask[0, node, node] = True
    inputs = {
        "ids": np.array([[5, 6, 7, 8, 9]]),
        "positions": np.array([[0, 1, 2, 2, 3]]),
        "mask": mask,
        "rows": np.array([0, 0]),
        "nodes": np.array([2, 4]),
    }
    with torch.no_grad():
        expected = towers.text(torch.tensor([[5, 6, 7, 0], [5, 6, 8, 9]]), torch.tensor([2, 3]))
    agree(run(model, inputs, ("packed",))[0], expected, 1e-5)


@pytest.mark.parametrize("name", ["siglip", "bundled"])
def test_only_causal_towers_share_prefixes(name: str) -> None:
    assert text_graph(TINY[name], tensors_of(tiny(name))).outputs == ["vectors"]


@pytest.mark.parametrize("name", ["resnet", "bundled"])
def test_convolutions_are_not_quantised(name: str) -> None:
    with pytest.raises(EngineError, match="fp32"):
        image_graph(TINY[name], tensors_of(tiny(name)), "int8")


@pytest.mark.parametrize(("bits", "largest"), [("int8", 127), ("int7", 63)])
def test_quantised_weights_are_within_half_a_step(bits: Any, largest: int) -> None:
    matrix = np.random.default_rng(0).standard_normal((50, 7)).astype(np.float32)
    matrix[:, 3] = 0  # a dead output has no scale of its own
    values, scale = quantise(matrix, bits)
    assert values.dtype == np.int8
    assert np.abs(values).max() == largest
    assert (np.abs(values * scale - matrix) <= scale / 2 * (1 + 1e-6)).all()


def test_int8_of_a_mid_size_tower_agrees() -> None:
    """Cosine at least 0.99 to float32; the first product, from pixels, stays exact."""
    architecture = clip_vit("mid", 256, (64, 8, 384, 6, 6, 1536), (256, 4, 4))
    towers = initialise(Towers(architecture), torch.Generator().manual_seed(0))
    tensors, pixels = tensors_of(towers), pictures(architecture, 8)
    (exact,) = run(image_graph(architecture, tensors).model(("vectors",)), {"pixels": pixels})
    (quick,) = run(image_graph(architecture, tensors, "int8").model(("vectors",)), {"pixels": pixels})
    cosines = (exact * quick).sum(1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(quick, axis=1)
    assert cosines.min() >= 0.99
    assert np.abs(exact - quick).max() > 0


def test_a_graph_is_written_like_torch() -> None:
    g = Graph("sum", {"t.layer.weight": np.eye(2, dtype=np.float32), "t.layer.bias": np.ones(2, np.float32)}, "t.")
    g.output("y", g.linear(g.input("x", onnx.TensorProto.FLOAT, ["B", 2]), "layer"), ["B", 2])
    assert run(g.model(), {"x": np.array([[1, 2]], np.float32)}, ["y"])[0].tolist() == [[2, 3]]


def test_graphs_need_no_torch() -> None:
    code = "import sys, awase.encoding.graphs.towers; assert 'torch' not in sys.modules and 'onnx' in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_real_weights_load_from_their_file(tmp_path: Path) -> None:
    """Large weights lie in weights.bin, at the start of a page each, and the towers read from them are the same."""
    towers = tiny("clip")
    image_graph(TINY["clip"], tensors_of(towers)).save(tmp_path / "image", {"model.onnx": OUTPUTS})
    model = onnx.load(tmp_path / "image" / "model.onnx", load_external_data=False)
    places = [int(item.value) for w in model.graph.initializer for item in w.external_data if item.key == "offset"]
    assert places
    assert all(place % 4096 == 0 for place in places)
    pixels = pictures(TINY["clip"])
    with torch.no_grad():
        expected = towers.image(normalise(pixels, TINY["clip"].preprocessing))["vectors"]
    agree(run(tmp_path / "image" / "model.onnx", {"pixels": pixels})[0], expected, 1e-5)


def test_a_saved_graph_says_what_its_files_are(tmp_path: Path) -> None:
    graph = image_graph(TINY["clip"], {key: value.numpy() for key, value in tiny("clip").state_dict().items()})
    graph.save(tmp_path / "graph", {"image.onnx": ("vectors",)})
    assert is_intact(tmp_path / "graph")
    (tmp_path / "graph" / "image.onnx").unlink()
    assert not is_intact(tmp_path / "graph")
