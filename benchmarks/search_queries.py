"""What a search answers, against the plain sentence given to the encoder: negation, colours, the cut-off, hub pictures.

    python benchmarks/search_queries.py FOLDER                # FOLDER as in search_data.py

On the half of the pictures that no constant was fitted on (`search_choose.py` has the other). "As searched" is the
query as `awase search` reads and scores it; "plain" the cosine of the whole sentence.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from search_data import (
    CHOOSE,
    REPORT,
    Library,
    a,
    asker,
    hubs,
    library,
    nouns,
    part_of,
    precision_at_10,
    queries_of,
    sizes,
    without_pairs,
)

import awase
from awase.clip import Clip
from awase.evaluation.intervals import bootstrap, paired_bootstrap, proportion
from awase.tasks.search import scoring

Attributes = dict[str, list[dict[str, str]]]


def garment_queries(its: Library, attributes: Attributes) -> list[tuple[str, str, str, np.ndarray]]:
    """(kind, plain sentence, query, right): "red shirts", "shirts that are not red", and the same in Japanese."""
    found = []
    types, colours = (np.array([one[i] for one in its.garments]) for i in (0, 1))
    ja = {name: {v["en"]: v["ja"] for v in attributes[name]} for name in ("type", "colour")}
    for kind, colour in sorted(set(zip(types.tolist(), colours.tolist(), strict=True))):
        mine, all_of = (types == kind) & (colours == colour), types == kind
        if mine.sum() >= 2:
            found.append(("colour X, en", f"{colour} {kind}", f"{colour} {kind}", mine))
            japanese = f"{ja['colour'][colour]}の{ja['type'][kind]}"
            found.append(("colour X, ja", japanese, japanese, mine))
        if mine.sum() >= 0.1 * all_of.sum() and (all_of & ~mine).sum() >= 3:
            plain = f"{kind} that are not {colour}"
            found.append(("X not colour, en", plain, f"{kind} -{colour}", all_of & ~mine))
            japanese = f"{ja['colour'][colour]}ではない{ja['type'][kind]}"
            found.append(("X not colour, ja", japanese, japanese, all_of & ~mine))
    return found


def report_queries(clip: Clip, its: Library, things: set[str], attributes: Attributes) -> None:
    """P@10 of the query as searched and of the plain sentence by its cosine."""
    photographs, shop = (part_of(its, its.known(what)) for what in (its.words, its.garments))
    asked = [
        ("X without Y, en", f"{a(x)} without {a(y)}", f"{a(x)} without {a(y)}", right)
        for x, y, right in without_pairs(photographs, things)
    ]
    rows: dict[str, list[tuple[float, float]]] = {}
    for some, queries in ((photographs, asked), (shop, garment_queries(shop, attributes))):
        asks = asker(clip, some.vectors)
        plain = asks.cosines([sentence for _, sentence, _, _ in queries], 0.0)
        for (kind, _, query, right), cosines in zip(queries, plain, strict=True):
            rows.setdefault(kind, []).append(
                (precision_at_10(asks.scores(query), right), precision_at_10(cosines, right))
            )
    rows["all"] = [row for kind in list(rows) for row in rows[kind]]
    print("\n| queries | n | plain sentence, P@10 % | as searched (95 %) | difference (95 %) |\n|---|---|---|---|---|")
    for kind, values in rows.items():
        searched, plain = np.array(values).T
        low, high = bootstrap(searched)
        gain = paired_bootstrap(searched, plain)
        print(
            f"| {kind} | {len(values)} | {100 * plain.mean():.1f} "
            f"| {100 * searched.mean():.1f} ({100 * low:.1f} to {100 * high:.1f}) "
            f"| {100 * gain.value:+.1f} ({100 * gain.interval[0]:+.1f} to {100 * gain.interval[1]:+.1f}) |"
        )


def report_cut(clip: Clip, its: Library, others: Library, things: set[str]) -> None:
    print(
        "\n| library | queries | n | precision % (95 %) | recall % | with anything relevant % (95 %) |"
        "\n|---|---|---|---|---|---|"
    )
    for size, libraries in sizes(its).items():
        sums: dict[str, list[np.ndarray]] = {}
        for some in libraries:
            asks = asker(clip, some.vectors)
            for queries in queries_of(some, others, things):
                over = (asks.odds(queries.texts) >= 0) & queries.judged
                right = queries.right & queries.judged
                each = np.stack([(over & right).sum(1), over.sum(1), right.sum(1), over.any(1)], axis=1)
                sums.setdefault(queries.what, []).append(each)
        for what, parts in sums.items():
            counted = np.concatenate(parts)
            hit, over, right, some_over = counted.sum(axis=0).tolist()
            low, high = (100 * end for end in proportion(some_over, len(counted)))
            shown = f"{100 * some_over / len(counted):.1f} ({low:.1f} to {high:.1f})"
            if not right:
                print(f"| {size} | {what} | {len(counted)} | | | {shown} |")
                continue
            ratio = bootstrap(counted, lambda rows: rows[:, 0].sum() / max(1, rows[:, 1].sum()), draws=1000)
            precision = f"{100 * hit / max(1, over):.1f} ({100 * ratio[0]:.1f} to {100 * ratio[1]:.1f})"
            print(f"| {size} | {what} | {len(counted)} | {precision} | {100 * hit / right:.1f} | {shown} |")


def report_hubs(clip: Clip, its: Library) -> None:
    some = part_of(its, its.known(its.captions) & np.array([bool(said) for said in its.captions]))
    print(f"\nhub pictures among {len(its.words)} (before: share 0, after: share {scoring.HUB_SHARE}):")
    for share in (0.0, scoring.HUB_SHARE):
        print(f"  share {share}: {'; '.join(hubs(clip, its, share))}; photographs alone: {hubs(clip, some, share)[0]}")


def main() -> None:
    folder, clip = Path(sys.argv[1]), awase.load()
    things = nouns(folder)
    sides = {side: library(clip, folder, side) for side in (CHOOSE, REPORT)}
    print(f"{clip.runs_on}; {len(sides[REPORT].words)} pictures")
    attributes = json.loads((folder / "fashion_attr" / "attributes.json").read_text("utf-8"))
    report_queries(clip, sides[REPORT], things, attributes)
    report_cut(clip, sides[REPORT], sides[CHOOSE], things)
    report_hubs(clip, sides[REPORT])


if __name__ == "__main__":
    main()
