"""Pretraining: recipes, batches, whole runs on made pictures."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

torch = pytest.importorskip("torch")

import awase  # noqa: E402
from awase.cli import main  # noqa: E402
from awase.clip import Clip  # noqa: E402
from awase.datasets.sharding import write_shards  # noqa: E402
from awase.encoding.families import Preprocessing, TextRule  # noqa: E402
from awase.encoding.tokenizers import open_tokenizer  # noqa: E402
from awase.errors import AwaseError, DataError, PictureError, UsageError  # noqa: E402
from awase.evaluation.results import Result  # noqa: E402
from awase.learning.loop import Schedule, TrainingFailed  # noqa: E402
from awase.learning.pretraining import engine  # noqa: E402
from awase.learning.pretraining.engine import pretrain  # noqa: E402
from awase.learning.pretraining.pairs import Pairs, Source, places, random_box  # noqa: E402
from awase.learning.pretraining.recipe import Data, Loss, Model, PairSet, Recipe, Watch, read_recipe  # noqa: E402
from awase.learning.pretraining.speed import Speed, _work_of  # noqa: E402
from awase.learning.pretraining.step import loss_of  # noqa: E402
from awase.learning.pretraining.watching import Alarms, read_evaluations  # noqa: E402
from awase.learning.state import read_log  # noqa: E402

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40)}
JAPANESE = {"red": "赤", "green": "緑", "blue": "青", "yellow": "黄色"}
BLOCK = {"width": 32, "layers": 2, "heads": 2, "mlp_width": 64, "activation": "gelu"}
ARCHITECTURE = {
    "dimension": 16,
    "image": {"kind": "VisionTransformer", "image_size": 16, "patch_size": 8, **BLOCK},
    "text": {"kind": "TextTransformer", "context": 16, "vocabulary": 49408, **BLOCK},
    "preprocessing": {"size": 16},
    "text_rule": {"kind": "clip", "context": 16},
}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain squares in four colours with captions in two languages, training and validation."""
    folder = tmp_path_factory.mktemp("data") / "squares"
    chance = np.random.default_rng(0)
    for split, count in (("train", 40), ("val", 12)):
        (folder / split).mkdir(parents=True)
        lines = []
        for i in range(count):
            colour = list(COLOURS)[i % 4]
            shade = np.array(COLOURS[colour]) + chance.normal(0, 12, (24, 20, 3))
            Image.fromarray(np.clip(shade, 0, 255).astype(np.uint8)).save(folder / split / f"{i}.png")
            captions = [f"a {colour} square", f"{colour} number {i}"]
            lines.append({"file_name": f"{i}.png", "captions": captions, "captions_ja": [f"{JAPANESE[colour]}の四角"]})
        (folder / split / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")
    return folder


def recipe(squares: Path, steps: int = 6, **changes: Any) -> Recipe:
    data = Data((PairSet(str(squares)),), batch=8, threads=2)
    start = Recipe(Model(architecture=ARCHITECTURE), data, Schedule(steps, 3e-3), device="cpu")
    return dataclasses.replace(start, **changes)


SMALL = Preprocessing(16)


def pairs(data: Data, seed: int = 0, steps: int = 1000, swapped: bool = False, rule: Preprocessing = SMALL) -> Pairs:
    def tell(error: PictureError) -> None:
        told.append(error)

    told: list[PictureError] = []
    made = Pairs(data, open_tokenizer(TextRule("clip", 16), None), rule, seed, steps, swapped, tell)
    made.told = told  # type: ignore[attr-defined]
    return made


# ---- recipes ---------------------------------------------------------------------------------------------------------

TOML = """
precision = "bf16"
[model]
architecture = "ViT-B-32"
locked = ["image."]
[data]
batch = 64
[[data.sets]]
path = "squares"
columns = ["captions", "captions_ja"]
weight = 2
[schedule]
steps = 100
rate = 1e-3
betas = [0.9, 0.95]
factors = { "text." = 0.5 }
[watch]
retrieval = ["squares:val"]
"""


def test_the_recipe_in_the_repository_is_read_whole() -> None:
    found = read_recipe(Path(__file__).parents[1] / "recipes" / "scratch.toml")
    assert [Path(one.path).name for one in found.data.sets] == ["emoji_split", "shapes_captioned", "rsicd", "storybook"]
    assert found.watch.retrieval[0].endswith("emoji_split:dev")


def test_a_recipe_is_read_with_its_changes(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text(TOML, "utf-8")
    found = read_recipe(tmp_path / "r.toml", ["schedule.rate=5e-4", "loss.kind=blocks", "data.crop=1", "average=0.99"])
    assert found.schedule == Schedule(100, 5e-4, betas=(0.9, 0.95), factors={"text.": 0.5})
    assert found.model == Model(architecture="ViT-B-32", locked=("image.",))
    assert found.data.sets == (PairSet(str(tmp_path / "squares"), columns=("captions", "captions_ja"), weight=2.0),)
    assert found.watch.retrieval == (str(tmp_path / "squares:val"),)
    assert (found.loss.kind, found.data.crop, found.average, found.precision) == ("blocks", 1.0, 0.99, "bf16")
    assert found.quick().schedule.steps == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("schedule.stpes=3", "no setting 'stpes'; there are steps, rate"),
        ("optimizer.lr=1", "no setting 'optimizer'; there are model, data"),
        ("schedule.steps=many", "schedule: steps is 'many'; expected a whole number"),
        ("schedule.steps=1.5", "steps is 1.5; expected a whole number"),
        ("loss.kind=hinge", "expected one of 'softmax', 'blocks', 'sigmoid'"),
        ("model.locked=image.", "locked is 'image.'; expected"),
        ("model.checkpoint=x", "a checkpoint or an architecture"),
        ("loss.smoothing=2", "smoothing lies in"),
        ("loss.fixed_scale=0", "most_scale and fixed_scale are above 0"),
        ("data.sets=5", "expected a list"),
        ("average='x'", "expected a number"),
        ("data.batch=1", "a batch of 2 or more"),
        ("schedule.rate", "expected TABLE.KEY=VALUE"),
        ("seed.deep=3", "seed is"),
        ("schedule.rate=0", "a schedule needs"),
        ("schedule.rate=nan", "r.toml: schedule: a schedule needs rate above 0, not nan"),
        ("schedule.decay=inf", "a schedule needs"),
        ("schedule.betas=[0.9]", "expected 2 values"),
        ("schedule.factors={'text.'='x'}", "factors.text. is 'x'; expected a number"),
        ("seed=-1", "the seed below 2**63; given: -1"),
        ("seed=99999999999999999999", "the seed below 2**63; given: 99999999999999999999"),
        ("schedule.factors={'text.'=nan}", "factors of a rate are above 0"),
        ("data.sets=[{path='x', columns=[]}]", "given is neither"),
        ("watch.every=-3", "watch.every counts steps"),
    ],
)
def test_a_setting_that_does_not_fit_is_named(tmp_path: Path, change: str, said: str) -> None:
    (tmp_path / "r.toml").write_text(TOML, "utf-8")
    with pytest.raises(UsageError) as refused:
        read_recipe(tmp_path / "r.toml", [change])
    assert said in str(refused.value)


