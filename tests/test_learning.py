"""The last blocks as matrix products, and the bundled model's recipe on made pictures."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import awase  # noqa: E402
from awase.clip import unit  # noqa: E402
from awase.encoding.checkpoints import open_checkpoint  # noqa: E402
from awase.encoding.checkpoints.checkpoint import Checkpoint, in_memory  # noqa: E402
from awase.encoding.families import (  # noqa: E402
    Architecture,
    EfficientNetLite,
    NgramEncoder,
    Preprocessing,
    TextRule,
)
from awase.encoding.preprocessing import prepare  # noqa: E402
from awase.encoding.towers import Towers, initialise, load_towers, normalise  # noqa: E402
from awase.errors import UsageError  # noqa: E402
from awase.learning.loop import Schedule  # noqa: E402
from awase.learning.pretraining.bundled import making  # noqa: E402
from awase.learning.pretraining.bundled.compact import write_compact  # noqa: E402
from awase.learning.pretraining.bundled.making import make  # noqa: E402
from awase.learning.pretraining.bundled.prepared import Prepared, Sampler  # noqa: E402
from awase.learning.pretraining.bundled.recipe import Phase, Recipe, quick, read_recipe  # noqa: E402
from awase.learning.pretraining.bundled.space import Space, whitener  # noqa: E402
from awase.learning.pretraining.bundled.step import Step  # noqa: E402
from awase.learning.pretraining.bundled.stretches import (  # noqa: E402
    Stretch,
    Weights,
    copied,
    mean,
    phases_and_ends,
    rounds_from,
    side_by_side,
    trained,
)
from awase.learning.pretraining.products import LastBlocks, twins_of  # noqa: E402

BUNDLED = Path(awase.__file__).parent / "encoding" / "bundled"
RECIPE = Path(__file__).parents[1] / "recipes" / "bundled.toml"
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
JAPANESE = {"red": "赤", "green": "緑", "blue": "青", "yellow": "黄色"}
FIRST = 5  # of the tiny tower's nine blocks, the first that has a twin
TINY = Architecture(
    name="tiny",
    image=EfficientNetLite(
        64, 8, ((1, 3, 1, 1, 8), (2, 3, 2, 3, 12), (2, 5, 2, 3, 16), (2, 3, 1, 3, 16), (2, 5, 2, 3, 20)), 48, 5, FIRST
    ),
    text=NgramEncoder(128, 32_000, 16, 8, ((2, 0), (3, 1)), (12, 12, 16), 1e-12),
    dimension=16,
    preprocessing=Preprocessing(64, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    text_rule=TextRule("sentencepiece", 128),
    languages=("en", "ja"),
)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Products this small take longer in two threads, and much longer where other processes want the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# ---- products ------------------------------------------------------------------------------------------------------


def tiny_towers() -> Towers:
    torch.manual_seed(0)
    return initialise(Towers(TINY), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("side", [7, 8])
def test_the_last_blocks_are_the_towers_own(side: int) -> None:
    """Outputs, and gradients of every weight of the twins, of matrix products against convolutions."""
    tower = tiny_towers().image
    maps = torch.randn(3, 16, side, side, generator=torch.Generator().manual_seed(1))
    last = LastBlocks(*twins_of(tower), side)
    probe = torch.randn(3, 48, generator=torch.Generator().manual_seed(2))

    def gradients(features: torch.Tensor) -> dict[str, torch.Tensor]:
        last.zero_grad()
        (features * probe).sum().backward()
        return {name: weight.grad.clone() for name, weight in last.named_parameters()}

    x = maps
    for block in tower.tuned.values():
        x = block(x)
    convolved = torch.clamp(tower.tuned_top(x), 0, 6).mean((2, 3))
    multiplied = last(maps.flatten(2).transpose(1, 2))
    assert torch.allclose(multiplied, convolved, atol=1e-5)
    expected, found = gradients(convolved), gradients(multiplied)
    assert len(expected) == 4 * 6 + 2
    for name, gradient in expected.items():
        assert torch.allclose(found[name], gradient, atol=1e-4), name


# ---- the recipe on made pictures -----------------------------------------------------------------------------------


def tiny_checkpoint() -> Checkpoint:
    """The twins start equal."""
    towers = tiny_towers()
    towers.image.tuned_top.load_state_dict(towers.image.top.state_dict())
    for number, block in towers.image.tuned.items():
        block.load_state_dict(towers.image.blocks[int(number)].state_dict())
    tensors = {name: weight.detach().numpy() for name, weight in towers.state_dict().items()}
    return in_memory(TINY, tensors | {"logit_scale": np.log(10.0)}, folder=BUNDLED)


def square(colour: str, chance: np.random.Generator) -> np.ndarray:
    shade = np.array(COLOURS[colour]) + chance.normal(0, 12, (64, 64, 3)) + chance.normal(0, 15, 3)
    return np.clip(shade, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain squares in four colours, as a labelled set and as captioned pictures; as prepare_bundled.py writes them."""
    folder = tmp_path_factory.mktemp("prepared")
    start = folder / "start"
    checkpoint = tiny_checkpoint()
    write_compact(checkpoint, checkpoint.load(), start)
    chance = np.random.default_rng(0)
    sentences: list[str] = []

    def numbered(*texts: str) -> list[int]:
        sentences.extend(text for text in texts if text not in sentences)
        return [sentences.index(text) for text in texts]

    names = {c: {"en": numbered(c, f"a photo of {c}."), "ja": numbered(f"{JAPANESE[c]}の写真")} for c in COLOURS}
    rows = [{"set": "colours", "path": "", "class": c, "concept": 1 + i % 4} for i, c in enumerate(list(COLOURS) * 6)]
    told = [[numbered(f"a {c} square"), numbered(f"{JAPANESE[c]}の四角")] for c in COLOURS]
    pairs = [{"set": "squares", "path": "", "sentences": told[i % 4]} for i in range(24)]
    squares = {
        "train": np.stack([square(list(COLOURS)[i % 4], chance) for i in range(48)]),
        "val": np.stack([square(list(COLOURS)[i % 4], chance) for i in range(24)]),
    }
    concepts = {language: [names[c][language][0] for c in ["blue", *COLOURS]] for language in ("en", "ja")}
    colour = {"en": numbered("a colour"), "ja": numbered("色")}
    written = {
        "train": [*rows, *pairs],
        "val": rows,
        "classes": {"colours": names},
        "concepts": {
            "known": 1,
            "names": concepts,
            "kinds": {language: [*ids[:3], *2 * colour[language]] for language, ids in concepts.items()},
        },
        "translations": [[sentences.index(c), sentences.index(f"{JAPANESE[c]}の写真")] for c in COLOURS],
    }
    for name, value in written.items():
        (folder / f"{name}.json").write_text(json.dumps(value), "utf-8")
    towers, clip = load_towers(open_checkpoint(start)), awase.load(start)
    for split, pixels in squares.items():
        with torch.no_grad():
            x = torch.relu(towers.image.stem(normalise(torch.from_numpy(pixels), TINY.preprocessing))).clamp(max=6)
            for block in towers.image.blocks[:FIRST]:
                x = block(x)
            maps = x.flatten(2).transpose(1, 2)
            for block in towers.image.blocks[FIRST:]:
                x = block(x)
            features = torch.clamp(towers.image.top(x), 0, 6).mean((2, 3))
        np.save(folder / f"{split}_maps_0.npy", maps.numpy().astype(np.float16))
        np.save(folder / f"{split}_features_0.npy", features.numpy().astype(np.float16))
        np.save(folder / f"{split}.npy", pixels)
    ids = clip.tokenizer(sentences)
    with torch.no_grad():
        sums = [
            towers.text.summed(towers.text.tokens(torch.tensor([row[: end + 1]])), torch.tensor([end]))[0]
            for row, end in zip(ids.ids, ids.ends, strict=True)
        ]
    np.save(folder / "sentences.npy", torch.stack(sums).numpy().astype(np.float16))
    return folder


