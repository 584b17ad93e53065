"""A sentence with "without ..." in it -> what is wanted and what is not, in English and Japanese.

An encoder barely hears "not": asked for "a street without cars" it finds cars. So the noun phrase after (in Japanese,
before) a marker of negation is taken out and becomes a clause of its own. There is no parser of language here: a noun
phrase ends at a comma, a preposition, a relative pronoun or a common verb of motion, and what follows belongs to the
sentence again ("a dog without a leash on the beach": the dog is on the beach). Where a phrase is no negation ("a no
smoking sign", "not only", "かけがえのない", a pear) the sentence stays whole. It knows nothing of the rest of a query.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NOBODY = {"en": "people", "ja": "人"}  # what "nobody" says is not there


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


class Parted(NamedTuple):
    """The sentence without its negations, "" if nothing is left, and each thing that is not wanted."""

    wanted: str
    unwanted: list[str]


def part(sentence: str) -> Parted:
    """Takes the negations out of a sentence; one that has none comes back as it was."""
    wanted, english = _part_english(sentence)
    wanted, japanese = _part_japanese(wanted)
    return Parted(wanted, english + japanese)


# ---- English ---------------------------------------------------------------------------------------------------------

_MARKERS = """without | no | not | but not | except for | except | excluding | other than | apart from | nobody | no one
    | no-one | isn't | aren't | wasn't | doesn't have | don't have | has no | have no"""
_MARKER_WORDS = sorted((m.split() for m in _MARKERS.split("|")), key=len, reverse=True)
_PEOPLE = (["nobody"], ["no", "one"], ["no-one"])
# Words before a marker that lead to it and mean nothing alone: "a man who is | not ...", "a room with | no ...".
_LEADS = _words("but and with has have having wearing there that which who where is are was were in , ;")
_ENDS = _words(
    """in on at near by with within under below beneath above over beside behind before after during through across
    along around against between among from into onto next inside outside while who that which where when whose but
    because as is are was were has have wearing holding carrying playing"""
)
_VERBS = _words(
    """climb run walk sit stand jump ride play hold wear eat drink swim look watch perform smile laugh dance throw catch
    kick carry pose lie lay lean push pull surf ski skate skateboard cross drive fly pass take wait wade dive dig chase
    read write hang sleep rest talk point show lead follow do use begin attempt seem"""
)
_NO_NEGATION = {  # after a marker: the words of signs and phrases
    "no": _words("longer more matter doubt way idea problem entry exit trespassing man's"),
    "not": _words("only just so very yet too to far quite all"),
    "without": _words("doubt"),
}
_IDIOMS = {"not": ["do", "why", "if"], "except": ["nothing", "anything"]}  # before a marker: it negates no thing
_OF_SIGNS = {"sign", "signs", "symbol", "symbols", "allowed", "permitted", "zone"}
_FILLERS = re.compile(r"^((in|on|around) (it|them|sight|view)|around|there|at all|anywhere|visible)(?=$| |,)")
_BACKGROUND = re.compile(r"^in (the |this )?(picture|photo|photograph|image|frame|scene|shot)(?=$| |,)")
_ADJECTIVES = _words(
    "black white red green blue yellow orange pink purple brown grey gray big large small little young old"
)


def _part_english(sentence: str) -> Parted:
    words = re.findall(r"[,;]|[^\s,;]+", sentence)
    plain = [word.lower().replace("’", "'") for word in words]
    if not any(_marker(plain, i) for i in range(len(plain))):
        return Parted(sentence, [])
    wanted: list[str] = []
    unwanted: list[str] = []
    i = 0
    while i < len(words):
        marker = _marker(plain, i)
        start = i + len(marker)
        end = start if marker in _PEOPLE else _phrase_end(plain, start, free=marker[-1:] == ["not"])
        if not marker or not _negates(marker, plain[:i], plain[start:end], plain[end:]):
            wanted.append(words[i])
            i += 1
            continue
        _drop_leads(wanted)
        unwanted += [NOBODY["en"]] if marker in _PEOPLE else _alternatives(words[start:end])
        i = _after(plain, end)
    return Parted(_joined(wanted), unwanted) if unwanted else Parted(sentence, [])


def _marker(plain: list[str], i: int) -> list[str]:
    """The words of the longest marker that begins at place i, or none."""
    return next((marker for marker in _MARKER_WORDS if plain[i : i + len(marker)] == marker), [])