@pytest.mark.parametrize("text", ["[model", "seed = 1", "\xff"])
def test_what_is_no_recipe_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.toml").write_text(text, "latin-1")
    with pytest.raises(UsageError, match=r"r\.toml"):
        read_recipe(tmp_path / "r.toml")
    with pytest.raises(UsageError, match="cannot be read as a recipe"):
        read_recipe(tmp_path / "none.toml")


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "sigmoid", "smoothing": 0.1},
        {"kind": "blocks", "alike": "right"},
        {"alike": "right", "swapped": True},
        {"kind": "sigmoid", "swapped": True},
        {"part": 0},
        {"pull": -1.0},
    ],
)
def test_losses_that_do_not_go_together_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Loss(**wrong)


# ---- batches ---------------------------------------------------------------------------------------------------------


def test_places_follow_the_weights() -> None:
    assert places([1, 1], 8) == [4, 4]
    assert places([5, 3, 2], 7) == [4, 2, 1]
    assert sum(places([0.37, 0.33, 0.3], 101)) == 101
    with pytest.raises(UsageError, match="set number 2 has no place in a batch of 10"):
        places([1000, 1], 10)


def test_a_step_is_the_same_whenever_it_is_asked_for(squares: Path) -> None:
    data = Data((PairSet(str(squares)),), batch=8, threads=2)
    going, jumping, other = pairs(data), pairs(data), pairs(data, seed=1)
    steps = [going(step) for step in range(8)]
    again = jumping(7)
    assert torch.equal(again.pixels, steps[7].pixels)
    assert torch.equal(again.ids, steps[7].ids)
    assert again.sentences == steps[7].sentences
    assert other(7).sentences != again.sentences


def test_an_epoch_shows_every_picture_once(squares: Path) -> None:
    made = pairs(Data((PairSet(str(squares)),), batch=8))
    for epoch in range(2):
        seen = [place.index for step in range(5 * epoch, 5 * epoch + 5) for place in made._places(step)]
        assert sorted(seen) == list(range(40))
    assert [p.index for p in made._places(0)] != [p.index for p in made._places(5)]


