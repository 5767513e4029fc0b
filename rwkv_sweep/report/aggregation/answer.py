"""Research question 1 answered in statements, from the recorded numbers alone.

How does the overhead of aggregating intermediate layers compare with the latency of plain final-layer inference, and
what does aggregation do to quality?
"""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.aggregation.gain import gain
from rwkv_sweep.report.aggregation.statements import (
    BestAggregation,
    BestOfAll,
    Control,
    EarlyExit,
    Memory,
    Overhead,
    Overheads,
)
from rwkv_sweep.report.common.comparisons import Comparison, comparisons
from rwkv_sweep.report.common.run_groups import Group, depth, groups, interval, metric
from rwkv_sweep.report.common.statements import NOTHING, Answer, Plain, Records, Section, Statement
from rwkv_sweep.report.common.text import counted
from rwkv_sweep.report.plain_sweep.statements import FEW_PAIRS
from rwkv_sweep.report.speeds.speeds import LEAST_SAMPLES, REGIMES, Regime, positive
from rwkv_sweep.stats.intervals import Interval
from rwkv_sweep.stats.multiple_testing import FINAL

QUESTION = "What does aggregating layers cost over plain final-layer inference, and what does it do to quality?"
NOT_TIMED = "The overhead of aggregation was not measured (measure.overhead=true measures it)."


def aggregation_answer(results: Sequence[Result], records: Records | None = None) -> Answer:
    """A section for each group of runs that differ in layers and aggregation alone; and what was not measured.

    Args:
        records: of the same results, with their folders, whose scores compare two runs pair by pair.
    """
    records = records or Records(results, [])
    family, run_groups = comparisons(results), groups(results)
    if not run_groups:
        return Answer(QUESTION, [Section("", [Plain(NOTHING)])])
    sections = [Section("", first)] if len(run_groups) > 1 and (first := _best_of_all(run_groups)) else []
    timed = any(_is_timed(run) for group in run_groups for run in group.runs)
    if not timed and len(run_groups) > 1:
        sections.append(Section("", [Plain(NOT_TIMED)]))  # once, not in each group
    for group in run_groups:
        cost = overhead(group) if timed or len(run_groups) == 1 else []
        worth = [*quality(group, family), *gain(group, records), *early_exit(group, family)]
        sections.append(Section(group.name, [*cost, *worth]))
    return Answer(QUESTION, [section for section in sections if section.statements])


def _is_timed(run: Result) -> bool:
    return any(metric(run, regime.overhead) is not None for regime in REGIMES)


def _best_of_all(run_groups: Sequence[Group]) -> list[Statement]:
    scored = [
        (own.value, group, run, own)
        for group in run_groups
        for run in group.runs
        if (own := interval(run, "quality/spearman")) is not None
    ]
    if not scored:
        return []
    _, group, run, own = max(scored, key=lambda candidate: candidate[0])
    return [BestOfAll(group.label(run), group.name, own, len(scored))]


def overhead(group: Group) -> list[Statement]:
    """What aggregation costs, of runs over as many blocks as final-layer inference: fewer would be early exit too."""
    if not group.aggregates:
        return [Plain("No finished run aggregates several layers, so the overhead of aggregation is not known.")]
    full = [run for run in group.aggregates if depth(run) == group.blocks]
    timed = full or group.aggregates
    regimes = [
        regime_overhead for regime in REGIMES if (regime_overhead := _overhead(group, timed, regime)) is not None
    ]
    if not regimes:
        few = [run for run in timed if _is_timed(run)]
        return [Plain(f"Fewer than {LEAST_SAMPLES} rounds were timed, too few to compare." if few else NOT_TIMED)]
    statements: list[Statement] = [Overheads(regimes, group.blocks if full else None)]
    controls = [
        (regime_overhead.where, regime_overhead.control)
        for regime_overhead in regimes
        if regime_overhead.control is not None
    ]
    if controls:
        statements.append(Control(controls))
    return [*statements, *_memory(group, timed)]


def _overhead(group: Group, runs: Sequence[Result], regime: Regime) -> Overhead | None:
    ratios = [(group.label(run), ratio) for run in runs if (ratio := _ratio(run, regime)) is not None]
    control = _ratio(group.final, regime) if group.final is not None else None
    return Overhead(regime.where, ratios, control) if ratios else None


