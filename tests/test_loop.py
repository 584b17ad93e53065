"""The training loop: steps, rates, half precision, what is not finite, and runs that are killed."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from awase.errors import AwaseError, CheckpointError, UsageError  # noqa: E402
from awase.learning import state  # noqa: E402
from awase.learning.half import GROW_AFTER, Half  # noqa: E402
from awase.learning.loop import Average, Keeping, Schedule, TrainingFailed, layerwise, train  # noqa: E402

KILL_ROUNDS = Path(__file__).with_name("kill_rounds.py")


def parameters(**shapes: tuple[int, ...]) -> dict[str, nn.Parameter]:
    return {name: nn.Parameter(torch.ones(shape)) for name, shape in shapes.items()}


def pull_to(target: torch.Tensor, weight: torch.Tensor) -> Callable[[int], dict[str, torch.Tensor]]:
    """A loss that is random in each step: the distance from a noisy target."""
    return lambda step: {"square": (weight - target - 0.1 * torch.randn(target.shape)).square().mean()}


# ---- rates -----------------------------------------------------------------------------------------------------------


def test_the_rate_rises_to_its_height_and_falls_to_nothing() -> None:
    schedule = Schedule(steps=100, rate=0.5, rise=0.1)
    rates = [schedule.at(step) for step in range(100)]
    assert max(rates) == pytest.approx(0.5)
    assert rates.index(max(rates)) == 10
    assert rates[:11] == sorted(rates[:11])
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert 0 < rates[-1] < 0.001


def test_a_constant_rate_stays_and_a_cosine_may_stop_above_nothing() -> None:
    assert [Schedule(9, 0.5, rise=0, shape="constant").at(step) for step in range(9)] == [0.5] * 9
    cosine, whole = Schedule(50, 1.0, rise=0, least=0.2), Schedule(50, 1.0, rise=0)
    assert all(cosine.at(step) == pytest.approx(0.2 + 0.8 * whole.at(step)) for step in range(50))


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"rate": 0.0},
        {"rise": 1.5},
        {"clip": 0.0},
        {"least": 2.0},
        {"shape": "square"},
        {"patience": -1},
        {"betas": (0.9, 1.0)},
        {"factors": {"image.": 0.0}},
    ],
)
def test_an_impossible_schedule_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"schedule|factors"):
        Schedule(**{"steps": 10, "rate": 0.1, **wrong})


def test_the_longest_beginning_of_a_name_sets_its_factor() -> None:
    schedule = Schedule(10, 0.1, factors={"image.": 0.5, "image.blocks.1.": 0.25})
    names = ["image.blocks.1.weight", "image.blocks.10.weight", "text.weight"]
    assert [schedule.factor(name) for name in names] == [0.25, 0.5, 1.0]
    weights = parameters(**{"image.weight": (2, 2), "text.weight": (2, 2)})
    optimiser = Schedule(10, 0.1, rise=0, factors={"image.": 0.5}).optimiser(weights)
    assert Schedule(10, 0.1, rise=0).set_rates(optimiser, 0) == pytest.approx(0.1)
    assert {group["lr"] for group in optimiser.param_groups} == {0.05, 0.1}
    with pytest.raises(UsageError, match="begins with 'imgae"):
        Schedule(10, 0.1, factors={"imgae.": 0.5}).optimiser(weights)


def test_layers_learn_more_slowly_the_further_they_are_from_the_end() -> None:
    names = ["image.patch.weight", *[f"image.blocks.{i}.mlp.up.weight" for i in range(3)], "image.norm.weight"]
    schedule = Schedule(10, 1.0, factors=layerwise([*names, "logit_scale"], 0.5))
    assert [schedule.factor(name) for name in names] == [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]
    assert schedule.factor("logit_scale") == 1


# ---- steps -----------------------------------------------------------------------------------------------------------


def test_training_finds_the_least_squares() -> None:
    target = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    weight = nn.Parameter(torch.zeros(3, 4))
    told: list[float] = []
    train(
        {"weight": weight},
        lambda step: {"square": (weight - target).square().mean()},
        Schedule(steps=200, rate=0.1, decay=0.0),
        lambda step, parts: told.append(parts["square"]),
    )
    assert torch.allclose(weight, target, atol=1e-2)
    assert told[-1] < 1e-3 * told[0]


def test_a_step_is_that_of_torchs_own_adamw() -> None:
    target = torch.linspace(-3, 3, 12).view(3, 4)
    ours, theirs = parameters(w=(3, 4), b=(4,)), parameters(w=(3, 4), b=(4,))

    def loss(weights: dict[str, nn.Parameter]) -> torch.Tensor:
        return (weights["w"] + weights["b"] - target).square().sum()

    schedule = Schedule(steps=20, rate=0.05, decay=0.1, clip=2.0)
    train(ours, lambda step: {"square": loss(ours)}, schedule)
    groups = [{"params": [theirs["w"]], "weight_decay": 0.1}, {"params": [theirs["b"]], "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98))
    for step in range(20):
        for group in optimiser.param_groups:
            group["lr"] = schedule.at(step)
        optimiser.zero_grad()
        loss(theirs).backward()
        nn.utils.clip_grad_norm_(theirs.values(), 2.0)
        optimiser.step()
    for name, weight in theirs.items():
        assert torch.allclose(ours[name], weight, rtol=1e-5), name


def test_matrices_decay_and_biases_do_not() -> None:
    weights = parameters(matrix=(2, 2), bias=(2,))
    losses = lambda step: {"none": 0 * (weights["matrix"].sum() + weights["bias"].sum())}  # noqa: E731
    train(weights, losses, Schedule(steps=5, rate=0.1, decay=0.5))
    assert (weights["matrix"] < 1).all()
    assert (weights["bias"] == 1).all()


def test_a_part_without_gradient_is_told_and_not_trained() -> None:
    weights, told = parameters(w=(2,)), {}
    losses = lambda step: {"square": weights["w"].square().sum(), "size": 5 * weights["w"].detach().norm()}  # noqa: E731
    train(weights, losses, Schedule(1, 0.1), lambda step, parts: told.update(parts))
    assert told["size"] == pytest.approx(5 * math.sqrt(2))
    assert told["gradient"] == pytest.approx(2 * math.sqrt(2))
    with pytest.raises(UsageError, match="no part of the loss depends on a weight: size"):
        train(weights, lambda step: {"size": weights["w"].detach().norm()}, Schedule(1, 0.1))
    with pytest.raises(UsageError, match="a weight to train"):
        train({"w": torch.zeros(2)}, losses, Schedule(1, 0.1))


def test_what_is_random_depends_on_seed_and_step_alone() -> None:
    def draws(seed: int, steps: int) -> list[float]:
        weights, drawn = parameters(w=(2,)), []
        torch.manual_seed(steps)  # whatever the caller did before

        def losses(step: int) -> dict[str, torch.Tensor]:
            drawn.append(torch.rand(()).item())
            return {"square": weights["w"].square().sum()}

        train(weights, losses, Schedule(steps, 0.1), seed=seed)
        return drawn

    assert draws(0, 3) == draws(0, 5)[:3]
    assert not set(draws(0, 3)) & set(draws(1, 3))
    torch.manual_seed(5)
    expected = torch.rand(())
    torch.manual_seed(5)
    weights = parameters(w=(2,))
    train(weights, pull_to(torch.zeros(2), weights["w"]), Schedule(1, 0.1))
    assert torch.rand(()) == expected  # the caller's generator is as it was


def test_the_average_follows_the_weights() -> None:
    weights = parameters(w=(3,))
    average, seen, expected = Average(weights, decay=0.6), [], torch.ones(3)
    report = lambda step, told: seen.append(weights["w"].detach().clone())  # noqa: E731
    train(weights, pull_to(torch.zeros(3), weights["w"]), Schedule(30, 0.1), report, average=average)
    for step, weight in enumerate(seen):
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * weight
    assert torch.allclose(average.tensors["w"], expected)
    last = weights["w"].detach().clone()
    with average.in_place():
        assert torch.allclose(weights["w"], expected)
    assert torch.equal(weights["w"], last)
    with pytest.raises(UsageError, match="decay"):
        Average(weights, 1.0)


# ---- half precision --------------------------------------------------------------------------------------------------


def test_bf16_computes_products_in_half_and_keeps_weights_whole() -> None:
    layer, seen = nn.Linear(4, 4), []

    def losses(step: int) -> dict[str, torch.Tensor]:
        y = layer(torch.randn(8, 4))
        seen.append(y.dtype)
        return {"square": y.float().square().mean()}

    train(dict(layer.named_parameters()), losses, Schedule(2, 0.1), precision="bf16")
    assert seen == [torch.bfloat16] * 2
    assert layer.weight.dtype == torch.float32
    with pytest.raises(UsageError, match="precision"):
        train(dict(layer.named_parameters()), losses, Schedule(2, 0.1), precision="fp8")


def test_fp16_finds_a_factor_that_its_gradients_can_bear() -> None:
    """A gradient of 3,000 bears a factor of 16 (65,504 is fp16's largest number); too large ones cost no patience."""
    weight, told = nn.Parameter(torch.ones(2)), []

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {"sum": 3000.0 * weight.half().sum().float()}

    report = lambda step, parts: told.append(parts["gradient"])  # noqa: E731
    train({"w": weight}, losses, Schedule(16, 0.1, patience=0), report, precision="fp16")
    assert [math.isfinite(norm) for norm in told] == [False] * 12 + [True] * 4
    assert told[-1] == pytest.approx(3000 * math.sqrt(2), rel=1e-3)
    half = Half("fp16", factor=8.0)
    for _ in range(GROW_AFTER):
        half.settle(half.overflowed({"sum": 1.0, "gradient": 1.0}))
    assert half.factor == 16.0


def test_a_loss_that_is_not_finite_is_no_fault_of_fp16s_factor() -> None:
    weight = nn.Parameter(torch.ones(2))
    with (
        pytest.warns(UserWarning, match="step [12]: sum is nan; the step is passed over"),
        pytest.raises(TrainingFailed, match="3 steps in a row"),
    ):
        train(
            {"w": weight},
            lambda step: {"sum": weight.sum() * (math.nan if step else 1e-4)},
            Schedule(9, 0.1, patience=2),
            precision="fp16",
        )


# ---- what is not finite ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_step_that_is_not_finite_is_passed_over_and_named(bad: float) -> None:
    weights, seen = parameters(w=(3,)), []

    def losses(step: int) -> dict[str, torch.Tensor]:
        seen.append(weights["w"].detach().clone())
        return {"good": weights["w"].square().sum(), "bad": weights["w"].sum() * (bad if step == 2 else 1)}

    with pytest.warns(UserWarning, match=r"step 2: bad is (nan|inf) \(pictures: cat.jpg\); the step is passed over"):
        train(weights, losses, Schedule(9, 0.1), describe=lambda step: "cat.jpg")
    assert torch.equal(seen[2], seen[3])
    assert not torch.equal(seen[3], seen[4])
    assert torch.isfinite(weights["w"]).all()


def test_running_statistics_of_a_bad_step_are_put_back() -> None:
    layer = nn.BatchNorm1d(2)
    weights = {**dict(layer.named_parameters()), **dict(layer.named_buffers())}

    def losses(step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(8, 2) * (math.nan if step == 1 else 1)
        return {"square": layer(x).square().mean()}

    with pytest.warns(UserWarning, match="step 1"):
        train(weights, losses, Schedule(3, 0.1))
    assert torch.isfinite(layer.running_var).all()
    assert layer.num_batches_tracked == 2
    with pytest.raises(TrainingFailed, match="the weights are as they were before"):
        train(weights, losses, Schedule(3, 0.1, patience=0))
    assert torch.isfinite(layer.running_var).all()
    assert layer.num_batches_tracked == 3


def test_too_many_in_a_row_stop_training_with_a_diagnosis() -> None:
    weights = parameters(w=(3,))

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {"pairs": weights["w"].square().sum() * (math.nan if step in (1, 4, 5, 6) else 1)}

    seen: list[torch.Tensor] = []
    with pytest.warns(UserWarning, match="passed over"), pytest.raises(TrainingFailed) as stopped:
        train(weights, losses, Schedule(9, 0.1, patience=2), lambda *_: seen.append(weights["w"].detach().clone()))
    message = str(stopped.value)
    assert all(f"step {step}: pairs is nan" in message for step in (4, 5, 6))
    assert "3 steps in a row" in message
    assert "a loss itself is not finite" in message
    assert torch.equal(weights["w"], seen[3])


def test_a_slow_explosion_is_told_from_a_bad_picture() -> None:
    weight = nn.Parameter(torch.ones(2))

    def losses(step: int) -> dict[str, torch.Tensor]:
        return {"pairs": weight.sum() * (10.0**step if step < 6 else math.inf)}

    with pytest.raises(TrainingFailed, match=r"the gradient had grown from 1.41 to 1.41e\+05: a lower rate"):
        train({"w": weight}, losses, Schedule(9, 1e-3, patience=0))


# ---- runs that are interrupted ---------------------------------------------------------------------------------------


def model_run(folder: Path | None, steps: int = 30, stop_at: int | None = None, **settings: object) -> list[float]:
    """A run with all that has a state; its losses, then its weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 2))
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    average, told = Average(weights, 0.9), []

    def losses(step: int) -> dict[str, torch.Tensor]:
        if step == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        x = torch.randn(16, 4)
        return {"square": F.mse_loss(model(x), x[:, :2])}

    keeping = Keeping(folder, steps=7, settings=settings)
    report = lambda step, parts: told.append(parts["square"])  # noqa: E731
    train(weights, losses, Schedule(steps, 1e-2), report, average=average, keeping=keeping)
    return [*told, *torch.cat([t.double().flatten() for t in (*weights.values(), *average.tensors.values())]).tolist()]


@pytest.mark.parametrize("stop_at", [0, 5, 13, 28])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path: Path, stop_at: int) -> None:
    whole = model_run(None)
    with pytest.raises(KeyboardInterrupt, match=f"{stop_at + 1} steps of 30 are kept in .*run; the same call goes on"):
        model_run(tmp_path / "run", stop_at=stop_at)
    assert model_run(tmp_path / "run") == whole[stop_at + 1 :]
    assert [line["step"] for line in state.read_log(tmp_path / "run")] == list(range(30))
    assert model_run(tmp_path / "run") == whole[30:]  # a run that is done is only read
    before = "step-00000029.safetensors" if stop_at == 28 else "step-00000028.safetensors"
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {before, "step-00000030.safetensors", "log.jsonl"}


def test_a_second_interrupt_stops_at_once() -> None:
    from awase.learning.interrupts import interrupts_noted

    with interrupts_noted() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize(("rounds", "seed"), [(12, 0), pytest.param(200, 1, marks=pytest.mark.long)])
def test_kills_leave_a_whole_state_and_the_same_weights(tmp_path: Path, rounds: int, seed: int) -> None:
    """SIGKILL at random times, most of them while a state is written, as this run keeps one after every step."""
    command = [sys.executable, str(KILL_ROUNDS), str(rounds), str(seed), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.stdout.splitlines()[-1:] == ["same"], done.stdout + done.stderr


def test_another_run_is_not_gone_on_with(tmp_path: Path) -> None:
    model_run(tmp_path / "run", data="a")
    with pytest.raises(UsageError, match="holds another run: data was a, now b"):
        model_run(tmp_path / "run", data="b")
    with pytest.raises(UsageError, match=r"run: schedule\.steps was 30, now 31\. Give"):
        model_run(tmp_path / "run", steps=31, data="a")
    weights = parameters(w=(3,))
    keeping = Keeping(tmp_path / "other")
    train(weights, pull_to(torch.zeros(3), weights["w"]), Schedule(2, 0.1), keeping=keeping)
    weights = parameters(w=(4,))
    with pytest.raises(UsageError, match=r"holds no weights.w of shape \(4,\): it is another model's run"):
        train(weights, pull_to(torch.zeros(4), weights["w"]), Schedule(2, 0.1), keeping=keeping)


def flipped(data: bytes, place: float) -> bytes:
    """One bit changed, at a part of the length."""
    changed = bytearray(data)
    changed[int(place * (len(data) - 1))] ^= 1
    return bytes(changed)


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda data: data[: len(data) // 2],
    lambda data: b"",
    lambda data: b"\xff" * 99,
    lambda data: flipped(data, 0.5),
    lambda data: flipped(data, 1.0),
    lambda data: data.replace(b"passed_over", b"passed_ever"),
    lambda data: data.replace(b'passed_over\\": 0', b'passed_over\\": 1'),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_named_and_the_one_before_gone_on_from(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    whole = model_run(tmp_path / "run")
    last, before = (tmp_path / "run" / f"step-000000{step}.safetensors" for step in (30, 28))
    sound = last.read_bytes()
    last.write_bytes(damage(sound))
    assert last.read_bytes() != sound
    with pytest.warns(UserWarning, match=r"step-00000030\.safetensors is damaged .*from the one before, step-00000028"):
        assert model_run(tmp_path / "run") == whole[28:]
    assert state.facts_of(last)["step"] == 30  # written anew
    for path in (last, before):
        path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CheckpointError, match=r"00000030\.safetensors is damaged .*no other is there .*begin afresh"):
        model_run(tmp_path / "run")


def test_a_flipped_bit_is_found_wherever_it_is(tmp_path: Path) -> None:
    model_run(tmp_path / "run")
    file = tmp_path / "run" / "step-00000030.safetensors"
    sound = file.read_bytes()
    for part in range(400):
        file.write_bytes(flipped(sound, part / 399))
        with pytest.raises(CheckpointError, match="is damaged"):
            state.facts_of(file)


def test_the_last_sound_state_stays_until_the_next_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that goes on from an older state and is stopped again before it has written one."""
    model_run(tmp_path / "run")
    run = tmp_path / "run"
    (run / "step-00000030.safetensors").write_bytes(b"damaged")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "_flush", full)
    with (
        pytest.warns(UserWarning, match="damaged"),
        pytest.raises(AwaseError, match="after step 30 could not be written"),
    ):
        model_run(run)
    assert [path.name for path in state.kept(run)] == ["step-00000028.safetensors"]


@pytest.mark.filterwarnings("ignore:.*could not be written:UserWarning")
def test_a_full_disk_stops_no_training_but_the_last_state_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "_flush", full)
    with (
        pytest.warns(UserWarning, match="after step 7 could not be written .No space left.*training goes on"),
        pytest.raises(AwaseError, match="after step 30 could not be written"),
    ):
        model_run(tmp_path / "run")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such limit")