def test_processes_share_a_step_without_talking(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Data((PairSet(str(squares)),), batch=8)
    whole = pairs(data)(3)
    parts = []
    for half in (slice(0, 8, 2), slice(1, 8, 2)):
        monkeypatch.setattr("awase.learning.pretraining.pairs.share", lambda count, half=half: half)
        parts.append(pairs(data)(3))
    assert torch.equal(torch.stack([part.pixels for part in parts], 1).flatten(0, 1), whole.pixels)
    assert torch.equal(torch.stack([part.groups for part in parts], 1).flatten(), whole.groups)


def test_every_process_has_pictures_of_every_set(squares: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sets = PairSet(str(squares), weight=1.0), PairSet(str(squares), columns=("captions_ja",), weight=1.0)
    monkeypatch.setattr("awase.learning.pretraining.pairs.share", lambda count: slice(1, count, 2))
    told = pairs(Data(sets, batch=8))(0).sentences
    assert [any(word in sentence for word in JAPANESE.values()) for sentence in told] == [False] * 2 + [True] * 2


def test_sentences_come_from_every_column_and_classes_from_templates(squares: Path, tmp_path: Path) -> None:
    source = Source(PairSet(str(squares), columns=("captions", "captions_ja")))
    chance = np.random.default_rng(0)
    told = Counter(source.sentence(0, chance) for _ in range(400))
    assert set(told) == {"a red square", "red number 0", "赤の四角"}
    assert 150 < told["赤の四角"] < 250  # columns have equal parts, whatever they hold
    for colour, shade in COLOURS.items():
        (tmp_path / "train" / colour).mkdir(parents=True)
        Image.new("RGB", (8, 8), shade).save(tmp_path / "train" / colour / "0.png")
    source = Source(PairSet(str(tmp_path), classes=("en",)))
    assert "blue" in source.sentence(0, chance)
    with pytest.raises(UsageError, match="not in 'ja'"):
        Source(PairSet(str(tmp_path), classes=("ja",)))


def test_a_long_address_keeps_its_own_sentences(tmp_path: Path) -> None:
    long = "https://cdn.example.com/" + "a" * 140
    lines = [f"{long}/{i}/{'b' * 60}.jpg,sentence {i}" for i in range(3)]
    (tmp_path / "train.csv").write_text("\n".join(["image_url,captions", *lines]))
    assert Source(PairSet(str(tmp_path))).sentences == [[["sentence 0"]], [["sentence 1"]], [["sentence 2"]]]


def test_equal_sentences_have_equal_numbers_and_false_ones_follow(squares: Path) -> None:
    batch = pairs(Data((PairSet(str(squares)),), batch=8), swapped=True)(0)
    assert batch.ids.shape[0] == len(batch.ends) == len(batch.groups) == 16
    own, false = batch.groups[:8].tolist(), batch.groups[8:].tolist()
    for i, a in enumerate(batch.sentences):
        assert [b == a for b in batch.sentences] == [number == own[i] for number in own]
    assert sum(a != b for a, b in zip(own, false, strict=True)) >= 4  # a colour is exchanged


def test_sizes_change_in_equal_parts_of_a_run(squares: Path) -> None:
    made = pairs(Data((PairSet(str(squares)),), batch=8, sizes=(8, 16)), steps=10)
    assert [made.size(step) for step in range(10)] == [8] * 5 + [16] * 5
    assert made(4).pixels.shape == (8, 8, 8, 3)
    assert made(5).pixels.shape == (8, 16, 16, 3)


def test_without_crops_pictures_are_as_the_model_will_see_them(squares: Path) -> None:
    from awase.encoding.preprocessing import prepare_source

    for rule in (Preprocessing(16), Preprocessing(64, mean=(1.0, 0.0, 0.0), enlarge=1.5, least=48)):
        made = pairs(Data((PairSet(str(squares)),), batch=8, crop=1.0), rule=rule)
        batch, place = made(0), made._places(0)[0]
        expected = prepare_source(place.source.pictures[place.index], rule)
        assert (batch.pixels[0].numpy() == expected).all()
    assert (expected[0] == [255, 0, 0]).all()  # the second rule leaves a border


@pytest.mark.parametrize("size", [(640, 480), (10, 1000), (7, 7)])
def test_a_crop_lies_in_the_picture(size: tuple[int, int]) -> None:
    chance = np.random.default_rng(0)
    for _ in range(100):
        left, top, right, bottom = random_box(size, 0.5, chance)
        assert 0 <= left < right <= size[0] + 1e-9
        assert 0 <= top < bottom <= size[1] + 1e-9
        assert (right - left) * (bottom - top) >= 0.499 * size[0] * size[1]


def test_an_unreadable_picture_is_named_and_another_taken(squares: Path, tmp_path: Path) -> None:
    made = pairs(Data((PairSet(str(squares)),), batch=8))
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    source = made.sources[0]
    place = made._places(0)[0]
    source.pictures[place.index] = bad  # type: ignore[index]
    batch = made(0)
    assert len(batch.pixels) == 8
    assert [error.source for error in made.told] == [str(bad)]  # type: ignore[attr-defined]
    source.pictures[:] = [bad] * 40  # type: ignore[index]
    with pytest.raises(DataError, match=r"times a picture could not be read, and at most 1\.0%"):
        made(100)


# ---- whole runs ------------------------------------------------------------------------------------------------------


def weights_of(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def test_a_run_learns_and_its_model_needs_no_torch(squares: Path, tmp_path: Path) -> None:
    watch = Watch(every=30, retrieval=(f"{squares}:val",))
    data = Data((PairSet(str(squares), columns=("captions", "captions_ja")),), batch=16, threads=1)
    loss = Loss(alike="left out")
    model = pretrain(recipe(squares, 60, data=data, loss=loss, watch=watch, average=0.9), tmp_path / "run")
    clip = awase.load(model)
    assert clip.engine.name == "onnxruntime"
    pictures = clip.encode_images([str(squares / "val" / f"{i}.png") for i in range(12)])
    for words in ([f"a {c} square" for c in COLOURS], [f"{JAPANESE[c]}の四角" for c in COLOURS]):
        answers = (pictures @ clip.encode_texts(words).T).argmax(1)
        assert (answers == np.arange(12) % 4).mean() > 0.7  # chance: 0.25
    log, measured = read_log(tmp_path / "run"), read_evaluations(tmp_path / "run")
    assert log[-1]["pairs"] < 0.5 * log[0]["pairs"]
    assert {"pairs", "scale", "likeness", "gradient", "rate", "seconds"} < set(log[0])
    assert [line["step"] for line in measured] == [30, 60]
    page = (tmp_path / "run" / "run.html").read_text("utf-8")
    for said in (
        "60 steps of 16 pairs",
        "Loss of pairs",
        "R@5",
        "Measured on the way",
        "model.architecture.dimension",
        "n = 24",
        "n = 12",
    ):
        assert said in page


def test_the_part_of_the_peak_is_told_and_changes_nothing(squares: Path, tmp_path: Path) -> None:
    pretrain(recipe(squares), tmp_path / "run")
    reached = [line["peak"] for line in read_log(tmp_path / "run")]
    assert reached[0] == 0
    assert all(0 < part < 1 for part in reached[1:])
    weight = torch.nn.Parameter(torch.ones(8, 16))
    rows = torch.ones(4, 16)
    speed = Speed(lambda: {"pairs": (rows @ weight.T).sum()}, {"weight": weight}, "cpu", "fp32")
    assert weight.grad is None
    assert _work_of(lambda: {"pairs": (rows @ weight.T).sum()}, {}) == 2 * 2 * 4 * 8 * 16  # and the gradient
    assert speed() == 0
    assert speed() > 0


def _with_nan(folder: Path, model: Path) -> str:
    tensors = {name: values.copy() for name, values in load_file(model / "model.safetensors").items()}
    tensors["logit_scale"][...] = np.nan
    folder.mkdir()
    (folder / "config.json").write_bytes((model / "config.json").read_bytes())
    save_file(tensors, folder / "model.safetensors")
    return str(folder)


def test_a_run_that_cannot_end_well_does_not_begin(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told before the first step: what is missing for the last one, too."""
    odd = {**ARCHITECTURE, "image": {**ARCHITECTURE["image"], "heads": 3}}
    small = {**ARCHITECTURE, "text": {**ARCHITECTURE["text"], "vocabulary": 100}}
    larger = {**ARCHITECTURE, "preprocessing": {**ARCHITECTURE["preprocessing"], "size": 32}}
    strange = {**ARCHITECTURE, "image": {**ARCHITECTURE["image"], "activation": "foo"}}
    shallow = {**ARCHITECTURE, "image": {**ARCHITECTURE["image"], "layers": 0}}
    longer = {**ARCHITECTURE, "text_rule": {**ARCHITECTURE["text_rule"], "context": 20}}
    one = (PairSet(str(squares)),)
    spoiled = _with_nan(tmp_path / "nan", pretrain(recipe(squares, 1), tmp_path / "first"))
    gone = str(tmp_path / "shards")
    write_shards(squares, Path(gone), size=20)
    (Path(gone) / "train-000001.tar").unlink()
    (Path(gone) / "val-000000.tar").write_bytes(bytes(100))
    monkeypatch.setattr("awase.learning.pretraining.weights_and_biases.find_spec", lambda name: None)
    for changes, said in [
        ({"watch": Watch(retrieval=(str(tmp_path / "none"),))}, "none"),
        ({"model": Model(architecture=ARCHITECTURE, locked=("imge.",))}, "begins with 'imge.'"),
        ({"model": Model(architecture=odd)}, "sizes do not fit together"),
        ({"model": Model(architecture=small)}, "sizes do not fit together"),
        ({"model": Model(architecture=larger)}, "image.image_size is 16 and preprocessing.size 32"),
        ({"model": Model(architecture=longer)}, "sizes do not fit together"),
        ({"model": Model(architecture={**ARCHITECTURE, "dimension": -1})}, "dimension is '-1', which cannot be"),
        ({"model": Model(architecture={**ARCHITECTURE, "dimension": 0})}, "vectors have numbers"),
        ({"model": Model(architecture={**ARCHITECTURE, "scoring": "foo"})}, "scoring is 'foo', which cannot be"),
        ({"model": Model(architecture={**ARCHITECTURE, "languages": "en"})}, "languages is 'en', which cannot be"),
        ({"model": Model(architecture=strange)}, "activation is 'foo', which cannot be"),
        ({"model": Model(architecture=shallow)}, "no towers of these sizes can be built"),
        ({"data": Data(one, batch=8, sizes=(64, 16))}, "64 is larger than the tower's own 16"),
        ({"model": Model(architecture={**ARCHITECTURE, "image": {"kind": "Wish"}})}, "'Wish' is missing, unknown"),
        ({"model": Model(checkpoint=spoiled)}, "logit_scale holds numbers that are not finite"),
        ({"device": "banana"}, "device 'banana' is not there"),
        ({"data": Data(one, batch=64)}, "squares has 40 pictures for its 64 places"),
        ({"data": Data(one, batch=8, sizes=(16, 8))}, "the last of data.sizes"),
        ({"data": Data(one, batch=8, sizes=(12, 16))}, "12 pixels do not divide into the tower's patches of 8"),
        ({"data": Data((PairSet(gone),), batch=8)}, "train-000001.tar is not there, and shards.json lists it"),
        ({"watch": Watch(retrieval=(gone,))}, "val-000000.tar has 100 bytes, and"),
        ({"watch": Watch(wandb="squares")}, 'watch.wandb = "squares" needs a package that is not installed'),
    ]:
        with pytest.raises((UsageError, DataError, AwaseError), match=re.escape(said)):
            pretrain(recipe(squares, **changes), tmp_path / "run")
        assert not (tmp_path / "run" / "log.jsonl").exists()


def test_memory_that_does_not_suffice_is_told_with_what_helps(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Pairs, "__call__", lambda pairs, step: torch.empty(2**60))
    with pytest.raises(AwaseError, match=r"memory of cpu does not hold a step of 8 pairs: loss\.part"):
        pretrain(recipe(squares), tmp_path / "run")


def test_a_checkpoint_beside_the_recipe_is_found_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "r.toml").write_text(TOML, "utf-8")
    model = 'model={checkpoint="mine"}'
    assert read_recipe(tmp_path / "r.toml", [model]).model.checkpoint == str(tmp_path / "mine")
    assert read_recipe(tmp_path / "r.toml", ['model={checkpoint="org/name"}']).model.checkpoint == "org/name"


def test_the_model_that_is_written_and_measured_is_the_average(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[dict[str, np.ndarray]] = []

    def evaluate(clip: Clip, watch: Watch) -> list[Result]:
        measured.append({name: values.copy() for name, values in clip.checkpoint.load().items()})
        return []

    monkeypatch.setattr(engine, "evaluate", evaluate)
    watch = Watch(every=2, retrieval=(f"{squares}:val",))
    pretrain(recipe(squares, 4, average=0.9, watch=watch), tmp_path / "run")
    kept = load_file(tmp_path / "run" / "step-00000004.safetensors")
    made = awase.load(tmp_path / "run" / "model").checkpoint.load()
    for name, values in made.items():
        np.testing.assert_array_equal(values, kept[f"average.{name}"])
        np.testing.assert_array_equal(values, measured[1][name])
    assert any(not np.array_equal(values, kept[f"weights.{name}"]) for name, values in made.items())
    assert any(not np.array_equal(values, measured[0][name]) for name, values in made.items())


def test_a_disk_that_refuses_what_stands_beside_a_run_stops_no_training(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(engine, "note_evaluation", full)
    watch = Watch(every=2, retrieval=(f"{squares}:val",))
    with pytest.warns(UserWarning, match=r"evaluations.jsonl could not be written \(No space left"):
        pretrain(recipe(squares, 3, watch=watch), tmp_path / "run")
    assert (tmp_path / "run" / "model").is_dir()


@pytest.mark.parametrize("stop_at", [0, 3])
def test_an_interrupted_run_ends_with_the_same_model(squares: Path, tmp_path: Path, stop_at: int) -> None:
    chosen = recipe(squares, average=0.9, model=Model(architecture=ARCHITECTURE, left_out=0.25))
    pretrain(chosen, tmp_path / "whole")

    def stop(step: int, told: dict[str, float]) -> None:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="the same call goes on"):
        pretrain(chosen, tmp_path / "parts", stop)
    assert not (tmp_path / "parts" / "model").exists()
    pretrain(chosen, tmp_path / "parts")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    pretrain(chosen, tmp_path / "parts")  # done is done
    with pytest.raises(UsageError, match=r"holds another run: loss\.pull was"):
        pretrain(dataclasses.replace(chosen, loss=Loss(pull=0.1)), tmp_path / "parts")


def test_weights_that_run_away_are_no_model(squares: Path, tmp_path: Path) -> None:
    """As they were not finite in too few steps for the guard to stop it."""
    with (
        pytest.warns(UserWarning, match="passed over"),
        pytest.raises(TrainingFailed, match=r"after 2 steps: .*this is no model: a lower schedule\.rate"),
    ):
        pretrain(recipe(squares, schedule=Schedule(2, 1e30)), tmp_path / "run")
    assert not (tmp_path / "run" / "model").exists()


def test_data_that_changed_are_another_run(squares: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(squares, mine)

    def stop(step: int, told: dict[str, float]) -> None:
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(mine), tmp_path / "run", stop)
    lines = (mine / "train" / "metadata.jsonl").read_text("utf-8")
    (mine / "train" / "metadata.jsonl").write_text(lines.replace("red number 0", "crimson number 0"), "utf-8")
    with pytest.raises(UsageError, match=r"holds another run: pictures and sentences was .*40 in mine, "):
        pretrain(recipe(mine), tmp_path / "run")


def test_data_that_are_not_divided_are_trained_on_and_what_they_lack_is_told(tmp_path: Path) -> None:
    for i in range(3):
        Image.new("RGB", (9, 9), (80 * i, 0, 0)).save(tmp_path / f"{i}.png")
    rows = ["0.png,a red", "1.png,another", "2.png,", "gone.png,nobody sees this"]
    (tmp_path / "pictures.csv").write_text("\n".join(["image,caption", *rows]), "utf-8")
    data = Data((PairSet(str(tmp_path / "pictures.csv"), columns=("caption",)),), batch=2)
    with (
        pytest.warns(UserWarning, match=r"sentences whose picture is not there \(1: gone.png"),
        pytest.warns(UserWarning, match="1 of 3 pictures have no sentence and are left out"),
    ):
        assert len(pairs(data).sources[0]) == 2
    with pytest.raises(DataError, match="no split 'dev'"):
        Source(PairSet(str(tmp_path / "pictures.csv"), split="dev", columns=("caption",)))


def test_what_a_step_takes_may_change_while_a_run_is_going_on(squares: Path, tmp_path: Path) -> None:
    """As the message about memory advises."""

    def stop(step: int, told: dict[str, float]) -> None:
        if step == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(recipe(squares), tmp_path / "run", stop)
    lean = Model(architecture=ARCHITECTURE, recompute=True)
    pretrain(recipe(squares, model=lean, loss=Loss(part=3)), tmp_path / "run")
    assert len(read_log(tmp_path / "run")) == 6


@pytest.mark.parametrize(
    "loss",
    [
        Loss("blocks", alike="left out", swapped=True),
        Loss(alike="right"),
        Loss(swapped=True, smoothing=0.1, pull=0.1),
        Loss(part=3, most_scale=10.0),
        Loss(fixed_scale=20.0),
        Loss(fixed_scale=150.0),
    ],
)
def test_every_loss_runs(squares: Path, tmp_path: Path, loss: Loss) -> None:
    pretrain(recipe(squares, 3, loss=loss), tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert all(line["pairs"] is not None for line in log)
    if loss.fixed_scale:
        assert [line["scale"] for line in log] == pytest.approx([loss.fixed_scale] * 3)
    else:
        assert log[-1]["scale"] <= loss.most_scale * (1 + 1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_and_blocks_computed_again_run(squares: Path, tmp_path: Path, precision: str) -> None:
    model = Model(architecture=ARCHITECTURE, recompute=True, shrink=0.5, left_out=0.25)
    pretrain(recipe(squares, 3, precision=precision, model=model), tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert log[0]["pairs"] == pytest.approx(read_log_of_fp32(squares, tmp_path)[0]["pairs"], rel=0.05)
    locked = Model(architecture=ARCHITECTURE, shrink=0.5, locked=("image.", "text."))
    with pytest.raises(UsageError, match="no such block learns"):
        pretrain(recipe(squares, 3, model=locked), tmp_path / "none")


def test_scores_are_float32_whatever_towers_compute_in(squares: Path, tmp_path: Path) -> None:
    """With half precision the loss without its matrix and the plain one are still one loss."""
    for kind in ("softmax", "blocks"):
        pretrain(recipe(squares, 2, precision="bf16", loss=Loss(kind, fixed_scale=100.0)), tmp_path / kind)
    one, other = (read_log(tmp_path / kind) for kind in ("softmax", "blocks"))
    assert one[0]["pairs"] == pytest.approx(other[0]["pairs"], rel=1e-5)
    assert one[0]["gradient"] == pytest.approx(other[0]["gradient"], rel=1e-3)


def read_log_of_fp32(squares: Path, folder: Path) -> list[dict[str, Any]]:
    pretrain(recipe(squares, 1, model=Model(architecture=ARCHITECTURE, left_out=0.25)), folder / "fp32")
    return read_log(folder / "fp32")


def test_from_the_second_epoch_on_confused_pairs_meet(squares: Path, tmp_path: Path) -> None:
    """Forty squares in four colours, eight in a batch; what was mined is gone on with after an interruption."""
    data = Data((PairSet(str(squares)),), batch=8, threads=1, mined=True)
    chosen = recipe(squares, 13, data=data)
    pretrain(chosen, tmp_path / "whole")
    orders = sorted((tmp_path / "whole" / "orders").iterdir())
    assert [file.name.partition("-")[2] for file in orders] == ["set-0-epoch-1.npy", "set-0-epoch-2.npy"]
    order = np.load(orders[1])
    assert sorted(order) == list(range(40))
    assert min(Counter(batch % 4).most_common(1)[0][1] for batch in order.reshape(5, 8)[:2]) >= 4

    def stop(step: int, told: dict[str, float]) -> None:
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(chosen, tmp_path / "parts", stop)
    pretrain(chosen, tmp_path / "parts")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")


def test_what_another_run_mined_is_not_taken(squares: Path, tmp_path: Path) -> None:
    data = Data((PairSet(str(squares)),), batch=8, threads=1, mined=True)
    pretrain(recipe(squares, 7, data=data), tmp_path / "first")
    shutil.copytree(tmp_path / "first" / "orders", tmp_path / "second" / "orders")
    for name in ("second", "fresh"):
        pretrain(recipe(squares, 7, data=data, seed=1), tmp_path / name)
    assert weights_of(tmp_path / "second") == weights_of(tmp_path / "fresh")


def test_mining_leaves_locked_layers_as_they_were(squares: Path, tmp_path: Path) -> None:
    image = {"kind": "ModifiedResNet", "image_size": 32, "width": 8, "blocks": [1, 1, 1, 1], "heads": 4}
    resnet = {**ARCHITECTURE, "image": image, "preprocessing": {"size": 32}}
    first = pretrain(recipe(squares, 2, model=Model(architecture=resnet)), tmp_path / "first")
    data = Data((PairSet(str(squares)),), batch=8, threads=1, mined=True)
    locked = Model(checkpoint=str(first), locked=("image.bn1.",))
    second = pretrain(recipe(squares, 7, model=locked, data=data), tmp_path / "second")
    before, after = (awase.load(model).checkpoint.load() for model in (first, second))
    assert np.array_equal(before["image.bn1.running_mean"], after["image.bn1.running_mean"])
    assert not np.array_equal(before["image.bn2.running_mean"], after["image.bn2.running_mean"])


def test_parts_of_a_batch_train_the_same_model(squares: Path, tmp_path: Path) -> None:
    pretrain(recipe(squares, 3), tmp_path / "whole")
    pretrain(recipe(squares, 3, loss=Loss(part=3)), tmp_path / "parts")
    for one, other in zip(read_log(tmp_path / "whole"), read_log(tmp_path / "parts"), strict=True):
        for name in ("pairs", "gradient", "scale", "likeness"):
            assert one[name] == pytest.approx(other[name], rel=1e-4)


def test_a_sigmoid_model_and_a_teacher(squares: Path, tmp_path: Path) -> None:
    sigmoid = Model(architecture={**ARCHITECTURE, "scoring": "sigmoid"})
    pretrain(recipe(squares, 3, model=sigmoid, loss=Loss("sigmoid")), tmp_path / "teacher")
    with pytest.raises(
        UsageError, match=r"scores by sigmoid, so loss\.kind cannot be 'softmax'.*architecture\.scoring"
    ):
        pretrain(recipe(squares, 3, model=sigmoid), tmp_path / "wrong")
    taught = Loss(teachers=(str(tmp_path / "teacher" / "model"),), taught=0.5)
    pretrain(recipe(squares, 3, loss=taught), tmp_path / "student")
    log = read_log(tmp_path / "student")
    assert all(line["taught"] >= 0 for line in log)
    assert loss_of(log[0]) == log[0]["pairs"] + log[0]["taught"]


def test_a_locked_tower_keeps_its_vectors(squares: Path, tmp_path: Path) -> None:
    """LiT, from a checkpoint's weights."""
    first = pretrain(recipe(squares, 3), tmp_path / "first")
    locked = Model(checkpoint=str(first), locked=("image.",))
    second = pretrain(recipe(squares, 3, model=locked), tmp_path / "second")
    before, after = (awase.load(model).checkpoint.load() for model in (first, second))
    assert all(np.array_equal(before[name], after[name]) for name in before if name.startswith("image."))
    assert any(not np.array_equal(before[name], after[name]) for name in before if name.startswith("text."))


def test_running_statistics_are_learned_kept_and_locked(squares: Path, tmp_path: Path) -> None:
    image = {"kind": "ModifiedResNet", "image_size": 32, "width": 8, "blocks": [1, 1, 1, 1], "heads": 4}
    resnet = Model(architecture={**ARCHITECTURE, "image": image, "preprocessing": {"size": 32}})
    chosen = recipe(squares, 4, model=resnet)
    first = pretrain(chosen, tmp_path / "whole")

    def stop(step: int, told: dict[str, float]) -> None:
        if step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        pretrain(chosen, tmp_path / "parts", stop)
    pretrain(chosen, tmp_path / "parts")
    assert weights_of(tmp_path / "parts") == weights_of(tmp_path / "whole")
    locked = Model(checkpoint=str(first), locked=("image.layer1.", "image.bn1."))
    second = pretrain(recipe(squares, 2, model=locked), tmp_path / "locked")
    before, after = (awase.load(model).checkpoint.load() for model in (first, second))
    for name in before:
        if name.endswith("running_mean"):
            kept = name.startswith(("image.layer1.", "image.bn1."))
            assert np.array_equal(before[name], after[name]) == kept, name
    with pytest.raises(UsageError, match="without batch normalisation"):
        pretrain(recipe(squares, 2, model=resnet, loss=Loss(part=2)), tmp_path / "refused")


def test_models_that_cannot_be_are_refused(squares: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no architecture is called 'ViT-Z'; there are .*ViT-B-32"):
        pretrain(recipe(squares, model=Model(architecture="ViT-Z")), tmp_path / "a")
    with pytest.raises(UsageError, match="start it by torchrun"):
        pretrain(recipe(squares, shard=True), tmp_path / "b")


# ---- alarms ----------------------------------------------------------------------------------------------------------


def test_known_failures_are_told_once() -> None:
    alarms = Alarms(batch=64, most_scale=100.0, wait=10)
    said = [line for step in range(50) for line in alarms.hear(step, {"pairs": 4.15, "scale": 100.0, "likeness": 0.99})]
    assert [line.split(":")[0] for line in said] == ["step 10"] * 3
    assert ["stays at ln 64 = 4.16" in said[0], "at its largest, 100" in said[1], "collapsed" in said[2]] == [True] * 3


def test_a_model_that_learns_raises_no_alarm() -> None:
    alarms = Alarms(batch=64, most_scale=100.0, wait=10)
    for step in range(100):
        assert not alarms.hear(step, {"pairs": 4.16 if step % 9 else 3.0, "scale": 20.0, "likeness": 0.5})


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_trains_and_goes_on(
    squares: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "r.toml"
    architecture = "\n".join(
        f"{key} = {{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in value.items())} }}"
        if isinstance(value, dict)
        else f"{key} = {value}"
        for key, value in ARCHITECTURE.items()
    )
    file.write_text(
        f'device = "cpu"\n[model.architecture]\n{architecture}\n[data]\nbatch = 8\n[[data.sets]]\n'
        f"path = {json.dumps(str(squares))}\n[schedule]\nsteps = 2\nrate = 1e-3\n",
        "utf-8",
    )
    out = str(tmp_path / "run")
    assert main(["pretrain", str(file), "--out", out]) == 0
    told = capsys.readouterr().err
    assert "the model is" in told
    assert re.search(r"step 2 of 2, loss \d+\.\d+, scale \d+\.\d, ", told)  # no terminal, so lines in place of a bar
    assert "step 1 of 2" not in told  # but not one for every step
    assert main(["pretrain", str(file), "--out", out]) == 2
    assert "--resume auto goes on" in capsys.readouterr().err
    assert main(["pretrain", str(file), "--out", out, "--resume", "auto"]) == 0
    assert main(["pretrain", str(file), "--out", str(tmp_path / "q"), "--quick", "--set", "loss.kind=blocks"]) == 0
    assert len(read_log(tmp_path / "q")) == 4
    monkeypatch.chdir(tmp_path)
    assert main(["pretrain", str(file), "--quick"]) == 0
    assert (tmp_path / "r-quick" / "model").is_dir()
    assert not (tmp_path / "r").exists()
    assert main(["pretrain", str(file), "--set", "loss.kidn=blocks"]) == 2
    assert "no setting 'kidn'" in capsys.readouterr().err


# ---- Weights & Biases ------------------------------------------------------------------------------------------------


class FakeWandb:
    """What is used of the package. `lines`: (step, numbers) of each run; `begun`: what each was begun with."""

    class Api:
        api_key = None

    def __init__(self, broken: bool = False) -> None:
        self.api, self.broken, self.begun, self.lines, self.finished = self.Api(), broken, [], [], 0

    def Settings(self, **settings: Any) -> dict[str, Any]:
        return settings

    def init(self, **asked: Any) -> FakeWandb:
        if self.broken:
            raise ConnectionError("no network")
        self.begun.append(asked)
        return self

    def log(self, told: dict[str, float], step: int) -> None:
        self.lines.append((step, told))

    def finish(self) -> None:
        self.finished += 1


def test_curves_are_sent_where_the_recipe_asks_for_it(
    squares: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("awase.learning.pretraining.engine.refuse_absent", lambda project: None)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    pretrain(recipe(squares, 3), tmp_path / "silent")
    assert not fake.begun
    chosen = recipe(squares, 3, watch=Watch(wandb="squares"))
    pretrain(chosen, tmp_path / "run")
    (asked,) = fake.begun
    assert (asked["project"], asked["group"], asked["mode"]) == ("squares", "run", "offline")  # nobody is logged in
    assert asked["config"]["schedule"]["steps"] == 3
    logged = [{"step": step, **told} for step, told in fake.lines]
    assert logged == read_log(tmp_path / "run")
    assert fake.finished == 1
    assert weights_of(tmp_path / "run") == weights_of(tmp_path / "silent")
    pretrain(chosen, tmp_path / "run")
    assert len(fake.begun) == 1  # nothing was left to do
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(broken=True))
    with pytest.warns(UserWarning, match=r"gets no more curves \(no network\); training goes on"):
        pretrain(chosen, tmp_path / "alone")
    assert weights_of(tmp_path / "alone") == weights_of(tmp_path / "silent")


def test_wandb_itself_keeps_a_run_without_a_network(squares: Path, tmp_path: Path, monkeypatch: Any) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    pretrain(recipe(squares, 3, watch=Watch(wandb="squares")), tmp_path / "run")
    (kept,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert b"gradient" in kept.read_bytes()
