"""Tables of the documentation, drawn from the records of benchmarks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any

from rwkv_sweep.report.common.text import table

Record = Mapping[str, Any]
ALONE = ("GEMM", "matrix products")
"""How the names of lower bounds begin, which are matrix products alone."""


def interval(values: Sequence[float], digits: int = 3) -> str:
    """A value with its 95 % interval."""
    value, lo, hi = (f"{number:.{digits}f}" for number in values)
    return f"{value} [{lo}, {hi}]"


def quantization(record: Record) -> str:
    """One row for each precision: packed batches, one pair, bytes, closeness to fp32."""
    rows = []
    for name, figures in record["precisions"].items():
        sizes, (speedup, lo, hi) = figures["audit"]["metrics"], figures.get("pair_speedup", [1.0] * 3)
        joules = (figures.get("energy") or [{}])[0].get("energy/joules_per_1k_pairs")
        rows.append(
            [
                name,
                f"{figures['tokens_per_s']:,.0f}",
                interval(figures.get("batch_speedup", [1.0] * 3)),
                f"{median(figures['pair_ms']):.3f}",
                interval([1 / speedup, 1 / hi, 1 / lo]),
                f"{sizes['memory/weights_without_embedding_mib']:,.0f}",
                f"{sizes['audit/bits_per_parameter_without_embedding']:.2f}",
                f"{figures['cosine_mean']:.5f}" if "cosine_mean" in figures else "",
                f"{joules:,.0f}" if joules is not None else "",
            ]
        )
    head = [
        "",
        "tokens/s, packed",
        "rate / bf16",
        "pair, ms",
        "time / bf16",
        "MiB",
        "bits",
        "cosine",
        "J per 1,000 pairs",
    ]
    return table(head, rows)


def forward_gpu_rwkv7(record: Record) -> str:
    """One column for each precision."""
    precisions = record["precisions"]
    rates = list(dict.fromkeys(name for figures in precisions.values() for name in figures["tokens_per_s"]))
    ratios = list(dict.fromkeys(name for figures in precisions.values() for name in figures["ratios"]))
    rows = [
        [
            f"{name}, tokens/s",
            *(f"{figures['tokens_per_s'].get(name, float('nan')):,.0f}" for figures in precisions.values()),
        ]
        for name in rates
    ]
    rows += [
        [
            name,
            *(
                interval(figures["ratios"][name]) if name in figures["ratios"] else ""
                for figures in precisions.values()
            ),
        ]
        for name in ratios
    ]
    pairs = [figures["pair"] for figures in precisions.values()]
    rows.append(["one pair, p50 / p99, ms", *(f"{pair['p50']:.3f} / {pair['p99']:.3f}" for pair in pairs)])
    return table(["", *precisions], rows)


def forward_gpu(record: Record) -> str:
    """What was measured, as it was measured."""
    rows = []
    for name, value, unit in record["rows"]:
        shown = "" if value != value else f"{value:,.0f}" if value >= 1000 else f"{value:.3f}"  # NaN: not measured
        rows.append([name, shown, unit])
    return table(["", "", "unit"], rows)


def forward_cpu(record: Record) -> str:
    """Tokens per second and share of the faster lower bound."""
    rates = record["tokens_per_s"]
    bound = max(rate for name, rate in rates.items() if name.startswith(ALONE))
    return table(
        ["", "tokens/s", "share of the lower bound"],
        [[name, f"{rate:,.0f}", f"{rate / bound:.1%}"] for name, rate in rates.items()],
    )


def sweep(record: Record) -> str:
    """Seconds of each stage, in one sweep and in separate processes."""
    stages = list(next(iter(record["stages_s"].values())))
    rows = []
    for way, total in record["seconds"].items():
        seconds = record["stages_s"][way]
        rest = total - sum(seconds.values())
        rows.append([way, f"{total:.1f}", *(f"{seconds[stage]:.1f}" for stage in stages), f"{rest:.1f}"])
    return table(["seconds", "total", *stages, "rest"], rows)


def aggregation_overhead(record: Record) -> str:
    """Ratios over final-layer inference, and peak memory beyond it."""
    titles = {
        "one pair": "latency_ratio",
        "full batch": "batch_ratio",
        "every layer's tokens kept": "naive_batch_ratio",
    }

    def cell(metrics: Mapping[str, float], key: str) -> str:
        values = [metrics.get(f"overhead/{key}{end}") for end in ("", "_lo", "_hi")]
        return interval([value for value in values if value is not None]) if None not in values else ""

    measured = {
        name: figures["metrics"]
        for name, figures in record.items()
        if isinstance(figures, Mapping) and "metrics" in figures
    }
    rows = [
        [
            name,
            *(cell(metrics, key) for key in titles.values()),
            f"{metrics.get('overhead/memory_mib', float('nan')):.1f}",
        ]
        for name, metrics in measured.items()
    ]
    return table(["", *titles, "MiB"], rows)


def growth(record: Record) -> str:
    """Four tables: pairs, length, depth and layers kept."""

    def of(key: str, columns: Iterable[tuple[str, str, str]]) -> str:
        wanted = list(columns)
        rows = [[format(row[name], style) for name, _, style in wanted] for row in record[key]]
        return table([title for _, title, _ in wanted], rows)

    forward = [("tokens_per_s", "tokens/s", ",.0f"), ("peak_mib", "MiB beyond the weights", ".1f")]
    pairs = [("pairs", "pairs", ",.0f"), ("seconds", "seconds", ".1f"), ("peak_mib", "peak MiB", ",.0f")]
    tables = [
        of("pairs", [*pairs, ("pooled_vectors_mib", "pooled vectors MiB", ",.1f")]),
        of("length", [("length", "tokens a sentence", ",.0f"), *forward]),
        of("depth", [("depth", "blocks run", ".0f"), *forward]),
        of("kept", [("kept", "layers pooled, all blocks run", ".0f"), *forward]),
    ]
    return "\n\n".join(tables)


def layer_choice(record: Record) -> str:
    """What each criterion chooses, and what that loses; the checkpoints side by side."""
    head = ["chosen by"]
    for name in record["choices"]:
        head += [f"{name.upper().replace('RWKV', 'RWKV-')}: layer", "Spearman", "loss [95 %]"]
    rows = []
    for choices in zip(*record["choices"].values(), strict=True):
        cells = [choices[0]["by"]]
        for choice in choices:
            loss = interval(choice["loss"]) if any(choice["loss"]) else "0"
            cells += [choice["layer"], f"{choice['spearman']:.3f}", loss]
        rows.append(cells)
    return table(head, rows)


def gpu_sweep(record: Record) -> str:
    """One row for each command, with where its time went; then loading, many pairs, and several cards in words."""
    parts = record["parts"]
    commands = {name: figures for name, figures in parts.items() if "stages_s" in figures}
    commands |= {f"headline, {name}": figures for name, figures in parts.get("headline", {}).items()}
    several = parts.get("cards", {})
    commands |= {f"24 jobs, {name} of {several['cards']} cards": several[name] for name in ("one", "all") if several}
    stages = list(dict.fromkeys(stage for figures in commands.values() for stage in figures["stages_s"]))
    rows = [
        [name, str(len(figures["jobs"])), f"{figures['seconds']:.1f}"]
        + [f"{figures['stages_s'][stage]:.1f}" for stage in stages]
        for name, figures in commands.items()
    ]
    lines = [table(["", "jobs", "seconds", *stages], rows)] if rows else []
    lines += [f"Loading, {name}: {seconds:.2f} s." for name, seconds in parts.get("loading", {}).items()]
    if "pairs" in parts:
        many = parts["pairs"]
        lines.append(
            f"Many pairs: {many['tokens_per_s']:,.0f} tokens/s, {many['share_of_forward']:.0%} of the forward."
        )
    if several:
        lines.append(f"{several['cards']} cards: {several['times_as_fast']:.2f} times as fast as one.")
    return "\n\n".join(lines)


TABLES: dict[str, Callable[[Record], str]] = {
    function.__name__: function
    for function in (
        quantization,
        forward_gpu_rwkv7,
        forward_gpu,
        forward_cpu,
        sweep,
        gpu_sweep,
        aggregation_overhead,
        growth,
        layer_choice,
    )
}
"""By the name of the benchmark that wrote the record."""
