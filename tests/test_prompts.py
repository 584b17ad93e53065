"""Templates, class prompts, validation, languages, and the ensemble of a class."""

from __future__ import annotations

import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from awase.encoding.prompts import background, class_prompts, classifier, language_of, templates
from awase.errors import UsageError


@pytest.mark.parametrize(
    ("name", "language", "count"),
    [
        ("simple", "en", 1),
        ("none", "en", 1),
        ("imagenet7", "en", 7),
        ("imagenet80", "en", 80),
        ("ensemble", "en", 80),
        ("simple", "ja", 1),
        ("none", "ja", 1),
        ("japanese37", "ja", 37),
        ("ensemble", "ja", 37),
    ],
)
def test_sets_of_templates(name: str, language: str, count: int) -> None:
    found = templates(name, language)
    assert len(set(found)) == len(found) == count
    assert all(template.count("{}") == 1 for template in found)


def test_simple_ones_in_full() -> None:
    assert templates("simple") == ("a photo of a {}.",)
    assert templates("simple", "ja") == ("{}の写真",)
    assert templates("none", "ja") == ("{}",)


@pytest.mark.shared
def test_templates_are_the_published_ones(shared_data: Path) -> None:
    with tarfile.open(shared_data / "text.tar") as archive:

        def read(name: str) -> dict:  # type: ignore[type-arg]
            found = next(m for m in archive.getmembers() if m.name.endswith(name))
            return json.load(archive.extractfile(found))  # type: ignore[arg-type]

        assert list(templates("imagenet80")) == read("clip27_en.json")["ImageNet"]["templates"]
        assert list(templates("japanese37", "ja")) == read("templates_ja.json")["clip_benchmark_jp"]
    assert set(templates("imagenet7")) < set(templates("imagenet80"))


def test_unknown_names_are_answered_with_the_known() -> None:
    with pytest.raises(UsageError, match=r"imagenet99.*none, simple, imagenet7, imagenet80, ensemble"):
        templates("imagenet99")
    with pytest.raises(UsageError, match=r"imagenet80.*none, simple, japanese37, ensemble"):
        templates("imagenet80", "ja")
    with pytest.raises(UsageError, match=r"'fr'.*en, ja"):
        templates("simple", "fr")


def test_backgrounds_come_in_both_languages() -> None:
    for kind in ("sentences", "things"):
        english, japanese = background(kind, "en"), background(kind, "ja")  # type: ignore[arg-type]
        assert len(english) == len(japanese) > 50
        assert all(language_of(text) == "ja" for text in japanese)
        assert all(language_of(text) == "en" for text in english)


def test_prompts_by_class_and_template() -> None:
    assert class_prompts(["cat", "{dog}"], ["a {}.", "{} {}"]) == [["a cat.", "cat cat"], ["a {dog}.", "{dog} {dog}"]]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ([], ["{}"], "no labels"),
        (["cat", ""], ["{}"], "label 1 is ''"),
        (["cat", " \n"], ["{}"], "label 1"),
        (["cat", None], ["{}"], "label 1 is None"),
        (["cat", "dog", "cat "], ["{}"], "more than once: cat"),
        ("cat", ["{}"], "put it in a list"),
        (["cat"], ["a photo"], "'a photo' has no {}"),
        (["cat"], [], "at least one template"),
    ],
)
def test_what_makes_no_sense_is_refused(names: list[str], given: list[str], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        class_prompts(names, given)


@pytest.mark.parametrize("text", ["猫", "ネコ", "ねこ", "ﾈｺ", "a photo of 犬", "佐々木", "𠮷野家", "ー"])
def test_japanese(text: str) -> None:
    assert language_of(text) == "ja"


@pytest.mark.parametrize("text", ["cat", "", "café", "кошка", "고양이", "😀", "ＡＢＣ", "。"])
def test_not_japanese(text: str) -> None:
    assert language_of(text) == "en"


def encode(prompts: list[str]) -> np.ndarray:
    """A unit vector that depends on the whole prompt."""
    draws = [np.random.default_rng(zlib.crc32(prompt.encode())).normal(size=16) for prompt in prompts]
    return np.array([draw / np.linalg.norm(draw) for draw in draws], np.float32)


def test_ensemble_is_the_normalised_mean_of_unit_vectors() -> None:
    names, given = ["cat", "dog", "猫"], templates("imagenet7")
    found = classifier(names, given, encode)
    for name, vector in zip(names, found, strict=True):
        mean = encode([template.replace("{}", name) for template in given]).mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-6)
    assert (found.shape, found.dtype) == ((3, 16), np.float32)


def test_one_template_gives_the_vector_itself() -> None:
    np.testing.assert_allclose(classifier(["cat"], ["a {}"], encode), encode(["a cat"]), atol=1e-6)


def test_equal_prompts_are_encoded_once_and_count_as_often_as_they_occur() -> None:
    calls: list[list[str]] = []

    def noted(prompts: list[str]) -> np.ndarray:
        calls.append(prompts)
        return encode(prompts)

    found = classifier(["cat", "cats"], ["{}s", "{}s", "{}"], noted)
    assert calls == [["cats", "cat", "catss"]]
    total = 2 * encode(["cats"]) + encode(["cat"])
    np.testing.assert_allclose(found[:1], total / np.linalg.norm(total), atol=1e-6)
