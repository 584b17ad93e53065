"""Adapters: put on a Clip, written, read again; and what a stranger may have done to the folder."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import awase
from awase import Adapter, CheckpointError, Clip, UsageError, read_adapter, write_adapter
from awase.adapter import Base, head_of_names
from awase.encoding.checkpoints import open_checkpoint
from awase.encoding.checkpoints.derived import Changes, LowRank
from awase.encoding.checkpoints.safetensors_file import read_safetensors, write_safetensors
from awase.encoding.heads import Cache, Head
from references import tiny_hf_clip

KEYS = ("cat", "dog", "car")
NAMES = {"en": ("a cat", "a dog", "a car"), "ja": ("猫", "犬", "車")}
TEMPLATES = ("a photo of {}.", "{}")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    folder = tmp_path_factory.mktemp("tiny") / "clip"
    tiny_hf_clip(folder)
    return awase.load(folder)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8))


def learned_head(clip: Clip, reads: str = "vectors", cache: bool = False) -> Head:
    chance = np.random.default_rng(3)
    features: int = clip.checkpoint.architecture.image.features  # type: ignore[union-attr]
    width = {"vectors": clip.dimension, "features": features, "both": features + clip.dimension}[reads]
    keys = clip.encode_images([Image.new("RGB", (32, 32), colour) for colour in ("red", "blue")])
    kept = Cache(keys, np.eye(3, dtype=np.float32)[:2], 1.0, 2.0) if cache else None
    weights = chance.standard_normal((width, 3)).astype(np.float32)
    power = 0.5 if reads == "features" else 1.0
    return Head(KEYS, NAMES, reads, weights, chance.standard_normal(3).astype(np.float32), 1.7, kept, power)  # type: ignore[arg-type]


def with_head(clip: Clip, **kind: Any) -> Adapter:
    return Adapter(
        Base.of(clip), learned_head(clip, **kind), keys=KEYS, names=NAMES, templates=TEMPLATES, record={"seed": 1}
    )


def with_changes(clip: Clip, image: bool = True) -> Adapter:
    chance, shapes = np.random.default_rng(4), clip.checkpoint.architecture.tensors()
    name = f"{'image' if image else 'text'}.blocks.0.mlp.up.weight"
    out, into = shapes[name]
    low = LowRank(
        chance.standard_normal((2, into)).astype(np.float32), chance.standard_normal((out, 2)).astype(np.float32), 0.5
    )
    tuned = {"text.norm.weight": chance.standard_normal(shapes["text.norm.weight"]).astype(np.float32)}
    return Adapter(Base.of(clip), None, Changes({}, {name: low}, tuned), KEYS, NAMES, TEMPLATES)


# ---- put on a Clip ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [{}, {"cache": True}, {"reads": "features"}, {"reads": "both"}])
def test_a_head_answers_where_no_labels_are_given(clip: Clip, picture: Image.Image, kind: dict[str, Any]) -> None:
    adapted = with_head(clip, **kind).on(clip)
    scores = adapted.classify(picture)
    assert adapted.head is not None
    (encoded,) = adapted.stream([picture], adapted.reads(None))
    assert encoded.outputs is not None
    expected = adapted.head.probabilities(encoded.outputs[adapted.head.reads][None])[0]
    assert {score.label: score.probability for score in scores} == pytest.approx(
        dict(zip(NAMES["en"], expected, strict=True))
    )
    assert [score.probability for score in scores] == sorted(expected, reverse=True)


def test_with_labels_an_adapted_clip_asks_in_words_as_ever(clip: Clip, picture: Image.Image) -> None:
    labels = ["a tree", "a house"]
    assert with_head(clip).on(clip).classify(picture, labels) == clip.classify(picture, labels)


def test_a_head_leaves_vectors_and_their_stamp_alone(clip: Clip) -> None:
    adapted = with_head(clip).on(clip)
    assert adapted.stamp() == clip.stamp()
    assert adapted.engine is clip.engine


def test_without_labels_and_head_there_is_nothing_to_ask(clip: Clip, picture: Image.Image) -> None:
    with pytest.raises(UsageError, match="no labels"):
        clip.classify(picture)
    with pytest.raises(UsageError, match="none_of_these"):
        with_head(clip).on(clip).classify(picture, none_of_these=True)


def test_zero_shot_as_a_head_gives_zero_shot_probabilities(clip: Clip, picture: Image.Image) -> None:
    head = head_of_names(clip, KEYS, NAMES, TEMPLATES)
    expected = {s.label: s.probability for s in clip.classify(picture, NAMES["en"], templates=TEMPLATES)}
    found = {s.label: s.probability for s in replace(clip, head=head).classify(picture)}
    assert found == pytest.approx(expected, abs=1e-6)


def test_classes_may_share_a_name(clip: Clip) -> None:
    head = head_of_names(clip, ("a", "b", "c"), {"en": ("cat", "cat", "dog")}, TEMPLATES)
    np.testing.assert_array_equal(head.weights[:, 0], head.weights[:, 1])


def test_changes_give_another_clip_with_its_own_fingerprint(clip: Clip, picture: Image.Image) -> None:
    adapter = with_changes(clip)
    adapted = adapter.on(clip)
    assert adapted.stamp()["fingerprint"] != clip.stamp()["fingerprint"]
    assert np.abs(adapted.encode_images([picture]) - clip.encode_images([picture])).max() > 1e-3
    assert adapted.head is not None  # made of the names by the changed text tower
    expected = head_of_names(replace(adapted, head=None), KEYS, NAMES, TEMPLATES)
    np.testing.assert_array_equal(adapted.head.weights, expected.weights)


def test_alpha_nought_is_the_base_and_one_is_what_was_learned(clip: Clip, picture: Image.Image) -> None:
    adapter = with_changes(clip)
    np.testing.assert_array_equal(adapter.on(clip, 0.0).encode_images([picture]), clip.encode_images([picture]))
    text = adapter.on(clip, 0.0).encode_texts(["a cat"])
    np.testing.assert_array_equal(text, clip.encode_texts(["a cat"]))
    half = adapter.on(clip, 0.5).encode_images([picture])
    assert np.abs(half - adapter.on(clip).encode_images([picture])).max() > 1e-4


@pytest.mark.parametrize("cache", [False, True])
def test_a_head_part_of_the_way_lies_between_zero_shot_and_what_was_learned(clip: Clip, cache: bool) -> None:
    adapter, rows = with_head(clip, cache=cache), clip.encode_images([Image.new("RGB", (32, 32), "green")])
    zero = head_of_names(clip, KEYS, NAMES, TEMPLATES).logits(rows)
    assert adapter.head is not None
    for alpha in (0.0, 0.25, 1.0):
        found = adapter.on(clip, alpha).head
        assert found is not None
        expected = (1 - alpha) * zero + alpha * adapter.head.logits(rows)
        np.testing.assert_allclose(found.logits(rows), expected, atol=1e-4)


def test_where_a_part_of_the_way_means_nothing_it_is_refused(clip: Clip) -> None:
    with pytest.raises(UsageError, match="features"):
        with_head(clip, reads="features").on(clip, 0.5)
    with pytest.raises(UsageError, match="from 0"):
        with_head(clip).on(clip, 1.5)
    word = np.ones((1, clip.checkpoint.architecture.tensors()["text.tokens.weight"][1]), np.float32)
    with pytest.raises(UsageError, match="word"):
        Adapter(Base.of(clip), changes=Changes({"<mug>": word})).on(clip, 0.5)


def test_another_base_is_refused_with_the_name_of_the_right_one(clip: Clip, tmp_path: Path) -> None:
    tiny_hf_clip(tmp_path / "other", seed=1)
    other = awase.load(tmp_path / "other")
    with pytest.raises(CheckpointError, match=clip.name):
        with_head(clip).on(other)
    with pytest.raises(CheckpointError, match="tokenizer"):
        replace(with_head(clip), base=replace(Base.of(clip), tokenizer="0" * 64)).on(clip)


def test_a_head_of_another_width_than_the_base_is_refused(clip: Clip) -> None:
    wide = Head(KEYS, NAMES, "vectors", np.ones((41, 3), np.float32))
    with pytest.raises(CheckpointError, match="41"):
        replace(with_head(clip), head=wide).on(clip)


def test_several_adapters_on_one_base(clip: Clip, picture: Image.Image) -> None:
    width = clip.checkpoint.architecture.tensors()["text.tokens.weight"][1]
    rows = np.random.default_rng(5).standard_normal((2, width)).astype(np.float32)
    words = Adapter(Base.of(clip), changes=Changes({"<mug>": rows}))
    other = Adapter(Base.of(clip), changes=Changes({"<pan>": -rows}))
    both = with_head(clip).on(other.on(words.on(clip)))
    np.testing.assert_array_equal(both.encode_images([picture]), clip.encode_images([picture]))
    mug, pan = both.encode_texts(["a photo of <mug>", "a photo of <pan>"])
    assert np.abs(mug - pan).max() > 1e-3
    np.testing.assert_allclose(mug, words.on(clip).encode_texts(["a photo of <mug>"])[0], atol=1e-6)
    assert both.classify(picture)[0].label in NAMES["en"]


def test_a_head_does_not_go_on_pictures_that_another_adapter_changed(clip: Clip) -> None:
    with pytest.raises(CheckpointError, match="changed how pictures"):
        with_head(clip).on(with_changes(clip, image=True).on(clip))
    assert with_head(clip).on(with_changes(clip, image=False).on(clip)).head is not None
    nameless = replace(with_changes(clip), keys=(), names={})
    with pytest.raises(CheckpointError, match="put this one on first"):
        nameless.on(with_head(clip).on(clip))
    changed = with_changes(clip).on(clip)  # learned on top of the other one, it does
    assert with_head(changed).on(changed).head is not None
    with pytest.raises(CheckpointError, match="with another adapter on it"):
        with_head(changed).on(clip)


# ---- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [with_head, with_changes])
def test_what_is_read_is_what_was_written(clip: Clip, tmp_path: Path, make: Callable[[Clip], Adapter]) -> None:
    adapter = make(clip)
    write_adapter(adapter, tmp_path / "learned")
    found = read_adapter(tmp_path / "learned")
    assert (found.base, found.keys, dict(found.names), found.templates, found.record) == (
        adapter.base, adapter.keys, adapter.names, adapter.templates, adapter.record,
    )  # fmt: skip
    assert list(found.names) == list(adapter.names)
    assert found.changes.digest() == adapter.changes.digest()
    if adapter.head and found.head:
        assert found.head.digest == adapter.head.digest
    adapted, again = adapter.on(clip), awase.load(clip.checkpoint, adapter=tmp_path / "learned")
    assert adapted.head is not None
    assert again.head is not None
    assert adapted.stamp() == again.stamp()
    assert adapted.head.digest == again.head.digest


def test_a_cache_and_words_survive_the_disk(clip: Clip, tmp_path: Path) -> None:
    width = clip.checkpoint.architecture.tensors()["text.tokens.weight"][1]
    words = {"<mug>": np.ones((1, width), np.float32), "<新>": np.zeros((3, width), np.float32)}
    adapter = replace(with_head(clip, cache=True), changes=Changes(words))
    write_adapter(adapter, tmp_path / "learned")
    found = read_adapter(tmp_path / "learned")
    assert found.head is not None
    assert adapter.head is not None
    assert found.head.digest == adapter.head.digest
    assert list(found.changes.words) == ["<mug>", "<新>"]


def test_names_of_folders_that_are_no_unicode_survive_the_disk(clip: Clip, tmp_path: Path) -> None:
    keys = ("caf\udce9", "b", "c")  # as Python gives the folder b"caf\xe9"
    names = {"en": keys}
    learned = with_head(clip)
    assert learned.head is not None
    adapter = replace(learned, head=replace(learned.head, keys=keys, names=names), keys=keys, names=names)
    write_adapter(replace(adapter, record={"train": {"name": "caf\udce9"}}), tmp_path / "learned")
    assert read_adapter(tmp_path / "learned").keys == keys
    broken = replace(adapter, changes=Changes({"<\udce9>": np.ones((1, 32), np.float32)}))
    assert len(broken.changes.digest()) == 64


def test_what_no_reader_would_take_is_not_written(clip: Clip, tmp_path: Path) -> None:
    for adapter in (
        replace(with_head(clip), record={"told": "x" * 5_000_000}),
        Adapter(Base.of(clip), changes=Changes(weights={"image.norm.weight": np.array([np.nan], np.float32)})),
    ):
        with pytest.raises(CheckpointError, match="learned"):
            write_adapter(adapter, tmp_path / "learned")
        assert not list(tmp_path.iterdir())


def test_an_adapter_never_overwrites(clip: Clip, tmp_path: Path) -> None:
    write_adapter(with_head(clip), tmp_path / "learned")
    with pytest.raises(UsageError, match="not empty"):
        write_adapter(with_head(clip), tmp_path / "learned")


def resigned(folder: Path, told: dict[str, Any]) -> None:
    """A description that fits the arrays as they now are, as an attacker would write it."""
    told["sha256"] = hashlib.sha256((folder / "adapter.safetensors").read_bytes()).hexdigest()
    (folder / "adapter.json").write_text(json.dumps(told))


def changed_arrays(**arrays: np.ndarray) -> Callable[[Path, dict[str, Any]], None]:
    def change(folder: Path, told: dict[str, Any]) -> None:
        stored = {name: tensor.read() for name, tensor in read_safetensors(folder / "adapter.safetensors").items()}
        stored |= {name.replace("__", "."): values for name, values in arrays.items()}
        write_safetensors(folder / "adapter.safetensors", stored)
        resigned(folder, told)

    return change


def changed_words(*path: str, to: Any) -> Callable[[Path, dict[str, Any]], None]:
    def change(folder: Path, told: dict[str, Any]) -> None:
        inner = told
        for part in path[:-1]:
            inner = inner[part]
        inner[path[-1]] = to
        resigned(folder, told)

    return change


def test_nothing_of_an_adapter_is_believed(clip: Clip, tmp_path: Path) -> None:
    attacks: dict[str, tuple[Callable[[Path, dict[str, Any]], None], str]] = {
        "no arrays": (lambda folder, _: (folder / "adapter.safetensors").unlink(), "is no adapter"),
        "cut": (lambda folder, _: (folder / "adapter.safetensors").write_bytes(b"abc"), "not the file"),
        "not json": (lambda folder, _: (folder / "adapter.json").write_text("{"), "not JSON"),
        "list": (lambda folder, _: (folder / "adapter.json").write_text("[]"), "not a JSON object"),
        "schema": (changed_words("schema", to=2), "schema 2"),
        "nan": (changed_arrays(head__weights=np.full((40, 3), np.nan, np.float32)), "not finite"),
        "shape": (changed_arrays(head__weights=np.zeros((40, 2), np.float32)), "weights are"),
        "flat": (changed_arrays(head__weights=np.zeros(120, np.float32)), "weights are"),
        "more": (changed_arrays(extra=np.zeros(1, np.float32)), "more than is described: extra"),
        "missing": (changed_words("weights", to=["text.norm.weight"]), "has no weights.text.norm.weight"),
        "reads": (changed_words("head", "reads", to="pixels"), "reads"),
        "power": (changed_words("head", "power", to=7), "power is 7; awase reads a number above 0 and up to 1 there"),
        "cold": (changed_words("head", "temperature", to=-1), "temperature is -1; .* above 0 and up to 1,000,000"),
        "hot": (changed_words("head", "temperature", to=1e7), "above 0 and up to 1,000,000"),
        "huge": (changed_words("head", "cache", to={"alpha": 1e300, "beta": 1}), "adapter.safetensors has no"),
        "keys": (changed_words("classes", "keys", to=["cat", "cat", "car"]), "key of its own"),
        "few": (changed_words("classes", "keys", to=["cat"]), "names"),
        "numbers": (changed_words("classes", "keys", to=[1, 2, 3]), "texts"),
        "long": (changed_words("classes", "keys", to=["x" * 5000, "b", "c"]), "texts"),
        "words": (changed_words("words", to="<mug>"), "texts"),
        "rank": (changed_words("low_rank", to={"text.norm.weight": "2"}), "has no low_rank"),
        "base": (changed_words("base", to=["x"]), "base is"),
    }
    for name, (attack, says) in attacks.items():
        folder = tmp_path / name
        write_adapter(with_head(clip), folder)
        attack(folder, json.loads((folder / "adapter.json").read_text()))
        with pytest.raises(CheckpointError, match=says):
            read_adapter(folder)


def test_a_link_out_of_the_folder_is_not_followed(clip: Clip, tmp_path: Path) -> None:
    write_adapter(with_head(clip), tmp_path / "learned")
    (tmp_path / "learned" / "adapter.safetensors").rename(tmp_path / "elsewhere")
    (tmp_path / "learned" / "adapter.safetensors").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CheckpointError, match="link"):
        read_adapter(tmp_path / "learned")


def test_what_is_no_adapter_is_said_to_be_none(clip: Clip, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no folder"):
        read_adapter(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no adapter"):
        read_adapter(clip.checkpoint.folder or tmp_path)


def test_changes_of_tensors_that_the_base_has_not_are_refused(clip: Clip) -> None:
    adapter = replace(with_changes(clip), changes=Changes({}, {}, {"image.nothing": np.zeros(3, np.float32)}))
    with pytest.raises(UsageError, match=r"image\.nothing"):
        adapter.on(clip)


def test_a_derived_checkpoint_is_written_like_any_other(clip: Clip, picture: Image.Image, tmp_path: Path) -> None:
    adapted = with_changes(clip).on(clip, 0.5)
    awase.write_checkpoint(adapted.checkpoint, tmp_path / "merged", "awase")
    merged = awase.load(open_checkpoint(tmp_path / "merged"))
    np.testing.assert_allclose(merged.encode_images([picture]), adapted.encode_images([picture]), atol=1e-6)
