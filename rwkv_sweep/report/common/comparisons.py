"""How many comparisons a sweep made, and which differences survive that there were so many.

One family: every p-value that any finished run of the sweep recorded, against final-layer inference and against each
baseline. Whoever looks at all of them and points at the best must pay for all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.stats.bootstrap import least_p
from rwkv_sweep.stats.multiple_testing import ALPHA, holm

_P_VALUE = re.compile(r"(?:baseline/)?(?P<against>[^/]+)/delta_p")


@dataclass(frozen=True)
class Comparison:
    """One run against one reference.

    Attributes:
        run: the run's name.
        against: `final` (final-layer inference) or the baseline's name.
        value: Spearman of the run less that of the reference.
        p: two-sided, of this comparison alone. adjusted: by Holm's procedure over all comparisons of the sweep.
        resamples: the bootstrap resamples that p comes from; 0 where the record does not say.
    """

    run: str
    against: str
    value: float
    p: float
    adjusted: float
    resamples: int = 0

    @property
    def survives(self) -> bool:
        """Whether the difference stands at a family-wise error rate of 0.05."""
        return self.adjusted <= ALPHA

    @property
    def is_limited(self) -> bool:
        """Whether p is the smallest that its resamples can give, and still too large: more might let it survive."""
        return not self.survives and self.resamples > 0 and self.p <= least_p(self.resamples) * (1 + 1e-9)


def comparisons(results: Sequence[Result]) -> list[Comparison]:
    """All comparisons of a sweep with their adjusted p-values; their number is the length."""
    family: list[Comparison] = []
    for result in results:
        for key, p in result.metrics.items():
            match = _P_VALUE.fullmatch(key)
            if match and result.status == FINISHED and math.isfinite(p):
                value = result.metrics.get(key.removesuffix("_p"), math.nan)
                family.append(Comparison(result.name, match["against"], value, p, p, _resamples(result)))
    adjusted = holm([comparison.p for comparison in family])
    return [replace(comparison, adjusted=corrected) for comparison, corrected in zip(family, adjusted, strict=True)]


def _resamples(result: Result) -> int:
    """What the run's smallest p-values come from; older records have it among their params alone."""
    recorded = result.metrics.get("comparisons/resamples", result.params.get("bootstrap", 0))
    try:
        return max(0, int(recorded))
    except (TypeError, ValueError, OverflowError):
        return 0


def limited(family: Sequence[Comparison]) -> str:
    """One sentence where too few bootstrap resamples keep comparisons from surviving; empty where none are."""
    kept_back = [comparison for comparison in family if comparison.is_limited]
    if not kept_back:
        return ""
    return (
        f"{len(kept_back)} of {len(family)} comparisons have the smallest p-value that "
        f"{min(comparison.resamples for comparison in kept_back)} bootstrap resamples can give, which is too large for "
        f"so many comparisons: bootstrap={math.ceil(2 / ALPHA * len(family))} or more could decide them."
    )
