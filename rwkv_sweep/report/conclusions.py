"""Research question 1 answered in sentences, from the recorded numbers alone.

How does the overhead of aggregating intermediate layers compare with the latency of plain final-layer inference, and
what does aggregation do to quality?
"""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.comparisons import FINAL, Comparison, comparisons
from rwkv_sweep.evaluate import Interval
from rwkv_sweep.report.arms import Group, depth, groups, interval, metric
from rwkv_sweep.report.text import counted, listed, shown
from rwkv_sweep.results import Result

KINDS = (("latency", "single pairs"), ("batch", "full batches"))
"""Of overhead metrics, with what they time."""
NOT_TIMED = "The overhead of aggregation was not measured (measure.overhead=true measures it)."


def answer(results: Sequence[Result]) -> str:
    """Up to three sentences for each group of runs: overhead, quality, early exit. Says what was not measured."""
    family, found = comparisons(results), groups(results)
    if not found:
        return "No run finished, so there is nothing to answer with."
    several = len(found) > 1
    timed = any(_is_timed(run) for group in found for run in group.runs)
    parts = [best_of_all(found, family)] if several else []
    # Said once, not of each group.
    parts += [NOT_TIMED] if several and not timed else []
    for group in found:
        cost = overhead(group) if timed or not several else ""
        text = " ".join(filter(None, [cost, quality(group, family), early_exit(group)]))
        parts.append((f"With {group.name}: " if group.name else "") + text)
    return "\n\n".join(filter(None, parts))


def _is_timed(run: Result) -> bool:
    return any(metric(run, f"overhead/{kind}_ratio") is not None for kind, _ in KINDS)


def best_of_all(found: Sequence[Group], family: Sequence[Comparison]) -> str:
    """The run with the highest Spearman across all groups, with what a reader must know of a winner."""
    scored = [
        (own.value, group, run, own)
        for group in found
        for run in group.runs
        if (own := interval(run, "quality/spearman")) is not None
    ]
    if not scored:
        return ""
    _, group, run, own = max(scored, key=lambda each: each[0])
    delta = interval(run, "final/delta")
    text = f"Best of all {counted(len(scored), 'run')}: {group.label(run)} with {group.name}, Spearman {shown(own)}"
    if delta is not None:
        text += f"; it differs from the final layer by {shown(delta, '+.3f')}{_verdict(run, family)}"
    return text + ". It was chosen after looking at all of them, so its own number is optimistic."


def overhead(group: Group) -> str:
    """What aggregation costs, of runs over as many blocks as final-layer inference: fewer would be early exit too."""
    if not group.aggregates:
        return "No finished run aggregates several layers, so the overhead of aggregation is not known."
    full = [run for run in group.aggregates if depth(run) == group.blocks]
    over = f" over all {group.blocks} blocks" if full else f" over fewer than all {group.blocks} blocks"
    timed = full or group.aggregates
    costs = [_cost(group, timed, f"overhead/{kind}_ratio", of) for kind, of in KINDS]
    if not any(costs):
        return NOT_TIMED
    text = f"Against final-layer inference, aggregating layers{over if group.blocks else ''} shows "
    return text + listed([*filter(None, costs)]) + _kept(group, timed) + _memory(timed) + "."


def _cost(group: Group, runs: Sequence[Result], key: str, of: str) -> str | None:
    """How many of these runs are measurably slower than final-layer inference, and the largest ratio."""
    ratios = [(ratio, run) for run in runs if (ratio := interval(run, key))]
    if not ratios:
        return None
    slower = sum(ratio.lo > 1 for ratio, _ in ratios)
    faster = sum(ratio.hi < 1 for ratio, _ in ratios)
    largest, run = max(ratios, key=lambda each: each[0].value)
    named = f"{shown(largest)}, {group.label(run)}"
    if len(ratios) == 1:
        what = "a measurable overhead" if slower else "less time" if faster else "no measurable overhead"
        return f"{what} for {of} (ratio {named})"
    counts = f"a measurable overhead in {slower} of {len(ratios)} arms" if slower else "no measurable overhead"
    if faster:
        counts += f", less time in {faster} of {len(ratios)}"
    return f"{counts} for {of} (largest ratio {named})"