def recipe(steps: int) -> Recipe:
    gently = {"text.mix": 0.1, "text.dense": 0.1}
    told = {"translated": 3, "restrained": 5, "dropout": 0.0, "concept_gain": 0.5}
    heads = Phase(Schedule(steps, 5e-2, factors=gently), {"squares": 4}, named=24, sets=1, **told)
    few = Schedule(max(steps // 8, 2), 1e-3, factors=gently)
    rivals = {"unnamed": ("squares",), "unnamed_weight": 0.05}
    blocks = dataclasses.replace(heads, schedule=few, tower=True, others=3, clear_weight=0.1, **rivals)
    more = dataclasses.replace(blocks, concept_gain=0.6, whitening=0.2)
    return Recipe((heads,), (blocks, blocks), ((more,),), kind_weight=0.5, average=0.5)


def test_the_recipe_learns_colours_and_what_it_writes_runs_without_torch(prepared: Path, tmp_path: Path) -> None:
    make(recipe(200), prepared, tmp_path / "model")
    clip = awase.load(tmp_path / "model")
    assert clip.engine.name == "onnxruntime"
    pictures = clip.encode_images(list(np.load(prepared / "val.npy")))
    labels = np.arange(24) % 4
    for words in (list(COLOURS), [f"{JAPANESE[c]}の写真" for c in COLOURS]):
        answers = (pictures @ clip.encode_texts(words).T).argmax(1)
        assert (answers == labels).mean() > 0.7, words  # chance: 0.25
    # The concepts are the names, and half as much what they are kinds of, as the stored text tower says them; whitened.
    tensors = clip.checkpoint.load()
    names = unit(np.stack([clip.encode_texts([c, f"{JAPANESE[c]}の写真"]).sum(0) for c in ["blue", *COLOURS]]))
    kinds = np.stack([*names[:3], *2 * [unit(clip.encode_texts(["a colour", "色"]).sum(0))]])
    _, sizes, right = np.linalg.svd(names)
    strengths = np.append(sizes**2 / 5, np.zeros(16 - 5)) + 1e-4
    concepts = unit(unit(names + 0.5 * kinds) @ right.T / strengths**0.2 @ right)
    np.testing.assert_allclose(tensors["image.concepts"], concepts, atol=5e-3)
    assert float(tensors["image.concept_gain"]) == pytest.approx(0.6, abs=1e-3)


def test_every_phase_runs_in_bfloat16(prepared: Path, tmp_path: Path) -> None:
    make(dataclasses.replace(recipe(2), bfloat16=True), prepared, tmp_path / "model")
    assert np.isfinite(awase.load(tmp_path / "model").encode_texts(["red"])).all()


def test_one_seed_makes_one_model(prepared: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        make(recipe(2), prepared, tmp_path / name)
    make(dataclasses.replace(recipe(2), seeds=(1,)), prepared, tmp_path / "c")
    one, same, other = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("a", "b", "c"))
    assert one == same
    assert one != other


def test_only_the_twins_and_what_reads_them_are_trained(prepared: Path, tmp_path: Path) -> None:
    make(recipe(4), prepared, tmp_path / "model")
    before, after = open_checkpoint(prepared / "start").load(), open_checkpoint(tmp_path / "model").load()
    for tensors in (before, after):  # of the classifier, only what the backbone did not know
        tensors |= {name: tensors[name][:1] for name in ("image.classifier.weight", "image.classifier.bias")}
    changed = {name for name, values in before.items() if not np.allclose(after[name], values, atol=2e-2, rtol=2e-2)}
    learned = ("image.tuned", "image.projection", "image.concept", "text.mix", "text.dense", "text.projection", "logit")
    assert changed
    assert all(name.startswith(learned) for name in changed), changed


def test_a_batch_holds_what_was_asked_for(prepared: Path) -> None:
    data = Prepared(prepared)
    batch = Sampler(data, {"squares": 7}, 9, sets=1, others=5, japanese=0.3, chance=np.random.default_rng(0))()
    assert [data.train[row]["set"] for row in batch.pictures] == ["squares"] * 7 + ["colours"] * 9
    assert len(set(batch.pictures[:7].tolist())) == 7
    assert len(batch.sentences) == 12
    for row, sentence in zip(batch.pictures[:7], batch.sentences, strict=False):
        assert int(sentence) in [*data.train[row]["sentences"][0], *data.train[row]["sentences"][1]]
    for row, label in zip(batch.pictures[7:], batch.labels, strict=True):
        assert list(COLOURS)[label] == data.train[row]["class"]
    assert batch.concepts.tolist() == [1 + label for label in batch.labels.tolist()]


def test_every_seed_has_its_phases_and_these_their_ends(prepared: Path) -> None:
    settings = dataclasses.replace(recipe(2), seeds=(0, 1))
    found = phases_and_ends(settings, side_by_side(prepared, settings, 1))
    starts = [trained(Stretch(settings.phases, seed, 0), prepared, settings) for seed in (0, 1)]
    assert any((starts[0][name] != starts[1][name]).any() for name in starts[0])
    ends = [
        trained(Stretch((phase,), seed, 1 + number, start), prepared, settings)
        for seed, start in enumerate(starts)
        for number, phase in enumerate(settings.ends)
    ]
    for name, weight in found.items():
        np.testing.assert_allclose(weight, sum(end[name] for end in ends) / 4, rtol=1e-5, atol=1e-7)
    endless = dataclasses.replace(settings, ends=())
    for name, weight in phases_and_ends(endless, side_by_side(prepared, endless, 1)).items():
        np.testing.assert_array_equal(weight, mean(starts)[name])


def test_stretches_leave_the_same_side_by_side_and_one_after_the_other(prepared: Path) -> None:
    settings = recipe(2)
    stretches = [Stretch(settings.phases, seed, 0) for seed in (0, 1, 2)]
    one, several = (side_by_side(prepared, settings, workers)(stretches) for workers in (1, 2))
    for alone, beside in zip(one, several, strict=True):
        for name, weight in alone.items():
            np.testing.assert_allclose(beside[name], weight, rtol=1e-4, atol=1e-6, err_msg=name)


def test_what_goes_wrong_in_a_stretch_is_told_from_its_process(prepared: Path) -> None:
    phase = dataclasses.replace(recipe(2).phases[0], pairs={"circles": 4})
    strange = dataclasses.replace(recipe(2), phases=(phase,), seeds=(0, 1))
    with pytest.raises(UsageError, match="no pictures of circles were prepared"):
        phases_and_ends(strange, side_by_side(prepared, strange, 2))
    assert not multiprocessing.active_children()


def test_as_many_pictures_are_seen_small_as_was_asked_for(prepared: Path) -> None:
    data = Prepared(prepared)
    assert set(data.draw_crops(50, 0.25, np.random.default_rng(0)).tolist()) == {0}  # there is no other crop
    data.crops = 4
    drawn = data.draw_crops(4000, 0.25, np.random.default_rng(0))
    assert np.allclose(np.bincount(drawn) / 4000, 0.25, atol=0.03)
    assert 1 not in data.draw_crops(500, 0.0, np.random.default_rng(0))


def test_the_rounds_begin_from_the_mean_of_the_ends(prepared: Path, tmp_path: Path) -> None:
    """The whole recipe against its rounds alone, begun from the model that the rest of it writes."""
    whole = dataclasses.replace(recipe(8), seeds=(0, 1))
    make(dataclasses.replace(whole, rounds=()), prepared, tmp_path / "ends")
    make(whole, prepared, tmp_path / "whole")
    ends, made = (open_checkpoint(tmp_path / name) for name in ("ends", "whole"))
    before, after = ends.load(), made.load()
    changed = {name for name, values in before.items() if (after[name] != values).any()}
    tuned = {name for name in before if name.startswith("image.tuned")}
    assert {"image.projection.weight", "text.projection.weight", "image.classifier.weight"} <= changed
    assert tuned & changed
    assert not {name for name in changed if name.startswith(("image.blocks", "image.top", "image.stem"))}
    assert after["image.concept_gain"] == np.float16(0.6)
    assert before["image.concept_gain"] == np.float16(0.5)
    make(whole, prepared, tmp_path / "again", ends)
    again = open_checkpoint(tmp_path / "again").load()
    for name in ("image.projection.weight", "image.tuned_top.weight"):
        assert not np.array_equal(again[name], before[name])
    for name, values in after.items():  # it began from rounded weights, and from other scales; two steps of 1e-3
        assert np.abs(again[name] - values).max() <= 0.1 * np.abs(values).max() + 3e-3, name


def test_a_model_that_is_begun_from_leaves_no_scale_to_chance(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model keeps no scales of losses; those that were prepared take their place."""
    begun = []
    monkeypatch.setattr(making, "rounds_from", lambda start, *_rest: begun.append(start) or start)
    make(recipe(2), prepared, tmp_path / "model", open_checkpoint(prepared / "start"))
    space = Space(open_checkpoint(prepared / "start"), Prepared(prepared), recipe(2))
    assert set(begun[0]) == set(space.trained(tower=True))


def test_a_round_begins_from_the_mean_of_all_before_it_and_so_the_model_ends(prepared: Path) -> None:
    blocks = recipe(4).ends[0]
    other = dataclasses.replace(blocks, small=0.0)
    settings = dataclasses.replace(recipe(4), seeds=(5, 6), rounds=((blocks, other, other), (blocks,)))
    space = Space(open_checkpoint(prepared / "start"), Prepared(prepared), settings)
    start = copied(space.trained(tower=True))
    found = rounds_from(start, settings, side_by_side(prepared, settings, 1))

    def left(begin: Weights, phase: Phase, seed: int, number: int) -> Weights:
        return trained(Stretch((phase,), seed, number, begin), prepared, settings)

    first = [left(start, phase, seed, 3 + i) for i, (phase, seed) in enumerate(((blocks, 5), (other, 6), (other, 5)))]
    second = left(mean([start, *first]), blocks, 6, 6)
    expected = mean([start, *first, second])
    assert set(found) == set(start)
    for name, weight in found.items():
        np.testing.assert_array_equal(weight, expected[name])
    assert any((first[1][name] != first[2][name]).any() for name in start)  # the seed, and where in the recipe


def test_whitened_names_are_told_apart_more_easily() -> None:
    chance = torch.Generator().manual_seed(0)
    names = nn.functional.normalize(torch.randn(40, 8, generator=chance) + 3 * torch.randn(8, generator=chance), dim=-1)
    assert torch.allclose(whitener(names, 0.0), torch.eye(8), atol=1e-5)
    whole = names @ whitener(names, 0.5)
    assert torch.allclose(whole.T @ whole / 40, torch.eye(8), atol=0.02)
    cosines = [
        (mixed := nn.functional.normalize(names @ whitener(names, power), dim=-1)) @ mixed.T
        for power in (0.0, 0.25, 0.5)
    ]
    apart = [(found.sum() - 40) / (40 * 39) for found in cosines]
    assert apart[0] > apart[1] + 0.1 > apart[2] + 0.2


def test_what_was_learned_can_be_left_out_of_a_mixture(prepared: Path) -> None:
    space = Space(open_checkpoint(prepared / "start"), Prepared(prepared), recipe(2))
    space.set_mixture(recipe(2).ends[0])
    with torch.no_grad():
        space.learned.bias.fill_(50.0)  # certain of what it learned
        features, concepts = torch.rand(2, 48), space.concepts()
        vectors, logits = space.pictures(features, features, concepts, left_out=torch.tensor([True, False]))
        free = nn.functional.normalize(space.image.projection(torch.cat([features, features], -1)), dim=-1)
    mixtures = [concepts[0], concepts[1:].mean(0)]  # one name is known, and the four learned are equally likely
    for vector, direction, mixture in zip(vectors, free, mixtures, strict=True):
        assert torch.allclose(vector, nn.functional.normalize(direction + 0.5 * mixture, dim=-1), atol=1e-5)
    assert (logits[:, 1:] == 50).all()


def test_the_right_answer_is_shared_with_what_the_backbone_knew(prepared: Path) -> None:
    space = Space(open_checkpoint(prepared / "start"), Prepared(prepared), recipe(2))
    phase = dataclasses.replace(recipe(2).phases[0], known_part=0.25)
    step = Step(space, phase, np.random.default_rng(0))
    batch = step.sampler()
    right = step.right(batch, torch.ones(24, 1))
    assert torch.allclose(right.sum(1), torch.ones(24))
    assert (right[:, 0] == 0.25).all()
    assert (right.argmax(1) == batch.concepts).all()


def test_pictures_that_were_not_prepared_are_refused(prepared: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no pictures of circles"):
        Sampler(Prepared(prepared), {"circles": 2}, 1, 1, 0, 0.3, chance=np.random.default_rng(0))
    with pytest.raises(UsageError, match="prepare_bundled"):
        Prepared(tmp_path)


# ---- recipes and storage -------------------------------------------------------------------------------------------


def test_the_shipped_recipe_is_read_whole() -> None:
    found = read_recipe(RECIPE)
    assert [phase.tower for phase in (*found.phases, *found.ends)] == [False, True, True, True]
    for number, more in zip((1, 0), found.rounds[0], strict=True):
        longer = dataclasses.replace(found.ends[number].schedule, steps=600)
        assert more == dataclasses.replace(found.ends[number], schedule=longer)
    assert found.rounds[1][1].japanese == 0.4
    assert found.ends[2].unnamed == ("flickr8k",)
    short = quick(found)
    every = (*short.phases, *short.ends, *short.rounds[0], *short.rounds[1])
    assert [phase.schedule.steps for phase in every] == [2] * 8
    shipped = open_checkpoint(BUNDLED).load()["image.concept_gain"]
    assert shipped == np.float16(found.rounds[-1][-1].concept_gain)


def test_a_misspelt_setting_is_refused(tmp_path: Path) -> None:
    text = RECIPE.read_text("utf-8")
    for wrong in ("concept_gian = 1", text.replace("dropout", "dropuot"), text.replace("steps", "stpes")):
        (tmp_path / "recipe.toml").write_text(wrong, "utf-8")
        with pytest.raises(UsageError, match="settings"):
            read_recipe(tmp_path / "recipe.toml")


def test_recipes_that_cannot_be_run_are_refused(prepared: Path, tmp_path: Path) -> None:
    text = RECIPE.read_text("utf-8")
    for wrong, words in (
        (text.replace("seeds = [0, 1]", "seeds = []"), "a seed at least"),
        ("kind_weight = 0.2", "a phase"),
        (text.replace("like = 2", "like = 3"), "counted from 0, and there are 3"),
        (text.replace("[[rounds]] #", "[[rounds]]\nseeds = [1] #"), "seeds"),
        (text.replace("[[rounds.ends]]", "[[rounds.phases]]"), "phases"),
        (text.replace("seeds = [0, 1]", "seeds = [0, 1"), "recipe.toml"),
    ):
        (tmp_path / "recipe.toml").write_text(wrong, "utf-8")
        with pytest.raises(UsageError, match=words):
            read_recipe(tmp_path / "recipe.toml")
    with pytest.raises(UsageError, match="another architecture"):
        make(recipe(2), prepared, tmp_path / "model", open_checkpoint(BUNDLED))
    with pytest.raises(UsageError, match="no rounds to go on"):
        make(dataclasses.replace(recipe(2), rounds=()), prepared, tmp_path / "model", tiny_checkpoint())
    assert not (tmp_path / "model").exists()


def test_compact_storage_keeps_every_number_within_half_a_step(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint()
    exact = checkpoint.load()
    write_compact(checkpoint, exact, tmp_path)
    assert open_checkpoint(tmp_path).architecture == TINY
    kept = open_checkpoint(tmp_path).load()
    for name, values in exact.items():
        largest = np.abs(values.reshape(len(values), -1)).max(1) if values.ndim > 1 else np.abs(values)
        step = np.asarray(largest / 127).reshape(-1, *[1] * (values.ndim - 1)) if values.ndim > 1 else 2e-3 * largest
        assert (np.abs(kept[name] - values) <= 0.51 * step + 1e-6).all(), name


def test_the_bundled_model_is_small_enough_to_ship() -> None:
    assert sum(file.stat().st_size for file in BUNDLED.iterdir()) < 40e6
    assert (BUNDLED / "MODEL_CARD.md").is_file()


# ---- preparation ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def preparation() -> ModuleType:
    """recipes/prepare_bundled.py as a module."""
    spec = importlib.util.spec_from_file_location("prepare_bundled", RECIPE.with_name("prepare_bundled.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_prepared_is_what_is_shipped(preparation: ModuleType) -> None:
    assert open_checkpoint(BUNDLED).architecture == preparation.ARCHITECTURE
    assert preparation.ARCHITECTURE.image.twins == preparation.CUT + 1


def test_a_beagle_is_a_dog_and_what_has_no_kind_is_itself(preparation: ModuleType) -> None:
    known = [{"en": f"a thing {i}", "ja": f"物{i}"} for i in range(preparation.KNOWN)]
    labelled = [{"en": "a blue jay", "ja": "アオカケス"}, {"en": "a hammer", "ja": "金槌"}, {"en": "fog", "ja": "霧"}]
    kinds = preparation.kinds_of([*known, *labelled], ["birds60", "tools5", "seasons_weather7"])
    assert [kind["en"] for kind in kinds[161:163]] == ["a dog", "a dog"]  # basset, beagle
    assert [kind["ja"] for kind in kinds[preparation.KNOWN :]] == ["鳥", "工具", "霧"]
    assert kinds[999] == known[999]


@pytest.mark.parametrize(
    ("piece", "japanese"),
    [("▁猫", True), ("ネコが", True), ("食べる", True), ("人々", True), ("cat", False), ("们", False), ("▁", False)],
)
def test_japanese_pieces_are_told_from_others(preparation: ModuleType, piece: str, japanese: bool) -> None:
    assert preparation._japanese(piece) is japanese


def test_the_first_crop_is_what_the_model_sees_and_the_others_are_parts(
    preparation: ModuleType, tmp_path: Path
) -> None:
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 120, 3), np.uint8))
    picture.save(tmp_path / "picture.png")
    row = {"set": "flickr8k", "path": str(tmp_path / "picture.png")}
    crops = [preparation.crop(row, number) for number in range(4)]
    assert {crop.shape for crop in crops} == {(224, 224, 3)}
    assert (crops[0] == prepare(picture, preparation.ARCHITECTURE.preprocessing)).all()
    assert (crops[1] == preparation.crop(row, 1)).all()
    assert all((crops[a] != crops[b]).any() for a in range(4) for b in range(a))


def test_a_picture_seen_small_has_the_border_of_small_pictures(preparation: ModuleType, tmp_path: Path) -> None:
    """Crop 1 is 28 to 96 pixels; below 41 the model sees a border, 24 pixels of it where they are fewest."""
    Image.new("RGB", (90, 90)).save(tmp_path / "0.png")
    bordered = []
    for i in range(40):
        (tmp_path / f"{i}.png").write_bytes((tmp_path / "0.png").read_bytes())
        seen = preparation.crop({"set": "flickr8k", "path": str(tmp_path / f"{i}.png")}, 1)
        assert not seen[24:-24, 24:-24].any()
        bordered.append(bool(seen[0, 0].any()))
    assert 4 <= sum(bordered) <= 24  # log(41 / 28) of log(96 / 28): 31 %


def test_maps_of_another_preparation_are_not_taken_up(preparation: ModuleType, tmp_path: Path) -> None:
    work = tmp_path / "work"
    preparation.refuse_another(work, None)
    np.save(work / "val_features_0.npy", np.zeros(1))
    preparation.refuse_another(work, None)
    with pytest.raises(SystemExit, match="another --out"):
        preparation.refuse_another(work, 60)
    (work / "made_by.txt").unlink()
    with pytest.raises(SystemExit, match="another --out"):
        preparation.refuse_another(work, None)


def test_a_part_lies_in_the_picture_and_has_the_area_asked_for(preparation: ModuleType) -> None:
    chance = random.Random(0)
    for size in ((640, 480), (100, 100), (1000, 10)):
        for _ in range(50):
            left, top, right, bottom = preparation._part(size, 0.4, chance)
            assert 0 <= left < right <= size[0]
            assert 0 <= top < bottom <= size[1]
            assert (right - left) * (bottom - top) >= 0.399 * size[0] * size[1]
