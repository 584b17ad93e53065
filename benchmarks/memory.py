"""Peak memory of `awase encode` for many pictures against few: the same picture under many names.

python benchmarks/memory.py [MANY] [FEW]
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from peer import EXAMPLE, machine, run
from PIL import Image


def peak(folder: Path, count: int) -> float:
    pictures = folder / str(count)
    pictures.mkdir()
    small = BytesIO()
    Image.open(EXAMPLE).convert("RGB").resize((64, 48)).save(small, "jpeg")
    for i in range(count):
        (pictures / f"{i:06}.jpg").write_bytes(small.getvalue())
    command = [sys.executable, "-m", "awase", "encode", str(pictures), "--out", str(folder / f"{count}.npz")]
    return run(command).peak


def main() -> None:
    many, few = (int(value) for value in [*sys.argv[1:], "100000", "1000"][:2])
    with tempfile.TemporaryDirectory() as folder:
        peaks = {count: peak(Path(folder), count) for count in (few, many)}
    print(machine())
    for count, megabytes in peaks.items():
        print(f"{count:8} pictures: peak {megabytes:7.1f} MB ({megabytes / peaks[few]:.3f} x)")


if __name__ == "__main__":
    main()
