"""No network, a cache of its own, and reference libraries that can be imported beside a CPU build of torch."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
REPOSITORY = Path(__file__).parents[1]


class _TorchvisionOperators(importlib.abc.MetaPathFinder):
    """torchvision's wheel is a CUDA build whose compiled operators do not load beside CPU torch; declaring the two that
    its import looks up is enough for `timm` and `open_clip`, which the parity tests compare with."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == "torchvision":
            import torch

            if not hasattr(torch.ops.torchvision, "nms"):
                library = torch.library.Library("torchvision", "DEF")
                library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
                torch._awase_tests_keep = library  # the operators live as long as the library object


if "torchvision" not in sys.modules:  # just before the finder of files, after any cure that the environment brings
    sys.meta_path.insert(sys.meta_path.index(importlib.machinery.PathFinder), _TorchvisionOperators())


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests neither read nor fill the user's cache."""
    before = os.environ.get("AWASE_CACHE")
    os.environ["AWASE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("AWASE_CACHE") if before is None else os.environ.update(AWASE_CACHE=before)


@pytest.fixture(autouse=True)
def no_network(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anything but this machine is out of reach, unless a test is marked `network`."""
    if request.node.get_closest_marker("network"):
        return
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "local"
        if host not in ("127.0.0.1", "::1", "localhost", "local"):
            raise AssertionError(f"a test tried to reach {address}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(scope="session")
def shared_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the shared data sets; the test is skipped where there is none."""
    folder = Path(os.environ.get("AWASE_SHARED_DATA") or REPOSITORY.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no shared data beside the repository (set AWASE_SHARED_DATA)")
    return folder


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """`long` and `network` tests run only when asked for with -m."""
    if config.getoption("-m"):
        return
    for item in items:
        for marker in ("long", "network"):
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"run with -m {marker}"))
