"""Scores of several layers, or runs, on several tasks, and what ranks them.

Shapes: L layers or runs, N tasks.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rwkv_sweep.records.csv_tables import table_text


@dataclass(frozen=True)
class LayerScores:
    """What each layer reaches on each task.

    Attributes:
        layers, tasks: their names.
        scores_LN: the main score of each task, higher is better.
    """

    layers: list[str]
    tasks: list[str]
    scores_LN: np.ndarray

    @property
    def average_L(self) -> np.ndarray:
        """Mean score over the tasks."""
        mean_L: np.ndarray = self.scores_LN.mean(1)
        return mean_L

    @property
    def borda_L(self) -> np.ndarray:
        """Borda count: on each task a point for each layer that is beaten, half a point for an equal one, summed.

        It does not depend on the scales of the tasks, as the average does.
        """
        from scipy.stats import rankdata

        points_LN = rankdata(self.scores_LN, axis=0) - 1
        sum_L: np.ndarray = points_LN.sum(1)
        return sum_L

    @property
    def order_L(self) -> np.ndarray:
        """Numbers of the layers, the one with the highest Borda count first; a tie goes to the higher average."""
        order_L: np.ndarray = np.lexsort((-self.average_L, -self.borda_L))
        return order_L

    def csv(self) -> str:
        """As CSV in this order: `layer`, each task, `average`, `borda`."""
        rows = [[self.layers[i], *self.scores_LN[i].tolist(), self.average_L[i], self.borda_L[i]] for i in self.order_L]
        return table_text(["layer", *self.tasks, "average", "borda"], rows)
