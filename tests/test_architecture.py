"""The floors: imports go down only, and the main job imports no torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import awase

ROOT = Path(awase.__file__).parent
# A module may import from its own row and the rows below it; inside `encoding` the order is finer.
FLOORS = [
    ["cli", "server", "__main__"],
    ["tasks"],
    ["learning"],
    ["evaluation"],
    ["datasets"],
    ["loading"],
    ["adapter_files"],
    ["adapter"],
    ["clip"],
    ["encoding.pipeline", "encoding.sentences", "encoding.vectorfile", "encoding.shelf", "encoding.roofline"],
    ["encoding.packing", "encoding.prompts", "encoding.wordings", "encoding.heads"],
    ["encoding.scoring"],
    ["encoding.engines"],
    ["encoding.graphs", "encoding.towers", "encoding.external"],
    ["encoding.checkpoints"],
    ["encoding.tokenizers"],
    ["encoding.preprocessing", "encoding.samples"],
    ["encoding.pictures"],
    ["encoding.fetching", "encoding.finding", "encoding.formats"],
    ["encoding.caches", "encoding.locking"],
    ["encoding.published"],
    ["encoding.families"],
    ["errors"],
]


def floor_of(module: str) -> int | None:
    """Index of the floor (0 is the top) that a dotted name below `awase` stands on."""
    for index, rooms in enumerate(FLOORS):
        if any(module == room or module.startswith(room + ".") for room in rooms):
            return index
    return None


def imports_of(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("awase"):
            base = node.module.removeprefix("awase").lstrip(".")
            found |= {f"{base}.{alias.name}".lstrip(".") for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("awase.") for alias in node.names if alias.name.startswith("awase.")}
    return found


MODULES = sorted(path for path in ROOT.rglob("*.py") if path != ROOT / "__init__.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down_only(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    here = floor_of(module)
    if here is None:
        assert module == "encoding", f"{module} stands on no floor: give it one in FLOORS and docs/architecture.md"
        return
    for imported in imports_of(path):
        there = floor_of(imported)
        if there is not None:
            assert there >= here, f"{module} (floor {here}) imports {imported} from above (floor {there})"


def test_importing_awase_imports_nothing_heavy() -> None:
    code = "import sys, awase; print([m for m in ('torch', 'numpy', 'onnxruntime', 'PIL', 'onnx') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
