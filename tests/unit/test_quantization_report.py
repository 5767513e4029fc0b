"""The report on quantization from made-up records: what it says, and that nothing missing crashes it."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.report import write_report
from rwkv_sweep.report.precisions import front, over_base, over_full, precision_groups, speed_of, unsupported
from rwkv_sweep.report.quantization_answer import quantization_answer
from rwkv_sweep.results import FAILED, FINISHED, UNSUPPORTED, Result

PARAMS = {"model": "tiny", "dataset": "embedded", "layer": "final", "depth": 12, "pooling": "mean", "bootstrap": 2000}


def around(name: str, value: float, width: float) -> dict[str, float]:
    return {name: value, f"{name}_lo": value - width, f"{name}_hi": value + width}


def run(
    name: str, base: str, quantization: str, speed: float, spearman: float, mib: float, cosine: float, **options: Any
) -> Result:
    params = PARAMS | {"precision": name, "precision.base": base, "precision.quantization": quantization}
    params |= {"precision.blocks": "all", "precision.modules": "all", "precision.double_quantization": False} | options
    metrics = around("quality/spearman", spearman, 0.05) | around("throughput/tokens_per_s", 1000 * speed, 20.0)
    metrics |= {"memory/weights_without_embedding_mib": mib, "memory/embedding_mib": 2.0, "latency/mean_ms": 3.0}
    if name != "fp32":
        metrics |= around("speedup/over_fp32", speed, 0.05) | around("parity/spearman_delta", spearman - 0.40, 0.004)
        metrics |= {"parity/cosine_mean": cosine, "parity/cosine_p01": cosine - 0.01, "parity/rank_agreement": cosine}
    label = ",".join([f"precision={name}", *(f"{key}={value}" for key, value in options.items())])
    return Result(label, "model", FINISHED, params, metrics, {"matmul": "made up", "quantized_kernel": quantization})


def sweep() -> list[Result]:
    tf32 = Result("precision=tf32", "model", UNSUPPORTED, PARAMS | {"precision": "tf32"}, error={"message": "no TF32"})
    return [
        run("fp32", "float32", "none", 1.0, 0.40, 40.0, 1.0),
        tf32,
        run("bf16", "bfloat16", "none", 2.0, 0.401, 20.0, 0.9999),
        run("fp16", "float16", "none", 1.0, 0.40, 20.0, 1.0),
        run("int8", "float16", "int8", 0.5, 0.399, 11.0, 0.999),
        run("int8_dynamic", "bfloat16", "int8_dynamic", 3.0, 0.398, 11.0, 0.998),
        run("nf4", "bfloat16", "nf4", 2.0, 0.37, 7.0, 0.95),
    ]


def blocks() -> list[Result]:
    singles = [
        run("nf4", "float32", "nf4", 1.0, 0.40, 30.0, 1 - 0.001 * (block + 1), **{"precision.blocks": block})
        for block in range(3)
    ]
    return [*singles, run("nf4", "float32", "nf4", 1.0, 0.39, 10.0, 0.99)]


def test_answer() -> None:
    text = quantization_answer(sweep())
    for part in (
        "In packed batches int8_dynamic is fastest, 3.00 [2.95, 3.05] times fp32's speed (3,000 tokens/s).",
        "Quantizing makes it slower, not faster, with int8 (0.50 [",
        "Faster than without quantization: int8_dynamic (1.50 [",
        "Neither measurably faster nor slower: nf4 (1.00 [",
        "Of 5 precisions, 4 stay within 0.02 Spearman of fp32; beyond it: nf4 (-0.030 [-0.034, -0.026]).",
        "The loss is more than chance (the interval excludes 0) for nf4.",
        "Of fp16's 20.0 MiB of weights (the embedding table, 2.0 MiB, is not quantized and not counted) there remain "
        "55% (int8), 55% (int8_dynamic) and 35% (nf4).",
        "from slow to fast: bf16 (Spearman 0.401, 2.00 times fp32) and int8_dynamic (Spearman 0.398, 3.00 times fp32).",
        "Not supported here: tf32 (no TF32).",
    ):
        assert part in text


SPEEDS = {
    "all faster": (
        {"bf16": 1.5, "nf4": 2.0},
        "In packed batches nf4 is fastest, 2.00 [1.95, 2.05] times fp32's speed (2,000 tokens/s). "
        "Faster than without quantization: nf4 (1.33 [1.28, 1.39] times bf16's speed).",
    ),
    "all slower": (
        {"bf16": 0.8, "nf4": 0.5},
        "In packed batches no precision is faster than fp32. "
        "Quantizing makes it slower, not faster, with nf4 (0.62 [0.55, 0.70] times bf16's speed).",
    ),
    "all equal": (
        {"bf16": 1.0, "nf4": 1.0},
        "In packed batches no precision is faster than fp32. "
        "Neither measurably faster nor slower: nf4 (1.00 [0.93, 1.07] times bf16's speed).",
    ),
    "one of each": (
        {"bf16": 2.0, "nf4": 1.0, "int8_dynamic": 2.0, "fp8": 3.0},
        "In packed batches fp8 is fastest, 3.00 [2.95, 3.05] times fp32's speed (3,000 tokens/s). "
        "Quantizing makes it slower, not faster, with nf4 (0.50 [0.47, 0.53] times bf16's speed). "
        "Faster than without quantization: fp8 (1.50 [1.46, 1.55] times bf16's speed). "
        "Neither measurably faster nor slower: int8_dynamic (1.00 [0.97, 1.04] times bf16's speed).",
    ),
}


@pytest.mark.parametrize("case", SPEEDS)
def test_speed_in_words_whatever_was_measured(case: str) -> None:
    speeds, expected = SPEEDS[case]
    made_up = [run("fp32", "float32", "none", 1.0, 0.40, 40.0, 1.0)]
    for name, speed in speeds.items():
        made_up.append(run(name, "bfloat16", "none" if name == "bf16" else name, speed, 0.40, 20.0, 0.99))
    assert quantization_answer(made_up).startswith(f"{expected} Of ")


def test_ratios_to_the_base_combine_two_intervals() -> None:
    (group,) = precision_groups(sweep())
    int8, full = group.runs[3], group.runs[0]
    ratio = over_base(group, int8)
    assert ratio is not None and ratio.value == pytest.approx(0.5)
    # The wider of both relative widths is 10 %, the other 5 %: together 11 %.
    assert ratio.hi / ratio.value - 1 == pytest.approx((0.1**2 + (1 / 0.95 - 1) ** 2) ** 0.5)
    assert over_full(full) is not None and over_base(group, full) is None
    assert over_full(replace(int8, metrics={"throughput/tokens_per_s": 1.0})) is None


def test_front() -> None:
    (group,) = precision_groups(sweep())
    assert [group.label(each) for each in front(group.runs, speed_of)] == ["bf16", "int8_dynamic"]
    assert front([group.runs[0]] * 2, speed_of) == [group.runs[0]] * 2


def test_one_block_at_a_time() -> None:
    (group,) = precision_groups(blocks())
    assert list(group.single_blocks()) == [0, 1, 2]
    assert [group.label(each) for each in group.runs][-2:] == ["nf4, blocks 2", "nf4, blocks all"]
    text = quantization_answer(blocks())
    assert "block 2 moves the embeddings most (1 - mean cosine 3.00e-03) and block 0 least (1.00e-03)" in text
    assert "all blocks together 1.00e-02, the single ones summed 6.00e-03." in text


def test_report(tmp_path: Path) -> None:
    paths = write_report("quantization", sweep(), tmp_path)
    assert [path.name for path in paths][:2] == ["report.md", "table.csv"]
    assert {path.stem for path in paths[2:]} == {"quality_speed", "quality_memory"}
    text = paths[0].read_text(encoding="utf-8")
    for part in (
        "| nf4 | 0.370 [0.320, 0.420] | -0.0300 [-0.0340, -0.0260] | flagged | 0.9500 | 0.9400 | 0.9500 |",
        "| fp32 | 0.400 [0.350, 0.450] | reference |",
        "| int8_dynamic |",
        "![Spearman against tokens/s over fp32's",
    ):
        assert part in text
    assert "Failures" not in text and "nan" not in text
    with paths[1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["flagged"] for row in rows] == ["False"] * 6 + ["True"] and rows[1]["status"] == UNSUPPORTED
    again = write_report("quantization", sweep(), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]
    assert {path.stem for path in write_report("quantization", blocks(), tmp_path / "b")} >= {"blocks"}


def stripped(*prefixes: str) -> list[Result]:
    return [
        replace(each, metrics={key: value for key, value in each.metrics.items() if not key.startswith(prefixes)})
        for each in sweep()
    ]


CASES: dict[str, tuple[list[Result], str]] = {
    "nothing": ([], "No run finished, so there is nothing to answer with."),
    "only unsupported": (sweep()[1:2], "Not supported here: tf32 (no TF32)."),
    "one run": (sweep()[:1], "Only one run finished"),
    "no fp32": (sweep()[2:], "fp32 is not among the runs"),
    "no base": ([sweep()[0], sweep()[4]], "Without their base to compare with: int8."),
    "no speed": (stripped("speedup/", "throughput/"), "Speed was not compared with fp32"),
    "no parity": (stripped("parity/"), "5 runs without parity"),
    "random weights": (stripped("parity/spearman", "quality/"), "No Spearman was scored; the mean cosine with fp32's"),
    "no sizes": (stripped("memory/"), "Of 5 precisions, 4 stay within"),
    "a failure": ([*sweep(), replace(sweep()[2], status=FAILED, error={"message": "out of memory"})], "out of memory"),
    "no metrics": ([Result("x", "model", FINISHED, {})], "Quality was not compared with fp32."),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_parts_are_told(case: str, tmp_path: Path) -> None:
    results, told = CASES[case]
    text = write_report("quantization", results, tmp_path)[0].read_text(encoding="utf-8")
    assert told in text and "nan" not in text


def test_layers_stand_in_groups_of_their_own() -> None:
    both = [replace(each, params={**each.params, "layer": layer}) for layer in ("5", "final") for each in sweep()]
    assert [group.name for group in precision_groups(both)] == ["layer=5", "layer=final"]
    assert quantization_answer(both).startswith("With layer=5: ")


def test_unsupported_is_told_once() -> None:
    assert unsupported([*sweep(), sweep()[1]]) == {"tf32": "no TF32"}
