"""The towers that a run starts from: a checkpoint's, or new ones of the sizes asked for; and which weights learn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from awase.encoding.checkpoints import Checkpoint, in_memory
from awase.encoding.checkpoints.checkpoint import named
from awase.encoding.checkpoints.own import refuse_unfit
from awase.encoding.families import TOWERS, Architecture, from_json
from awase.encoding.published import PUBLISHED
from awase.encoding.tokenizers import Tokenizer, open_tokenizer
from awase.encoding.towers import Towers, initialise, load_towers
from awase.encoding.towers.transformer import VisionTransformer
from awase.errors import CheckpointError, UsageError
from awase.learning.distributed import shard
from awase.learning.large_batches import recompute
from awase.learning.pretraining.recipe import Model
from awase.loading import checkpoint_of


@dataclass(frozen=True)
class Started:
    """Towers in training form with their tokenizer. folder: where its files lie, if it has any of its own."""

    towers: Towers
    tokenizer: Tokenizer
    folder: Path | None

    def checkpoint(self, source: str) -> Checkpoint:
        """The towers as they are now, copied, whatever becomes of them; every process must ask where weights are
        sharded."""
        state = {name: whole(tensor).cpu().numpy().copy() for name, tensor in self.towers.state_dict().items()}
        return in_memory(named(self.towers.architecture), state, source, self.folder)


def whole(tensor: Tensor) -> Tensor:
    """A tensor that may be split among processes, in one."""
    return tensor.full_tensor().detach() if isinstance(tensor, DTensor) else tensor.detach()


def started(model: Model, seed: int, device: str, sharded: bool) -> Started:
    """Raises UsageError for an architecture that there is not, or settings that it cannot have."""
    if model.checkpoint is not None:
        checkpoint = checkpoint_of(model.checkpoint)
        architecture, folder = checkpoint.architecture, checkpoint.folder
        towers = _built(architecture, seed) if model.scratch else load_towers(checkpoint)
    else:
        architecture, folder = _architecture(model.architecture), None
        towers = _built(architecture, seed)
    tokenizer = open_tokenizer(architecture.text_rule, folder)
    _try(towers, tokenizer, model.checkpoint or "model.architecture")
    towers.train().to(device)
    _prepare(towers, model, sharded)
    return Started(towers, tokenizer, folder)


def _built(architecture: Architecture, seed: int) -> Towers:
    try:
        return initialise(Towers(architecture), torch.Generator().manual_seed(seed))
    except (RuntimeError, TypeError, ValueError, ArithmeticError) as problem:
        raise UsageError(f"model.architecture: no towers of these sizes can be built: {problem}") from problem


@torch.no_grad()
def _try(towers: Towers, tokenizer: Tokenizer, source: str) -> None:
    """Refuses sizes that do not fit together, and weights with which nothing can begin."""
    architecture, size = towers.architecture, towers.architecture.preprocessing.size
    if (side := getattr(architecture.image, "image_size", 0) or size) != size:
        raise UsageError(f"{source}: image.image_size is {side} and preprocessing.size {size}; give both the same")
    towers.eval()
    try:
        towers.image(torch.zeros(1, 3, size, size))
        for sentence in ("a", "a " * architecture.text_rule.context):  # as short and as long as they get
            tokens = tokenizer([sentence])
            towers.text(torch.tensor(tokens.ids), torch.tensor(tokens.ends))
    except (RuntimeError, IndexError, TypeError, ValueError, ArithmeticError) as problem:
        raise UsageError(f"{source}: its sizes do not fit together: {problem}") from problem
    if spoiled := [name for name, weight in towers.named_parameters() if not weight.isfinite().all()]:
        raise UsageError(f"{source}: {spoiled[0]} holds numbers that are not finite: nothing can be learned from there")


def _architecture(described: str | Mapping[str, object] | None) -> Architecture:
    if isinstance(described, Mapping):
        try:
            architecture = from_json({"name": "own", **described})
            refuse_unfit(architecture, "model.architecture", "a config.json that awase wrote shows what can")
        except CheckpointError as problem:
            kinds = ", ".join(tower.__name__ for tower in TOWERS)
            why = f"model.architecture: {problem.__cause__} is missing, unknown or misplaced; it is a table as awase's "
            raise UsageError(
                why + f"own config.json has it, and kinds of towers are {kinds}" if problem.__cause__ else str(problem)
            ) from problem
        if architecture.dimension < 1:
            raise UsageError("model.architecture: dimension is 0, and vectors have numbers")
        return architecture
    if described not in PUBLISHED:
        raise UsageError(f"no architecture is called {described!r}; there are {', '.join(PUBLISHED)}")
    return PUBLISHED[described]


def _prepare(towers: Towers, model: Model, sharded: bool) -> None:
    names = [name for name, _ in towers.named_parameters()]
    if idle := [start for start in model.locked if not any(name.startswith(start) for name in names)]:
        raise UsageError(f"locked: no weight's name begins with {idle[0]!r}; there are {', '.join(names[:8])}, ...")
    for name, weight in towers.named_parameters():
        weight.requires_grad_(not name.startswith(model.locked) if model.locked else True)
    for module in towers.modules():
        if not any(weight.requires_grad for weight in module.parameters()):
            module.eval()  # a locked layer's running statistics stay as they are too
    for tower in (towers.image, towers.text):
        if model.recompute and tower.training:
            recompute(tower)
        if sharded:
            shard(tower)
    if model.left_out:
        if not isinstance(towers.image, VisionTransformer):
            raise UsageError("left_out is for image towers that look at patches, and this one does not")
        towers.image.left_out = model.left_out


def learned(towers: Towers) -> dict[str, Tensor]:
    """What training changes, by name: weights that are not locked, and running statistics of layers that learn."""
    weights: dict[str, Tensor] = {name: w for name, w in towers.named_parameters() if w.requires_grad}
    return weights | {name: tensor for name, tensor in towers.named_buffers() if follows(towers, name)}


def follows(towers: nn.Module, name: str) -> bool:
    """Whether a buffer is a running statistic that training changes."""
    owner = towers.get_submodule(name.rpartition(".")[0])
    return owner.training and isinstance(owner, nn.modules.batchnorm._BatchNorm)
