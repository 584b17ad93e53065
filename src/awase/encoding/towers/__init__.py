"""The towers as torch modules: for learning, for GPUs, and as the reference of the ONNX graphs (`graphs`).

This folder is, with `external`, all of `encoding` that imports torch; import it inside the functions that need it."""

from awase.encoding.towers.clip import Towers, load_towers, normalise
from awase.encoding.towers.initialisation import initialise

__all__ = ["Towers", "initialise", "load_towers", "normalise"]