def _ratio(run: Result, regime: Regime) -> Interval | None:
    """Time over final-layer inference's; None where too few rounds were timed for an interval."""
    param, _ = regime.samples[regime.overhead]
    rounds = str(run.params.get(param, ""))
    return None if rounds.isdecimal() and int(rounds) < LEAST_SAMPLES else positive(run, regime.overhead)


def _memory(group: Group, runs: Sequence[Result]) -> list[Statement]:
    streamed, kept = (
        [value for run in runs if (value := metric(run, key)) is not None]
        for key in ("overhead/memory_mib", "overhead/naive_memory_mib")
    )
    if not streamed:
        return []
    hidden_states = [
        (group.label(run), regime.where, ratio)
        for regime in REGIMES
        for run in runs
        if (ratio := positive(run, regime.overhead.replace("overhead/", "overhead/naive_"))) is not None
    ]
    slowest = max(hidden_states, key=lambda row: row[2].value) if hidden_states else None
    return [Memory(max(streamed), max(kept) if kept else None, slowest)]


def quality(group: Group, family: Sequence[Comparison]) -> list[Statement]:
    """The best aggregation against the final layer, and what weakens that."""
    scored = [(value, run) for run in group.aggregates if (value := metric(run, "quality/spearman")) is not None]
    if not scored:
        if any(metric(run, "quality/spearman") is not None for run in group.runs) or not group.runs:
            return []
        random = any("random" in run.tags.get("note.quality", "") for run in group.runs)
        return [Plain("Quality is absent: the weights are random." if random else "Quality was not measured.")]
    value, best = max(scored, key=lambda candidate: candidate[0])
    verdict = _against_final(best, family)
    statement = BestAggregation(
        group.label(best),
        interval(best, "quality/spearman") or Interval(value, value, value),
        interval(best, "final/delta"),
        verdict.adjusted if verdict else None,
        verdict is not None and verdict.survives,
        len(family),
        len(scored),
        [group.label(run) for other, run in scored if other == value and run is not best],
    )
    return [statement, *_cautions(group)]


def _cautions(group: Group) -> list[Statement]:
    cautions: list[str] = []
    pairs = [int(count) for run in group.runs if (count := metric(run, "quality/pairs"))]
    if pairs and min(pairs) < FEW_PAIRS:
        cautions.append(f"Only {counted(min(pairs), 'pair')} were scored, which can show large differences alone.")
    own = interval(group.final, "quality/spearman") if group.final is not None else None
    if own is not None and own.lo <= 0 <= own.hi:
        cautions.append("The final layer's own Spearman cannot be distinguished from 0, so being above it says little.")
    return [Plain(" ".join(cautions))] if cautions else []


def _against_final(run: Result, family: Sequence[Comparison]) -> Comparison | None:
    return next(
        (comparison for comparison in family if (comparison.run, comparison.against) == (run.name, FINAL)), None
    )


def early_exit(group: Group, family: Sequence[Comparison]) -> list[Statement]:
    """What single layers below the last block save: the shallowest, the deepest, and the best of them."""
    early = [run for run in group.singles if group.blocks is None or depth(run) < group.blocks]
    pairs = REGIMES[1]
    ratios = [(run, ratio) for run in early if (ratio := _ratio(run, pairs)) is not None]
    if not ratios:
        return [Plain("What stopping early saves was not measured.")] if early else []
    ends = [ratios[0], ratios[-1]] if len(ratios) > 1 else ratios
    scored = [
        (metric(run, "quality/spearman") or 0.0, run, ratio, delta)
        for run, ratio in ratios
        if (delta := interval(run, "final/delta")) is not None
    ]
    best, survives = None, None
    if scored:
        _, run, ratio, delta = max(scored, key=lambda candidate: candidate[0])
        best = (group.label(run), delta, ratio)
        verdict = _against_final(run, family)
        survives = verdict.survives if verdict else None
    return [EarlyExit([(group.label(run), depth(run), ratio) for run, ratio in ends], group.blocks, best, survives)]
