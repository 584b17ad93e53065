"""What the base install weighs: a fresh virtual environment, `pip install -c constraints.txt .`, megabytes on disk."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        python = next(Path(folder).glob("[bS][ic][nr]*/python*"))
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        subprocess.run([*install, "-c", str(REPOSITORY / "constraints.txt"), str(REPOSITORY)], check=True)
        sizes: dict[str, float] = {}
        for file in Path(folder).rglob("*"):
            if file.is_file() and not file.is_symlink():
                parts = file.relative_to(folder).parts
                name = parts[parts.index("site-packages") + 1] if "site-packages" in parts else "the environment"
                sizes[name] = sizes.get(name, 0) + file.stat().st_blocks * 512 / 2**20
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        if size >= 1:
            print(f"{size:8.1f} MB  {name}")
    print(f"{sum(sizes.values()):8.1f} MB  in all, limit 330")


if __name__ == "__main__":
    main()
