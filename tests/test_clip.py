"""The Clip object, with the model that comes with the package and real photographs."""

from __future__ import annotations

import tarfile
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import awase
from awase import NONE_OF_THESE, Clip, LanguageWarning, PictureError, TextCutWarning, TextError, UsageError

EXAMPLES = Path(__file__).parents[1] / "examples"
CAT = EXAMPLES / "cat.jpg"


@pytest.fixture(scope="module")
def clip() -> Clip:
    return awase.load()


def test_unit_vectors_of_the_stated_shape(clip: Clip) -> None:
    pictures, words = clip.encode_images([CAT, str(CAT)]), clip.encode_texts(["a cat", "猫", "a dog"])
    assert pictures.shape == (2, clip.dimension)
    assert words.shape == (3, clip.dimension)
    for vectors in (pictures, words):
        assert vectors.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(pictures[0], pictures[1])


def test_every_source_of_the_same_picture_gives_the_same_vector(clip: Clip) -> None:
    opened = Image.open(CAT)
    sources = [CAT, str(CAT), CAT.read_bytes(), BytesIO(CAT.read_bytes()), opened, np.asarray(opened.convert("RGB"))]
    vectors = clip.encode_images(sources)
    np.testing.assert_allclose(vectors, np.repeat(vectors[:1], len(sources), 0), atol=2e-6)


def test_batches_do_not_change_vectors(clip: Clip) -> None:
    pictures = [np.random.default_rng(i).integers(0, 256, (90, 120, 3), np.uint8) for i in range(17)]
    alone = np.concatenate([clip.encode_images([picture]) for picture in pictures])
    np.testing.assert_allclose(clip.encode_images(pictures), alone, atol=1e-5)
    sentences = ["a dog", "a small brown dog that runs on wet sand", "犬", "a dog", ""]
    alone = np.concatenate([clip.encode_texts([sentence]) for sentence in sentences])
    np.testing.assert_allclose(clip.encode_texts(sentences), alone, atol=1e-5)


def test_nothing_in_nothing_out(clip: Clip) -> None:
    assert clip.encode_images([]).shape == clip.encode_texts([]).shape == (0, clip.dimension)


def test_a_cat_is_a_cat_in_both_languages(clip: Clip) -> None:
    assert clip.classify(CAT, ["dog", "car", "cat", "tree"])[0].label == "cat"
    assert clip.classify(CAT, ["犬", "車", "猫", "木"])[0].label == "猫"


def test_scores_are_sorted_and_share_probability(clip: Clip) -> None:
    scores = clip.classify(CAT, ["dog", "car", "cat", "tree"])
    assert [score.probability for score in scores] == sorted((s.probability for s in scores), reverse=True)
    assert sum(score.probability for score in scores) == pytest.approx(1)
    cosines = clip.similarity([CAT], clip.classifier(["dog", "car", "cat", "tree"]))[0]
    assert {score.similarity for score in scores} == {float(cosine) for cosine in cosines}


def test_the_order_of_labels_does_not_matter(clip: Clip) -> None:
    labels = ["dog", "car", "cat", "tree"]
    one, other = clip.classify(CAT, labels), clip.classify(CAT, labels[::-1])
    assert [score.label for score in one] == [score.label for score in other]
    np.testing.assert_allclose([s.probability for s in one], [s.probability for s in other], atol=1e-6)


def test_none_of_these(clip: Clip) -> None:
    wrong = clip.classify(CAT, ["an aeroplane", "a bridge"], none_of_these=True)
    right = clip.classify(CAT, ["a cat", "a bridge"], none_of_these=True)
    assert wrong[0].label == NONE_OF_THESE
    assert right[0].label == "a cat"
    assert sum(score.probability for score in wrong) == pytest.approx(1)


def test_match_judges_each_sentence_alone(clip: Clip) -> None:
    sentences = ["a close-up of a cat", "a bus at night", "猫の顔"]
    together = clip.match(CAT, sentences)
    assert [score.label for score in together] == sentences
    alone = [clip.match(CAT, [sentence])[0] for sentence in sentences]
    np.testing.assert_allclose([s.probability for s in together], [s.probability for s in alone], atol=1e-6)
    assert together[0].probability > 0.5 > together[1].probability
    assert together[2].probability > 0.5


def test_patches_lie_in_the_shared_space(clip: Clip) -> None:
    patches = clip.encode_images([CAT], patches=True)
    assert patches.shape == (1, clip.checkpoint.architecture.image.grid**2, clip.dimension)
    np.testing.assert_allclose(np.linalg.norm(patches, axis=-1), 1, atol=1e-5)
    words = clip.classifier(["cat", "car"])
    assert (patches[0] @ words.T).mean(0).argmax() == 0


def test_similarity_takes_vectors_or_what_they_are_made_from(clip: Clip) -> None:
    words = ["a cat", "a dog"]
    cosines = clip.similarity([CAT], words)
    encoded = clip.similarity(clip.encode_images([CAT]), clip.encode_texts(words))
    np.testing.assert_allclose(cosines, encoded, atol=1e-6)  # two products of equal rows may round apart
    assert cosines.shape == (1, 2)


def test_ensembles_follow_each_labels_language(clip: Clip) -> None:
    weights = clip.classifier(["cat", "猫"], "ensemble")
    np.testing.assert_allclose(weights[:1], clip.classifier(["cat"], "imagenet80"), atol=1e-6)
    np.testing.assert_allclose(weights[1:], clip.classifier(["猫"], "japanese37"), atol=1e-6)


