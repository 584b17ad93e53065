"""awase: CLIP as one practical system. Two encoders put pictures and sentences into one space."""

__version__ = "0.1.0"
