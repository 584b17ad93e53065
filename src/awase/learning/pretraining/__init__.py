"""Contrastive training of towers.

engine      a run, from a recipe to a model and a page; its parts: recipe, pairs, starting, step, mining, watching, page
bundled     the model inside the package, from its recipe
products    the last blocks of an EfficientNet-lite as matrix products, to train them on a CPU
"""