def test_long_sentences_are_cut_and_said_to_be(clip: Clip) -> None:
    long = "a dog and " * 300
    with pytest.warns(TextCutWarning, match="1 of 2 sentences"):
        clip.encode_texts(["short", long])
    with pytest.raises(TextError):
        clip.encode_texts([long], too_long="error")


def test_wrong_use_is_said_plainly(clip: Clip) -> None:
    with pytest.raises(UsageError, match="list of sentences"):
        clip.encode_texts("a cat")
    with pytest.raises(UsageError, match="list of pictures"):
        clip.encode_images(str(CAT))
    with pytest.raises(UsageError, match="list of pictures"):
        clip.encode_images(np.zeros((50, 60, 3), np.uint8))
    with pytest.raises(UsageError, match="list of pictures"):
        clip.encode_images(Image.open(CAT))
    with pytest.raises(UsageError, match="no labels"):
        clip.classify(CAT, [])
    with pytest.raises(UsageError, match="more than once"):
        clip.classify(CAT, ["cat", "cat"])
    with pytest.raises(UsageError, match="imagenet80"):
        clip.classify(CAT, ["cat"], templates="no such set")
    with pytest.raises(PictureError, match="absent"):
        clip.encode_images([CAT, "absent.jpg"])


def test_labels_are_any_iterable_of_strings(clip: Clip) -> None:
    expected = clip.classify(CAT, ["cat", "dog"])
    for labels in (("cat", "dog"), iter(["cat", "dog"]), {"cat": 1, "dog": 2}, np.array(["cat", "dog"])):
        found = clip.classify(CAT, labels, templates=iter(["a photo of a {}."]), none_of_these=False)
        assert [score.label for score in found] == [score.label for score in expected]
    assert clip.encode_texts(iter(["a cat"])).shape == (1, clip.dimension)


@pytest.mark.parametrize("given", [None, 3, [None], [1], ["cat", " "], "cat", b"cat"])
def test_what_is_no_list_of_words_is_refused(clip: Clip, given: object) -> None:
    for take in (
        lambda: clip.classify(CAT, given),  # type: ignore[arg-type]
        lambda: clip.match(CAT, given),  # type: ignore[arg-type]
        lambda: clip.classifier(["cat"], [given]),  # type: ignore[list-item]
    ):
        with pytest.raises(UsageError):
            take()


@pytest.mark.parametrize("given", [None, 3, "photo.jpg", Path("photo.jpg")])
def test_what_is_no_list_of_pictures_is_refused(clip: Clip, given: object) -> None:
    for take in (clip.stream, clip.encode_images, lambda pictures: clip.similarity(pictures, ["a cat"])):
        with pytest.raises(UsageError, match="list of pictures"):
            take(given)


def test_similarity_says_what_vectors_are(clip: Clip) -> None:
    vectors = clip.encode_texts(["a cat", "a dog"])
    wrong = vectors[0], list(vectors), vectors.tolist(), vectors[:, :-1], vectors * np.nan
    for vector in wrong:
        for pair in ((vector, vectors), (vectors, vector)):
            with pytest.raises(UsageError, match=rf"one array of shape \(N, {clip.dimension}\)"):
                clip.similarity(*pair)


def test_a_label_may_not_be_the_answer_that_is_added(clip: Clip) -> None:
    with pytest.raises(UsageError, match=NONE_OF_THESE):
        clip.judge(["cat", NONE_OF_THESE], none_of_these=True)
    assert len(clip.classify(CAT, ["cat", NONE_OF_THESE])) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"model": 3},
        {"model": ""},
        {"engine": None},
        {"precision": None},
        {"threads": "x"},
        {"threads": 0},
        {"threads": True},
        {"threads": 10**20},
        {"limits": 5},
    ],
)
def test_settings_that_make_no_sense_are_refused_at_once(settings: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=next(iter(settings))):
        awase.load(**settings)  # type: ignore[arg-type]


def test_a_stream_goes_on_past_a_bad_picture(clip: Clip, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(CAT.read_bytes()[:2000])
    outcomes = list(clip.stream([CAT, bad, CAT]))
    assert [outcome.error is None for outcome in outcomes] == [True, False, True]
    assert str(bad) in str(outcomes[1].error)


def test_a_foreign_language_is_noticed() -> None:
    from dataclasses import replace

    clip = awase.load()
    english = replace(clip.checkpoint, architecture=replace(clip.checkpoint.architecture, languages=("en",)))
    with pytest.warns(LanguageWarning, match="near chance"):
        replace(clip, checkpoint=english).classifier(["猫"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clip.classifier(["猫"])


def test_public_names_are_complete() -> None:
    assert sorted(awase._HOME_OF) == sorted(set(awase.__all__) - {"__version__"})
    for name in awase.__all__:
        assert getattr(awase, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = awase.nothing


@pytest.fixture(scope="module")
def two_cats(shared_data: Path) -> bytes:
    with tarfile.open(shared_data / "test_photos.tar") as archive:
        name = next(n for n in archive.getnames() if "two_cats" in n)
        member = archive.extractfile(name)
        assert member is not None
        return member.read()


@pytest.mark.shared
def test_two_cats_on_a_couch(clip: Clip, two_cats: bytes) -> None:
    assert clip.classify(two_cats, ["cat", "dog", "car", "tree"])[0].label == "cat"
    assert clip.classify(two_cats, ["猫", "犬", "車", "木"])[0].label == "猫"
    couch, lawn = clip.match(two_cats, ["two cats on a pink couch", "a dog on a lawn"])
    assert couch.probability > 0.5 > lawn.probability