def _negates(marker: list[str], before: list[str], phrase: list[str], after: list[str]) -> bool:
    """Whether what stands there is a negation, and not a sign, an idiom or the end of the sentence."""
    if marker in _PEOPLE:
        return True
    if not phrase or phrase[0][0].isdigit() or phrase[0] in _NO_NEGATION.get(marker[-1], ()):
        return False
    last = before[-1] if before else ""
    if marker != ["no"] or last == "with":
        return last not in _IDIOMS.get(marker[0], ())
    signs = phrase[0].endswith("ing") or _OF_SIGNS & {*phrase, *after[:2]}
    return not signs and last not in ("a", "an", "the")


def _phrase_end(plain: list[str], start: int, free: bool) -> int:
    """Where the noun phrase that begins at `start` ends. free: its first word may be a verb or a preposition."""
    end = start
    if free and plain[start + 1 : start + 2] and plain[start].endswith("ing") and plain[start + 1] in _ENDS:
        start = end = start + 2  # "not | looking at the camera"
    while end < len(plain) and not _ends_phrase(plain, start, end, free):
        end += 1
    while end > start and plain[end - 1] in ("and", "or", "nor", "but"):  # it led to what ended the phrase
        end -= 1
    return end


def _ends_phrase(plain: list[str], start: int, i: int, free: bool) -> bool:
    word = plain[i]
    if word in (",", ";") or _marker(plain, i):
        return True
    if i == start:
        return word in ("and", "or") or (word in _ENDS and not free)
    return word in _ENDS or _is_verb(plain, i)


def _is_verb(plain: list[str], i: int) -> bool:
    """ "climbs", "(people) climb in", and "running" where no noun follows it ("running in", but "running shoes")."""
    word, following = plain[i], plain[i + 1] if i + 1 < len(plain) else ""
    if word.endswith("ing"):
        stem = word[:-3]
        known = {stem, stem + "e", stem[:-1]} & _VERBS
        return bool(known) and (following in _ENDS or following in ("", ",", "a", "an", "the", "his", "her", "up"))
    if word.endswith("s"):
        return following not in ("", ",") and (word[:-1] in _VERBS or word[:-2] in _VERBS)
    return word in _VERBS and i > 0 and plain[i - 1].endswith("s") and following in _ENDS


def _alternatives(phrase: list[str]) -> list[str]:
    """ "cars or people" -> both; "a black or white dog" stays one; "a hat and a beard" -> both."""
    parts: list[list[str]] = [[]]
    for i, word in enumerate(phrase):
        plain, following = word.lower(), phrase[i + 1].lower() if i + 1 < len(phrase) else ""
        either = plain in ("or", "nor") and parts[-1] and parts[-1][-1].lower() not in _ADJECTIVES
        both = plain == "and" and following in ("a", "an", "the", "any") and parts[-1]
        if either or both:
            parts.append([])
        else:
            parts[-1].append(word)
    return [" ".join(words[1:] if words[0].lower() == "any" and len(words) > 1 else words) for words in parts if words]


def _drop_leads(wanted: list[str]) -> None:
    while wanted and wanted[-1].lower() in _LEADS:
        dropped = wanted.pop().lower()
        if dropped == "in" and wanted[-1:] != [","]:
            wanted.append(dropped)
            return


def _after(plain: list[str], i: int) -> int:
    """Where the sentence goes on after a negation: beyond "in it" and beyond an "and" that joined the two."""
    rest = " ".join(plain[i:])
    if filler := _FILLERS.match(rest) or _BACKGROUND.match(rest):
        i += len(filler[0].split())
    elif plain[i : i + 1] == ["on"] and (i + 1 == len(plain) or plain[i + 1] in _ENDS or _is_verb(plain, i + 1)):
        i += 1  # "with no shirt on"
    joined = i + 1 if plain[i : i + 1] == [","] else i
    if plain[joined : joined + 1] in (["but"], ["and"]):
        following = plain[joined + 1 : joined + 2]
        if plain[joined] == "but" or (following and following[0] in _ENDS) or _is_verb([*plain, ""], joined + 1):
            return joined + 1
    return i


def _joined(words: list[str]) -> str:
    return re.sub(r"\s+([,;])", r"\1", " ".join(words)).strip(" ,;")


# ---- Japanese --------------------------------------------------------------------------------------------------------

