"""The report on research question 2: answer, tables, figures, and all a reader must know to trust them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.records.results import FINISHED, UNSUPPORTED, Result
from rwkv_sweep.report.charts.quantization import write_quantization_figures
from rwkv_sweep.report.common.notes import MACHINE_TAGS, distinct_values, failures
from rwkv_sweep.report.common.run_groups import interval, metric
from rwkv_sweep.report.common.text import (
    ABSENT,
    bullets,
    counted,
    csv_text,
    escaped,
    formatted,
    paragraphs,
    table,
    with_interval,
)
from rwkv_sweep.report.quantization.answer import QUESTION, quantization_answer
from rwkv_sweep.report.speeds.precision_fronts import fast_front
from rwkv_sweep.report.speeds.precisions import (
    MIB,
    SPEARMAN,
    TOKENS_PER_S,
    TOLERATED,
    PrecisionGroup,
    is_flagged,
    precision_groups,
    unsupported_precisions,
)
from rwkv_sweep.report.speeds.speeds import REGIMES, Speeds, speeds
from rwkv_sweep.utils.files import write_atomically

CAPTIONS = {
    "quality_speed": "Spearman against speed in packed batches over fp32's, 95 % intervals; the dashed line joins what "
    "no other is shown to beat.",
    "quality_pair_speed": "The same for single pairs.",
    "quality_memory": "Spearman against the memory of the weights without the embedding table, which is not quantized.",
    "blocks": "What quantizing one block alone does, block by block.",
}
QUALITY = (
    "precision",
    "Spearman [95 %]",
    "less fp32 [95 %]",
    f"beyond {TOLERATED}",
    "mean cosine",
    "1st-percentile cosine",
    "rank agreement",
)
COST = (
    "precision",
    "batches, speed over fp32 [95 %]",
    "batches, over its base [95 %]",
    "pairs, speed over fp32 [95 %]",
    "pairs, over its base [95 %]",
    "not beaten in batches",
    "not beaten for pairs",
    "tokens/s alone [95 %]",
    "ms per pair alone",
    "J per 1,000 pairs",
    "peak MiB above weights",
)
SIZE = ("precision", "quantized parameters", "bits per parameter", "weights MiB", "embedding MiB", "kernel")
NOTES = (
    "Cosines, rank agreement (Spearman between the scores) and differences are against fp32 on the same sentences "
    "and the same device. Differences of Spearman are paired: both precisions on the same resamples of pairs.",
    "Speed over fp32: both in one process, interleaved, on the same batch or pairs; above 1 the precision is faster. "
    "Over its base: the quotient of two of these; the base is the same dtype without quantization. Tokens/s and ms per "
    "pair were measured one precision after another, so that they also show what else the machine did meanwhile: "
    "precisions are not compared by them.",
    "Not beaten, in batches or for pairs: no other precision is shown to be better in Spearman or in that speed "
    "without being shown to be worse in the other.",
    "Shares and bits per parameter leave the embedding table out, which is looked up, not multiplied, and stays in the "
    "base dtype; audit.json in each run's folder lists every tensor, and why it was left alone.",
)
RUN_KEYS = ("model", "dataset", "dataset.splits", "layer", "pooling", "prompt", "postprocess")
PRECISION_TAGS = ("matmul",)


def write_quantization_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write everything into `folder`; return the paths, report.md first."""
    figures = write_quantization_figures(results, folder)
    report, rows = folder / "report.md", folder / "table.csv"
    write_atomically(report, _markdown(results, figures))
    labels = {run.name: (group.label(run), group.name) for group in precision_groups(results) for run in group.runs}
    write_atomically(rows, csv_text(results, labels, {"flagged": lambda run: str(is_flagged(run))}))
    return [report, rows, *figures]


def _markdown(results: Sequence[Result], figures: Sequence[Path]) -> str:
    parts = ["# What quantizing layers costs, and what it gives", QUESTION, "## Answer"]
    parts += bullets(quantization_answer(results))
    parts += [f"- {line}" for line in _missing(results)]
    for group in precision_groups(results):
        suffix = f": {escaped(group.name)}" if group.name else ""
        parts += [f"## Quality{suffix}", _quality_table(group), f"## Speed{suffix}", _cost_table(group)]
        parts += [f"## Size{suffix}", _size_table(group)]
    drawn = {path.stem: path.name for path in figures if path.suffix == ".svg"}
    parts += ["## Figures"] if drawn else []
    parts += [f"![{CAPTIONS[stem]}]({name})\n\n{CAPTIONS[stem]}" for stem, name in drawn.items()]
    parts += ["## Notes", *(f"- {line}" for line in _notes(results))]
    failed = failures([result for result in results if result.status != UNSUPPORTED])
    parts += ["## Failures", *(f"- {line}" for line in failed)] if failed else []
    return paragraphs(parts)


