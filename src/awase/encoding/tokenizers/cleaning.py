"""What a tokenizer does to a sentence before it looks at its words. One function for each published way."""

from __future__ import annotations

import re
import string
import unicodedata

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
# White space as Unicode has it; Python's own \s counts four control characters more.
_UNICODE_SPACE = re.compile("[\t-\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")


def openai(text: str) -> str:
    """OpenAI's and OpenCLIP's: broken Unicode mended, HTML entities undone twice, single spaces, lower case."""
    return " ".join(_mended(text).split()).lower()


def huggingface_clip(text: str) -> str:
    """`transformers.CLIPTokenizer`'s: composed (NFC), one space between words, lower case."""
    spaced = _UNICODE_SPACE.sub(" ", unicodedata.normalize("NFC", text))
    return spaced.replace("Σ", "σ").lower()  # Python alone makes a ς of a Σ that ends a word


def huggingface_siglip(text: str) -> str:
    """`transformers.SiglipTokenizer`'s: lower case, ASCII punctuation deleted, one space between words."""
    return re.sub(r"\s+", " ", text.lower().translate(_NO_PUNCTUATION)).strip()


def canonical(text: str) -> str:
    """OpenCLIP's "canonicalize", for SigLIP: mended, underscores to spaces, ASCII punctuation deleted, lower case."""
    return " ".join(_mended(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


def _mended(text: str) -> str:
    """ftfy, then HTML entities twice. Neither changes printable ASCII without an ampersand; importing ftfy is slow."""
    if text.isascii() and text.isprintable() and "&" not in text:
        return text
    import html

    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))
