"""Three photographs that come with the package, to measure engines and stages on.

They come from the data of scikit-image 0.26, saved anew as JPEG: `astronaut.jpg` (Eileen Collins; NASA, public domain),
`coffee.jpg` (Rachel Michetti, CC0), `rocket.jpg` (SpaceX, public domain).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

SAMPLES = tuple(sorted(Path(__file__).parent.glob("*.jpg")))


def sample_cuts() -> list[Image.Image]:
    """24 different square cuts of the photographs, large and small: enough to tell two engines apart."""
    from awase.encoding.pictures import open_picture

    cuts = []
    for path in SAMPLES:
        picture = open_picture(path)
        width, height = picture.size
        for side in (height, height // 2):
            for step in range(4):
                left, top = (width - side) * step // 3, (height - side) * (step % 2)
                cuts.append(picture.crop((left, top, left + side, top + side)))
    return cuts
