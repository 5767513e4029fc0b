"""Runs side by side on tasks of `mteb`: columns of the table, and which run is ahead by average and Borda count.

Shapes: L runs, N tasks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.evaluation.tasks.layer_scores import LayerScores
from rwkv_sweep.records.results import FINISHED, Result

PREFIX, AVERAGE = "tasks/", "tasks/average"
NOT_IN_NAMES = re.compile(r"[^\w .:/-]")
"""What the name of a metric in MLflow cannot have."""


@dataclass(frozen=True)
class OnTasks:
    """The runs that have all tasks, ranked.

    Attributes:
        scores: of the runs, by their labels.
        left_out: how many runs lack a task.
    """

    scores: LayerScores
    left_out: int = 0

    @property
    def text(self) -> str:
        scores, first = self.scores, int(self.scores.order_L[0])
        highest = int(scores.average_L.argmax())
        runs, tasks = len(scores.layers), len(scores.tasks)
        most = (runs - 1) * tasks
        text = f"On {tasks} task{'s' * (tasks != 1)} of MTEB, {scores.layers[first]} is first of {runs} runs by Borda "
        text += f"count, with {scores.borda_L[first]:g} of {most} points (a point on each task for each run beaten), "
        if highest == first:
            text += f"and by average, with {scores.average_L[first]:.4f}."
        else:
            text += f"and has an average of {scores.average_L[first]:.4f}. The highest average is that of "
            text += f"{scores.layers[highest]}, {scores.average_L[highest]:.4f}."
        best = [
            f"{task}: {scores.layers[int(score_L.argmax())]} ({score_L.max():.4f})"
            for task, score_L in zip(scores.tasks, scores.scores_LN.T, strict=True)
        ]
        text += f" Highest on {'; '.join(best)}. The scores of tasks have no interval here."
        if self.left_out:
            text += f" Without a score on every task, and left out: {self.left_out}."
        return text

    @property
    def answer_metrics(self) -> dict[str, float]:
        """For the run of the sweep in MLflow: the highest average, and of each run its Borda count."""
        counts = {
            f"{PREFIX}borda/{NOT_IN_NAMES.sub('', label)}": float(count)
            for label, count in zip(self.scores.layers, self.scores.borda_L, strict=True)
        }
        return {"tasks/highest_average": float(self.scores.average_L.max()), **counts}

    @property
    def answer_tags(self) -> dict[str, str]:
        """For the run of the sweep in MLflow."""
        return {"tasks.first_by_borda": self.scores.layers[int(self.scores.order_L[0])]}


def on_tasks(runs: Sequence[Result], labels: Mapping[str, str]) -> list[OnTasks]:
    """A statement where two or more of the runs have been scored on tasks; none elsewhere."""
    scores, left_out = _scores(runs, labels)
    return [] if scores is None else [OnTasks(scores, left_out)]


def task_columns(results: Sequence[Result]) -> list[tuple[str, Callable[[Result], str]]]:
    """Name and cells of a column for each task, the average, and where runs can be ranked the Borda count."""
    tasks = _tasks(results)
    columns = [(task, _cell(f"{PREFIX}{task}")) for task in tasks]
    if len(tasks) > 1:
        columns.append(("average", _cell(AVERAGE)))
    scores, _ = _scores(results, {result.name: result.name for result in results})
    if scores is not None:
        count = dict(zip(scores.layers, scores.borda_L.tolist(), strict=True))
        columns.append(("Borda", lambda result: f"{count[result.name]:g}" if result.name in count else ""))
    return columns


def _tasks(results: Sequence[Result]) -> list[str]:
    keys = dict.fromkeys(key for result in results for key in result.metrics if key.startswith(PREFIX))
    return [key.removeprefix(PREFIX) for key in keys if key != AVERAGE]


def _scores(results: Sequence[Result], labels: Mapping[str, str]) -> tuple[LayerScores | None, int]:
    """The scores of the runs that have every task, and how many have only some; None for fewer than two runs."""
    tasks = _tasks(results)
    keys = {f"{PREFIX}{task}" for task in tasks}
    scored = [run for run in results if run.status == FINISHED and keys & run.metrics.keys()]
    whole = [run for run in scored if keys <= run.metrics.keys()]
    if len(whole) < 2:
        return None, len(scored) - len(whole)
    scores_LN = np.array([[run.metrics[f"{PREFIX}{task}"] for task in tasks] for run in whole])
    return LayerScores([labels[run.name] for run in whole], tasks, scores_LN), len(scored) - len(whole)


def _cell(key: str) -> Callable[[Result], str]:
    return lambda result: format(result.metrics[key], ".4f") if key in result.metrics else ""
