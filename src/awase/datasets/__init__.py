"""Pictures with labels or captions, from the layouts people have. A data set is described by data, never by code.

labelled    pictures of classes           captioned   pictures with sentences
Knows nothing of models or measures.
"""