_KANJI = r"[\u3400-\u9fff\uf900-\ufaff々〇]"
_SOLID = r"[\u3400-\u9fff\uf900-\ufaff々〇ァ-ヺーｦ-ﾟA-Za-z0-9]"  # what is no hiragana
_ABSENT = (
    "い?ない|い?ません|居ない|無い|見え(?:ない|ません)|見当たら(?:ない|ません)"
    "|(?:写って|映って|入って|置かれて|置いて|乗って|描かれて|付いて|ついて)い?(?:ない|ません)"
)
_JAPANESE_MARKER = re.compile(
    rf"""(?P<none>(?<={_SOLID})なし(?![いくたてまをがはみ])|(?<=\S)無し
        |(?<=[ぁ-ん])(?<![いとなやをがはにの])(?<!っぱ)なし(?=$|[\s、。,]|の(?!$)|で))[のでに]?
    |(?P<absent>[のがは](?:{_ABSENT}))(?:です)?
    |(?P<doing>を(?!誰も|何も)[^\s、。を]{{1,8}}?[てで]い?(?:ない|ません)|を持たない)
    |(?P<besides>以外)[のでにはがを]?
    |(?P<except>を除(?:く|いた|いて|き))
    |(?P<other>(?:では|じゃ)ない)
    |(?P<adjective>くない)""",
    re.VERBOSE,
)
_EVERYBODY_GONE = re.compile("(?:誰も|だれも|人っ子一人|人気の|人けの|ひとけの)(?:い?ない|居ない|いません)")
# Where a noun phrase may begin: after a space or comma, after a particle that follows a solid character, after て, が.
_BOUNDARY = re.compile(
    rf"[\s、。，,・]|(?<={_SOLID})(?:では|には|から|まで|より|で|に|は|が|を|へ)(?!$)|(?<=[いっしん])[てで]|(?<=[るたいだ])が"
)
_NOT_THINGS = re.compile(
    "(?:.*(?:の|こと|はず|わけ|もの|つもり|しか.*|何も?|なにも)|洋|西洋|和|仕方|しかた|しょう|かけがえ|関係|間違い|申し訳|問題|比類)"
)
_HARDLY = re.compile("^(?:殆ど|ほとんど|あまり|全く)(?=.)")
_MERELY_PICTURE = re.compile("(?:写真|画像|もの|ところ|場所|風景|景色|絵|シーン|様子|所|時)")
_WHOLE = re.compile("(?:男|女)の(?:子|人)$")  # の inside one word


def _part_japanese(sentence: str) -> Parted:
    unwanted: list[str] = []
    if gone := _EVERYBODY_GONE.search(sentence):
        unwanted.append(NOBODY["ja"])
        sentence = _rejoined(sentence[: gone.start()], sentence[gone.end() :])
    place = 0
    while found := _JAPANESE_MARKER.search(sentence, place):
        left, right = sentence[: found.start()], sentence[found.end() :]
        start = _noun_start(left, right)
        noun = _HARDLY.sub("", left[start:].strip())
        predicate = found["adjective"] and left[:start].endswith(("が", "は"))  # 「天気が良くない」
        if not noun or predicate or _NOT_THINGS.fullmatch(noun):
            place = found.end()
            continue
        unwanted += _listed(noun + "い" if found["adjective"] else noun)
        sentence = _rejoined(left[:start], right)
        place = 0
    return Parted(sentence, unwanted)


def _noun_start(left: str, right: str) -> int:
    """Where the noun phrase at the end of `left` begins.

    In 「海辺の人のいない写真」 the sea belongs to the picture, in 「犬の首輪のない猫」 the dog to the collar: の is cut
    only where what follows is merely a picture."""
    start = max((found.end() for found in _BOUNDARY.finditer(left)), default=0)
    if _MERELY_PICTURE.match(right) and not _WHOLE.search(left):
        start = max(start, left.rfind("の") + 1)
    return start


def _listed(noun: str) -> list[str]:
    """「犬と猫」 -> both."""
    return [one for one in re.split(rf"(?<={_SOLID})(?:と|や|か|または|・)(?=\S)", noun) if one]


def _rejoined(left: str, right: str) -> str:
    """What stood round a negation as one phrase: 「砂浜で」 + 「写真」 -> 「砂浜の写真」."""
    left, right = re.sub(r"[、，,\s]+$", " ", left), re.sub(r"^[、，,。\s]+", "", right)
    if not right:
        return re.sub(rf"(?<={_SOLID})(?:では|には|で|に|は|が|を|の|と)$", "", left.strip()).strip(" 、。")
    return re.sub(rf"(?<={_SOLID})(?:では|には|で|に|は|が|を)$", "の", left).lstrip() + right
