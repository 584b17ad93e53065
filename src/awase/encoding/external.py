"""Towers that other libraries own, put together as OpenCLIP does: timm's image models, Hugging Face's text encoders.

Their layers and the names of their tensors are the library's; what is ours is the pooling and projection after them,
under OpenCLIP's names, and the same way in and out as that of every tower in `towers`. torch only."""

# mypy: disable-error-code="no-any-return"
# (to the type checker, calling a torch module gives Any)

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from awase.encoding.families import ExternalTower
from awase.errors import CheckpointError, EngineError


class TimmTower(nn.Module):
    """A model of timm (`trunk`) and what stands between its pooled features and the shared space (`head`).

    Patches are its tokens or cells, each sent through the trunk's own pooling alone and then the head."""

    def __init__(self, tower: ExternalTower, dimension: int) -> None:
        super().__init__()
        timm = _library("timm")
        settings = dict(tower.settings)
        pool, projection = settings.get("pool", "avg"), settings.get("proj", "linear")
        if pool in ("abs_attn", "rot_attn"):
            raise CheckpointError(f"{tower.model}: timm's pooling {pool!r} is not read by awase")
        # As in OpenCLIP: with no projection of its own, the trunk's classifier projects ("none": nothing does).
        if projection in ("linear", "mlp"):
            self.trunk = timm.create_model(tower.model)
            self.trunk.reset_classifier(0, **({"global_pool": pool} if pool else {}))
        else:
            outputs = 0 if projection == "none" else dimension
            self.trunk = timm.create_model(tower.model, num_classes=outputs, global_pool=pool)
        self.head = nn.Sequential()
        width, bias = self.trunk.num_features, bool(settings.get("proj_bias", False))
        if projection == "linear":
            self.head.add_module("proj", nn.Linear(width, dimension, bias))
        elif projection == "mlp":
            mlp = _library("timm.layers").Mlp
            self.head.add_module("mlp", mlp(width, 2 * dimension, dimension, bias=(True, bias)))

    def forward(self, pixels: Tensor, outputs: Sequence[str] = ("vectors",)) -> dict[str, Tensor]:
        x = self.trunk.forward_features(pixels)
        found: dict[str, Tensor] = {}
        found["features"] = self.trunk.forward_head(x, pre_logits=True)
        if "vectors" in outputs:
            found["vectors"] = self.head(self.trunk.forward_head(x))
        if "patches" in outputs:
            found["patches"] = self.head(self.trunk.forward_head(self._each_alone(x))).unflatten(0, (len(pixels), -1))
        return {name: found[name] for name in outputs}

    def _each_alone(self, x: Tensor) -> Tensor:
        """What the trunk gives -> a batch of B * N such things, with one token or cell each."""
        if x.ndim == 3:  # (B, class and register tokens and N others, C)
            first = self.trunk.num_prefix_tokens
            patches = x[:, first:]
            if not first or self.trunk.global_pool == "token":
                return patches.flatten(0, 1)[:, None]
            leading = x[:, None, :first].expand(-1, patches.shape[1], -1, -1)
            return torch.cat([leading, patches[:, :, None]], dim=2).flatten(0, 1)
        if getattr(self.trunk, "output_fmt", "NCHW") == "NHWC":
            return x.flatten(0, 2)[:, None, None]
        return x.flatten(2).transpose(1, 2).flatten(0, 1)[:, :, None, None]


class TransformersTower(nn.Module):
    """An encoder of Hugging Face's (`transformer`), a pooling without weights, and a projection (`proj`)."""

    def __init__(self, tower: ExternalTower, dimension: int) -> None:
        super().__init__()
        settings = dict(tower.settings)
        self.pooler, projection = settings.get("pooler", "mean_pooler"), settings.get("proj", "mlp")
        if self.pooler not in ("mean_pooler", "cls_pooler", "cls_last_hidden_state_pooler"):
            raise CheckpointError(f"{tower.model}: OpenCLIP's {self.pooler!r} is not read by awase")
        self.transformer = _encoder(tower.model, with_pooler=self.pooler == "cls_pooler")
        width = self.transformer.config.hidden_size
        hidden = (width + dimension) // 2
        self.proj: nn.Module = nn.Identity()
        if projection == "linear":
            self.proj = nn.Linear(width, dimension, bias=False)
        elif projection == "mlp":
            up, down = nn.Linear(width, hidden, bias=False), nn.Linear(hidden, dimension, bias=False)
            self.proj = nn.Sequential(up, nn.GELU(), down)

    @property
    def tokens(self) -> nn.Module:
        """The table of token embeddings: ids -> (B, L, w)."""
        return self.transformer.get_input_embeddings()

    def forward(self, ids: Tensor, ends: Tensor) -> Tensor:
        return self._encode(ends, ids.shape[1], input_ids=ids)

    def forward_embeddings(self, embeddings: Tensor, ends: Tensor) -> Tensor:
        """Token embeddings (B, L, w), learned ones among them if you like, -> vectors (B, D)."""
        return self._encode(ends, embeddings.shape[1], inputs_embeds=embeddings)

    def _encode(self, ends: Tensor, length: int, **inputs: Tensor) -> Tensor:
        inside = (torch.arange(length, device=ends.device) <= ends[:, None]).long()
        return self.proj(self._pool(self.transformer(attention_mask=inside, **inputs), inside))

    def _pool(self, output: Any, inside: Tensor) -> Tensor:
        x, inside = output.last_hidden_state, inside[..., None]
        if self.pooler == "mean_pooler":
            return (x * inside).sum(1) / inside.sum(1)
        pooled = getattr(output, "pooler_output", None)
        return x[:, 0] if self.pooler != "cls_pooler" or pooled is None else pooled


def external_image_tower(tower: ExternalTower, dimension: int) -> nn.Module:
    if tower.library != "timm":
        raise CheckpointError(f"{tower.model}: image towers come from timm, not from {tower.library}")
    return TimmTower(tower, dimension)


def external_text_tower(tower: ExternalTower, dimension: int) -> nn.Module:
    if tower.library != "transformers":
        raise CheckpointError(f"{tower.model}: text towers come from transformers, not from {tower.library}")
    return TransformersTower(tower, dimension)


def _encoder(model: str, with_pooler: bool) -> Any:
    """A newly made encoder; only its configuration is looked up, in a folder or on the hub. No code of the hub's is
    run."""
    transformers = _library("transformers")
    try:
        config = transformers.AutoConfig.from_pretrained(model, trust_remote_code=False)
    except (OSError, ValueError) as problem:
        raise CheckpointError(
            f"the configuration of the text encoder {model} could not be had: {problem}; the weights are here, but "
            "the shape of the encoder is in its own repository"
        ) from problem
    if getattr(config, "is_encoder_decoder", False):
        return transformers.AutoModel.from_config(config).encoder
    return transformers.AutoModel.from_config(config, add_pooling_layer=with_pooler)


def _library(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as problem:
        package = name.partition(".")[0]
        raise EngineError(
            f"a tower of this model belongs to {package}, which cannot be imported ({problem}): pip install {package}"
        ) from problem
