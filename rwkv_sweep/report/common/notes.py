"""What a reader of a report must know: what is missing, what it ran on, how sure the numbers are, what failed."""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.comparisons import Comparison, limited
from rwkv_sweep.report.common.run_groups import TRANSDUCTIVE, groups, interval, is_transductive
from rwkv_sweep.report.common.text import counted, escaped, listed, with_interval

MACHINE_TAGS = ("device_name", "threads", "cuda", "wkv", "matmul", "version.torch", "version.rwkv_sweep", "commit")
RATIO = (
    "A time ratio is that of mean times, measured interleaved in one process on the same sentences, with a percentile "
    "bootstrap interval over rounds. An interval that contains 1 does not show that there is no overhead: its upper "
    "bound is what can be excluded. Median of rounds: of each round's own ratio, which a few rounds slowed by "
    "something else hardly move. Kept layers: the same layers, but with every layer's tokens kept to the end and "
    "pooled then. Peak MiB: of a full batch, less that of final-layer inference. Alone: measured one configuration "
    "after another, so that it also shows what else the machine did meanwhile, and cannot be compared."
)


def missing(results: Sequence[Result]) -> list[str]:
    """What the answer would need and the sweep does not have."""
    runs = [result for result in results if result.kind == "model"]
    finished = [run for run in runs if run.status == FINISHED]
    run_groups = groups(results)
    lines = []
    if len(finished) < len(runs):
        lines.append(f"{counted(len(runs) - len(finished), 'run')} of {len(runs)} did not finish: see Failures.")
    if len(finished) == 1:
        lines.append("Only one run finished: there is nothing to compare it with.")
    without = [run for run in finished if interval(run, "overhead/latency_ratio") is None]
    if without and len(without) < len(finished):
        lines.append(
            f"{counted(len(without), 'run')} of {len(finished)} without an overhead: measure.overhead was off."
        )
    elif finished and len(without) == len(finished):
        lines.append("No run carries an overhead: measure.overhead was off.")
    if any(group.final is None for group in run_groups):
        lines.append("Final-layer inference is not among the runs; ratios and differences are to it all the same.")
    if not any(result.kind == "baseline" for result in results):
        lines.append("No baseline was run.")
    return lines


def notes(results: Sequence[Result], family: Sequence[Comparison]) -> list[str]:
    """How the numbers came about, each as a line of Markdown."""
    runs = [run for group in groups(results) for run in group.runs]
    lines = [RATIO, *_baselines(results), *_family(results, family)]
    if any(is_transductive(run) for run in runs):
        lines.append(
            f"Configurations marked {TRANSDUCTIVE} were post-processed, or weighted by document frequency, with "
            "figures of the very sentences they are scored on: not comparable with the others."
        )
    for key in ("model", "dataset", "dataset.splits", "pooling", "prompt", "precision", "postprocess"):
        lines += distinct_values(key, [str(run.params.get(key)) for run in runs if run.params.get(key) is not None])
    for tag in MACHINE_TAGS:
        lines += distinct_values(tag, [run.tags[tag] for run in runs if tag in run.tags])
    if len({run.tags.get("device_name") for run in runs}) > 1:
        lines.append("The runs are from several machines: compare ratios, not times.")
    recorded = dict.fromkeys((tag, text) for run in runs for tag, text in run.tags.items() if tag.startswith("note."))
    return lines + [f"{escaped(tag.removeprefix('note.'))}: {escaped(text)}." for tag, text in recorded]


def failures(results: Sequence[Result]) -> list[str]:
    """Each run that did not finish, with its reason."""
    lines = []
    for result in results:
        if result.status != FINISHED:
            error = result.error or {}
            reason = error.get("message", "no reason was recorded")
            status = f"{result.status} ({error['kind']})" if "kind" in error else result.status
            lines.append(f"{escaped(result.name)}, {escaped(status)}: {escaped(reason)}")
    return lines


def _baselines(results: Sequence[Result]) -> list[str]:
    lines = []
    for result in results:
        if result.kind != "baseline" or result.status != FINISHED:
            continue
        parts = [escaped(result.name)]
        if result.name == "word_vectors" or "vectors" in result.tags:
            parts.append(f"vectors: {escaped(result.tags.get('vectors', 'not recorded'))}")
        spearman = with_interval(interval(result, "quality/spearman"))
        parts.append(f"Spearman {spearman} on {escaped(result.params.get('dataset', '?'))}")
        lines.append(f"Baseline {', '.join(parts)}.")
    return lines


def _family(results: Sequence[Result], family: Sequence[Comparison]) -> list[str]:
    if not family:
        return []
    surviving = sum(comparison.survives for comparison in family)
    lines = [
        f"The sweep made {counted(len(family), 'comparison')} (each run against final-layer inference and each "
        f"baseline); {surviving} survive Holm's correction at 0.05, marked (s). Intervals are of one "
        "comparison alone; the best of several is chosen after looking, so its own number is optimistic."
    ]
    lines += filter(None, [limited(family)])
    return lines


def distinct_values(name: str, values: Sequence[str]) -> list[str]:
    distinct = list(dict.fromkeys(values))
    return [f"{escaped(name)}: {listed([escaped(value) for value in distinct])}."] if distinct else []
