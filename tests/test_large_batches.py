"""Large batches on small machines: the same gradients, less memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from awase.encoding import families  # noqa: E402
from awase.encoding.towers.transformer import VisionTransformer  # noqa: E402
from awase.errors import UsageError  # noqa: E402
from awase.learning.large_batches import in_chunks, recompute  # noqa: E402
from awase.learning.loop import Schedule, train  # noqa: E402
from awase.learning.losses import contrastive  # noqa: E402


def tower(pooling: str = "class") -> VisionTransformer:
    torch.manual_seed(0)
    made = VisionTransformer(families.VisionTransformer(32, 8, 16, 2, 2, 32, "gelu", pooling), 16)
    for weight in made.parameters():
        nn.init.normal_(weight, 0, 0.3)
    return made


class Encoder(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Linear(6, 64), nn.GELU(), nn.Dropout(dropout), nn.Linear(64, 64), nn.Linear(64, 4)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.layers(x), dim=-1)


def gradients(model: nn.Module, encode: Callable[[torch.Tensor], torch.Tensor]) -> list[torch.Tensor]:
    """Of the contrastive loss over 24 pairs, with everything random from one seed."""
    pictures, sentences = (torch.randn(24, 6, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    torch.manual_seed(3)
    model.zero_grad()
    contrastive(encode(pictures), encode(sentences), torch.tensor(10.0)).backward()
    return [weight.grad.clone() for weight in model.parameters()]


# ---- gradient caching ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 5, 8, 24, 100])
def test_a_batch_in_parts_has_the_gradients_of_the_whole(size: int) -> None:
    model = Encoder(0.0)
    whole = gradients(model, model)
    for found, expected in zip(gradients(model, lambda x: in_chunks(model, [x], size)), whole, strict=True):
        assert (found - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.parametrize("size", [1, 5, 8])
def test_dropout_falls_the_same_in_both_passes(size: int) -> None:
    """As if the graph of every part had been kept, to the bit; another seed gives something else."""
    model = Encoder(0.5)
    kept = gradients(model, lambda x: torch.cat([model(part) for part in x.split(size)]))
    found = gradients(model, lambda x: in_chunks(model, [x], size))
    assert all(torch.equal(a, b) for a, b in zip(found, kept, strict=True))
    assert not torch.equal(kept[0], gradients(model, model)[0])


def test_the_generator_goes_on_as_if_nothing_was_computed_twice() -> None:
    model, after = Encoder(0.5), []
    for encode in (model, lambda x: in_chunks(model, [x], 24)):
        gradients(model, encode)
        after.append(torch.rand(()))
    assert after[0] == after[1]


def test_parts_keep_their_vectors_only() -> None:
    model = Encoder(0.5)
    bytes_kept: list[int] = []

    def note(tensor: torch.Tensor) -> torch.Tensor:
        bytes_kept[-1] += tensor.nbytes
        return tensor

    for encode in (model, lambda x: in_chunks(model, [x], 4)):
        bytes_kept.append(0)
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            encode(torch.randn(64, 6))
    assert bytes_kept[1] < 0.1 * bytes_kept[0]


def test_several_inputs_are_cut_alike() -> None:
    a, b = torch.arange(10.0)[:, None], torch.arange(10.0, 20.0)[:, None]
    assert torch.equal(in_chunks(lambda x, y: x * y, [a, b], 3), a * b)
    with pytest.raises(UsageError, match="one row or more"):
        in_chunks(lambda x: x, [a], 0)


def test_a_step_of_the_loop_is_the_same_with_parts() -> None:
    trained = []
    for size in (24, 5):
        model = Encoder(0.0)

        def losses(step: int, model: Encoder = model, size: int = size) -> dict[str, torch.Tensor]:
            pairs = torch.randn(2, 24, 6)
            vectors = [in_chunks(model, [rows], size) for rows in pairs]
            return {"pairs": contrastive(*vectors, torch.tensor(10.0))}

        train(dict(model.named_parameters()), losses, Schedule(5, 1e-2))
        trained.append([weight.detach() for weight in model.parameters()])
    for one, other in zip(*trained, strict=True):
        assert torch.allclose(one, other, rtol=1e-4, atol=1e-5)


# ---- activation checkpointing ----------------------------------------------------------------------------------------


def test_blocks_computed_again_give_the_same_gradients() -> None:
    pixels = torch.randn(3, 3, 32, 32)
    found = []
    for again in (False, True):
        model = tower()
        if again:
            recompute(model)
        model(pixels)["vectors"].square().sum().backward()
        found.append({name: weight.grad for name, weight in model.named_parameters()})
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_what_cannot_be_computed_again_is_refused() -> None:
    with pytest.raises(UsageError, match="no list of blocks"):
        recompute(nn.Linear(2, 2))
    with pytest.raises(UsageError, match="batch normalisation"):
        recompute(nn.Sequential(nn.ModuleList([nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))])))


# ---- fewer patches, other sizes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["class", "attention"])
def test_with_no_patch_left_out_nothing_changes(pooling: str) -> None:
    model, pixels = tower(pooling), torch.randn(2, 3, 32, 32)
    before = model(pixels)["vectors"]
    model.left_out = 0.75
    assert torch.equal(model.eval()(pixels)["vectors"], before)  # only in training
    assert not torch.allclose(model.train()(pixels)["vectors"], before)
    model.left_out = 0.0
    assert torch.equal(model(pixels)["vectors"], before)


@pytest.mark.parametrize(("pooling", "first"), [("class", 1), ("attention", 0)])
def test_the_patches_kept_are_a_choice_of_the_pictures_own(pooling: str, first: int) -> None:
    model = tower(pooling)
    tokens = torch.arange(2.0 * (16 + first)).view(2, -1, 1).expand(-1, -1, 16)
    model.left_out = 0.75
    torch.manual_seed(0)
    kept = model.some_patches(tokens)[:, :, 0]
    assert kept.shape == (2, 4 + first)
    assert [len(set(row)) for row in kept.tolist()] == [4 + first] * 2
    assert all(set(row) <= set(all_.tolist()) for row, all_ in zip(kept.tolist(), tokens[:, :, 0], strict=True))
    assert torch.equal(kept[:, :first], tokens[:, :first, 0])
    assert (kept[0] != kept[1] - (16 + first)).any()
    torch.manual_seed(0)
    assert torch.equal(model.some_patches(tokens)[:, :, 0], kept)


@pytest.mark.parametrize("pooling", ["class", "attention"])
def test_positions_are_interpolated_for_another_size(pooling: str) -> None:
    model = tower(pooling)
    assert model(torch.randn(2, 3, 48, 48))["vectors"].shape == (2, 16)
    assert model.positions_for(4, 4) is model.positions
    first = int(pooling == "class")
    with torch.no_grad():  # a plane stays a plane, up to the edges
        model.positions[first:] = (torch.arange(4.0)[:, None] + torch.arange(4.0)).flatten()[:, None]
    larger = model.positions_for(8, 8)[first:].view(8, 8, -1)[2:6, 2:6, 0]
    plane = (torch.arange(8.0)[:, None] + torch.arange(8.0))[2:6, 2:6] / 2 - 0.5
    assert torch.allclose(larger, plane, atol=0.1)
