"""The model inside the package: heads and the sentence encoder's last layers on a frozen image tower, then twins of its
last blocks with them, from several seeds and in rounds that begin from the mean so far.

    python -m awase.learning.pretraining.bundled recipes/bundled.toml WORK OUT

WORK is what recipes/prepare_bundled.py made; OUT becomes awase's own folder.

__main__    the command
making      from a recipe and a prepared folder to a model
stretches   stretches of training, side by side, and the mean of what they leave
step        the loss of one step
space       both towers as far as they are trained
compact     how the model is stored
prepared    what the preparation left, and batches of it
recipe      everything that is chosen
"""
