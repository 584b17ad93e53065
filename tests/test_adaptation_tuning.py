"""Methods that train: what each must be equal to before its first step, what it must not touch, and bad input."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import awase  # noqa: E402
from awase import Clip  # noqa: E402
from awase.adapter_files import read_adapter, write_adapter  # noqa: E402
from awase.datasets import Captioned  # noqa: E402
from awase.encoding.checkpoints.derived import TOKENS, derive  # noqa: E402
from awase.encoding.engines import open_engine  # noqa: E402
from awase.encoding.towers import load_towers  # noqa: E402
from awase.errors import DataError, UsageError  # noqa: E402
from awase.evaluation.intervals import proportion  # noqa: E402
from awase.evaluation.zero_shot import zero_shot  # noqa: E402
from awase.learning.adaptation.deep_prompts import DeepPrompts  # noqa: E402
from awase.learning.adaptation.finetuning import FullTuning, distance_of_weights  # noqa: E402
from awase.learning.adaptation.inversion import TextualInversion, concept, row_of  # noqa: E402
from awase.learning.adaptation.lora import Lora  # noqa: E402
from awase.learning.adaptation.objective import Rule, class_loss, pair_loss  # noqa: E402
from awase.learning.adaptation.pictures import seen  # noqa: E402
from awase.learning.adaptation.prompts import PromptTuning  # noqa: E402
from awase.learning.adaptation.task import Pairs, Task, classes  # noqa: E402
from awase.learning.guard import TrainingFailed  # noqa: E402
from colours import coloured  # noqa: E402
from tiny_clips import FAMILIES, tiny_clip  # noqa: E402

FEW: dict[str, Any] = {"steps": 3, "views": 1, "batch": 8}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=FAMILIES)
def clip(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return tiny_clip(request.param, tmp_path_factory.mktemp(request.param), threads=1)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Clip:
    return tiny_clip("clip", tmp_path_factory.mktemp("small"), threads=1)


def task(**settings: Any) -> Task:
    return classes(coloured("train", each=2), **settings)


def pairs() -> Pairs:
    data = coloured("train", each=2)
    captions = [f"a square that is {data.names['en'][target]}" for target in data.targets]
    return Pairs(Captioned("colours", "train", data.pictures, captions, np.arange(len(data))))


def vectors(clip: Clip) -> np.ndarray:
    return clip.encode_images(coloured("val", each=1).pictures)


# ---- before the first step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["a photo of a {}.", "{}の写真", "{} texture, close up"])
def test_a_context_begins_as_the_hand_written_prompt(clip: Clip, template: str) -> None:
    if "の" in template and clip.tokenizer.rule.kind != "sentencepiece":
        pytest.skip("to this tokenizer a name and the Japanese after it are one word")
    lesson = task(templates=[template])
    adapter = PromptTuning(steps=0).fit(clip, lesson)
    adapted = adapter.on(clip)
    assert adapter.templates[0].count("<context>") == 1
    assert adapted.head is not None
    expected = lesson.zero_shot(clip).logits(vectors(clip))
    np.testing.assert_allclose(adapted.head.logits(vectors(adapted)), expected, rtol=0, atol=1e-4)
    assert np.abs(expected).max() > 1e-2


def test_prompts_of_more_tokens_and_of_another_class_name(small: Clip) -> None:
    adapter = PromptTuning(tokens=5, steps=0).fit(small, task())
    assert adapter.changes.words["<context>"].shape == (5, 48)
    assert adapter.on(small).encode_texts(["<context> zebra."]).shape == (1, 40)


@pytest.mark.parametrize("method", [Lora(steps=0), FullTuning(steps=0)])
def test_before_the_first_step_the_model_is_the_base(clip: Clip, method: Any) -> None:
    adapted = method.fit(clip, task()).on(clip)
    np.testing.assert_array_equal(vectors(adapted), vectors(clip))
    np.testing.assert_array_equal(adapted.encode_texts(["a red cat"]), clip.encode_texts(["a red cat"]))


def test_a_new_word_begins_as_an_existing_one(clip: Clip) -> None:
    lesson = concept(coloured("train", each=2).pictures, "<toto>")
    adapter = TextualInversion(coarse="cat", steps=0).fit(clip, lesson)
    table = clip.checkpoint.load()[TOKENS]
    np.testing.assert_array_equal(adapter.changes.words["<toto>"], row_of(clip.tokenizer, table, "cat"))
    adapted = adapter.on(clip)
    said = clip.encode_texts(["a photo of a cat on a desk"])
    np.testing.assert_array_equal(adapted.encode_texts(["a photo of a <toto> on a desk"]), said)
    assert adapted.head is None


# ---- what learns and what stays ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["clip", "quick"])
def test_deep_words_begin_as_what_the_layers_make_of_them(name: str, tmp_path: Path) -> None:
    clip, lesson = tiny_clip(name, tmp_path, threads=1), task()
    adapter = DeepPrompts(tokens=0, steps=0).fit(clip, lesson)
    adapted = adapter.on(clip)
    assert adapted.head is not None
    assert adapter.changes.weights["text.deep"].shape == (2 if name == "clip" else 1, 4, 48)
    expected = lesson.zero_shot(clip).logits(vectors(clip))
    np.testing.assert_allclose(adapted.head.logits(vectors(adapted)), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["clip", "siglip"])
def test_deep_prompts_in_every_engine(name: str, tmp_path: Path) -> None:
    clip = tiny_clip(name, tmp_path, threads=1)
    adapter = DeepPrompts(layers=2, **FEW, rate=0.05).fit(clip, task())
    assert set(adapter.changes.weights) == {"image.prompts", "text.deep"}
    write_adapter(adapter, tmp_path / "adapter")
    adapted = read_adapter(tmp_path / "adapter").on(clip)
    torch_too = open_engine(adapted.checkpoint, "torch:cpu")
    pixels = np.stack([clip.prepare(picture) for picture in coloured("val", each=1).pictures])
    for output in ("vectors", "patches"):
        a, b = (engine.images(pixels, [output])[output] for engine in (adapted.engine, torch_too))
        np.testing.assert_allclose(a, b, atol=2e-4)
    assert np.abs(vectors(adapted) - vectors(clip)).max() > 1e-3
    sentences = [f"<context> {i} cats" for i in range(300)]  # so many share their beginnings
    many = adapted.encode_texts(sentences)
    for i in (0, 7, 299):
        np.testing.assert_allclose(many[i], adapted.encode_texts([sentences[i]])[0], atol=1e-5)
        np.testing.assert_allclose(
            many[i], dataclasses.replace(adapted, engine=torch_too).encode_texts([sentences[i]])[0], atol=1e-4
        )
    np.testing.assert_array_equal(adapted.encode_texts(["a red cat"]), clip.encode_texts(["a red cat"]))
    with pytest.raises(UsageError, match="alpha"):
        adapter.on(clip, 0.5)
    with pytest.raises(UsageError, match="already"):
        DeepPrompts(**FEW).fit(adapted, task())
    awase.write_checkpoint(adapted.checkpoint, tmp_path / "model", "awase")
    np.testing.assert_array_equal(
        awase.load(tmp_path / "model").encode_texts(sentences[:3]), adapted.encode_texts(sentences[:3])
    )


def test_deep_prompts_need_layers(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Transformer layers; use prompt"):
        DeepPrompts().fit(tiny_clip("bundled", tmp_path), task())
    clip = tiny_clip("resnet", tmp_path)
    assert set(DeepPrompts(**FEW).fit(clip, task()).changes.weights) == {"text.deep"}


def test_only_the_context_learns(clip: Clip) -> None:
    start, adapter = (PromptTuning(**FEW | {"steps": steps}).fit(clip, task()) for steps in (0, 3))
    assert not np.array_equal(adapter.changes.words["<context>"], start.changes.words["<context>"])
    adapted = adapter.on(clip)
    np.testing.assert_array_equal(vectors(adapted), vectors(clip))
    np.testing.assert_array_equal(adapted.encode_texts(["a red cat"]), clip.encode_texts(["a red cat"]))


def test_only_the_word_learns_and_comes_nearer(clip: Clip) -> None:
    data = coloured("train", each=2)
    method = TextualInversion(coarse="cat", steps=20, views=1, rivals=0.0, pull=0.0)
    adapted = method.fit(clip, concept(data.pictures[:2], "<toto>")).on(clip)
    pictures = clip.encode_images(data.pictures[:2])
    before, after = (
        float((one.encode_texts([f"a photo of a {word}."]) @ pictures.T).mean())
        for one, word in ((clip, "cat"), (adapted, "<toto>"))
    )
    assert after > before
    np.testing.assert_array_equal(adapted.encode_texts(["my cat"]), clip.encode_texts(["my cat"]))
    np.testing.assert_array_equal(vectors(adapted), vectors(clip))


def test_every_class_gets_a_word_of_its_own(small: Clip) -> None:
    adapter = TextualInversion(**FEW).fit(small, task())
    assert list(adapter.changes.words) == ["<red>", "<green>", "<blue>", "<yellow>"]
    adapted = adapter.on(small)
    assert adapted.head is not None
    assert adapted.head.labels == ("<red>", "<green>", "<blue>", "<yellow>")


@pytest.mark.parametrize("towers", ["image", "text", "both"])
def test_lora_changes_the_towers_that_it_is_told(clip: Clip, towers: Any) -> None:
    method = Lora(towers=towers, **FEW)
    adapter = method.fit(clip, task())
    assert {name.partition(".")[0] for name in adapter.changes.low_rank} == (
        {"image", "text"} if towers == "both" else {towers}
    )
    assert all(change.b.any() for change in adapter.changes.low_rank.values())
    adapted = adapter.on(clip)
    assert np.array_equal(vectors(adapted), vectors(clip)) == (towers == "text")
    said = [one.encode_texts(["a photo of a red."]) for one in (clip, adapted)]
    assert np.array_equal(*said) == (towers == "image")


def test_lora_of_chosen_matrices(small: Clip) -> None:
    adapter = Lora(matrices=("*.mlp.up.weight", "*.attention.qkv.weight/v"), **FEW).fit(small, task())
    assert len(adapter.changes.low_rank) == 2 * 6
    with pytest.raises(UsageError, match="no matrix of"):
        Lora(matrices=("*.nothing",), **FEW).fit(small, task())


@pytest.mark.parametrize("method", [Lora(**FEW), FullTuning(**FEW)])
def test_pictures_with_sentences(clip: Clip, method: Any) -> None:
    adapter = method.fit(clip, pairs())
    adapted = adapter.on(clip)
    assert adapted.head is None
    assert not np.array_equal(vectors(adapted), vectors(clip))


def test_training_makes_the_loss_smaller(clip: Clip) -> None:
    """Loss over all training pictures, through the default engine, with what was learned merged in."""
    lesson = task()
    pictures, labels = (
        torch.from_numpy(clip.encode_images(lesson.train.pictures)),
        torch.from_numpy(lesson.train.targets),
    )
    rule = Rule.of(load_towers(clip.checkpoint))

    def loss(head: Any, seen_now: Any) -> float:
        units = torch.from_numpy((head.weights / np.linalg.norm(head.weights, axis=0)).T)
        return float(class_loss(seen_now, units, labels, rule))

    before = loss(lesson.zero_shot(clip), pictures)
    for method in (
        PromptTuning(steps=12, views=0, pull=0.0),
        Lora(steps=12, views=0, rate=1e-2, dropout=0.0),
        FullTuning(steps=12, views=0, rate=2e-3, decay=0.0),
    ):
        adapted = method.fit(clip, lesson).on(clip)
        after = loss(adapted.head, torch.from_numpy(adapted.encode_images(lesson.train.pictures)))
        assert after < 0.97 * before, method.name


@pytest.mark.parametrize(
    "method",
    [
        PromptTuning(steps=40, views=0, pull=0.0, rate=0.5),
        DeepPrompts(steps=40, views=0, rate=0.05),
        Lora(steps=30, views=0, rate=2e-2, rank=4, dropout=0.0),
        FullTuning(steps=20, views=0, rate=3e-3),
    ],
    ids=lambda method: method.name,
)
def test_labels_that_say_nothing_leave_validation_at_chance(small: Clip, method: Any) -> None:
    """Both splits are shuffled, and names say nothing of colours: a model that begins at its names keeps some of what
    they say, whatever it is taught, which is knowledge and no leak."""
    names = {"en": ("alpha", "beta", "gamma", "delta")}
    train, held = (dataclasses.replace(coloured(split, each=16), names=names) for split in ("train", "val"))
    chance = np.random.default_rng(1)
    shuffled = [dataclasses.replace(data, targets=chance.permutation(data.targets)) for data in (train, held)]
    assert zero_shot(method.fit(small, classes(train, held)).on(small), held).figures["top1"].value > 0.9
    found = zero_shot(method.fit(small, classes(*shuffled)).on(small), shuffled[1])
    low, high = proportion(int(found.items["correct"].sum()), found.n, 0.999)
    assert low <= 0.25 <= high


def test_full_tuning_goes_back_part_of_the_way(clip: Clip) -> None:
    adapter = FullTuning(**FEW, rate=1e-3).fit(clip, task())
    assert TOKENS not in adapter.changes.weights
    tensors = {alpha: adapter.on(clip, alpha).checkpoint.load() for alpha in (0.0, 0.5, 1.0)}
    base = clip.checkpoint.load()
    for name, tuned in adapter.changes.weights.items():
        np.testing.assert_array_equal(tensors[0.0][name], base[name])
        np.testing.assert_array_equal(tensors[1.0][name], tuned)
        np.testing.assert_allclose(tensors[0.5][name], (base[name] + tuned) / 2, atol=1e-6)
    for name in set(base) - set(adapter.changes.weights):
        np.testing.assert_array_equal(tensors[1.0][name], base[name])
    np.testing.assert_array_equal(vectors(adapter.on(clip, 0.0)), vectors(clip))


def test_a_pull_to_the_start(small: Clip) -> None:
    weight = torch.nn.Parameter(torch.randn(3, 3))
    start = {"w": weight.detach().clone()}
    distance_of_weights({"w": weight}, start).backward()
    assert not weight.grad.any()
    settings: dict[str, Any] = {**FEW, "steps": 20, "rate": 1e-3, "decay": 0.0}
    moved = []
    base = small.checkpoint.load()
    for pull in (0.0, 1e4):
        weights = FullTuning(pull=pull, **settings).fit(small, task()).changes.weights
        moved.append(sum(float(np.square(weights[name] - base[name]).sum()) for name in weights))
    assert moved[1] < 0.3 * moved[0]
    distances = []
    for pull in (0.0, 1e3):
        adapted = PromptTuning(pull=pull, steps=30, views=0).fit(small, task()).on(small)
        assert adapted.head is not None
        now, hand = adapted.head.weights, task().zero_shot(small).weights
        distances.append(float(np.square(now - hand).sum()))
    assert distances[1] < 0.5 * distances[0]


# ---- pictures that are computed in part ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["projection.weight", "top.weight", "blocks.4.project.weight", "stem.weight"])
def test_what_is_computed_once_is_what_the_tower_computes(name: str, tmp_path: Path) -> None:
    clip = tiny_clip("bundled", tmp_path, threads=1)
    lesson, towers = task(), load_towers(clip.checkpoint)
    rows = torch.tensor([0, 3, 5])
    with torch.no_grad():
        found = seen(clip, lesson, 0, towers, [f"image.{name}"])[rows]
    expected = clip.encode_images([lesson.train.pictures[i] for i in rows.tolist()])
    np.testing.assert_allclose(found.numpy(), expected, atol=2e-3)  # maps are kept in half precision


@pytest.mark.parametrize("name", ["norm.weight", "projection.weight", "attnpool.c_proj.weight"])
def test_the_same_in_every_family(clip: Clip, name: str) -> None:
    towers = load_towers(clip.checkpoint)
    if f"image.{name}" not in dict(towers.named_parameters()):
        pytest.skip("not a tensor of this family")
    found = seen(clip, task(), 1, towers, [f"image.{name}"])
    with torch.no_grad():
        plain = torch.nn.functional.normalize(found.see(torch.zeros(8, dtype=torch.long), torch.arange(8)), dim=-1)
    np.testing.assert_allclose(plain.numpy(), clip.encode_images(task().train.pictures), atol=1e-4)


# ---- losses --------------------------------------------------------------------------------------------------------


def test_losses_by_hand() -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.nn.functional.normalize(torch.randn(4, 6, generator=draw), dim=-1) for _ in range(2))
    labels = torch.tensor([1, 0, 3, 3])
    softmax, sigmoid = Rule(torch.tensor(10.0), None), Rule(torch.tensor(10.0), torch.tensor(-2.0))
    logits = 10 * a @ b.T
    expected = -(logits - logits.exp().sum(1, keepdim=True).log())[range(4), labels].mean()
    assert float(class_loss(a, b, labels, softmax)) == pytest.approx(float(expected), abs=1e-5)
    signs = torch.tensor([[1.0 if label == c else -1.0 for c in range(4)] for label in labels.tolist()])
    expected = (1 + (-signs * (logits - 2)).exp()).log().sum(1).mean()
    assert float(class_loss(a, b, labels, sigmoid)) == pytest.approx(float(expected), abs=1e-5)
    assert float(pair_loss(a, b, sigmoid)) == pytest.approx(float(class_loss(a, b, torch.arange(4), sigmoid)), abs=1e-5)


# ---- files, interrupts and bad input -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method", [PromptTuning(**FEW), Lora(**FEW), FullTuning(**FEW), TextualInversion(**FEW)], ids=lambda m: m.name
)
def test_written_and_read_it_is_the_same(small: Clip, method: Any, tmp_path: Path) -> None:
    adapter = method.fit(small, task())
    write_adapter(adapter, tmp_path / "adapter")
    read = read_adapter(tmp_path / "adapter")
    sentence = ["<context> cat", "<red> cat"]
    for one in (adapter, read):
        assert one.record["method"] == method.name
    np.testing.assert_array_equal(read.on(small).encode_texts(sentence), adapter.on(small).encode_texts(sentence))
    np.testing.assert_array_equal(vectors(read.on(small)), vectors(adapter.on(small)))
    again = method.fit(small, task())
    assert again.changes.digest() == adapter.changes.digest()


@pytest.mark.parametrize("method", [PromptTuning(**FEW), Lora(**FEW)], ids=lambda m: m.name)
def test_an_interrupted_run_goes_on(small: Clip, method: Any, tmp_path: Path) -> None:
    import os
    import signal

    lesson, expected = task(), method.fit(small, task())

    def interrupt(done: int, total: int, doing: str = "") -> None:
        if done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="goes on"):
        method.fit(small, lesson, interrupt, folder=tmp_path / "run")
    steps = []
    went_on = method.fit(small, lesson, lambda done, total, doing="": steps.append(done), folder=tmp_path / "run")
    assert steps == [3]
    assert went_on.changes.digest() == expected.changes.digest()
    with pytest.raises(UsageError, match="another run"):
        dataclasses.replace(method, steps=5).fit(small, lesson, folder=tmp_path / "run")
    with pytest.raises(UsageError, match="another run"):
        method.fit(small, task(templates=["a drawing of {}."]), folder=tmp_path / "run")


def test_a_rate_that_breaks_everything_is_told(small: Clip) -> None:
    with pytest.warns(UserWarning, match="finite|passed over"), pytest.raises(TrainingFailed):
        FullTuning(steps=30, views=0, rate=1e30).fit(small, task())


def test_one_class_and_one_picture(small: Clip) -> None:
    data = coloured("train", each=1)
    one = dataclasses.replace(data, targets=np.zeros(4, int))
    with pytest.raises(DataError, match="two are the least"):
        classes(one)
    for method in (PromptTuning(**FEW), Lora(**FEW), FullTuning(**FEW), TextualInversion(**FEW)):
        assert method.fit(small, classes(data)).on(small).head is not None  # one picture of each
    with pytest.raises(DataError, match="two pictures"):
        concept(data.pictures[:1], "<toto>")


def test_class_names_that_do_not_fit(small: Clip) -> None:
    data = coloured("train", each=2)
    data = dataclasses.replace(data, names={"en": (*data.names["en"][:3], "word " * 80)})
    with pytest.raises(UsageError, match="does not fit"):
        PromptTuning(**FEW).fit(small, classes(data))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PromptTuning(rate=0), "rate"),
        (lambda: PromptTuning(tokens=0), "tokens"),
        (lambda: Lora(rank=0), "rank"),
        (lambda: Lora(towers="none"), "towers"),
        (lambda: FullTuning(batch=1), "batch"),
        (lambda: TextualInversion(pull=-1), "pull"),
    ],
)
def test_settings_that_make_no_sense(make: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        make()


def test_towers_of_other_libraries_are_refused(small: Clip) -> None:
    from awase.encoding.families import ExternalTower

    architecture = dataclasses.replace(
        small.checkpoint.architecture, image=ExternalTower("timm", "resnet18", image_size=32)
    )
    foreign = dataclasses.replace(small, checkpoint=dataclasses.replace(small.checkpoint, architecture=architecture))
    for method in (PromptTuning(), Lora(), FullTuning(), TextualInversion()):
        assert "another library" in (method.refusal(foreign, task()) or "")


def test_another_engine_gives_the_same(small: Clip) -> None:
    changed = derive(small.checkpoint, Lora(**FEW, rate=1e-2).fit(small, task()).changes)
    pixels = np.stack([small.prepare(picture) for picture in coloured("val", each=1).pictures])
    a, b = (open_engine(changed, engine).images(pixels)["vectors"] for engine in ("onnxruntime", "torch:cpu"))
    np.testing.assert_allclose(a, b, atol=1e-4)
