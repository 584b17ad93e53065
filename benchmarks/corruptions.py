"""Our fifteen corruptions against the code that made ImageNet-C, at each severity: how far each goes from the clean.

    pip install --no-deps imagenet-c imagecorruptions
    pip install scikit-image opencv-python-headless wand "setuptools<81"     # wand needs ImageMagick's library
    python benchmarks/corruptions.py [PICTURES]

Prints the mean absolute difference from the clean picture and the PSNR, theirs and ours, over cuts of the sample
photographs, and where chance plays no part the largest and the mean difference between the two. Frost comes from
imagecorruptions, which ships the authors' photographs of it. The package calls names that NumPy, SciPy and scikit-image
have dropped since; they are put back first, and nothing else of it is touched.
"""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from awase.encoding.families import Preprocessing
from awase.encoding.preprocessing import prepare_source
from awase.encoding.samples import sample_cuts
from awase.evaluation.corruptions import CORRUPTIONS, SEVERITIES, SIZE, corrupt

FIXED = ("defocus_blur", "zoom_blur", "brightness", "contrast", "pixelate", "jpeg_compression")


def authors() -> Callable[[np.ndarray, str, int], np.ndarray]:
    """(pixels, name, severity) -> pixels, by the authors' code."""
    warnings.simplefilter("ignore")
    import scipy.ndimage
    import skimage.filters

    np.float_ = np.float64  # type: ignore[attr-defined]
    np.fromstring = np.frombuffer  # type: ignore[assignment]
    old = types.ModuleType("scipy.ndimage.interpolation")
    old.map_coordinates = scipy.ndimage.map_coordinates  # type: ignore[attr-defined]
    sys.modules["scipy.ndimage.interpolation"] = old
    gaussian = skimage.filters.gaussian

    def with_old_name(x: np.ndarray, multichannel: bool = False, **more: Any) -> np.ndarray:
        more.setdefault("sigma", 1)
        return np.asarray(gaussian(x, channel_axis=-1 if multichannel else None, **more))

    skimage.filters.gaussian = lambda x, sigma=1, **more: with_old_name(x, sigma=sigma, **more)
    import imagecorruptions
    import imagenet_c

    def work(pixels: np.ndarray, name: str, severity: int) -> np.ndarray:
        package = imagecorruptions if name == "frost" else imagenet_c
        return np.asarray(package.corrupt(pixels, corruption_name=name, severity=severity))

    return work


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a.astype(float) - b).mean())


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((a.astype(float) - b) ** 2).mean()))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 12
    theirs = authors()
    cuts = sample_cuts()
    chosen = np.linspace(0, len(cuts) - 1, count).astype(int)
    clean = [prepare_source(cuts[i], Preprocessing(SIZE)) for i in chosen]
    print(f"{count} pictures; mean absolute difference from clean (of 255), PSNR in dB, authors' / ours")
    for name in CORRUPTIONS:
        for severity in SEVERITIES:
            np.random.seed(severity)
            a = [theirs(x, name, severity) for x in clean]
            b = [corrupt(x, name, severity, seed) for seed, x in enumerate(clean)]
            far = [np.mean([distance(x, y) for x, y in zip(its, clean, strict=True)]) for its in (a, b)]
            loud = [np.mean([psnr(x, y) for x, y in zip(its, clean, strict=True)]) for its in (a, b)]
            level = [np.mean(its) - np.mean(clean) for its in (a, b)]
            line = f"{name:18} {severity}  {far[0]:6.2f} / {far[1]:6.2f} ({far[1] / far[0]:.2f})   "
            line += f"{loud[0]:5.1f} / {loud[1]:5.1f} dB   level {level[0]:+6.1f} / {level[1]:+6.1f}"
            if name in FIXED:
                apart = np.abs(np.stack(a).astype(int) - np.stack(b))
                line += f"   apart: at most {apart.max()}, mean {apart.mean():.3f}"
            print(line, flush=True)


if __name__ == "__main__":
    main()
