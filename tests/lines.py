"""Lines of text of every kind that a tokenizer meets, the same in every run: English, Japanese, emoji, HTML entities,
odd white space, contractions, numbers, composed and decomposed Unicode, full-width forms, broken bytes, long lines."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable, Sequence


def _words(text: str) -> list[str]:
    return text.split(" ")


WORDS = _words(
    "a an the photo picture of two three cats dogs horse riding on over under beach street red blue tiny snowboard "
    "refrigerator antidisestablishmentarianism Tokyo NASA iPhone McDonald's naïve café Zürich straße Ångström "
    "Ελλάδα ΟΔΥΣΣΕΥΣ Москва İstanbul ÇOK ﬁsh ﬂower ǅ Dž ſo K 한국어 ไทย हिन्दी العربية עברית"
)
JAPANESE = _words(
    "猫 犬 の 写真 二匹の ソファで 眠る ピンク色 東京タワー 食べ物 がくせい ラーメン ﾈｺ ｶﾞｷﾞｸﾞ 々 ーー 「かわいい」 、 。 "
    "！ 走っている 赤い自転車に乗る 子ども 海辺 雪 ＡＢＣ １２３ ㌔ ㈱ ①"
)
EMOJI = _words("😀 🐱 🐶 👨‍👩‍👧‍👦 🇯🇵 ❤️ 👍🏽 🍣 ☃ ✈️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿")
ENTITIES = [*_words("&amp; &lt;b&gt; &quot; &#39; &amp;amp; &eacute; &#x1F600; &nbsp; &copy &unknown; AT&T"), "& "]
SPACES = [*" \t\n\u00a0\u3000\u2003\u200b\ufeff\u2028\u0085\u202f\x0c\x0b\x1c", "  ", "\r\n"]
CONTRACTIONS = _words("it's don't we're I've I'm they'll he'd IT'S rock'n'roll 's ’s 'ſ dogs' o'clock")
NUMBERS = _words("0 7 42 1,000 3.14 2024-01-31 1/2 ½ ² Ⅷ ٣ १२ 10% $5 #1 x1y2")
MARKS = _words("! ?! ... -- — “quoted” ‘q’ (a) [b] {c} <d> _e_ * @user http://a.b/c?d=e C++ ~ ` ^ | \\")
BROKEN = _words("cafÃ© â€œquoteâ€\x9d schÃ¶n \x1b[36mblue\x1b[0m a\x00b \ufffd ï»¿start ã\x81\x82")
SPECIALS = _words(
    "<|endoftext|> <|startoftext|> <|ENDOFTEXT|> <end_of_text> <start_of_text> <<|endoftext|>!! a<|endoftext|>b "
    "<|endoftext|>!! <|ENDOFTEXT|>!! <ſtart_of_text> <|endofteхt|>"
)


def mixed_lines(count: int, specials: bool = True, seed: int = 0) -> list[str]:
    """`count` lines, mostly of one kind each, one in eight of all kinds. specials: with special tokens spelled out."""
    draw = random.Random(seed)
    kinds: list[Callable[[], str]] = [
        lambda: _line(draw, [WORDS], 12),
        lambda: _line(draw, [WORDS, CONTRACTIONS, NUMBERS, MARKS], 15),
        lambda: _line(draw, [JAPANESE], 10, ["", "", " ", "　"]),
        lambda: _line(draw, [WORDS, JAPANESE, EMOJI], 10),
        lambda: _line(draw, [WORDS, ENTITIES, MARKS], 10, ["", " "]),
        lambda: _line(draw, [WORDS, BROKEN], 8),
        lambda: unicodedata.normalize(draw.choice(["NFC", "NFD", "NFKD"]), _line(draw, [WORDS, JAPANESE], 10)),
        lambda: _anything(draw, specials),
    ]
    fixed = [
        "",
        " ",
        "\n",
        "a",
        "猫",
        "'",
        "''",
        "a photo of a cat",
        " leading",
        "trailing ",
        "word " * 500,
        "猫と犬" * 200,
    ]
    return (fixed + [draw.choice(kinds)() for _ in range(count)])[:count]


def _line(draw: random.Random, sources: Sequence[Sequence[str]], most: int, spaces: Sequence[str] = (" ",)) -> str:
    parts = []
    for _ in range(draw.randint(1, most)):
        parts += [draw.choice(draw.choice(sources)), draw.choice(spaces)]
    cased = "".join(parts[:-1])
    return draw.choice([str, str, str.upper, str.title])(cased)


def _anything(draw: random.Random, specials: bool) -> str:
    """All kinds with any space between; one in forty of 500 parts; one in four of random characters."""
    if draw.random() < 0.25:
        return "".join(_character(draw) for _ in range(draw.randint(1, 30)))
    sources = [WORDS, JAPANESE, EMOJI, ENTITIES, CONTRACTIONS, NUMBERS, MARKS, BROKEN]
    most = 500 if draw.random() < 0.025 else 12
    return _line(draw, [*sources, SPECIALS] if specials else sources, most, SPACES)


def _character(draw: random.Random) -> str:
    """A character that Unicode 14 knows, so that every library of the last years has it in the same class."""
    while True:
        character = chr(draw.choice([draw.randrange(0x20, 0x250), draw.randrange(0x10000), draw.randrange(0x1F900)]))
        if unicodedata.category(character) not in ("Cn", "Cs", "Co"):
            return character
