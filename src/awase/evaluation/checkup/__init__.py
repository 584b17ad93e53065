"""A data set looked over by a model before anybody trains on it or indexes it: `awase data check`.

    checkup     every split, every check           page        a Checkup as a page to read
    suspects    wrong labels, odd pictures         alignment   captions of other pictures, hard negatives
    confusable  classes that will be mixed up      reading     names and captions that are read badly
    near        cuts and neighbours of a picture   turned      pictures that look turned
    wording     what a short caption could say

Each check takes vectors that are there already and returns findings. What needs no model is in `awase.datasets.checks`.
"""

from awase.evaluation.checkup.checkup import Checkup, check_data, open_whole
from awase.evaluation.checkup.page import checkup_page

__all__ = ["Checkup", "check_data", "checkup_page", "open_whole"]
