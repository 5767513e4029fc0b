"""Research question 2 answered in sentences, from the recorded numbers alone.

What is the trade-off between the quality of embeddings and tokens/s when RWKV layers are quantized, against full
precision?
"""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.evaluate import Interval
from rwkv_sweep.report.arms import interval, metric
from rwkv_sweep.report.precisions import (
    MIB,
    SPEARMAN,
    TOKENS_PER_S,
    TOLERATED,
    PrecisionGroup,
    front,
    is_flagged,
    over_base,
    over_full,
    precision_groups,
    speed_of,
    unsupported,
)
from rwkv_sweep.report.text import counted, listed, shown
from rwkv_sweep.results import Result


def quantization_answer(results: Sequence[Result]) -> str:
    """A paragraph for each group of runs: speed, quality, size, the front, blocks; and what could not run here."""
    told = []
    for group in precision_groups(results):
        parts = [speed(group), quality(group), size(group), on_front(group), by_block(group)]
        told.append((f"With {group.name}: " if group.name else "") + " ".join(filter(None, parts)))
    if not told:
        told.append("No run finished, so there is nothing to answer with.")
    refused = unsupported(results)
    if refused:
        told.append(f"Not supported here: {listed([f'{name} ({reason})' for name, reason in refused.items()])}.")
    return "\n\n".join(told)


def speed(group: PrecisionGroup) -> str:
    """The fastest precision, and for each quantization whether it is faster or slower than its base."""
    timed = [(ratio, run) for run in group.runs if (ratio := over_full(run))]
    if len(timed) < 2:
        return "Speed was not compared with fp32 (measure.speedup_rounds=8 compares it)."
    ratio, fastest = max(timed, key=lambda each: each[0].value)
    rate = metric(fastest, TOKENS_PER_S)
    text = f"In packed batches {group.label(fastest)} is fastest, {shown(ratio, '.2f')} times fp32's speed"
    text += f" ({rate:,.0f} tokens/s)." if rate is not None else "."
    if fastest is group.full:
        text = "In packed batches no precision is faster than fp32."
    sorts: dict[str, list[str]] = {"faster": [], "slower": [], "even": []}
    for run in group.quantized:
        base, against = group.base(run), over_base(group, run)
        if against is not None and base is not None:
            sorts[_sort(against)].append(
                f"{group.label(run)} ({shown(against, '.2f')} times {group.label(base)}'s speed)"
            )
    if sorts["slower"]:
        text += f" Quantizing makes it slower, not faster, with {listed(sorts['slower'])}."
    if sorts["faster"]:
        text += f" Faster than without quantization: {listed(sorts['faster'])}."
    if sorts["even"]:
        text += f" Neither measurably faster nor slower: {listed(sorts['even'])}."
    lone = [group.label(run) for run in group.quantized if over_base(group, run) is None]
    return text + (f" Without their base to compare with: {listed(lone)}." if lone else "")


def _sort(ratio: Interval) -> str:
    return "faster" if ratio.lo > 1 else "slower" if ratio.hi < 1 else "even"


def quality(group: PrecisionGroup) -> str:
    """Which precisions stay within the tolerance, and which do not."""
    compared = [run for run in group.runs if metric(run, "parity/spearman_delta") is not None]
    if not compared:
        cosines = [(value, run) for run in group.runs if (value := metric(run, "parity/cosine_mean")) is not None]
        if not cosines:
            return "Quality was not compared with fp32."
        worst, run = min(cosines, key=lambda each: each[0])
        return (
            f"No Spearman was scored; the mean cosine with fp32's vectors is {worst:.4f} or more ({group.label(run)})."
        )
    flagged = [run for run in compared if is_flagged(run)]
    within = len(compared) - len(flagged)
    text = f"Of {counted(len(compared), 'precision')}, {within} stay within {TOLERATED} Spearman of fp32"
    if flagged:
        text += f"; beyond it: {listed([_delta(group, run) for run in flagged])}"
    worst_run = min(compared, key=lambda run: metric(run, "parity/spearman_delta") or 0.0)
    if not flagged:
        text += f"; the largest loss is that of {_delta(group, worst_run)}"
    sure = [run for run in compared if (delta := interval(run, "parity/spearman_delta")) and delta.hi < 0]
    if sure:
        return (
            f"{text}. The loss is more than chance (the interval excludes 0) for "
            f"{listed([group.label(each) for each in sure])}."
        )
    return text + ". No precision's loss is more than chance: every interval holds 0 or lies above it."


def _delta(group: PrecisionGroup, run: Result) -> str:
    return f"{group.label(run)} ({shown(interval(run, 'parity/spearman_delta'), '+.3f')})"


def size(group: PrecisionGroup) -> str:
    """Weights without the embedding table, which no precision here quantizes, against fp16's (or bf16's)."""
    half = group.plain("float16") or group.plain("bfloat16")
    whole = metric(half, MIB) if half is not None else None
    if half is None or whole is None or not group.quantized:
        return ""
    smallest = {str(run.params.get("precision.quantization")): run for run in group.quantized if metric(run, MIB)}
    for run in group.quantized:
        kind = str(run.params.get("precision.quantization"))
        if (metric(run, MIB) or whole) < (metric(smallest.get(kind, run), MIB) or whole):
            smallest[kind] = run
    parts = [f"{(metric(run, MIB) or 0) / whole:.0%} ({group.label(run)})" for run in smallest.values()]
    table = metric(half, "memory/embedding_mib")
    apart = f" (the embedding table, {table:,.1f} MiB, is not quantized and not counted)" if table is not None else ""
    return f"Of {group.label(half)}'s {whole:,.1f} MiB of weights{apart} there remain {listed(parts)}."


def on_front(group: PrecisionGroup) -> str:
    """What no other precision beats in both quality and speed."""
    best = front(group.runs, speed_of)
    if not best or len([run for run in group.runs if metric(run, SPEARMAN) is not None and over_full(run)]) < 2:
        return ""
    names = [
        f"{group.label(run)} (Spearman {metric(run, SPEARMAN):.3f}, {speed_of(run):.2f} times fp32)" for run in best
    ]
    return (
        f"On the quality-speed front by the values alone, whatever their intervals, from slow to fast: {listed(names)}."
    )


def by_block(group: PrecisionGroup) -> str:
    """One block at a time: where the damage is largest and smallest."""
    damages = {
        block: 1 - value
        for block, run in group.single_blocks().items()
        if (value := metric(run, "parity/cosine_mean")) is not None
    }
    if len(damages) < 2:
        return ""
    worst, least = max(damages, key=damages.__getitem__), min(damages, key=damages.__getitem__)
    kind = next(iter(group.single_blocks().values())).params.get("precision.quantization")
    text = (
        f"One block at a time in {kind}, block {worst} moves the embeddings most "
        f"(1 - mean cosine {damages[worst]:.2e}) and block {least} least ({damages[least]:.2e})"
    )
    whole = next((run for run in group.quantized if run.params.get("precision.blocks") == "all"), None)
    together = metric(whole, "parity/cosine_mean") if whole is not None else None
    if together is not None:
        text += f"; all blocks together {1 - together:.2e}, the single ones summed {sum(damages.values()):.2e}"
    return text + "."
