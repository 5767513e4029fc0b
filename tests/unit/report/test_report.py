"""Reports from made-up records: the sentences exactly, the files whole, nothing that can be missing crashes them."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.report import write_report
from rwkv_sweep.report.aggregation import report as aggregation_report
from rwkv_sweep.report.aggregation.answer import aggregation_answer
from rwkv_sweep.report.common.run_groups import groups, is_transductive
from rwkv_sweep.report.common.text import escaped, listed, table
from rwkv_sweep.stats.bootstrap import least_p

KIND = "aggregation_overhead"
PARAMS = {
    "model": "tiny",
    "pooling": "mean",
    "prompt": "none",
    "precision": "fp32",
    "postprocess": "none",
    "postprocess.fit": None,
    "device": "cpu",
    "dataset": "embedded",
    "dataset.splits": "[all]",
    "aggregation.normalize": "unit",
    "aggregation.weights": None,
    "bootstrap": 2000,
}
TAGS = {"device_name": "Made-up CPU", "threads": "2", "wkv": "numba", "matmul": "float32", "version.torch": "2.10.0"}


def around(key: str, value: float, reach: float) -> dict[str, float]:
    return {key: value, f"{key}_lo": value - reach, f"{key}_hi": value + reach}


def run(layer: str, depth: int, aggregation: str, spearman: float, ratio: float, naive: float, **params: Any) -> Result:
    metrics = around("quality/spearman", spearman, 0.06)
    if layer != "final":
        metrics |= {**around("final/delta", spearman - 0.50, 0.02), "final/delta_p": 0.001 if spearman > 0.52 else 0.3}
    for name, level in (("word_vectors", 0.48), ("word_overlap", 0.57)):
        metrics |= {**around(f"baseline/{name}/delta", spearman - level, 0.05), f"baseline/{name}/delta_p": 0.04}
    for kind, extra in (("latency", 0.0), ("batch", 0.01)):
        metrics |= around(f"overhead/{kind}_ratio", ratio + extra, 0.012)
        metrics |= around(f"overhead/naive_{kind}_ratio", naive + 3 * extra, 0.02)
    metrics |= {"overhead/memory_mib": 0.25, "overhead/naive_memory_mib": 4.0 * depth - 4}
    metrics |= {"latency/mean_ms": 8 * ratio, "latency/p50_ms": 7.5 * ratio, "throughput/tokens_per_s": 9000 / ratio}
    given = {**PARAMS, "layer": layer, "depth": depth, "aggregation": aggregation, **params}
    marks = [str(value) for value in params.values()]
    return Result(",".join([f"configuration={layer}_{aggregation}", *marks]), "model", FINISHED, given, metrics, TAGS)


def baseline(name: str, spearman: float, **tags: str) -> Result:
    params = {"model": name, "dataset": "embedded", "dataset.splits": "all"}
    metrics = {**around("quality/spearman", spearman, 0.06), "latency/mean_ms": 0.02}
    return Result(name, "baseline", FINISHED, params, metrics, {**TAGS, **tags})


def sweep() -> list[Result]:
    singles = [(1, 0.47), (3, 0.49), (5, 0.515), (7, 0.51), (9, 0.50), (11, 0.49)]
    return [
        run("final", 12, "none", 0.50, 1.001, 1.0),
        *(run(str(k), k + 1, "none", spearman, 0.05 + 0.95 * (k + 1) / 12, 1.0) for k, spearman in singles),
        run("all", 12, "mean", 0.53, 1.004, 1.12),
        run("all", 12, "concat", 0.535, 1.015, 1.15),
        run("all", 12, "max", 0.46, 1.006, 1.13),
        run("all", 12, "weighted", 0.52, 1.003, 1.12, **{"aggregation.weights": "linear"}),
        run("8+9+10+11", 12, "mean", 0.51, 1.002, 1.05),
        run("8+9+10+11", 12, "concat", 0.505, 0.999, 1.05),
        baseline("word_vectors", 0.48, vectors="trained on Wikipedia, 50 dimensions"),
        baseline("word_overlap", 0.57, word_split="punctuation"),
    ]


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """For tests of words alone: drawing takes a second or two."""
    monkeypatch.setattr(aggregation_report, "write_figures", lambda results, folder: [])


def without(result: Result, *starts: str) -> Result:
    return replace(result, metrics={key: value for key, value in result.metrics.items() if not key.startswith(starts)})


def sentences(results: list[Result]) -> list[str]:
    return [sentence for _, bullets in aggregation_answer(results).bullets() for sentence in bullets]


def test_answer() -> None:
    assert sentences(sweep()) == [
        "Overhead of aggregating over all 12 blocks, against final-layer inference, with 95 % intervals. In packed "
        "batches 1 of 6 "
        "aggregations is slower by more than noise, the slowest concat of all by 2.5 %, 1.3 % to 3.7 %; "
        "the others are at most 2.8 % slower. For single pairs 1 of 6 aggregations is slower by more than noise, the "
        "slowest concat of all by 1.5 %, 0.3 % to 2.7 %; the others are at most 1.8 % slower.",
        "Final-layer inference timed against itself in the same way differs by -0.1 % to +2.3 % in packed batches and "
        "-1.1 % to +1.3 % for single pairs: differences of that size mean nothing.",
        "Peak memory of a full batch changes by at most +0.2 MiB; keeping every layer's tokens to the end would add up "
        "to +44.0 MiB and take up to 1.18 times final-layer inference's time, concat of all in packed batches.",
        "Best of 6 aggregations by Spearman: concat of all, 0.535, 0.035 above the final layer, 95 % interval +0.015 "
        "to +0.055: more than noise after Holm's correction for 38 comparisons, p = 0.038.",
        "Stopping early: layer 1, 2 of 12 blocks, takes 0.21 times and layer 9, 10 of 12 blocks, takes 0.84 times the "
        "final layer's time for a single pair. Highest Spearman of those timed: layer 5, +0.015 against the final "
        "layer, within noise, at 0.52 times its time.",
    ]


def test_answer_without_overhead() -> None:
    answer = sentences([without(result, "overhead/") for result in sweep()])
    assert answer[0] == "The overhead of aggregation was not measured (measure.overhead=true measures it)."
    assert answer[1].startswith("Best of 6 aggregations by Spearman: concat of all, 0.535,")
    assert answer[2:] == ["What stopping early saves was not measured."]


def ratios(*triples: tuple[float, float, float], control: tuple[float, float, float] | None = None) -> list[str]:
    """The first two statements where aggregations have these ratios (value, low, high) for single pairs."""
    results = [sweep()[0], *sweep()[7 : 7 + len(triples)]]
    for result, triple in zip(results, [control or (1.0, 0.99, 1.01), *triples], strict=True):
        for name in [name for name in result.metrics if name.startswith("overhead/")]:
            del result.metrics[name]
        names = ("overhead/latency_ratio", "overhead/latency_ratio_lo", "overhead/latency_ratio_hi")
        result.metrics.update(zip(names, triple, strict=True))
    return sentences(results)[:2]


def test_what_can_be_excluded_is_said_where_nothing_was_measured() -> None:
    verdict, control = ratios((1.03, 0.91, 1.18))
    assert verdict.endswith("For single pairs none was measured: mean of all is at most 18 % slower.")
    assert "-1.0 % to +1.0 % for single pairs" in control


def test_a_difference_within_the_control_s_own_is_no_overhead() -> None:
    """By its own interval it is slower, but final-layer inference differs as much from itself."""
    verdict, control = ratios((1.04, 1.01, 1.07), control=(1.05, 1.02, 1.08))
    assert "none was measured: mean of all is at most 7.0 % slower" in verdict
    assert control.endswith("For single pairs even that leaves out 1: the timing was disturbed.")
    assert "1 of 1 aggregation is slower by more than noise" in ratios((1.04, 1.01, 1.07))[0]


def test_faster_is_said_too() -> None:
    verdict, _ = ratios((0.9, 0.88, 0.92), (1.0, 0.98, 1.02))
    assert (
        "none was measured: all 2 aggregations are at most 2.0 % slower, and faster by more than noise with mean"
        in verdict
    )


def test_a_difference_that_holm_does_not_let_stand() -> None:
    answer = sentences([sweep()[0], run("all", 12, "mean", 0.51, 1.004, 1.12)])
    assert any("within noise after Holm's correction for 5 comparisons, p = 0.3." in sentence for sentence in answer)
    assert not any("Stopping early" in sentence for sentence in answer)


def test_shallow_aggregation_is_not_taken_for_overhead() -> None:
    shallow = run("0+1+2+3", 4, "mean", 0.51, 0.36, 0.38)
    assert sentences([sweep()[0], shallow])[0].startswith(
        "Overhead of aggregating over fewer blocks than final-layer inference"
    )
    assert "over all 12 blocks" in sentences([*sweep(), shallow])[0]
    # Without a run that says how many blocks the model has, nothing is said of it.
    alone = sentences([run("1", 2, "none", 0.47, 0.2, 1.0), shallow])
    assert any("layer 1, 2 blocks, takes 0.20 times" in sentence for sentence in alone)


def test_groups_are_kept_apart() -> None:
    both = [run("final", 12, "none", 0.5, 1.0, 1.0, precision=name) for name in ("fp16", "int8")]
    both += [run("all", 12, "mean", 0.52, 1.0, 1.1, precision=name) for name in ("fp16", "int8")]
    assert [group.name for group in groups(both)] == ["precision=fp16", "precision=int8"]
    first, *rest = aggregation_answer(both).bullets()
    assert first[1][0].startswith("Highest Spearman of all 4 runs: mean of all with precision=fp16, 0.520,")
    assert [name for name, _ in rest] == ["precision=fp16", "precision=int8"]


def test_report(tmp_path: Path) -> None:
    paths = write_report(KIND, sweep(), tmp_path)
    names = ["report.md", "table.csv", "latency_ratio.svg", "latency_ratio.png", "quality.svg", "quality.png"]
    assert [path.name for path in paths] == names
    assert all(path.parent == tmp_path / "report" and path.stat().st_size > 1000 for path in paths)
    text = paths[0].read_text(encoding="utf-8")
    assert all(f"- {sentence}" in text for sentence in sentences(sweep()))
    for part in (
        "| mean of 8-11 | 12 | 1.002 [0.990, 1.014] |",
        "| weighted (linear) of all |",
        "![Spearman by layer and by aggregation, 95 % intervals.](quality.svg)",
        "vectors: trained on Wikipedia, 50 dimensions",
        "The sweep made 38 comparisons",
        "device_name: Made-up CPU.",
    ):
        assert part in text
    assert "Failures" not in text and "transductive" not in text
    with paths[1].open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 15 and rows[8]["label"] == "concat of all" and float(rows[8]["final/delta_p_holm"]) == 0.038
    again = write_report(KIND, sweep(), tmp_path / "again")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in paths]


def random_model() -> list[Result]:
    tags = {**TAGS, "note.quality": "absent: the weights are random"}
    return [replace(without(result, "quality/", "final/", "baseline/"), tags=tags) for result in sweep()[:13]]


CASES: dict[str, tuple[list[Result], str]] = {
    "nothing": ([], "No run finished, so there is nothing to answer with."),
    "baselines alone": (sweep()[13:], "No run finished"),
    "one run": (sweep()[:1], "Only one run finished"),
    "one aggregation": (sweep()[7:8], "Final-layer inference is not among the runs"),
    "no aggregation": (sweep()[:7], "No finished run aggregates several layers"),
    "no baselines": ([without(result, "baseline/") for result in sweep()[:13]], "No baseline was run."),
    "no overhead": ([without(result, "overhead/") for result in sweep()], "No run carries an overhead"),
    "some overhead": ([without(sweep()[0], "overhead/"), *sweep()[1:]], "1 run of 13 without an overhead"),
    "random weights": (random_model(), "Quality is absent: the weights are random."),
    "no intervals": (
        [without(result, "final/delta_", "overhead/latency_ratio_lo") for result in sweep()],
        "not recorded",
    ),
    "not a number": (
        [replace(result, metrics=dict.fromkeys(result.metrics, float("nan"))) for result in sweep()],
        "Quality was not measured.",
    ),
    "no metrics": ([Result("x", "model", FINISHED, {})], "Quality was not measured."),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_parts_are_named(case: str, tmp_path: Path) -> None:
    results, expected = CASES[case]
    paths = write_report(KIND, results, tmp_path)
    assert expected in paths[0].read_text(encoding="utf-8")
    assert "nan" not in paths[0].read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_figures")
def test_notes_warn(tmp_path: Path) -> None:
    least = {"final/delta_p": least_p(100)}
    few = [
        replace(result, params={**result.params, "bootstrap": 100}, metrics={**result.metrics, **least})
        for result in sweep()
    ]
    assert "bootstrap=1640 or more could decide them." in write_report(KIND, few, tmp_path)[0].read_text(
        encoding="utf-8"
    )
    unknown = [*sweep()[:13], baseline("word_vectors", 0.4)]
    assert "vectors: not recorded" in write_report(KIND, unknown, tmp_path)[0].read_text(encoding="utf-8")


@pytest.mark.usefixtures("no_figures")
def test_failures_are_listed_and_escaped(tmp_path: Path) -> None:
    error = {"kind": "OutOfMemoryError", "message": "tried to allocate | 2 *GiB*\nof <memory>"}
    failed = Result("configuration=all_max,x=[1|2]", "model", FAILED, {**PARAMS, "layer": "all"}, error=error)
    text = write_report(KIND, [*sweep(), failed], tmp_path)[0].read_text(encoding="utf-8")
    assert (
        "- configuration=all_max,x=[1\\|2], FAILED (OutOfMemoryError): tried to allocate \\| 2 \\*GiB\\* of \\<memory"
        in text
    )
    assert "1 run of 14 did not finish: see Failures." in text


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize("fit", [None, "transductive"])
def test_transductive_configurations_are_labelled(fit: str | None, tmp_path: Path) -> None:
    results = [*sweep()[:1], run("all", 12, "mean", 0.55, 1.0, 1.1, postprocess="whiten", **{"postprocess.fit": fit})]
    assert any("mean of all (transductive)" in sentence for sentence in sentences(results))
    text = write_report(KIND, results, tmp_path)[0].read_text(encoding="utf-8")
    assert "| mean of all (transductive) |" in text and "not comparable with the others" in text
    fitted = run("all", 12, "mean", 0.55, 1.0, 1.1, postprocess="whiten", **{"postprocess.fit": "train"})
    assert not any("transductive" in sentence for sentence in sentences([fitted]))


@pytest.mark.parametrize(
    ("params", "transductive"),
    [
        ({"pooling": "idf"}, True),
        ({"pooling": "idf", "pooling.fit": None, "pooling.corpus": None}, True),
        ({"pooling": "idf", "pooling.fit": "None", "pooling.corpus": "None"}, True),
        ({"pooling": "idf", "pooling.fit": "transductive", "pooling.corpus": "words.txt"}, True),
        ({"pooling": "idf", "pooling.fit": "train"}, False),
        ({"pooling": "idf", "pooling.corpus": "words.txt"}, False),
        ({"pooling": "mean", "pooling.fit": "transductive"}, False),
        ({"pooling": "idf", "pooling.fit": "train", "postprocess": "center"}, True),
        ({"pooling": "idf", "pooling.fit": "train", "postprocess": "center", "postprocess.fit": "train"}, False),
    ],
)
def test_what_counts_as_transductive(params: dict[str, str | None], transductive: bool) -> None:
    assert is_transductive(Result("x", "model", "FINISHED", params)) is transductive


def test_unknown_report(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="report=nonsense is not known: valid are aggregation_overhead"):
        write_report("nonsense", sweep(), tmp_path)


def test_markdown() -> None:
    assert escaped("a|b_c*\n`d` [e]<f>\\ $1") == r"a\|b_c\* \`d\` [e]\<f\>\\ \$1"
    assert escaped("_a_ [text](link) [0.1, 0.2]") == r"\_a\_ \[text](link) [0.1, 0.2]"
    assert table(["x", "y|z"], [["1", "2"]]) == "| x | y\\|z |\n| :-- | --: |\n| 1 | 2 |"
    assert [listed(["a", "b", "c"][:count]) for count in range(4)] == ["", "a", "a and b", "a, b and c"]
