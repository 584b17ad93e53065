"""Trains a tiny model again and again, killed each time, in processes forked from one that has torch in memory; prints
what was left behind. Run by test_loop.py:

    python kill_rounds.py ROUNDS SEED FOLDER     ends with the line "same" or "different"
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from awase.errors import AwaseError
from awase.learning import state
from awase.learning.loop import Average, Keeping, Schedule, train

STEPS = 120


def run(folder: Path | None) -> bytes:
    """Trains to the end; the weights and their average as bytes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.Dropout(0.5), nn.Linear(32, 4))
    weights = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    average = Average(weights, 0.9)

    def losses(step: int) -> dict[str, torch.Tensor]:
        x = torch.randn(16, 8)
        return {"square": F.mse_loss(model(x), x[:, :4] * x[:, 4:])}

    schedule = Schedule(STEPS, 1e-2, factors={"0.": 0.5})
    train(weights, losses, schedule, seed=7, average=average, keeping=Keeping(folder, steps=1))
    return b"".join(t.detach().numpy().tobytes() for t in (*weights.values(), *average.tensors.values()))


def forked(folder: Path, kill_after: float | None) -> bool:
    """Runs in a process of its own, killed after so many seconds; whether it came to its end."""
    if (child := os.fork()) == 0:
        try:
            (folder.parent / "result").write_bytes(run(folder))
            os._exit(0)
        except BaseException as error:
            print(type(error).__name__, error, flush=True)
            os._exit(1)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    assert not os.WIFEXITED(status) or os.WEXITSTATUS(status) == 0, "a run could not go on"
    return os.WIFEXITED(status)


def main(rounds: int, seed: int, folder: Path) -> None:
    torch.set_num_threads(1)
    chance, kills, had_state = random.Random(seed), 0, False
    while kills < rounds:
        if forked(folder, chance.uniform(0.005, 0.08)):
            for path in folder.iterdir():
                path.unlink()
            had_state = False
            continue
        kills += 1
        found = state.kept(folder)
        assert found or not had_state, "the state that was there is gone"
        had_state = had_state or bool(found)
        for path in found:
            state.facts_of(path)
    forked(folder, None)
    if (child := os.fork()) == 0:  # the parent never trains: a process that did so cannot be forked again
        (folder.parent / "expected").write_bytes(run(None))
        os._exit(0)
    os.waitpid(child, 0)
    same = (folder.parent / "result").read_bytes() == (folder.parent / "expected").read_bytes()
    print("same" if same else "different")


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
    except AwaseError as error:
        sys.exit(str(error))