@pytest.mark.filterwarnings("ignore:.*(could not be written|no log is kept):UserWarning")
def test_a_disk_that_takes_no_byte_more(tmp_path: Path) -> None:
    """As a full disk, the system's own limit refuses the state, which safetensors writes, and lines of the log."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, before[1]))
    try:
        with (
            pytest.warns(UserWarning, match="no log is kept .*training goes on"),
            pytest.raises(AwaseError, match=r"after step 30 could not be written .*make room"),
        ):
            model_run(tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list((tmp_path / "run").glob("step-*"))


def test_two_runs_do_not_share_a_folder(tmp_path: Path) -> None:
    weights = parameters(w=(3,))
    refused: list[str] = []

    def losses(step: int) -> dict[str, torch.Tensor]:
        try:
            model_run(tmp_path / "run")
        except UsageError as error:
            refused.append(str(error))
        return {"square": weights["w"].square().sum()}

    train(weights, losses, Schedule(1, 0.1), keeping=Keeping(tmp_path / "run"))
    assert "another run" in refused[0]


def test_the_log_is_json_that_every_reader_knows(tmp_path: Path) -> None:
    weights = parameters(w=(3,))
    losses = lambda step: {"pairs": weights["w"].sum() * (math.nan if step == 1 else 1)}  # noqa: E731
    with pytest.warns(UserWarning, match="passed over"):
        train(weights, losses, Schedule(3, 0.1), keeping=Keeping(tmp_path / "run"))
    lines = (tmp_path / "run" / "log.jsonl").read_text().splitlines()
    read = [json.loads(line, parse_constant=lambda name: pytest.fail(name)) for line in lines]
    assert [line["pairs"] is None for line in read] == [False, True, False]
    assert set(read[0]) == {"step", "pairs", "gradient", "rate", "seconds"}