def _kept(group: Group, runs: Sequence[Result]) -> str:
    """The naive way's largest ratio of all."""
    keys = [(f"overhead/naive_{kind}_ratio", of) for kind, of in KINDS]
    ratios = [(ratio, of, run) for key, of in keys for run in runs if (ratio := interval(run, key))]
    if not ratios:
        return ""
    largest, of, run = max(ratios, key=lambda each: each[0].value)
    return f"; keeping every layer's tokens to the end has a ratio of up to {shown(largest)} ({of}, {group.label(run)})"


def _memory(runs: Sequence[Result]) -> str:
    streamed, naive = (
        [value for run in runs if (value := metric(run, key)) is not None]
        for key in ("overhead/memory_mib", "overhead/naive_memory_mib")
    )
    if not streamed:
        return ""
    text = f"; the peak memory of a full batch changes by at most {max(streamed):+.1f} MiB"
    return text + (f", and by up to {max(naive):+.1f} MiB where every layer is kept" if naive else "")


def quality(group: Group, family: Sequence[Comparison]) -> str:
    """The best aggregation against the final layer."""
    scored = [(value, run) for run in group.aggregates if (value := metric(run, "quality/spearman")) is not None]
    if not scored:
        if any(metric(run, "quality/spearman") is not None for run in group.runs) or not group.runs:
            return ""
        random = any("random" in run.tags.get("note.quality", "") for run in group.runs)
        return "Quality is absent: the weights are random." if random else "Quality was not measured."
    _, best = max(scored, key=lambda each: each[0])
    own = interval(best, "quality/spearman")
    name = f"{group.label(best)} (Spearman {shown(own) if own else format(scored[0][0], '.3f')})"
    delta = interval(best, "final/delta")
    if delta is None:
        return f"The best aggregation is {name}; its difference to the final layer was not recorded."
    return (
        f"The best aggregation, {name}, differs from the final layer by {shown(delta, '+.3f')}{_verdict(best, family)}."
    )


def _verdict(run: Result, family: Sequence[Comparison]) -> str:
    found = next((each for each in family if (each.run, each.against) == (run.name, FINAL)), None)
    if found is None:
        return ", without a p-value"
    over = f"Holm's correction for the sweep's {counted(len(family), 'comparison')} (p = {found.adjusted:.3g})"
    return f", which {'survives' if found.survives else 'does not survive'} {over}"


def early_exit(group: Group) -> str:
    """What single layers below the last block save: the shallowest, the deepest, and the best of them."""
    early = [run for run in group.singles if group.blocks is None or depth(run) < group.blocks]
    ratios: list[tuple[Result, Interval]] = [
        (run, ratio) for run in early if (ratio := interval(run, "overhead/latency_ratio"))
    ]
    if not ratios:
        return "What early exit saves was not measured." if early else ""
    ends = [ratios[0], ratios[-1]] if len(ratios) > 1 else ratios
    of = f" of {group.blocks}" if group.blocks else ""
    parts = [f"{group.label(run)} ({depth(run)}{of} blocks) takes {shown(ratio)}" for run, ratio in ends]
    text = f"Early exit: {listed(parts)} of the final layer's latency"
    scored = [(metric(run, "quality/spearman") or 0.0, run) for run, _ in ratios if interval(run, "final/delta")]
    if scored:
        _, best = max(scored, key=lambda each: each[0])
        ratio = next(ratio for run, ratio in ratios if run is best)
        delta = shown(interval(best, "final/delta"), "+.3f")
        text += f"; the best early layer by Spearman, {group.label(best)}, changes it by {delta} at {shown(ratio)}"
    return text + "."
