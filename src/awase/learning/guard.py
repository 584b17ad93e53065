"""What keeps a loss or gradient that is not finite away from the weights: the step is passed over, counted and named,
and after too many in a row training stops with a diagnosis. Knows numbers and names, nothing of models."""

from __future__ import annotations

import math
import warnings
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from awase.errors import AwaseError

REMEMBERED = 8  # gradient norms of good steps, to tell a slow explosion from one bad picture
GRADIENT = "gradient"


class TrainingFailed(AwaseError):
    """A loss or a gradient was not finite too many times in a row. The weights are those of the last good step."""


@dataclass
class Guard:
    """Judges every step before it reaches the weights. describe: a step's number -> which pictures it saw."""

    patience: int
    describe: Callable[[int], str] | None = None
    passed_over: int = 0
    """Steps that did not reach the weights, in the whole run."""
    _row: list[str] = field(default_factory=list)  # what was wrong in the steps since the last good one
    _norms: deque[float] = field(default_factory=lambda: deque(maxlen=REMEMBERED))

    def admits(self, step: int, told: Mapping[str, float]) -> bool:
        """Whether a step's parts and gradient norm are all finite. Raises TrainingFailed when patience is at an end."""
        bad = [f"{name} is {value}" for name, value in told.items() if not math.isfinite(value)]
        if not bad:
            self._row.clear()
            self._norms.append(told[GRADIENT])
            return True
        self.passed_over += 1
        pictures = f" (pictures: {self.describe(step)})" if self.describe else ""
        self._row.append(f"step {step}: {', '.join(_cause_first(bad))}{pictures}")
        if len(self._row) > self.patience:
            raise TrainingFailed(self._diagnosis())
        warnings.warn(f"{self._row[-1]}; the step is passed over", stacklevel=3)
        return False

    def _diagnosis(self) -> str:
        lines = [*self._row[:3], *(["..."] if len(self._row) > 3 else [])]
        if len(self._row) > 1:
            lines.append(f"{len(self._row)} steps in a row")
        lines.append("the weights are as they were before")
        if len(self._norms) > 1 and self._norms[-1] > 10 * min(self._norms):
            grown = f"from {min(self._norms):.3g} to {self._norms[-1]:.3g}"
            lines.append(f"the gradient had grown {grown}: a lower rate, a longer rise or a smaller clip usually helps")
        elif any(GRADIENT not in line.split(": ", 1)[1].split(" is ")[0] for line in self._row):
            lines.append("a loss itself is not finite: look at those pictures and sentences, and at half precision")
        else:
            lines.append("only the gradient is not finite: a lower rate or full precision usually helps")
        return "; ".join(lines)


def _cause_first(bad: list[str]) -> list[str]:
    """A gradient that is not finite because a loss is not is no news."""
    return [line for line in bad if not line.startswith(GRADIENT + " ")] or bad
