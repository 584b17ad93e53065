"""scikit-learn's 1,797 handwritten digits (8 x 8 pixels) as a labelled set on disk, for `awase adapt compare`.

    python benchmarks/digits.py FOLDER

The first 40 pictures of each class become train, the next 20 val, the rest test."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

NAMES = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "ja": ("0", "1", "2", "3", "4", "5", "6", "7", "8", "9"),
}
ENDS = {"train": 40, "val": 60, "test": None}


def main(folder: Path) -> None:
    pixels, targets = load_digits(return_X_y=True)
    for digit in range(10):
        mine, start = pixels[targets == digit].reshape(-1, 8, 8), 0
        for split, end in ENDS.items():
            place = folder / split / str(digit)
            place.mkdir(parents=True)
            for number, picture in enumerate(mine[start:end]):
                Image.fromarray((picture * 255 / 16).astype(np.uint8)).save(place / f"{number:03}.png")
            start = end or 0
    names = {
        str(i): {"en": f"the digit {en}", "ja": f"数字の{ja}"}
        for i, (en, ja) in enumerate(zip(*NAMES.values(), strict=True))
    }
    (folder / "classes.json").write_text(json.dumps(names, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
