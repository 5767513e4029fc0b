"""What a job returns to a sweeper that optimizes."""

from __future__ import annotations

import pytest

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.sweep.runs.run import _objectives


@pytest.mark.parametrize(
    ("names", "returned"),
    [
        (["quality/spearman"], 0.4),
        (["quality/spearman", "latency/mean_ms"], [0.4, 7.0]),
        (["latency/mean_ms", "quality/spearman"], [7.0, 0.4]),
        (["quality/spearman", "quality/auc"], None),
        (["quality/auc"], None),
    ],
)
def test_the_metrics_that_are_named_in_their_order(names: list[str], returned: object) -> None:
    result = Result("a", "model", FINISHED, {}, {"quality/spearman": 0.4, "latency/mean_ms": 7.0})
    assert _objectives(result, names) == returned
