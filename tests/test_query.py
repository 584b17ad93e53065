"""The query language: what is taken apart, what is not, and that a query prints back."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from awase.errors import UsageError
from awase.tasks.search.negation import part
from awase.tasks.search.query import Clause, Query, parse
from awase.tasks.search.store import Circle, Filter, Span


def shown(text: str) -> str:
    query = parse(text)
    assert parse(str(query)) == query
    return str(query)


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("red car", '"red car"'),
        ("  red   car ", '"red car"'),
        ("red car -people", '"red car" -"people"'),
        ("red -people car", '"red car" -"people"'),
        ('red car -"a lot of people"', '"red car" -"a lot of people"'),
        ("2:golden retriever", '2:"golden retriever"'),
        ("2:golden retriever 0.5:beach", '2:"golden retriever" 0.5:"beach"'),
        ('2:"golden retriever" beach', '2:"golden retriever" "beach"'),
        ("2:golden retriever + beach -people", '2:"golden retriever" "beach" -"people"'),
        ("dog -2:people in red", '"dog in red" -2:"people"'),
        ('"red car" "at night"', '"red car" "at night"'),
        ("dog + ball+bat", '"dog" "ball+bat"'),
        ("./pool.jpg at night", 'picture:"./pool.jpg" "at night"'),
        ("at night ../a/pool", '"at night" picture:"../a/pool"'),
        ("pool.HEIC", 'picture:"pool.HEIC"'),
        (r"C:\pictures\a.jpg -rain", r'picture:"C:\pictures\a.jpg" -"rain"'),
        ('picture:"my pool.jpg" but empty', 'picture:"my pool.jpg" "empty"'),
        ("https://example.com/a.jpg with snow", 'picture:"https://example.com/a.jpg" "snow"'),
        ("dog -./cat.png", '"dog" -picture:"./cat.png"'),
        ("#3", "#3"),
        ("#3 but without people", '#3 -"people"'),
        ("#3 but at night", '#3 "at night"'),
        ("more like #3, but at night", '#3 "at night"'),
        ("more like #3 but at night", '#3 "at night"'),
        ("like #12 -#3", "#12 -#3"),
        ("#3 + 2:#4", "#3 2:#4"),
        ("id:12 -id:13", "id:12 -id:13"),
        ("dog folder:italy", '"dog" folder:italy'),
        ('dog folder:"my pictures"', '"dog" folder:"my pictures"'),
        ("dog folder:/home/me/pictures", '"dog" folder:/home/me/pictures'),
        ("picture:/home/me/a.jpg at night", 'picture:"/home/me/a.jpg" "at night"'),
        ("dog -folder:screenshots", '"dog" -folder:screenshots'),
        ("dog AFTER:2024/5 before:2025", '"dog" after:2024-05 before:2025'),
        ("dog camera:canon type:heic", '"dog" camera:canon type:heic'),
        ("dog size:>2MB", '"dog" size:>2000000b'),
        ("dog size:1-5mb", '"dog" size:1000000-5000000b'),
        ("dog size:<12MP", '"dog" size:<12000000p'),
        ("dog near:35.68,139.76,5km", '"dog" near:35.68,139.76,5km'),
        ("dog near:-33.9,151.2", '"dog" near:-33.9,151.2,10km'),
    ],
)
def test_operators(typed: str, read: str) -> None:
    assert shown(typed) == read


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("赤い車　－人", '"赤い車" -"人"'),
        ("赤い車 −人", '"赤い車" -"人"'),
        ("２：犬　＋　海", '2:"犬" "海"'),
        ("「赤い車」 「夜」", '"赤い車" "夜"'),
        ("赤い車 －「たくさんの人」", '"赤い車" -"たくさんの人"'),
        ("“red car” ＂at night＂", '"red car" "at night"'),
        ("犬 フォルダ folder：夏　after：２０２４年５月", '"犬 フォルダ" folder:夏 after:2024-05'),
        ("＃３みたいな夜の写真", '#3 "夜の写真"'),
        ("#3 だけど人なし", '#3 -"人"'),
        ("「止まれ」の標識", '"「止まれ」の標識"'),
        ("ＣＡＴ", '"ＣＡＴ"'),
    ],
)
def test_full_width_forms_mean_the_same(typed: str, read: str) -> None:
    assert shown(typed) == read


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("a man without a hat", "a man", ["a hat"]),
        ("a dog without a leash on the beach", "a dog on the beach", ["a leash"]),
        ("a street without cars or people", "a street", ["cars", "people"]),
        ("a man without a hat and a beard", "a man", ["a hat", "a beard"]),
        ("a black or white dog without a black or white collar", "a black or white dog", ["a black or white collar"]),
        ("a man without a hat but with sunglasses", "a man with sunglasses", ["a hat"]),
        ("a man with no shirt on is climbing a rock", "a man is climbing a rock", ["shirt"]),
        ("children without shoes playing in the snow", "children playing in the snow", ["shoes"]),
        ("a dog without red running shoes", "a dog", ["red running shoes"]),
        ("a pool without a swimming pool ladder", "a pool", ["a swimming pool ladder"]),
        ("beach, no people", "beach", ["people"]),
        ("no people, a beach", "a beach", ["people"]),
        ("a beach, no cars and no people", "a beach", ["cars", "people"]),
        ("a beach with nobody on it", "a beach", ["people"]),
        ("a street with no one in sight at night", "a street at night", ["people"]),
        ("a room with no windows", "a room", ["windows"]),
        ("a cat that is not black", "a cat", ["black"]),
        ("a cat but not black", "a cat", ["black"]),
        ("a dog not on a leash", "a dog", ["on a leash"]),
        ("a woman not looking at the camera", "a woman", ["looking at the camera"]),
        ("animals except dogs", "animals", ["dogs"]),
        ("animals other than dogs in snow", "animals in snow", ["dogs"]),
        ("A Street Without Any Cars", "A Street", ["Cars"]),
    ],
)
def test_english_negation(typed: str, wanted: str, unwanted: list[str]) -> None:
    assert part(typed) == (wanted, unwanted)
    assert parse(typed) == Query((Clause(wanted), *(Clause(words, negative=True) for words in unwanted)))


@pytest.mark.parametrize(
    ("typed", "wanted", "unwanted"),
    [
        ("赤い車 人なし", "赤い車", ["人"]),
        ("赤い車、人なし", "赤い車", ["人"]),
        ("人のいない赤い車", "赤い車", ["人"]),
        ("帽子のない男性", "男性", ["帽子"]),
        ("帽子をかぶっていない男性", "男性", ["帽子"]),
        ("人がいない海辺", "海辺", ["人"]),
        ("部屋に人がいない", "部屋", ["人"]),
        ("犬と猫のいない部屋", "部屋", ["犬", "猫"]),
        ("海辺の人のいない写真", "海辺の写真", ["人"]),
        ("犬の首輪のない猫", "猫", ["犬の首輪"]),
        ("犬以外の動物", "動物", ["犬"]),
        ("猫を除く動物", "動物", ["猫"]),
        ("黒ではない猫", "猫", ["黒"]),
        ("白くない犬", "犬", ["白い"]),
        ("誰もいない浜辺", "浜辺", ["人"]),
        ("砂浜で人が写っていない写真", "砂浜の写真", ["人"]),
        ("種なしぶどう", "ぶどう", ["種"]),
        ("背もたれ無しの椅子", "椅子", ["背もたれ"]),
    ],
)
def test_japanese_negation(typed: str, wanted: str, unwanted: list[str]) -> None:
    assert part(typed) == (wanted, unwanted)
    assert parse(typed) == Query((Clause(wanted), *(Clause(words, negative=True) for words in unwanted)))


@pytest.mark.parametrize(
    "plain",
    """a no smoking sign|no smoking sign|no parking|no dogs allowed sign|a no entry zone|no. 10 downing street
    not only dogs but cats|a life without|a tennis net|notes on a table|a well-known man - and a dog|a dog - brown
    a clock showing 2:30|a 16:9 picture|-5 degrees on a thermometer|player wearing #3|a man wearing #23|a 5" nail
    nothing except snow|a do not walk button|three women, one not|dog.|and/or|C++ book
    何もない部屋|洋なしのタルト|皿の上のなし|見たことのない景色|少ない人|かけがえのない家族|ピーマンしか具がないピザ
    置きっぱなしの靴|手をつないでいる|小さな犬|かなしい顔|危ない道|意外な動物|掃除した部屋|話をする人""".replace(
        "\n", "|"
    ).split("|"),
)
def test_sentences_that_are_not_taken_apart(plain: str) -> None:
    assert parse(plain) == Query((Clause(plain.strip()),))


@pytest.mark.parametrize(
    "quoted",
    ["a man without a hat", "-people", "folder:x", "2:dogs", "#3", "人のいない赤い車", "./pool.jpg", "not a dog", "+"],
)
def test_quotes_always_win(quoted: str) -> None:
    assert parse(f'"{quoted}"') == Query((Clause(quoted),))
    assert parse(f"「{quoted}」") == Query((Clause(quoted),))


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("", "says nothing"),
        ("-people", "only what should not be there"),
        ("not a dog", "only what should not be there"),
        ("folder:x after:2024", "no more than filters"),
        ("red colour:red car", ">>colour:red<<"),
        ('a "red car', '>>"red car<<'),
        ('dog ""', "empty quotes"),
        ("200:dog", ">>200:<<dog"),
        ("dog after:yesterday", ">>after:yesterday<<"),
        ("dog after:2024-13", ">>after:2024-13<<"),
        ("dog size:big", ">>size:big<<"),
        ("dog near:200,1", ">>near:200,1<<"),
        ("id:first", ">>id:first<<"),
        ("dog " * 600, "characters"),
        ("do\udcffg", "do\\udcffg: these words are no valid Unicode"),
        ("dog\x1b[31m colour:red", "dog\\x1b[31m >>colour:red<<"),
        ('"a" ' * 40, "clauses"),
    ],
)
def test_errors_show_the_place(typed: str, told: str) -> None:
    with pytest.raises(UsageError) as problem:
        parse(typed)
    assert told in str(problem.value)
    assert "\n" not in str(problem.value)


def test_filters_are_the_stores() -> None:
    query = parse("dog size:1-5MB near:1.5,-2,3km -type:png size:>4000px")
    assert query.filters == (
        Filter("size", Span("bytes", 1e6, 5e6)),
        Filter("near", Circle(1.5, -2.0, 3.0)),
        Filter("type", "png", without=True),
        Filter("size", Span("side", 4000.0, None)),
    )
    assert query.wanted == (Clause("dog"),)


@given(st.text(max_size=60))
@settings(max_examples=400, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        query = parse(text)
    except UsageError:
        return
    assert parse(str(query)) == query


PIECES = """a dog without -people "red car" 2:x #3 folder:x ./a.jpg + but not no 人 なし のいない 「夜」 " ： － #1 id:4
    , 、 after:2024"""


@given(st.lists(st.sampled_from(PIECES.split()), max_size=9).map(" ".join))
@settings(max_examples=400, deadline=None)
def test_any_mixture_is_read_or_refused(text: str) -> None:
    test_any_text_is_read_or_refused.hypothesis.inner_test(text)  # type: ignore[attr-defined]


words = st.text(min_size=1, max_size=30).filter(lambda text: text.split())
weights = st.floats(0.01, 100, allow_nan=False)
clauses = st.one_of(
    st.builds(Clause, words, st.sampled_from(["words", "picture"]), st.booleans(), weights),
    st.builds(lambda n, *rest: Clause(f"#{n}", "result", *rest), st.integers(0, 10**6 - 1), st.booleans(), weights),
    st.builds(lambda n, *rest: Clause(f"id:{n}", "result", *rest), st.integers(0, 10**9), st.booleans(), weights),
)
numbers = st.floats(0, 1e12, allow_nan=False)
spans = st.builds(Span, st.sampled_from(["bytes", "pixels", "side"]), numbers, st.one_of(st.none(), numbers))
circles = st.builds(Circle, st.floats(-90, 90), st.floats(-180, 180), st.floats(0, 1e5))
filters = st.one_of(
    st.builds(lambda value, no: Filter("size", value, no), spans, st.booleans()),
    st.builds(lambda value, no: Filter("near", value, no), circles, st.booleans()),
    st.builds(lambda value, no: Filter("folder", value, no), words, st.booleans()),
    st.builds(lambda value, no: Filter("after", value, no), st.sampled_from(["2024", "2024-05"]), st.booleans()),
)


@given(st.lists(clauses, max_size=4), st.lists(filters, max_size=3))
@settings(max_examples=400, deadline=None)
def test_every_query_prints_back(some: list[Clause], conditions: list[Filter]) -> None:
    query = Query((Clause("dog"), *some), tuple(conditions))
    assert parse(str(query)) == query
