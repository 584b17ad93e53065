"""Pictures with labels or captions, from the layouts people have. A data set is described by data, never by code.

    open_labelled("birds/", "test")  -> Labelled        find_sets("data/")  what a folder or an archive holds
    open_captioned("flickr.tar")     -> Captioned       definition("oxford_pets")  published names, templates, metric

    opening       the layout that a path holds          assembling    rows -> Labelled, Captioned
    layouts/      one file a layout -> rows             naming        what classes are called, templates
    folders       folders on disk and in archives       columns       which column is what
    archives      tar, tar.gz, zip, read in place       hashing       hashes, pictures that two splits share

Knows nothing of models or measures.
"""

from awase.datasets.captioned import Captioned
from awase.datasets.definitions import Definition, definition, definitions
from awase.datasets.hashing import data_hash, duplicates_between, pictures_hash
from awase.datasets.labelled import Labelled
from awase.datasets.opening import Found, find_sets, open_captioned, open_labelled

__all__ = [
    "Captioned",
    "Definition",
    "Found",
    "Labelled",
    "data_hash",
    "definition",
    "definitions",
    "duplicates_between",
    "find_sets",
    "open_captioned",
    "open_labelled",
    "pictures_hash",
]
