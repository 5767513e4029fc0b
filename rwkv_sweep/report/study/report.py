"""The study's table beside this sweep's, row by row: what it reported, what was measured, and what differs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rwkv_sweep.records.csv_tables import table_text
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.notes import failures
from rwkv_sweep.report.common.text import ABSENT, counted, escaped, formatted, paragraphs, table, with_interval
from rwkv_sweep.report.study.published import DATASETS, DEVICE, GLOVE, LAYERS, MODEL_ID, SOURCE, TRAIN, VALIDATION
from rwkv_sweep.report.study.rows import Row, baseline_rows, is_glove, model_rows, splits
from rwkv_sweep.utils.files import write_atomically

QUESTION = f"How do the study's figures ({SOURCE}) compare with what this sweep measured?"


def write_paper_report(results: Sequence[Result], folder: Path) -> list[Path]:
    """Write report.md and table.csv into `folder`; return their paths."""
    report, rows = folder / "report.md", folder / "table.csv"
    write_atomically(report, _markdown(results))
    write_atomically(rows, _csv(results))
    return [report, rows]


def paper_answer(results: Sequence[Result]) -> list[str]:
    """Sentences computed from the records, each only where there is something to compare."""
    layers, baselines = model_rows(results), baseline_rows(results)
    if not any(row.run is not None for row in layers):
        return ["No run of a model has finished, so there is nothing to compare."]
    sentences = [_inside(layers, split) for split in (TRAIN, VALIDATION)]
    sentences += [_trend(layers, split) for split in (TRAIN, VALIDATION)]
    sentences += [_cost(layers), *(_glove(baselines, split) for split in (TRAIN, VALIDATION))]
    sentences += [_overlap(layers, results, split) for split in (TRAIN, VALIDATION)]
    known = [sentence for sentence in sentences if sentence]
    return known or ["Nothing that the study reports was measured: it scores train[:1000] and validation of MRPC."]


def _markdown(results: Sequence[Result]) -> str:
    rows = [*model_rows(results), *baseline_rows(results)]
    parts = ["# The study's table beside this sweep's", QUESTION, "## Answer", *map(escaped, paper_answer(results))]
    for split in splits(results):
        parts += [f"## Spearman, {escaped(split)}", _spearman_table(rows, split)]
    parts += ["## Time and memory", _cost_table(rows), "## What differs from the study", _setting_table(results)]
    parts += ["## Notes", *(f"- {escaped(line)}" for line in _notes(results))]
    failed = failures(results)
    return paragraphs([*parts, *(["## Failures", *(f"- {line}" for line in failed)] if failed else [])])


def _spearman_table(rows: Sequence[Row], split: str) -> str:
    header = ("row", "published", "measured [95 %]", "measured less published", "published in the interval")
    inside = {None: ABSENT, True: "yes", False: "no"}
    cells = []
    for row in rows:
        theirs = formatted(row.published.spearman.get(split), ".4f")
        ours = with_interval(row.spearman(split), ".4f")
        cells.append([_label(row), theirs, ours, formatted(row.difference(split), "+.4f"), inside[row.inside(split)]])
    return table(header, cells)


def _cost_table(rows: Sequence[Row]) -> str:
    header = (
        "row",
        "published s per pair",
        "measured s per pair",
        "published MB",
        "measured MiB allocated",
        "blocks run",
    )
    cells = []
    for row in rows:
        took, memory = row.measured("latency/mean_ms"), row.measured("memory/peak_allocated_mib")
        depth = row.run.params.get("depth") if row.run is not None else None
        ours = formatted(took / 1000 if took is not None else None, ".4f")
        theirs = formatted(row.published.seconds, ".4f"), formatted(row.published.megabytes, ".0f")
        cells.append([_label(row), theirs[0], ours, theirs[1], formatted(memory, ".0f"), str(depth or ABSENT)])
    return table(header, cells)


def _setting_table(results: Sequence[Result]) -> str:
    """Each circumstance of the study, and what the runs of this sweep had (all of them, where they differ)."""
    runs = [result for result in results if result.kind == "model" and result.status == FINISHED]

    def ours(key: str, of: str = "params", words: Mapping[str, str] | None = None) -> str:
        values = dict.fromkeys(str(getattr(run, of).get(key, "")) for run in runs)
        return ", ".join((words or {}).get(value, value) for value in values if value not in ("", "None")) or "none"

    rows = [
        ["model", MODEL_ID, ours("model") if ours("model.id") == "none" else ours("model.id")],
        ["tokenizer", "GPT-2's, which is not the model's", ours("tokenizer", "tags")],
        ["blocks run", "24, whatever the layer", ours("depth")],
        ["stream halved every", "6 blocks", ours("model.rescale_every", words={"0": "never"})],
        ["precision", "fp16", ours("precision")],
        ["device", DEVICE, ours("device_name", "tags")],
        ["data", "MRPC, train[:1000] and validation", f"{ours('dataset')}, {ours('dataset.splits')}"],
        ["tokens a batch", "one sentence", ours("batch_tokens", words={"1": "one sentence"})],
        ["most tokens a sentence", "128", ours("max_tokens")],
        ["pairs before timing", "none", ours("measure.warmup_pairs", words={"0": "none"})],
    ]
    return table(("", "study", "this sweep"), rows)


def _notes(results: Sequence[Result]) -> list[str]:
    models = [result for result in results if result.kind == "model"]
    lines = [
        "The study gives no intervals. Measured ones are 95 % percentile bootstrap intervals over pairs.",
        "Published times and memory were taken on another machine: their course over the layers can be compared, "
        "their size cannot.",
    ]
    if any(run.params.get("model.id") != MODEL_ID for run in models):
        lines.append(f"Not every run names {MODEL_ID}: differences are then differences between models too.")
    if any(run.params.get("dataset") not in DATASETS for run in models):
        lines.append("Not every run is on MRPC: such runs have no published figure beside them.")
    if not any(is_glove(run) for run in results):
        lines.append(
            "GloVe was not run: word_vectors.path=<glove.6B.50d.txt> gives the study's row to four decimals. The "
            "packaged word vectors stand in a row of their own."
        )
    return lines


def _inside(rows: Sequence[Row], split: str) -> str | None:
    known = [row.inside(split) for row in rows if row.inside(split) is not None]
    if not known:
        return None
    return (
        f"On {split}, Spearman as published is inside the measured 95 % interval for {sum(map(bool, known))} of "
        f"{counted(len(known), 'layer')}."
    )


def _trend(rows: Sequence[Row], split: str) -> str | None:
    """How Spearman goes from the shallowest to the deepest of the study's layers, of each group."""
    sentences = []
    for group in dict.fromkeys(row.group for row in rows):
        both = [row for row in rows if row.group == group and row.difference(split) is not None]
        if len(both) < 2:
            continue
        first, last = (both[place].spearman(split) for place in (0, -1))
        assert first is not None and last is not None
        theirs = both[-1].published.spearman[split] - both[0].published.spearman[split]
        suffix = f" ({group})" if group else ""
        sentences.append(
            f"On {split}, Spearman changes by {theirs:+.4f} from {both[0].label} to {both[-1].label} in the study, and "
            f"by {last.value - first.value:+.4f} here{suffix}."
        )
    return " ".join(sentences) or None


