"""Where a run's time goes."""

from __future__ import annotations

import pytest

from rwkv_sweep import stopwatch
from rwkv_sweep.results import FINISHED, Result
from rwkv_sweep.stopwatch import Stopwatch
from rwkv_sweep.summary import where_time_went


def test_stages_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 1.0, 4.0, 4.5, 10.0, 12.0])
    monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: next(readings))
    clock = Stopwatch()
    with clock.stage("scoring"), clock.stage("forward"):
        pass
    with clock.stage("scoring"):
        pass
    # 0 to 1 scoring, 1 to 4 forward within it, 4 to 4.5 scoring again, then 10 to 12.
    assert clock.metrics() == {"time/scoring_s": 3.5, "time/forward_s": 3.0}


def test_a_stage_that_fails_is_counted() -> None:
    clock = Stopwatch()
    with pytest.raises(ValueError), clock.stage("load"):
        raise ValueError
    assert list(clock.seconds) == ["load"]


def test_where_time_went() -> None:
    each = {"time/load_s": 1.0, "time/timing_s": 2.25}
    results = [Result(str(number), "model", FINISHED, {}, each) for number in range(2)]
    assert where_time_went(results, 8.0) == "8.0 s: load 2.0, timing 4.5, rest 1.5"
    assert where_time_went([], 1.0) == "1.0 s: rest 1.0"
