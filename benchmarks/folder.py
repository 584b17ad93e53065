"""A folder of 640 x 480 JPEG files to vectors, the same ViT-B/32 weights: the usual transformers loop against awase.

python benchmarks/folder.py [PICTURES] [TIMES]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from peer import CACHE, EXAMPLE, interleaved, machine, table, vit_b32

from awase.encoding.engines import machine as processor

USUAL = """
import sys
from pathlib import Path
import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil, CLIPModel
weights, folder, out = sys.argv[1:]
model, processor = CLIPModel.from_pretrained(weights).eval(), CLIPImageProcessorPil.from_pretrained(weights)
paths, rows = sorted(Path(folder).iterdir()), []
with torch.no_grad():
    for start in range(0, len(paths), 32):
        pictures = [Image.open(path).convert("RGB") for path in paths[start:start + 32]]
        found = model.get_image_features(**processor(images=pictures, return_tensors="pt"))
        vectors = getattr(found, "pooler_output", found)
        rows.append(torch.nn.functional.normalize(vectors, dim=-1).numpy())
np.savez(out, vectors=np.concatenate(rows), sources=[str(path) for path in paths])
"""


def pictures(count: int) -> Path:
    """`count` different 640 x 480 JPEG files cut from one photograph, made once."""
    from PIL import Image

    folder = CACHE / f"pictures-{count}"
    if not folder.exists():
        folder.mkdir(parents=True)
        photograph = Image.open(EXAMPLE).convert("RGB").resize((1280, 960))
        for i, rng in ((i, np.random.default_rng(i)) for i in range(count)):
            left, top = int(rng.integers(0, 640)), int(rng.integers(0, 480))
            cut = photograph.crop((left, top, left + 640, top + 480))
            noisy = np.asarray(cut, np.int16) * rng.uniform(0.6, 1.4) + rng.normal(0, 8, (480, 640, 1))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05}.jpg", quality=85)
    return folder


def main() -> None:
    count, times = (int(value) for value in [*sys.argv[1:], "2000", "3"][:2])
    weights, folder, out = str(vit_b32()), str(pictures(count)), CACHE / "out"
    out.mkdir(exist_ok=True)

    def awase(name: str, *flags: str) -> list[str]:
        return [sys.executable, "-m", "awase", "encode", folder, "--out", str(out / name), "--model", weights, *flags]

    commands = {
        "transformers, batch 32": [sys.executable, "-c", USUAL, weights, folder, str(out / "usual.npz")],
        "awase fp32": awase("fp32.npz"),
        "awase int8": awase("int8.npz", "--precision", "int8"),
    }
    if processor().computes_bf16:
        commands["awase bf16"] = awase("bf16.npz", "--precision", "bf16")
    print(machine(), f"{count} pictures")
    print(table(interleaved(commands, times), "transformers, batch 32"))
    usual = np.load(out / "usual.npz")["vectors"]
    for path in sorted(out.glob("*.npz")):
        if path.stem != "usual":
            found = np.load(path)["vectors"]
            centred = [v - v.mean(0) for v in (usual, found)]
            cosines = [(a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                       for a, b in ((usual, found), centred)]  # fmt: skip
            print(f"{path.stem}: cosine to transformers min {cosines[0].min():.7f}, "
                  f"centred mean {cosines[1].mean():.5f} min {cosines[1].min():.5f}")  # fmt: skip


if __name__ == "__main__":
    main()
