"""The study's table beside a sweep's, from records made by hand."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.report.study.published import GLOVE, LAYERS, TRAIN, VALIDATION
from rwkv_sweep.report.study.report import paper_answer, write_paper_report

KEYS = {TRAIN: "quality/train_first_1000/spearman", VALIDATION: "quality/validation/spearman"}
PARAMS = {
    "model": "finch_1b6",
    "model.id": "RWKV/v6-Finch-1B6-HF",
    "model.rescale_every": 0,
    "dataset": "mrpc",
    "dataset.splits": "[train[:1000],validation]",
    "precision": "fp16",
    "batch_tokens": 1,
}


def spearman(values: dict[str, float], half: float) -> dict[str, float]:
    metrics: dict[str, float] = {}
    for split, value in values.items():
        metrics |= {KEYS[split]: value, f"{KEYS[split]}_lo": value - half, f"{KEYS[split]}_hi": value + half}
    return metrics


def run(layer: str, values: dict[str, float], ms: float, depth: int, **params: object) -> Result:
    metrics = spearman(values, 0.05) | {"latency/mean_ms": ms, "memory/peak_allocated_mib": 1000.0}
    about = {**PARAMS, "layer": layer, "depth": depth, "aggregation": "none", **params}
    return Result(f"layer={layer}", "model", FINISHED, about, metrics, {"tokenizer": "world", "device": "cuda"})


def baseline(name: str, values: dict[str, float], **tags: str) -> Result:
    return Result(name, "baseline", FINISHED, {"model": name, "dataset": "mrpc_study"}, spearman(values, 0.08), tags)


RUNS = [
    run("1", {TRAIN: 0.30, VALIDATION: 0.36}, 10, 2),
    run("11", {TRAIN: 0.40, VALIDATION: 0.31}, 60, 12),
    run("final", {TRAIN: 0.41, VALIDATION: 0.32}, 120, 24),
]
BASELINES = [
    baseline("word_vectors", {TRAIN: 0.38761, VALIDATION: 0.4330}, vectors="glove.6B.50d.txt"),
    baseline("word_overlap", {TRAIN: 0.4031, VALIDATION: 0.4165}),
]


def rows(path: Path, figure: str) -> dict[str, dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return {row["row"]: row for row in csv.DictReader(file) if row["figure"] == figure}


def test_every_published_figure_stands_beside_what_was_measured(tmp_path: Path) -> None:
    report, table = write_paper_report([*RUNS, *BASELINES], tmp_path)
    text = report.read_text()
    for published in LAYERS.values():
        for value in published.spearman.values():
            assert f"| {value:.4f} |" in text
        assert f"| {published.seconds:.4f} |" in text
    assert "| layer 1 | 0.2879 | 0.3000 [0.2500, 0.3500] | +0.0121 | yes |" in text
    assert "| layer 11 | 0.2245 | 0.4000 [0.3500, 0.4500] | +0.1755 | no |" in text
    assert "| layer 3 | 0.2766 | n/a | n/a | n/a |" in text, "a layer that was not run keeps its row"
    assert "| final layer | n/a | 0.4100 [0.3600, 0.4600] | n/a | n/a |" in text
    assert (
        "| stream halved every | 6 blocks | never |" in text
        and "| tokens a batch | one sentence | one sentence |" in text
    )
    of_train = rows(table, f"spearman {TRAIN}")
    assert float(of_train["layer 11"]["measured"]) == 0.40 and float(of_train["layer 11"]["published"]) == 0.2245
    assert of_train["layer 3"]["measured"] == "" and set(of_train) >= {*(f"layer {k}" for k in LAYERS), "GloVe 6B 50d"}
    assert float(rows(table, "seconds per pair")["layer 11"]["measured"]) == pytest.approx(0.060)
    assert float(rows(table, "megabytes")["layer 1"]["measured"]) == pytest.approx(1048.576)


def test_the_answer_is_computed() -> None:
    answer = paper_answer([*RUNS, *BASELINES])
    assert "On train[:1000], Spearman as published is inside the measured 95 % interval for 1 of 2 layers." in answer
    assert "On validation, Spearman as published is inside the measured 95 % interval for 2 of 2 layers." in answer
    assert (
        "On train[:1000], Spearman changes by -0.0634 from layer 1 to layer 11 in the study, and by +0.1000 here."
    ) in answer
    assert (
        "A pair takes 0.97 times as long with layer 11 as with layer 1 in the study, and 6.00 times here."
    ) in answer
    glove = [line for line in answer if line.startswith("GloVe")]
    assert glove[0].endswith("0.3876 measured on train[:1000], the same to four decimals.")
    assert glove[1].endswith("0.4330 measured on validation, a difference of +0.0004.")
    assert "above 6 of 6 layers of the study and above 2 of 3 layers measured here." in answer[-2]


def test_four_decimals_are_what_same_means() -> None:
    exact = [RUNS[0], baseline("word_vectors", dict(GLOVE.spearman), vectors="glove.6B.50d.txt")]
    off = [RUNS[0], baseline("word_vectors", {TRAIN: 0.38766, VALIDATION: 0.43254}, vectors="GloVe.txt")]
    assert sum("the same to four decimals" in line for line in paper_answer(exact)) == 2
    assert not any("the same" in line for line in paper_answer(off))


def test_packaged_vectors_are_not_taken_for_glove(tmp_path: Path) -> None:
    mine = baseline("word_vectors", {TRAIN: 0.39, VALIDATION: 0.43}, vectors="word_vectors.safetensors")
    text = write_paper_report([RUNS[0], mine], tmp_path)[0].read_text()
    assert "| GloVe 6B 50d | 0.3876 | n/a | n/a | n/a |" in text
    assert "| word vectors (word_vectors.safetensors) | n/a | 0.3900" in text
    assert "word_vectors.path=" in text


def test_sweeps_without_much_to_show(tmp_path: Path) -> None:
    failed = Result("layer=1", "model", FAILED, PARAMS, error={"kind": "OutOfMemoryError", "message": "none left"})
    text = write_paper_report([failed], tmp_path)[0].read_text()
    assert "No run of a model has finished" in text and "layer=1, FAILED (OutOfMemoryError): none left" in text
    assert "No run of a model" in write_paper_report([], tmp_path)[0].read_text()
    other = run("1", {}, 5, 2, model="tiny", dataset="embedded", **{"dataset.splits": "[all]", "model.id": None})
    other = Result(
        **{
            **other.__dict__,
            "metrics": {"quality/all/spearman": 0.1, "quality/all/spearman_lo": 0.0, "quality/all/spearman_hi": 0.2},
        }
    )
    text = write_paper_report([other], tmp_path)[0].read_text()
    assert "Nothing that the study reports was measured" in text and "Not every run is on MRPC" in text
    assert "## Spearman, all" in text and "| layer 1 | n/a | 0.1000 [0.0000, 0.2000] |" in text
    assert "differences between models too" in text


def test_two_precisions_are_two_groups(tmp_path: Path) -> None:
    both = [RUNS[0], run("1", {TRAIN: 0.31, VALIDATION: 0.36}, 9, 2, precision="int8")]
    text = write_paper_report(both, tmp_path)[0].read_text()
    assert (
        "| layer 1 (precision=fp16) | 0.2879 | 0.3000" in text
        and "| layer 1 (precision=int8) | 0.2879 | 0.3100" in text
    )
