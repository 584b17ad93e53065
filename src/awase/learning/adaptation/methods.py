"""Which methods there are, by the names that command lines give them. A module is imported when its method is asked
for: classifiers need NumPy alone, methods that train the towers need torch."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from awase.errors import MissingExtra, UsageError
from awase.learning.adaptation.method import Method

HOMES = {
    "zero-shot": ("by_name", "ByName"),
    "anchored-probe": ("anchored_probe", "AnchoredProbe"),
    "gaussian-features": ("feature_gaussian", "FeatureGaussian"),
    "linear-probe": ("linear_probe", "LinearProbe"),
    "zs-lp": ("clap", "ZsLp"),
    "gaussian": ("gaussian", "Gaussian"),
    "lp++": ("lp_plus", "LpPlus"),
    "clap": ("clap", "Clap"),
    "cache-trained": ("trained_cache", "TipAdapterF"),
    "cache": ("cache", "TipAdapter"),
}
"""Classifiers on frozen towers. `choose` takes the earlier of two that are equally good."""
TRAINED = {
    "prompt": ("prompts", "PromptTuning"),
    "deep-prompt": ("deep_prompts", "DeepPrompts"),
    "lora": ("lora", "Lora"),
    "inversion": ("inversion", "TextualInversion"),
    "full": ("finetuning", "FullTuning"),
}
"""Those that need torch."""
FOR_SENTENCES = ("lora", "full")
"""Those that also learn from pictures with sentences."""
FOR_CLASSES = [name for name in (*HOMES, *TRAINED) if name != "inversion"]
"""Those that learn a closed set of classes: inversion gives words instead."""


def method(name: str, **settings: Any) -> Method:
    """Raises UsageError for an unknown name, MissingExtra where the method needs torch and there is none."""
    home = HOMES.get(name) or TRAINED.get(name)
    if home is None:
        raise UsageError(f"no method is called {name!r}; there are {', '.join([*HOMES, *TRAINED])}")
    if name in TRAINED and find_spec("torch") is None:
        raise MissingExtra(f"the method {name}", "torch")
    made: Method = getattr(import_module(f"awase.learning.adaptation.{home[0]}"), home[1])(**settings)
    return made
