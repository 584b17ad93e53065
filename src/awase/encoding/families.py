"""CLIP families as data: sizes of two towers, how pictures and sentences are prepared, how a cosine becomes a score.

An `Architecture` is everything about a checkpoint except its weights. Each tower's row also says the name and shape
of every tensor it needs (`tensors()`): the torch modules (`towers.py`), the ONNX graphs (`graphs.py`) and the readers
of published layouts (`checkpoints/`) all meet in these names. It knows nothing of files, torch or ONNX.

The published sizes are the rows of `published.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from awase.errors import CheckpointError

Activation = Literal["quick_gelu", "gelu", "gelu_tanh"]
Shape = tuple[int, ...]
NamedShape = tuple[str, Shape]

OPENAI_MEAN = (0.48145466, 0.4578275, 0.40821073)
OPENAI_STD = (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)


def _linear(name: str, inputs: int, outputs: int) -> Iterator[NamedShape]:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def _norm(name: str, width: int) -> Iterator[NamedShape]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def _mlp(name: str, width: int, hidden: int) -> Iterator[NamedShape]:
    yield from _linear(f"{name}.up", width, hidden)
    yield from _linear(f"{name}.down", hidden, width)


def _attention(name: str, width: int) -> Iterator[NamedShape]:
    yield from _linear(f"{name}.qkv", width, 3 * width)
    yield from _linear(f"{name}.out", width, width)


def _blocks(name: str, layers: int, width: int, hidden: int) -> Iterator[NamedShape]:
    for i in range(layers):
        yield from _norm(f"{name}.{i}.norm1", width)
        yield from _attention(f"{name}.{i}.attention", width)
        yield from _norm(f"{name}.{i}.norm2", width)
        yield from _mlp(f"{name}.{i}.mlp", width, hidden)


@dataclass(frozen=True)
class VisionTransformer:
    """A plain ViT. `pooling="class"` is CLIP's (class token, a norm before the blocks, a projection without bias);
    `pooling="attention"` is SigLIP's (a biased patch convolution, a learned probe that attends to all tokens, no
    projection). prompts: (layers, tokens) of learned tokens that stand after the patches in the first layers, new ones
    in each (Jia et al., 2022, arXiv:2203.12119)."""

    image_size: int
    patch_size: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation
    pooling: Literal["class", "attention"] = "class"
    norm_epsilon: float = 1e-5
    prompts: tuple[int, int] = (0, 0)

    @property
    def tokens(self) -> int:
        """Patches, and the class token where there is one."""
        return self.grid**2 + (self.pooling == "class")

    @property
    def grid(self) -> int:
        """Patches along one side; a remainder at the right and bottom is not looked at."""
        return self.image_size // self.patch_size

    @property
    def features(self) -> int:
        """Width of the pooled vector before the projection."""
        return self.width

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        w, by_class = self.width, self.pooling == "class"
        yield "patch.weight", (w, 3, self.patch_size, self.patch_size)
        if by_class:
            yield "class_token", (w,)
            yield from _norm("pre_norm", w)
        else:
            yield "patch.bias", (w,)
        yield "positions", (self.tokens, w)
        if any(self.prompts):
            yield "prompts", (*self.prompts, w)
        yield from _blocks("blocks", self.layers, w, self.mlp_width)
        yield from _norm("norm", w)
        if by_class:
            yield "projection.weight", (dimension, w)
        else:
            yield "pool.probe", (w,)
            yield from _attention("pool.attention", w)
            yield from _norm("pool.norm", w)
            yield from _mlp("pool.mlp", w, self.mlp_width)


@dataclass(frozen=True)
class ModifiedResNet:
    """CLIP's ResNet: a stem of three convolutions, strides by average pooling, attention pooling at the end.

    Tensors keep OpenAI's names. `width` is the stem's; the last feature map has 32 x width channels on a grid of
    image_size / 32."""

    image_size: int
    width: int
    blocks: tuple[int, int, int, int]
    heads: int

    @property
    def grid(self) -> int:
        return self.image_size // 32

    @property
    def features(self) -> int:
        return self.width * 32

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        w = self.width
        for i, (inputs, outputs) in enumerate([(3, w // 2), (w // 2, w // 2), (w // 2, w)], 1):
            yield f"conv{i}.weight", (outputs, inputs, 3, 3)
            yield from self._batch_norm(f"bn{i}", outputs)
        inputs = w
        for stage, count in enumerate(self.blocks):
            planes = w * 2**stage
            for block in range(count):
                yield from self._bottleneck(f"layer{stage + 1}.{block}", inputs, planes, first=block == 0)
                inputs = planes * 4
        yield "attnpool.positional_embedding", (self.grid**2 + 1, self.features)
        for name in ("q_proj", "k_proj", "v_proj"):
            yield from _linear(f"attnpool.{name}", self.features, self.features)
        yield from _linear("attnpool.c_proj", self.features, dimension)

    @staticmethod
    def _batch_norm(name: str, width: int) -> Iterator[NamedShape]:
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.{part}", (width,)
        yield f"{name}.num_batches_tracked", ()

    def _bottleneck(self, name: str, inputs: int, planes: int, first: bool) -> Iterator[NamedShape]:
        for i, (a, b, k) in enumerate([(inputs, planes, 1), (planes, planes, 3), (planes, planes * 4, 1)], 1):
            yield f"{name}.conv{i}.weight", (b, a, k, k)
            yield from self._batch_norm(f"{name}.bn{i}", b)
        if first:
            yield f"{name}.downsample.0.weight", (planes * 4, inputs, 1, 1)
            yield from self._batch_norm(f"{name}.downsample.1", planes * 4)


@dataclass(frozen=True)
class EfficientNetLite:
    """EfficientNet-lite (Google, 2020) with batch norms folded into the convolutions, pooled by the mean, then

        vector = projection(features) / |projection(features)| + concept_gain * softmax(classifier(features)) @ concepts

    a free direction plus a mixture of what a classifier can name. `stages` are rows of
    (blocks, kernel, stride, expansion, channels); the stem has `stem` channels and the top `features`.

    With `twins` above 0, that block, all later ones and the top have a twin: `blocks` and `top` are the backbone's own,
    `tuned` and `tuned_top` what contrastive training made of them. The features of a picture are then those of both,
    side by side; the projection reads all of them, the classifier the mean of the two."""

    image_size: int
    stem: int
    stages: tuple[tuple[int, int, int, int, int], ...]
    features: int
    concepts: int
    twins: int = 0

    @property
    def grid(self) -> int:
        """Cells along one side of the last feature map (stride 32, rounded up)."""
        return -(-self.image_size // 32)

    @property
    def pooled(self) -> int:
        """Features of a picture, those of the twin among them."""
        return self.features * (2 if self.twins else 1)

    def tuned(self) -> range:
        """The blocks that have a twin."""
        count = sum(stage[0] for stage in self.stages)
        return range(self.twins or count, count)

    def blocks(self) -> Iterator[tuple[int, int, int, int, int]]:
        """(inputs, outputs, kernel, stride, expansion) of every inverted residual block, in order."""
        inputs = self.stem
        for count, kernel, stride, expansion, outputs in self.stages:
            for i in range(count):
                yield inputs, outputs, kernel, stride if i == 0 else 1, expansion
                inputs = outputs

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        yield from self._conv("stem", 3, self.stem, 3)
        rows = list(self.blocks())
        for i, row in enumerate(rows):
            yield from self._block(f"blocks.{i}", *row)
        yield from self._conv("top", rows[-1][1], self.features, 1)
        for i in self.tuned():
            yield from self._block(f"tuned.{i}", *rows[i])
        if self.twins:
            yield from self._conv("tuned_top", rows[-1][1], self.features, 1)
        yield from _linear("projection", self.pooled, dimension)
        yield from _linear("classifier", self.features, self.concepts)
        yield "concepts", (self.concepts, dimension)
        yield "concept_gain", ()

    def _block(
        self, name: str, inputs: int, outputs: int, kernel: int, stride: int, expansion: int
    ) -> Iterator[NamedShape]:
        hidden = inputs * expansion
        if expansion > 1:
            yield from self._conv(f"{name}.expand", inputs, hidden, 1)
        yield from self._conv(f"{name}.depthwise", 1, hidden, kernel)
        yield from self._conv(f"{name}.project", hidden, outputs, 1)

    @staticmethod
    def _conv(name: str, inputs: int, outputs: int, kernel: int) -> Iterator[NamedShape]:
        yield f"{name}.weight", (outputs, inputs, kernel, kernel)
        yield f"{name}.bias", (outputs,)


@dataclass(frozen=True)
class TextTransformer:
    """A pre-norm Transformer over token embeddings. CLIP's is causal and pooled at the end token; SigLIP's sees both
    ways, padding included, and is pooled at the last position. `projection`: "matrix" has no bias, "linear" has one.
    deep: (layers, first id, ids): learned words that the second layer and the next see anew, each with rows of its own
    in the place of what the layer before made of them (Khattak et al., 2023, arXiv:2210.03117)."""

    context: int
    vocabulary: int
    width: int
    layers: int
    heads: int
    mlp_width: int
    activation: Activation
    causal: bool = True
    pooling: Literal["end", "last"] = "end"
    projection: Literal["matrix", "linear", "none"] = "matrix"
    norm_epsilon: float = 1e-5
    deep: tuple[int, int, int] = (0, 0, 0)

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        yield "tokens.weight", (self.vocabulary, self.width)
        yield "positions", (self.context, self.width)
        if any(self.deep):
            yield "deep", (self.deep[0], self.deep[2], self.width)
        yield from _blocks("blocks", self.layers, self.width, self.mlp_width)
        yield from _norm("norm", self.width)
        if self.projection != "none":
            yield "projection.weight", (dimension, self.width)
        if self.projection == "linear":
            yield "projection.bias", (dimension,)


@dataclass(frozen=True)
class NgramEncoder:
    """The multilingual Universal Sentence Encoder's network (Yang et al., 2019, arXiv:1907.04307): residual n-gram
    convolutions over token embeddings beside the embeddings themselves, summed over the sentence and divided by
    the root of its length, then a small dense network ending in tanh; at last awase's own linear map to the shared
    space.

    `orders` are rows of (n, left): a window of n tokens of which `left` stand before the current one."""

    context: int
    vocabulary: int
    width: int
    channels: int
    orders: tuple[tuple[int, int], ...]
    hidden: tuple[int, int, int]
    norm_epsilon: float

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        w, c = self.width, self.channels
        yield "tokens.weight", (self.vocabulary, w)
        for n, _ in self.orders:
            yield from _linear(f"ngrams.{n}.reduce", w, c)
            yield from _norm(f"ngrams.{n}.norm", c)
            yield from _linear(f"ngrams.{n}.first", n * c, c)
            yield from _linear(f"ngrams.{n}.second", n * c, c)
        wide = w + len(self.orders) * c
        a, b, d = self.hidden
        yield from _norm("norm", wide)
        yield from _linear("mix", wide, w)
        yield "dense.0.weight", (a, w)
        yield "dense.1.weight", (b, a)
        yield "dense.1.skip", (b, w)
        yield "dense.2.weight", (d, b)
        yield "dense.3.weight", (w, d)
        yield "dense.3.skip", (w, b)
        yield from _linear("projection", w, dimension)


@dataclass(frozen=True)
class ExternalTower:
    """A tower whose layers another library owns (`library` "timm" or "transformers", `model` its name there).
    It runs in torch only, with that library installed; its tensors are checked when the module is built."""

    library: Literal["timm", "transformers"]
    model: str
    settings: tuple[tuple[str, Any], ...] = ()
    image_size: int = 0
    context: int = 0

    def tensors(self, dimension: int) -> Iterator[NamedShape]:
        return iter(())


ImageTower = VisionTransformer | ModifiedResNet | EfficientNetLite | ExternalTower
TextTower = TextTransformer | NgramEncoder | ExternalTower


@dataclass(frozen=True)
class Preprocessing:
    """How a picture becomes `size` x `size` RGB bytes, and the statistics that the tower then removes.

    resize: "shortest" scales the shorter side to `size` and cuts the centre; "squash" ignores the aspect ratio.
    rgb_first: convert to RGB before resizing (Hugging Face) rather than after (OpenAI, OpenCLIP).
    crop: "round" places the centre as torchvision does (banker's rounding), "floor" as Hugging Face does.
    enlarge: a picture is enlarged no more than so many times, but to `least` pixels at least, and lies in the middle
    of the mean colour if that is below `size`: enlarged further it would look out of focus. None: to `size`, always."""

    size: int
    resize: Literal["shortest", "squash"] = "shortest"
    filter: Literal["bicubic", "bilinear"] = "bicubic"
    rgb_first: bool = False
    crop: Literal["round", "floor"] = "round"
    mean: tuple[float, float, float] = OPENAI_MEAN
    std: tuple[float, float, float] = OPENAI_STD
    enlarge: float | None = None
    least: int = 0

    def inner_side(self, shorter: float) -> int:
        """Pixels along a side of what a picture becomes whose shorter side is so long; at most `size`."""
        if self.enlarge is None:
            return self.size
        return min(self.size, max(self.least, int(self.enlarge * shorter), 1))


@dataclass(frozen=True)
class TextRule:
    """How a sentence becomes token ids.

    kind: "clip" (OpenAI's cleaning with ftfy), "open_clip" (the same, special tokens are plain text), "clip_hf"
    (Hugging Face's cleaning), "siglip", "siglip_open_clip" (underscores become spaces), "siglip2", "siglip2_open_clip",
    "sentencepiece" (the bundled model), "huggingface" (whatever the tokenizer.json in the folder does).
    fixed_length: every sentence is padded to `context`, because padding takes part in the result.
    words: literals that were learned after the vocabulary was made, each with its first id and the number of ids that
    follow one another there (`tokenizers.words`)."""

    kind: Literal[
        "clip",
        "open_clip",
        "clip_hf",
        "siglip",
        "siglip_open_clip",
        "siglip2",
        "siglip2_open_clip",
        "sentencepiece",
        "huggingface",
    ]
    context: int
    fixed_length: bool = False
    words: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Architecture:
    """Everything about a checkpoint except its weights.

    dimension: D of the shared space. scoring: "softmax" over candidates at scale exp(logit_scale), or "sigmoid" of
    exp(logit_scale) * cosine + logit_bias for each sentence alone. languages: of those that awase has prompts for."""

    name: str
    image: ImageTower
    text: TextTower
    dimension: int
    preprocessing: Preprocessing
    text_rule: TextRule
    scoring: Literal["softmax", "sigmoid"] = "softmax"
    languages: tuple[str, ...] = ("en",)

    def tensors(self) -> dict[str, Shape]:
        """Name -> shape of every tensor, in the order in which awase writes them."""
        named: dict[str, Shape] = {"logit_scale": ()}
        if self.scoring == "sigmoid":
            named["logit_bias"] = ()
        named |= {f"image.{name}": shape for name, shape in self.image.tensors(self.dimension)}
        named |= {f"text.{name}": shape for name, shape in self.text.tensors(self.dimension)}
        return named

    @property
    def external(self) -> bool:
        """Whether a tower belongs to another library, so that only the torch engine can run it."""
        return isinstance(self.image, ExternalTower) or isinstance(self.text, ExternalTower)


def languages_of(vocabulary: int) -> tuple[str, ...]:
    """Languages that a text tower of this vocabulary was trained on, of those that awase has prompts for."""
    return ("en", "ja") if vocabulary >= 100_000 else ("en",)


def in_words(settings: Any) -> str:
    """A dataclass of settings as text, for fingerprints. What is at its default is left out, so that a setting that a
    later awase adds leaves every fingerprint as it was, and with it every cache and every library of pictures."""
    told = [
        f"{field.name}={in_words(value) if dataclasses.is_dataclass(value) else repr(value)}"
        for field in dataclasses.fields(settings)
        if (value := getattr(settings, field.name)) != field.default
    ]
    return f"{type(settings).__name__}({', '.join(told)})"


TOWERS: tuple[type, ...] = (
    VisionTransformer,
    ModifiedResNet,
    EfficientNetLite,
    TextTransformer,
    NgramEncoder,
    ExternalTower,
)


def to_json(architecture: Architecture) -> dict[str, Any]:
    """A JSON-ready description, which `from_json` reads back to an equal `Architecture`."""
    described = dataclasses.asdict(architecture)
    for side in ("image", "text"):
        described[side] = {"kind": type(getattr(architecture, side)).__name__, **described[side]}
    return described


def from_json(described: dict[str, Any]) -> Architecture:
    """Raises CheckpointError for an unknown tower, setting or a missing one."""
    kinds = {tower.__name__: tower for tower in TOWERS}

    def build(kind: type, settings: dict[str, Any]) -> Any:
        return kind(**{key: _tuples(value) for key, value in settings.items()})

    try:
        parts = dict(described)
        for side in ("image", "text"):
            settings = dict(parts[side])
            parts[side] = build(kinds[settings.pop("kind")], settings)
        parts["preprocessing"] = build(Preprocessing, parts["preprocessing"])
        parts["text_rule"] = build(TextRule, parts["text_rule"])
        return Architecture(**{key: _tuples(value) for key, value in parts.items()})
    except (KeyError, TypeError, AttributeError) as problem:
        raise CheckpointError(
            f"the architecture in config.json cannot be used ({problem}); "
            "it was written by another version of awase or by hand"
        ) from problem


def _tuples(value: Any) -> Any:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
