"""Contrastive training of towers.

bundled     the recipe of the model inside the package
products    the last blocks of an EfficientNet-lite as matrix products, to train them on a CPU
"""
