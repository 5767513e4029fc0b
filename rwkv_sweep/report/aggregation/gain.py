"""What the best aggregation buys over the best single layer, both chosen on a split that is not scored."""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.errors import NonFiniteError, UndefinedError
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.records.results import Result
from rwkv_sweep.report.aggregation.statements import Gain
from rwkv_sweep.report.common.ranking import recorded_scores
from rwkv_sweep.report.common.run_groups import Group, interval, metric
from rwkv_sweep.report.common.splits import split_names
from rwkv_sweep.report.common.statements import Records
from rwkv_sweep.report.speeds.speeds import REGIMES
from rwkv_sweep.stats.intervals import Interval

CHOOSES = "select/spearman"
RESAMPLES, SEED = 2000, 0


def gain(group: Group, records: Records) -> list[Gain]:
    """One statement, where both kinds of runs have figures on the split to choose on; none without."""
    aggregates, singles = _with_figures(group.aggregates), _with_figures(group.singles)
    if not aggregates or not singles:
        return []
    best, single = (max(runs, key=lambda run: metric(run, CHOOSES) or 0.0) for runs in (aggregates, singles))
    own, other = metric(best, "quality/spearman"), metric(single, "quality/spearman")
    if own is None or other is None:
        return []
    scored = (split_names([best]) or ["the scored split"])[0]
    paired = _paired(best, single, records, scored)
    costs = []
    for regime in REGIMES:
        times = [interval(run, regime.overhead) for run in (best, single)]
        if times[0] is not None and times[1] is not None:
            costs.append((regime.where, times[0], times[1]))
    labels = group.label(best), group.label(single)
    split = str(best.params.get("select.split"))
    difference = paired or Interval(own - other, own - other, own - other)
    return [Gain(*labels, split, scored, difference, paired is not None, costs)]


def _with_figures(runs: Sequence[Result]) -> list[Result]:
    return [run for run in runs if metric(run, CHOOSES) is not None]


def _paired(best: Result, single: Result, records: Records, split: str) -> Interval | None:
    """The difference by paired bootstrap; None without scores of the same pairs."""
    ours, theirs = (recorded_scores(records.folder(run), split) for run in (best, single))
    if ours is None or theirs is None or ours[0].tolist() != theirs[0].tolist():
        return None
    try:
        difference = paired_difference(ours[1], theirs[1], ours[0], RESAMPLES, SEED)
    except (NonFiniteError, UndefinedError):
        return None
    return Interval(difference.value, difference.lo, difference.hi)
