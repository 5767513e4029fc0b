"""Runs side by side on tasks: who is first by Borda count and by average, the columns, what MLflow gets."""

from __future__ import annotations

import pytest

from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.report.plain_sweep.tasks import on_tasks, task_columns


def run(layer: str, scores: dict[str, float], status: str = FINISHED) -> Result:
    metrics = {f"tasks/{task}": score for task, score in scores.items()}
    if scores:
        metrics["tasks/average"] = sum(scores.values()) / len(scores)
    return Result(f"layer={layer},pooling=mean", "model", status, {"layer": layer}, metrics)


RUNS = [
    run("1", {"A": 0.9, "B": 0.2}),
    run("3", {"A": 0.5, "B": 0.4}),
    run("5", {"A": 0.4, "B": 0.3}),
    run("7", {"A": 0.95}),
    run("9", {}),
    run("11", {"A": 1.0, "B": 1.0}, FAILED),
]
LABELS = {result.name: f"layer {result.params['layer']}, pooling mean" for result in RUNS}


def test_first_by_borda_count_and_by_average() -> None:
    (statement,) = on_tasks(RUNS, LABELS)
    # Task A: layer 1 beats two, 3 beats one. Task B: 3 beats two, 5 beats one.
    assert statement.answer_metrics == pytest.approx(
        {
            "tasks/highest_average": 0.55,
            "tasks/borda/layer 1 pooling mean": 2,
            "tasks/borda/layer 3 pooling mean": 3,
            "tasks/borda/layer 5 pooling mean": 1,
        }
    )
    assert statement.answer_tags == {"tasks.first_by_borda": "layer 3, pooling mean"}
    assert "layer 3, pooling mean is first of 3 runs by Borda count, with 3 of 4 points" in statement.text
    assert "average of 0.4500. The highest average is that of layer 1, pooling mean, 0.5500." in statement.text
    assert "Highest on A: layer 1, pooling mean (0.9000); B: layer 3, pooling mean (0.4000)." in statement.text
    assert statement.text.endswith("Without a score on every task, and left out: 1.")


def test_columns_of_the_table() -> None:
    columns = dict(task_columns(RUNS))
    assert list(columns) == ["A", "B", "average", "Borda"]
    cells = {name: [cell(result) for result in RUNS[:5]] for name, cell in columns.items()}
    assert cells["B"] == ["0.2000", "0.4000", "0.3000", "", ""]
    assert cells["average"][:2] == ["0.5500", "0.4500"] and cells["Borda"] == ["2", "3", "1", "", ""]


@pytest.mark.parametrize("runs", [[], RUNS[:1], RUNS[4:]])
def test_fewer_than_two_runs_are_not_ranked(runs: list[Result]) -> None:
    assert on_tasks(runs, LABELS) == []
    assert "Borda" not in dict(task_columns(runs))
