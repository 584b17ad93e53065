"""What is wrong with a data set, as far as that can be told without a model: before anybody trains on it or indexes it.

    whole       every split of a set, end to end        findings    what a check found: how bad, why, what to do
    looks       what a picture looks like               pictures    unreadable, turned, tiny, near-blank
    copies      the same picture twice, and leaks       labels      too few, too uneven, absent from a split
    captions    short, repeated, strange                giveaways   what betrays a class without its content

Every check is a function of a `Whole` and what was seen of its pictures, and returns findings, none where all is well.
What needs a model is in `awase.evaluation.checkup`.
"""

from awase.datasets.checks.captions import check_captions
from awase.datasets.checks.copies import Copies, check_copies, find_copies
from awase.datasets.checks.findings import Example, Finding, worst_first
from awase.datasets.checks.giveaways import check_giveaways
from awase.datasets.checks.labels import check_labels
from awase.datasets.checks.looks import Look, look_at, look_at_all
from awase.datasets.checks.pictures import check_pictures
from awase.datasets.checks.whole import Whole, whole_of

__all__ = [
    "Copies",
    "Example",
    "Finding",
    "Look",
    "Whole",
    "check_captions",
    "check_copies",
    "check_giveaways",
    "check_labels",
    "check_pictures",
    "find_copies",
    "look_at",
    "look_at_all",
    "whole_of",
    "worst_first",
]
