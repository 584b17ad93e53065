"""Losses of contrastive training, each a pure function of vectors. All vectors are of unit length, scales are positive
factors (already exponentiated), and a result is a mean in nats.

softmax        CLIP's loss; class names of many small sets; divergence from an answer that was right
blocks         CLIP's loss without its matrix of scores, for large batches
sigmoid        SigLIP's loss, passed round a ring
alike          several captions a picture, and pairs that say the same
distillation   the answers of one or several teachers
margins        how far a pair is from its best rival, and the pull on pairs that widens it

Under torchrun each takes this process's share of the batch and gives the mean over that share, with all of the batch
as rivals: the mean over processes is the loss of the whole batch, and the mean of the gradients is its gradient (the
loop takes it). Every share must be equally large. They know nothing of towers, data or optimisers."""

from awase.learning.losses.alike import contrastive_among_groups
from awase.learning.losses.blocks import contrastive_in_blocks
from awase.learning.losses.distillation import Teacher, affinity
from awase.learning.losses.margins import margins, pull
from awase.learning.losses.sigmoid import sigmoid
from awase.learning.losses.softmax import clamped, class_names, contrastive, divergence

__all__ = [
    "Teacher",
    "affinity",
    "clamped",
    "class_names",
    "contrastive",
    "contrastive_among_groups",
    "contrastive_in_blocks",
    "divergence",
    "margins",
    "pull",
    "sigmoid",
]
