"""One process, two and four give the same losses, gradients and weights (gloo on the CPU)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

import several_processes  # noqa: E402
from awase.learning import distributed, state  # noqa: E402
from awase.learning.checksums import CHECKSUMS  # noqa: E402

SCRIPT = Path(several_processes.__file__)
Found = dict[str, torch.Tensor]


JOBS = [
    *(f"{job}:{count}" for job in ("every_loss", "replicated", "pretraining") for count in (1, 2, 4)),
    *(f"{job}:{count}" for job in ("passing", "sharded") for count in (2, 4)),
    *("damaged:2", "leave:2", "other_count:1", "other_count:4", "divided:2", "disk_of_ones_own:2", "full_disk:2"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where several processes have left what they found."""
    folder = tmp_path_factory.mktemp("processes")
    _pictures(folder / "pictures" / "train")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, str(SCRIPT), str(folder), *JOBS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _pictures(folder: Path) -> None:
    folder.mkdir(parents=True)
    lines = []
    for i in range(12):
        Image.new("RGB", (20, 16), (20 * i, 100, 255 - 20 * i)).save(folder / f"{i}.png")
        lines.append({"file_name": f"{i}.png", "captions": [f"shade {i // 2}"]})
    (folder / "metadata.jsonl").write_text("\n".join(map(json.dumps, lines)), "utf-8")


@pytest.fixture(scope="module")
def alone() -> Found:
    """The weights that one process trains."""
    return several_processes.replicated(Path())


def found_by(folder: Path, job: str, *counts: int) -> dict[int, Found]:
    return {count: torch.load(folder / f"{job}-{count}.pt") for count in counts}


def assert_equal(found: Found, expected: Found, tolerance: float) -> None:
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        largest = tensor.abs().max().clamp(min=1e-3)
        assert (found[name] - tensor).abs().max() <= tolerance * largest, name


def test_every_loss_and_gradient_is_that_of_one_process(folder: Path) -> None:
    alone = several_processes.every_loss(folder)
    assert len(alone) == 11 * 4 - 1 + 2  # of eleven losses, with three gradients; `pull` has no scale, two have a bias
    for found in found_by(folder, "every_loss", 1, 2, 4).values():
        assert_equal(found, alone, 1e-12)


def test_the_block_loss_is_the_plain_one(folder: Path) -> None:
    found = several_processes.every_loss(folder)
    for part in ("", ".image", ".text", ".scale"):
        assert torch.allclose(found["blocks" + part], found["contrastive" + part], rtol=1e-12)


def test_what_is_passed_on_arrives_and_its_gradient_comes_back(folder: Path) -> None:
    for count, found in found_by(folder, "passing", 2, 4).items():
        assert found["gathered"].flatten().tolist() == pytest.approx([r + t for r in range(count) for t in (0, 0.1)])
        assert found["before"].flatten().tolist() == pytest.approx([count - 1, count - 0.9])
        assert found["from_all"].flatten().tolist() == [count * 1.0, count * 2.0]  # every process used every row
        assert found["from_next"].flatten().tolist() == [2.0, 2.0]  # process 1, which has ours, gives it weight 2
        assert found["refused"] == 1


def test_training_is_the_same_however_many_share_it(folder: Path, alone: Found) -> None:
    for found in found_by(folder, "replicated", 1, 2, 4).values():
        assert_equal(found, alone, 1e-5)


def test_sharded_weights_learn_the_same_and_go_on_from_their_state(folder: Path, alone: Found) -> None:
    for count, found in found_by(folder, "sharded", 2, 4).items():
        assert_equal(found, alone, 1e-5)
        kept = folder / f"sharded-run-{count}"
        assert {path.name for path in kept.iterdir()} == {"step-00000008", "step-00000010", "log.jsonl"}
        assert [line["step"] for line in state.read_log(kept)] == list(range(10))


def test_a_sharded_run_goes_on_from_the_state_before_a_damaged_one(folder: Path, alone: Found) -> None:
    found = found_by(folder, "damaged", 2)[2]
    assert found.pop("told") == 1
    assert_equal(found, alone, 1e-5)
    assert [path.name for path in state.kept(folder / "damaged-run")] == ["step-00000010", "step-00000008"]
    noted = json.loads((folder / "damaged-run" / "step-00000010" / CHECKSUMS).read_text())
    assert noted.keys() == {".metadata", "facts.json", "__0_0.distcp", "__1_0.distcp"}


def test_a_sharded_run_goes_on_with_another_number_of_processes(folder: Path, alone: Found) -> None:
    for found in found_by(folder, "other_count", 1, 4).values():
        assert_equal(found, alone, 1e-5)


def test_a_run_goes_on_with_its_weights_split(folder: Path, alone: Found) -> None:
    assert_equal(found_by(folder, "divided", 2)[2], alone, 1e-5)


def test_states_that_not_every_process_sees_are_refused_by_all(folder: Path) -> None:
    assert found_by(folder, "disk_of_ones_own", 2)[2]["refused"] == 1


def test_a_full_disk_is_told_by_every_process_of_a_sharded_run(folder: Path) -> None:
    assert {name: float(value) for name, value in found_by(folder, "full_disk", 2)[2].items()} == {
        "told": 2,
        "ended": 1,
    }


def test_a_whole_run_is_the_same_however_many_share_it(folder: Path) -> None:
    """The third of them with its weights split."""
    found = found_by(folder, "pretraining", 1, 2, 4)
    for count in (2, 4):
        assert_equal(found[count], found[1], 1e-4)


def test_alone_nothing_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.processes():
        assert (distributed.rank(), distributed.world()) == (0, 1)
        x = torch.ones(2)
        assert distributed.gather(x) is x
        assert distributed.shifted(x) is x
        assert list(range(7))[distributed.share(7)] == list(range(7))


@pytest.mark.long
def test_torchrun_starts_processes_that_join(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from awase.learning.distributed import processes, rank, world, total\nimport torch\n"
        "with processes():\n    print(world(), int(total(torch.tensor(rank()))))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["2 1", "2 1"], done.stderr
