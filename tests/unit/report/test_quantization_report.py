"""The report on quantization from made-up records: what it says, and that nothing missing crashes it."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, UNSUPPORTED, Result
from rwkv_sweep.report import write_report
from rwkv_sweep.report.quantization.answer import losses_of, quantization_answer
from rwkv_sweep.report.quantization.recommendation import Fronts, Recommended
from rwkv_sweep.report.speeds.precision_fronts import fast_front, small_front
from rwkv_sweep.report.speeds.precisions import precision_groups, unsupported_precisions
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS, speeds

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
        metrics |= around("speedup/over_fp32", speed, 0.05) | around("speedup/pair_over_fp32", 0.9 * speed, 0.04)
        metrics |= around("parity/spearman_delta", spearman - 0.40, 0.004)
        metrics |= {"parity/spearman_delta_p": 0.001 if abs(spearman - 0.40) > 0.004 else 0.5}
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


def sentences(results: list[Result]) -> list[str]:
    return [sentence for _, bullets in quantization_answer(results).bullets() for sentence in bullets]


def other_sentences(results: list[Result]) -> list[str]:
    """Without the recommendations, which come first."""
    (section,) = quantization_answer(results).sections
    return [statement.text for statement in section.statements if not isinstance(statement, (Recommended, Fronts))]


def test_answer() -> None:
    assert sentences(sweep()) == [
        "In packed batches take int8_dynamic: 3.00 times the speed of fp32 (2.95 to 3.05), 28% of its bytes, Spearman "
        "-0.002, 95 % interval -0.006 to +0.002.",
        "For single pairs take int8_dynamic: 2.70 times the speed of fp32 (2.66 to 2.74), 28% of its bytes, Spearman "
        "-0.002, 95 % interval -0.006 to +0.002.",
        "Not beaten in quality, speed and bytes together: in packed batches int8_dynamic and nf4; for single pairs "
        "int8_dynamic and nf4.",
        "Fastest: in packed batches int8_dynamic, at 3.00 times the speed of fp32 (2.95 to 3.05); for single pairs "
        "int8_dynamic, at 2.70 times the speed of fp32 (2.66 to 2.74). That costs no Spearman that noise could not "
        "explain.",
        "Against the same dtype without quantization, in packed batches: slower with int8, at 0.50 times the speed of "
        "fp16; faster with int8_dynamic, at 1.50 times the speed of bf16; no measurable difference with nf4.",
        "Against the same dtype without quantization, for single pairs: slower with int8, at 0.50 times the speed of "
        "fp16; faster with int8_dynamic, at 1.50 times the speed of bf16; no measurable difference with nf4.",
        "Spearman differs from fp32's by more than noise in 1 of 5 precisions: nf4 by -0.030, 95 % interval -0.034 to "
        "-0.026. The other 4: within noise.",
        "Weights shrink to 35% of fp16's, from 20.0 to 7.0 MiB without the embedding table, with nf4.",
        "Not supported on this machine: tf32; the table has the reasons.",
    ]


SPEEDS = {
    "all faster": (
        {"bf16": 1.5, "nf4": 2.0},
        "Fastest: in packed batches nf4, at 2.00 times the speed of fp32 (1.95 to 2.05); ",
        "faster with nf4, at 1.33 times the speed of bf16.",
    ),
    "all slower": (
        {"bf16": 0.8, "nf4": 0.5},
        "Fastest: in packed batches nothing is faster than fp32; for single pairs nothing is faster than fp32.",
        "slower with nf4, at 0.62 times the speed of bf16.",
    ),
    "all equal": (
        {"bf16": 1.0, "nf4": 1.0},
        "Fastest: in packed batches nothing is faster than fp32, bf16 and nf4 as fast; ",
        "no measurable difference with nf4.",
    ),
    "two alike": (
        {"bf16": 2.0, "nf4": 2.02},
        "Fastest: in packed batches nf4 and bf16, at 2.02 times the speed of fp32 (1.97 to 2.07); ",
        "no measurable difference with nf4.",
    ),
    "one of each": (
        {"bf16": 2.0, "nf4": 1.0, "int8_dynamic": 2.0, "fp8": 3.0, "fp4": 0.5},
        "Fastest: in packed batches fp8, at 3.00 times the speed of fp32 (2.95 to 3.05); ",
        "slower with nf4 and fp4, at 0.25 to 0.50 times the speed; faster with fp8, at 1.50 times the speed of bf16; "
        "no measurable difference with int8_dynamic.",
    ),
}


@pytest.mark.parametrize("case", SPEEDS)
def test_speed_in_words_whatever_was_measured(case: str) -> None:
    timed, fastest, over_base = SPEEDS[case]
    made_up = [run("fp32", "float32", "none", 1.0, 0.40, 40.0, 1.0)]
    for name, speed in timed.items():
        made_up.append(run(name, "bfloat16", "none" if name == "bf16" else name, speed, 0.40, 20.0, 0.99))
    verdict, batches, *_ = other_sentences(made_up)
    assert verdict.startswith(fastest)
    assert batches == f"Against the same dtype without quantization, in packed batches: {over_base}"


def test_tokens_per_s_taken_one_after_another_never_rank() -> None:
    """nf4 has the highest tokens/s of its own run, and is slower in paired rounds."""
    made_up = [run("fp32", "float32", "none", 1.0, 0.40, 40.0, 1.0), run("nf4", "bfloat16", "nf4", 0.8, 0.4, 7.0, 0.99)]
    made_up[1].metrics["throughput/tokens_per_s"] = 9000.0
    assert other_sentences(made_up)[0].startswith("Fastest: in packed batches nothing is faster than fp32; ")


def test_two_rounds_decide_nothing() -> None:
    few = [replace(result, params={**result.params, "measure.speedup_rounds": 1}) for result in sweep()]
    assert sentences(few)[0].startswith("No precision is called the fastest: 1 rounds are too few to compare them")


def test_ratios_to_the_base_combine_two_intervals() -> None:
    (group,) = precision_groups(sweep())
    full, _, fp16, int8, *_ = (run.name for run in group.runs)
    compared = speeds(group.runs, BATCHES)
    ratio = compared.ratio(int8, fp16)
    assert ratio.value == pytest.approx(0.5)
    # In logarithms the upper reach is that of int8 upwards (0.55 / 0.5) and of fp16 downwards (1 / 0.95).
    up = (math.log(0.55 / 0.5) ** 2 + math.log(1 / 0.95) ** 2) ** 0.5
    assert ratio.hi / ratio.value == pytest.approx(math.exp(up))
    assert compared.ratio(int8, full).hi == pytest.approx(compared.of[int8].hi) and compared.reference == "fp32"
    assert compared.fastest == [group.runs[4].name] and compared.sign(int8, full) == -1
    assert speeds(group.runs, PAIRS).of[int8].value == pytest.approx(0.45)


def test_front() -> None:
    (group,) = precision_groups(sweep())
    assert [group.label(run) for run in fast_front(group)] == ["int8_dynamic"], "bf16's Spearman is higher by noise"
    assert [group.label(run) for run in small_front(group)] == ["nf4", "int8", "int8_dynamic"]


def test_what_is_recommended_is_on_the_front_whatever_noise_does_to_its_neighbours() -> None:
    """As measured: int8_weight is 0.4 % smaller than int8_dynamic, which noise does not set apart from bf16."""
    timed = {"bf16": (1.04, 0.09, 22.3), "int8_dynamic": (0.98, 0.06, 12.7), "int8_weight": (0.93, 0.04, 12.65)}
    made_up = [run("fp32", "float32", "none", 1.0, 0.40, 44.4, 1.0)]
    for name, (speed, width, mib) in {**timed, "int4": (0.84, 0.04, 8.3)}.items():
        made_up.append(run(name, "bfloat16", "none" if name == "bf16" else name, speed, 0.40, mib, 0.999))
        made_up[-1].metrics.update(around("speedup/pair_over_fp32", speed, width))
    (section,) = quantization_answer(made_up).sections
    (pairs,) = [taken for taken in section.statements if isinstance(taken, Recommended) and taken.regime == "pairs"]
    assert pairs.label == "int8_dynamic" and pairs.front == ["int8_dynamic", "int8_weight", "int4"]


def test_losses_are_judged_together() -> None:
    """One of 0.03 alone would pass at 0.05, and is noise among six."""
    made_up = [run("fp32", "float32", "none", 1.0, 0.40, 40.0, 1.0)]
    made_up += [run(f"p{number}", "bfloat16", "nf4", 1.0, 0.41, 7.0, 0.99) for number in range(6)]
    for result in made_up[1:]:
        result.metrics["parity/spearman_delta_p"] = 0.5
    made_up[1].metrics["parity/spearman_delta_p"] = 0.03
    (group,) = precision_groups(made_up)
    assert not any(loss.is_shown for loss in losses_of(group).values())
    made_up[1].metrics["parity/spearman_delta_p"] = 0.008
    assert [loss.label for loss in losses_of(group).values() if loss.is_shown] == ["p0"]


def test_one_block_at_a_time() -> None:
    (group,) = precision_groups(blocks())
    assert list(group.single_blocks()) == [0, 1, 2]
    assert [group.label(run) for run in group.runs][-2:] == ["nf4, blocks 2", "nf4, blocks all"]
    assert (
        "One block at a time in nf4, block 2 moves the embeddings most, to a mean cosine with fp32's of 1 - 3.00e-03, "
        "and block 0 least, to 1 - 1.00e-03. All blocks together: 1 - 1.00e-02; the single ones summed: 6.00e-03."
    ) in sentences(blocks())


def test_report(tmp_path: Path) -> None:
    paths = write_report("quantization", sweep(), tmp_path)
    assert [path.name for path in paths][:2] == ["report.md", "table.csv"]
    assert {path.stem for path in paths[2:]} == {"quality_speed", "quality_pair_speed", "quality_memory"}
    text = paths[0].read_text(encoding="utf-8")
    for part in (
        "| nf4 | 0.370 [0.320, 0.420] | -0.0300 [-0.0340, -0.0260] | flagged | 0.9500 | 0.9400 | 0.9500 |",
        "| fp32 | 0.400 [0.350, 0.450] | reference |",
        "| int8_dynamic |",
        "![Spearman against speed in packed batches over fp32's",
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
        replace(result, metrics={key: value for key, value in result.metrics.items() if not key.startswith(prefixes)})
        for result in sweep()
    ]


CASES: dict[str, tuple[list[Result], str]] = {
    "nothing": ([], "No run finished, so there is nothing to answer with."),
    "only unsupported": (sweep()[1:2], "Not supported on this machine: tf32"),
    "one run": (sweep()[:1], "Only one run finished"),
    "no fp32": (sweep()[2:], "fp32 is not among the runs"),
    "no base": ([sweep()[0], sweep()[4]], "Without a run of the same dtype to compare with: int8."),
    "no speed": (stripped("speedup/", "throughput/"), "No precision is called the fastest"),
    "no parity": (stripped("parity/"), "5 runs without parity"),
    "random weights": (stripped("parity/spearman", "quality/"), "No Spearman was scored; the mean cosine with fp32's"),
    "no sizes": (stripped("memory/"), "by more than noise in 1 of 5 precisions"),
    "a failure": ([*sweep(), replace(sweep()[2], status=FAILED, error={"message": "out of memory"})], "out of memory"),
    "no metrics": (
        [Result("x", "model", FINISHED, {})],
        "Quality was not compared with fp32 (measure.parity=true",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_parts_are_named(case: str, tmp_path: Path) -> None:
    results, expected = CASES[case]
    text = write_report("quantization", results, tmp_path)[0].read_text(encoding="utf-8")
    assert expected in text and "nan" not in text


def test_layers_stand_in_groups_of_their_own() -> None:
    both = [replace(result, params={**result.params, "layer": layer}) for layer in ("5", "final") for result in sweep()]
    assert [group.name for group in precision_groups(both)] == ["layer=5", "layer=final"]
    assert [name for name, _ in quantization_answer(both).bullets()] == ["layer=5", "layer=final"]


def test_unsupported_is_reported_once() -> None:
    assert unsupported_precisions([*sweep(), sweep()[1]]) == {"tf32": "no TF32"}
