"""Whole process, one picture, four labels: the usual transformers script against `awase classify`."""

from __future__ import annotations

import sys

from peer import EXAMPLE, interleaved, machine, table, vit_b32

USUAL = """
import sys
import torch
from PIL import Image
from transformers import CLIPModel, CLIPProcessor
model, processor = CLIPModel.from_pretrained(sys.argv[1]), CLIPProcessor.from_pretrained(sys.argv[1])
labels = ["cat", "dog", "car", "tree"]
inputs = processor(text=[f"a photo of a {label}." for label in labels], images=Image.open(sys.argv[2]),
                   return_tensors="pt", padding=True)
with torch.no_grad():
    probabilities = model(**inputs).logits_per_image.softmax(-1)[0]
for label, probability in sorted(zip(labels, probabilities.tolist()), key=lambda pair: -pair[1]):
    print(f"{label}: {probability:.3f}")
"""


def main() -> None:
    weights, labels = str(vit_b32()), "cat,dog,car,tree"
    awase = [sys.executable, "-m", "awase", "classify", str(EXAMPLE), "--labels", labels, "--json"]
    commands = {
        "transformers": [sys.executable, "-c", USUAL, weights, str(EXAMPLE)],
        "awase, bundled model": awase,
        "awase, same ViT-B/32": [*awase, "--model", weights],
        "awase, same, int8": [*awase, "--model", weights, "--precision", "int8"],
    }
    print(machine())
    print(table(interleaved(commands, times=10), "transformers"))


if __name__ == "__main__":
    main()