def _cost(rows: Sequence[Row]) -> str | None:
    """The study's flat time over layers against ours."""
    timed = [(row, took) for row in rows if row.published.seconds and (took := row.measured("latency/mean_ms"))]
    if len(timed) < 2 or timed[0][0].group != timed[-1][0].group:
        return None
    (first, first_ms), (last, last_ms) = timed[0], timed[-1]
    assert first.published.seconds is not None and last.published.seconds is not None
    theirs = last.published.seconds / first.published.seconds
    return (
        f"A pair takes {theirs:.2f} times as long with {last.label} as with {first.label} in the study, and "
        f"{last_ms / first_ms:.2f} times here."
    )


def _glove(rows: Sequence[Row], split: str) -> str | None:
    (row, *_) = rows
    ours, difference = row.spearman(split), row.difference(split)
    if ours is None or difference is None:
        return None
    theirs, measured = f"{GLOVE.spearman[split]:.4f}", f"{ours.value:.4f}"
    same = "the same to four decimals" if theirs == measured else f"a difference of {difference:+.4f}"
    return f"GloVe: {theirs} published and {measured} measured on {split}, {same}."


def _overlap(rows: Sequence[Row], results: Sequence[Result], split: str) -> str | None:
    """Plain word overlap, which the study lacks, against its layers and ours."""
    run = next((result for result in results if result.name == "word_overlap"), None)
    ours = Row("", LAYERS[1], run).spearman(split)
    if ours is None:
        return None
    theirs = [result.spearman[split] for result in LAYERS.values()]
    text = f"Plain word overlap reaches {ours.value:.4f} on {split}, above {_below(ours.value, theirs)} of the study"
    measured = [value.value for row in rows if (value := row.spearman(split)) is not None]
    return text + (f" and above {_below(ours.value, measured)} measured here." if measured else ".")


def _below(value: float, others: Sequence[float]) -> str:
    return f"{sum(value > other for other in others)} of {counted(len(others), 'layer')}"


def _label(row: Row) -> str:
    return f"{row.label} ({row.group})" if row.group else row.label


def _csv(results: Sequence[Result]) -> str:
    """One line a row, split and figure, published beside measured."""
    header = ("row", "group", "run", "figure", "published", "measured", "measured_lo", "measured_hi")
    rows: list[list[object]] = []
    for row in [*model_rows(results), *baseline_rows(results)]:
        start = [row.label, row.group, row.run.name if row.run is not None else ""]
        for split in splits(results):
            ours = row.spearman(split)
            bounds = ["", "", ""] if ours is None else [ours.value, ours.lo, ours.hi]
            rows.append([*start, f"spearman {split}", row.published.spearman.get(split, ""), *bounds])
        for name, theirs, key, factor in (
            ("seconds per pair", row.published.seconds, "latency/mean_ms", 1e-3),
            ("megabytes", row.published.megabytes, "memory/peak_allocated_mib", 2**20 / 1e6),
        ):
            measured = row.measured(key)
            shown_ = "" if measured is None else measured * factor
            rows.append([*start, name, "" if theirs is None else theirs, shown_, "", ""])
    return table_text(header, rows)
