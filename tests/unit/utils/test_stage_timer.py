"""Where a run's time goes."""

from __future__ import annotations

import pytest

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.stage_times import where_time_went
from rwkv_sweep.utils import stage_timer
from rwkv_sweep.utils.stage_timer import Stopwatch


def test_stages_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = iter([0.0, 1.0, 4.0, 4.5, 10.0, 12.0])
    monkeypatch.setattr(stage_timer.time, "perf_counter", lambda: next(readings))
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
    seconds = {"time/load_s": 1.0, "time/timing_s": 2.25}
    results = [Result(str(number), "model", FINISHED, {}, seconds, started=100.0 + number) for number in range(2)]
    assert where_time_went(results, 100.0, 108.0) == "8.0 s: load 2.0, timing 4.5, rest 1.5"
    assert where_time_went([], 100.0, 101.0) == "1.0 s: rest 1.0"


def test_what_an_earlier_start_ran_is_not_in_the_time_of_a_resumed_sweep() -> None:
    seconds = {"time/load_s": 1.0, "time/timing_s": 50.0}
    runs = [
        Result(str(number), "model", FINISHED, {}, seconds, started=started)
        for number, started in enumerate((1, 2, 90))
    ]
    assert where_time_went(runs, 80.0, 140.0) == "60.0 s: load 1.0, timing 50.0, rest 9.0; 2 runs finished before"


def test_runs_side_by_side_take_more_than_passed() -> None:
    runs = [Result(str(number), "model", FINISHED, {}, {"time/timing_s": 8.0}, started=1.0) for number in range(3)]
    assert where_time_went(runs, 0.0, 10.0) == "10.0 s: timing 24.0, of runs side by side, 24.0 together"
