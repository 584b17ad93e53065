"""What a check found, in words for a person and numbers for a program: how bad, how many, which, why, what to do."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Severity = Literal["serious", "notable", "minor"]
SEVERITIES: tuple[Severity, ...] = ("serious", "notable", "minor")
"""serious: figures will be false, or training fails. notable: costs quality. minor: good to know."""


@dataclass(frozen=True)
class Example:
    """Pictures by their place in the `Whole`, side by side where there are several, and a word on them."""

    pictures: tuple[int, ...]
    says: str


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    check: what was looked for ("copies across splits"). says: one sentence. count, of: how many of how many. why: what
    it does to a model or a figure. remedy: what to do. examples: all, the worst first. rows: a table."""

    check: str
    severity: Severity
    says: str
    count: int
    of: int
    why: str
    remedy: str
    examples: tuple[Example, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """By severity; within one, in the order in which they were found."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def share(count: int, of: int) -> str:
    """ "12 of 300 (4.0 %)"."""
    return f"{count:,} of {of:,} ({100 * count / max(of, 1):.1f} %)"
