"""Research question 2 answered in statements, from the recorded numbers alone.

What is the trade-off between the quality of embeddings and tokens/s when RWKV layers are quantized, against full
precision?
"""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.records.results import Result
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.common.statements import NOTHING, Answer, Plain, Section, Statement
from rwkv_sweep.report.common.text import first_few
from rwkv_sweep.report.quantization.recommendation import Fronts, recommended
from rwkv_sweep.report.quantization.statements import (
    Blocks,
    Fastest,
    Loss,
    Losses,
    OverBase,
    Sizes,
    Unsupported,
    Verdict,
)
from rwkv_sweep.report.speeds.precisions import MIB, PrecisionGroup, precision_groups, unsupported_precisions
from rwkv_sweep.report.speeds.speeds import REGIMES, Speeds, speeds
from rwkv_sweep.stats.multiple_testing import ALPHA, holm

QUESTION = "What does quantizing cost in quality, and what does it give in speed and memory, against fp32?"


def quantization_answer(results: Sequence[Result]) -> Answer:
    """A section for each group of runs that differ in their precision alone, and one for what cannot run here."""
    sections = [Section(group.name, _statements(group)) for group in precision_groups(results)]
    sections = sections or [Section("", [Plain(NOTHING)])]
    if refused := list(unsupported_precisions(results)):
        sections[-1].statements.append(Unsupported(refused))
    return Answer(QUESTION, sections)


def _statements(group: PrecisionGroup) -> list[Statement]:
    losses = losses_of(group)
    compared = [speeds(group.runs, regime) for regime in REGIMES]
    advice = [recommended(group, regime, losses) for regime in compared]
    taken = [recommendation for recommendation in advice if recommendation is not None]
    statements: list[Statement | None] = [
        *taken,
        Fronts([(regime.where, regime.front) for regime in taken]) if taken else None,
        _verdict(group, compared, losses),
        *(_over_base(group, speeds_of_regime) for speeds_of_regime in compared),
        _without_base(group),
        _losses(group, losses),
        _sizes(group),
        _blocks(group),
    ]
    return [statement for statement in statements if statement is not None]


def losses_of(group: PrecisionGroup) -> dict[str, Loss]:
    """Spearman of each precision less that of fp32, by the run's name; noise is judged for all of them together."""
    compared = [run for run in group.runs if interval(run, "parity/spearman_delta") is not None]
    # Records without a p-value cannot show that a difference is more than noise.
    p_values = [metric(run, "parity/spearman_delta_p") for run in compared]
    adjusted = holm([1.0 if p is None else min(1.0, max(0.0, p)) for p in p_values])
    losses = {}
    for run, p in zip(compared, adjusted, strict=True):
        delta = interval(run, "parity/spearman_delta")
        assert delta is not None
        losses[run.name] = Loss(group.label(run), delta, p <= ALPHA)
    return losses


def _verdict(group: PrecisionGroup, compared: Sequence[Speeds], losses: dict[str, Loss]) -> Statement:
    """The fastest precision in each regime, with what it costs in quality."""
    if group.full is None:
        return Plain("fp32 is not among the runs, so speed is not compared with it (precision=fp32,... adds it).")
    fastest, not_compared = [], []
    for compared_speeds in compared:
        if group.full.name not in compared_speeds.of:
            not_compared.append(
                (compared_speeds.regime.where, compared_speeds.why_not or "it was not timed against fp32")
            )
            continue
        names = compared_speeds.fastest
        full = group.full.name
        ratio = None if full in names else compared_speeds.ratio(names[0], full)
        labels = {run.name: group.label(run) for run in group.runs}
        others = [labels[name] for name in names if name != full]
        cost = [losses[name] for name in names if name in losses and losses[name].is_shown]
        fastest.append(Fastest(compared_speeds.regime.where, others, ratio, cost))
    if not fastest:
        why = next(compared_speeds.why_not for compared_speeds in compared)
        return Plain(f"No precision is called the fastest: {why} (measure.speedup_rounds=8 times them interleaved).")
    return Verdict(fastest, not losses, not_compared)


def _over_base(group: PrecisionGroup, compared: Speeds) -> OverBase | None:
    """Each quantization against the same dtype without it."""
    sorts: dict[int, list[tuple[str, str, float]]] = {1: [], 0: [], -1: []}
    for run in group.quantized:
        base = group.base(run)
        if base is None or run.name not in compared.of or base.name not in compared.of:
            continue
        ratio = compared.ratio(run.name, base.name)
        sorts[compared.sign(run.name, base.name)].append((group.label(run), group.label(base), ratio.value))
    if not any(sorts.values()):
        return None
    return OverBase(compared.regime.where, sorts[1], sorts[-1], sorts[0])


def _without_base(group: PrecisionGroup) -> Statement | None:
    alone = [group.label(run) for run in group.quantized if group.base(run) is None]
    return Plain(f"Without a run of the same dtype to compare with: {first_few(alone)}.") if alone else None


def _losses(group: PrecisionGroup, losses: dict[str, Loss]) -> Statement:
    if losses:
        return Losses(list(losses.values()))
    cosines = [(value, run) for run in group.runs if (value := metric(run, "parity/cosine_mean")) is not None]
    if not cosines:
        return Plain("Quality was not compared with fp32 (measure.parity=true compares it).")
    worst, run = min(cosines, key=lambda entry: entry[0])
    return Plain(
        f"No Spearman was scored; the mean cosine with fp32's vectors is {worst:.4f} or more, lowest with "
        f"{group.label(run)}."
    )


def _sizes(group: PrecisionGroup) -> Sizes | None:
    """Weights without the embedding table, which no precision quantizes, against fp16's or bf16's."""
    half = group.plain("float16") or group.plain("bfloat16")
    whole = metric(half, MIB) if half is not None else None
    sizes = [(value, group.label(run)) for run in group.quantized if (value := metric(run, MIB)) is not None]
    if half is None or not whole or not sizes:
        return None
    smallest = min(value for value, _ in sizes)
    return Sizes(group.label(half), whole, smallest, [label for value, label in sizes if value == smallest], len(sizes))


def _blocks(group: PrecisionGroup) -> Blocks | None:
    """One block at a time: where the damage is largest and smallest."""
    damages = {
        block: 1 - value
        for block, run in group.single_blocks().items()
        if (value := metric(run, "parity/cosine_mean")) is not None
    }
    if len(damages) < 2:
        return None
    kind = str(next(iter(group.single_blocks().values())).params.get("precision.quantization"))
    whole = next((run for run in group.quantized if run.params.get("precision.blocks") == "all"), None)
    together = metric(whole, "parity/cosine_mean") if whole is not None else None
    return Blocks(kind, damages, None if together is None else 1 - together)