def _quality_table(group: PrecisionGroup) -> str:
    rows = []
    for run in group.runs:
        row = [group.label(run), with_interval(interval(run, SPEARMAN))]
        if run is group.full:
            rows.append([*row, "reference", *[""] * 4])
            continue
        row += [with_interval(interval(run, "parity/spearman_delta"), "+.4f"), "flagged" if is_flagged(run) else ""]
        keys = ("cosine_mean", "cosine_p01", "rank_agreement")
        rows.append([*row, *(formatted(metric(run, f"parity/{key}"), ".4f") for key in keys)])
    return table(QUALITY, rows)


def _cost_table(group: PrecisionGroup) -> str:
    batches, pairs = (speeds(group.runs, regime) for regime in REGIMES)
    fronts = [fast_front(group, regime) for regime in REGIMES]
    rows = []
    for run in group.runs:
        rate = interval(run, TOKENS_PER_S)
        rows.append(
            [
                group.label(run),
                *_ratios(group, run, batches),
                *_ratios(group, run, pairs),
                *("yes" if run in front else "" for front in fronts),
                with_interval(rate, ",.0f") if rate else formatted(metric(run, TOKENS_PER_S), ",.0f"),
                formatted(metric(run, "latency/mean_ms"), ".2f"),
                formatted(metric(run, "energy/joules_per_1k_pairs"), ".2f"),
                formatted(metric(run, "memory/peak_above_weights_mib"), ",.1f"),
            ]
        )
    return table(COST, rows)


def _ratios(group: PrecisionGroup, run: Result, compared: Speeds) -> list[str]:
    """Speed over fp32's and over that of the run's base."""

    def over(other: Result | None) -> str:
        if other is None or run.name not in compared.of or other.name not in compared.of:
            return ABSENT
        return with_interval(compared.ratio(run.name, other.name), ".2f")

    return ["reference" if run is group.full else over(group.full), over(group.base(run)) if group.base(run) else ""]


def _size_table(group: PrecisionGroup) -> str:
    rows = []
    for run in group.runs:
        share = metric(run, "audit/parameters_share_without_embedding")
        bits = metric(run, "audit/bits_per_parameter_without_embedding")
        row = [group.label(run), formatted(share, ".1%"), formatted(bits, ".2f")]
        row += [formatted(metric(run, key), ",.1f") for key in (MIB, "memory/embedding_mib")]
        kernel = run.tags.get("quantized_kernel", "none")
        rows.append([*row, kernel if kernel != "none" else run.tags.get("matmul", "")])
    return table(SIZE, rows)


def _missing(results: Sequence[Result]) -> list[str]:
    """What the answer would need and the sweep does not have."""
    runs = [result for result in results if result.kind == "model"]
    unfinished = [run for run in runs if run.status not in (FINISHED, UNSUPPORTED)]
    lines = []
    if unfinished:
        lines.append(f"{counted(len(unfinished), 'run')} of {len(runs)} did not finish: see Failures.")
    for group in precision_groups(results):
        where = f" with {escaped(group.name)}" if group.name else ""
        if len(group.runs) == 1:
            lines.append(f"Only one run finished{where}: there is nothing to compare it with.")
        if group.full is None:
            lines.append(f"fp32 is not among the runs{where}, so speed is not compared with it.")
        without = [run for run in group.runs if run is not group.full and metric(run, "parity/cosine_mean") is None]
        if without:
            lines.append(f"{counted(len(without), 'run')}{where} without parity: measure.parity was off, or see Notes.")
    return lines


def _notes(results: Sequence[Result]) -> list[str]:
    """How the numbers came about, each as a line of Markdown."""
    runs = [run for group in precision_groups(results) for run in group.runs]
    lines = list(NOTES)
    for key in RUN_KEYS:
        lines += distinct_values(key, [str(run.params.get(key)) for run in runs if run.params.get(key) is not None])
    for tag in (*MACHINE_TAGS, "blocks", "version.bitsandbytes", "energy.sm_clock_mhz", "energy.throttle_reasons"):
        if tag not in PRECISION_TAGS:
            lines += distinct_values(tag, [run.tags[tag] for run in runs if tag in run.tags])
    lines += [
        f"Unsupported: {escaped(name)}, as {escaped(reason)}."
        for name, reason in unsupported_precisions(results).items()
    ]
    recorded = dict.fromkeys((tag, text) for run in runs for tag, text in run.tags.items() if tag.startswith("note."))
    return lines + [f"{escaped(tag.removeprefix('note.'))}: {escaped(text)}." for tag, text in recorded]
