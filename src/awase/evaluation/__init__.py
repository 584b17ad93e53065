"""How good is a Clip, with evidence: one file a measure, every figure with its interval, n and provenance.

Knows a `Clip` and data sets; nothing of training or tasks. The measures themselves are functions of vectors.
"""
