"""A Checkup as one page that a person reads: what is wrong, how bad, which pictures, why it matters, what to do.

One file, like the report of an evaluation: style and small pictures inside it, no script, no address."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np

from awase.datasets.checks import Example, Finding, Whole
from awase.datasets.checks.findings import SEVERITIES
from awase.datasets.checks.labels import class_counts
from awase.errors import PictureError
from awase.evaluation import plots
from awase.evaluation.checkup.checkup import Checkup
from awase.evaluation.markup import counted, lang, listed, page, table, text, titled
from awase.evaluation.report import rows_section
from awase.evaluation.runs import slug, thumbnail

SHOWN = 8  # examples of a finding
PICTURES = 300  # on the whole page, so that a phone still opens it
MOST_CLASSES = 40  # bars in the chart of classes
LOOKS = {"serious": "loss", "notable": "s0", "minor": "tie"}
WORDS = {"serious": "serious", "notable": "worth a look", "minor": "good to know"}

Small = Callable[[int], bytes | None]
"""The bytes of a small JPEG of a picture by its place; None where it cannot be read."""


def checkup_page(checkup: Checkup) -> str:
    """The whole HTML document."""
    pictures = _Pictures(checkup.whole)
    parts = [
        _head(checkup),
        _overview(checkup.findings),
        *(_finding(finding, pictures.small, checkup.language) for finding in checkup.findings),
        _classes(checkup.whole),
        _clean(checkup),
        _basis(checkup),
    ]
    return page(f"{checkup.whole.name}: data check", "".join(parts))


class _Pictures:
    """Makes each small picture once, and no more than a page can carry."""

    def __init__(self, whole: Whole) -> None:
        self._whole, self._made = whole, dict[int, bytes | None]()

    def small(self, place: int) -> bytes | None:
        if place not in self._made:
            if len(self._made) >= PICTURES:
                return None
            try:
                self._made[place] = thumbnail(self._whole.pictures[place])
            except PictureError:
                self._made[place] = None
        return self._made[place]


def _head(checkup: Checkup) -> str:
    whole = checkup.whole
    sizes = np.bincount(whole.part, minlength=len(whole.splits))
    splits = listed([f"{name} {size:,}" for name, size in zip(whole.splits, sizes, strict=True)])
    sentences = f"{len(whole.captions):,} sentences ({whole.column})" if whole.captions else "no classes, no sentences"
    what = f"{len(whole.keys):,} classes" if whole.keys else sentences
    counts = Counter(finding.severity for finding in checkup.findings)
    cards = "".join(
        f'<div class="card"><div class="figure {LOOKS[severity]}"><b>{counts[severity]}</b>'
        f"<span><em>{WORDS[severity]}</em><br>{_touched(checkup.findings, severity)}</span></div></div>"
        for severity in SEVERITIES
    )
    looked = f"Looked over by {checkup.model}." if checkup.model else "Looked over without a model."
    return (
        f'<header><p class="eyebrow">Data check by awase</p><h1>{text(whole.name)}</h1>'
        f'<p class="lede">{text(f"{len(whole):,} pictures ({splits}), {what}. {looked}")}</p></header>'
        f'<section class="cards">{cards}</section>'
    )


def _touched(findings: Sequence[Finding], severity: str) -> str:
    said = {"serious": "figures will be false, or training fails", "notable": "costs quality", "minor": "no harm done"}
    return said[severity] if any(finding.severity == severity for finding in findings) else "nothing of this kind"


def _overview(findings: Sequence[Finding]) -> str:
    """A line for each finding that leads to it, with the share that it touches."""
    if not findings:
        return "<h2>Nothing was found</h2>"
    rows = [
        plots.Row(titled(f.check), [plots.Mark(f.count / max(f.of, 1), None, LOOKS[f.severity], f.says)], n=f.count)
        for f in findings
    ]
    legend = [(LOOKS[s], WORDS[s]) for s in SEVERITIES if any(f.severity == s for f in findings)]
    anchors = {titled(f.check): slug(f.check) for f in findings}
    said = '<p class="soft">How much of the data each finding touches; n is how many.</p>'
    return (
        f"<h2>At a glance</h2>{said}{rows_section(rows, legend, plots.axis_for(rows, whole=True), anchors, bars=True)}"
    )


def _finding(finding: Finding, small: Small, language: str) -> str:
    variant = "Japanese" if language == "ja" else ""
    shown = "".join(_example(example, small) for example in finding.examples[:SHOWN])
    pairs = " pairs" if finding.examples and len(finding.examples[0].pictures) > 1 else ""
    more = len(finding.examples) - SHOWN
    rest = f'<p class="note">and {counted(more, "more example")}: --json lists them</p>' if more > 0 else ""
    look = LOOKS[finding.severity]
    return (
        f'<section class="card finding {look}-side" id="{slug(finding.check)}">'
        f'<h3>{text(titled(finding.check))} <small class="{look}"><em>{WORDS[finding.severity]}</em></small></h3>'
        f'<p class="lead">{text(finding.says)}</p><p>{text(finding.why)}</p>'
        f'<p class="do"><b>What to do.</b> {text(finding.remedy)}</p>'
        + (f'<div class="examples{pairs}"{lang(variant)}>{shown}</div>{rest}' if shown else "")
        + (table("In figures", finding.rows, variant) if finding.rows else "")
        + "</section>"
    )


def _example(example: Example, small: Small) -> str:
    images = "".join(_image(small(place)) for place in example.pictures[:2])
    more = f" (and {len(example.pictures) - 2} more)" if len(example.pictures) > 2 else ""
    return f'<figure><div class="side">{images}</div><figcaption>{text(example.says)}{more}</figcaption></figure>'


def _image(content: bytes | None) -> str:
    if content is None:
        return '<div class="missing">no picture</div>'
    return f'<img alt="" src="data:image/jpeg;base64,{base64.b64encode(content).decode()}">'


def _classes(whole: Whole) -> str:
    """Pictures of each class: all splits together, those of each in words."""
    if whole.targets is None:
        return ""
    counts = class_counts(whole)
    order = np.argsort(-counts.sum(axis=0), kind="stable")
    ends = [*order[: MOST_CLASSES // 2], *order[-(MOST_CLASSES // 2) :]] if len(order) > MOST_CLASSES else order
    rows = [
        plots.Row(
            whole.keys[c],
            [plots.Mark(float(counts[:, c].sum()), None, "s0", _by_split(whole, counts[:, c]))],
        )
        for c in ends
    ]
    said = "Pictures of each class" + (
        f" (the largest and the smallest of {len(order):,})" if len(order) > MOST_CLASSES else ""
    )
    return f'<h2>Classes</h2><p class="soft">{text(said)}.</p>' + rows_section(
        rows, [("s0", " + ".join(whole.splits))], plots.axis_for(rows, share=False), {}, bars=True
    )


def _by_split(whole: Whole, counts: np.ndarray) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in zip(whole.splits, counts.tolist(), strict=True))


def _clean(checkup: Checkup) -> str:
    clean = f"<p>{text(listed(checkup.clean))}.</p>" if checkup.clean else "<p>Nothing.</p>"
    parts = [f"<h2>Looked for and not found</h2>{clean}"]
    if checkup.skipped:
        lines = "".join(f"<li>{text(titled(check))}: {text(why)}</li>" for check, why in checkup.skipped)
        parts.append(f'<h2>Not looked for</h2><ul class="notes">{lines}</ul>')
    if checkup.whole.notes:
        lines = "".join(f"<li>{text(note)}</li>" for note in checkup.whole.notes)
        parts.append(f'<h2>Told when the data were opened</h2><ul class="notes">{lines}</ul>')
    return "".join(parts)


def _basis(checkup: Checkup) -> str:
    told = checkup.to_json()["provenance"]
    facts = {"command": told["command"], "model": checkup.model or "none", "awase": told["awase"]}
    rows = "".join(f"<tr><th>{text(titled(n))}</th><td><code>{text(v)}</code></td></tr>" for n, v in facts.items())
    return f'<h2>What this rests on</h2><div class="scroll"><table class="facts"><tbody>{rows}</tbody></table></div>'
