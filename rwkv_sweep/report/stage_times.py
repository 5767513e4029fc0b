"""Where the time of a sweep went, by stage."""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.records.results import Result
from rwkv_sweep.utils.stage_timer import STAGES


def where_time_went(results: Sequence[Result], started: float, now: float) -> str:
    """Seconds of this start of the sweep by stage, summed over the runs that it ran itself.

    `rest` is what no run accounts for: start, baselines, report. What an earlier start of a resumed sweep ran is not
    in its time. Runs side by side add up to more than the time that passed; then there is no rest to show.
    """
    own = [result for result in results if result.started >= started]
    before = sum(result.kind == "model" and result.started < started for result in results)
    sums = {name: sum(result.metrics.get(f"time/{name}_s", 0.0) for result in own) for name in STAGES}
    total, accounted = now - started, sum(sums.values())
    parts = [f"{name} {seconds:.1f}" for name, seconds in sums.items() if seconds]
    if accounted <= total:
        parts.append(f"rest {total - accounted:.1f}")
    else:
        parts.append(f"of runs side by side, {accounted:.1f} together")
    text = f"{total:.1f} s: {', '.join(parts)}"
    return text + (f"; {before} run{'s' * (before != 1)} finished before" if before else "")
