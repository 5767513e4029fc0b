"""Which jobs a multirun has, what its folder holds afterwards, and how a callback ends the program."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import LOCK_FILE
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.records.sweep_folder import sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep import callback
from rwkv_sweep.sweep.current import CURRENT, CurrentSweep, RunningSweep
from rwkv_sweep.tracking import Servers


class Panic(BaseException):
    """As a Rust library raises: not an `Exception`."""


TRACKING = {"enabled": False, "uri": "sqlite:///x.db", "artifacts": "x", "experiment": "x"}


def begun(root: Path, record: SweepRecord) -> RunningSweep:
    return RunningSweep(root, TrackingConfig(**TRACKING), record, Servers(), FileLock(root / LOCK_FILE))


def test_results_in_the_order_of_the_jobs(tmp_path: Path) -> None:
    for folder in ("10", "2", "0", "baselines/word_vectors-abc", "baselines/word_overlap-abc"):
        Result(folder, "model", FINISHED, {}).save(tmp_path / folder)
    (tmp_path / "1").mkdir()  # a job that was cut off
    names = [result.name for result in sweep_results(tmp_path)]
    assert names == ["0", "2", "10", "baselines/word_overlap-abc", "baselines/word_vectors-abc"]


def test_single_run_lies_in_the_folder_itself(tmp_path: Path) -> None:
    Result("run", "model", FINISHED, {}).save(tmp_path)
    Result("base", "baseline", FINISHED, {}).save(tmp_path / "baselines" / "base-1")
    assert [result.name for result in sweep_results(tmp_path)] == ["run", "base"]


@pytest.mark.parametrize("multirun", [True, False])
def test_only_recorded_folders_are_of_the_sweep(tmp_path: Path, multirun: bool) -> None:
    """The folder may hold runs of others, and those of the jobs may be anywhere."""
    root = tmp_path / "sweep"
    folders = ["x/0", "../y", "z"] if multirun else ["."]
    for folder in [*folders, "0", "other", "x"]:
        Result(folder, "model", FINISHED, {}).save(root / folder)
    record = SweepRecord("x", None, [], [], None, TRACKING, multirun=multirun, jobs=len(folders), folders=folders)
    record.save(root)
    assert [result.name for result in sweep_results(root)] == folders


def test_record_round_trip(tmp_path: Path) -> None:
    record = SweepRecord("layer=1,3", "abc", ["layer"], ["mean", "last"], "aggregation_overhead", TRACKING)
    record.save(tmp_path)
    assert SweepRecord.load(tmp_path) == record


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (UserError("layer=99 is not there"), 2, "error: layer=99 is not there\n"),
        (ValueError("Config group override must be a string or a list. Got int"), 2, "error: Config group override"),
        (ZeroDivisionError("a flaw\nin two lines"), 1, "error: ZeroDivisionError: a flaw (hydra.verbose=true"),
        (Panic("index out of range"), 1, "error: Panic: index out of range (hydra.verbose=true"),
        (
            OSError(28, "No space left on device", "/x/a.csv"),
            1,
            "error: /x/a.csv: No space left on device; what had fi",
        ),
    ],
)
def test_callbacks_end_the_program(
    error: BaseException,
    code: int,
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Hydra would turn their exceptions into warnings and go on. The sweep's parent run is closed."""
    closed: list[str] = []
    record = SweepRecord("x", None, [], ["mean"], None, TRACKING)
    record.save(tmp_path)
    monkeypatch.setattr(
        CURRENT,
        "sweep",
        begun(tmp_path, record),
    )
    monkeypatch.setattr(RunningSweep, "close", lambda sweep, status, artifacts: closed.append(status))

    def method() -> None:
        raise error

    with pytest.raises(SystemExit) as caught:
        callback._not_swallowed(method)()
    assert caught.value.code == code and closed == [FAILED]
    err = capsys.readouterr().err
    assert err.startswith(message) and err.count("\n") == 1


def test_an_interrupt_passes_through_a_callback() -> None:
    def method() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        callback._not_swallowed(method)()


def test_abandon_without_a_sweep_does_nothing(tmp_path: Path) -> None:
    current = CurrentSweep()
    current.abandon()
    record = SweepRecord("x", None, [], ["mean"], None, TRACKING)
    current.begin(begun(tmp_path, record))
    assert current.is_running
    current.abandon()
    assert list(tmp_path.iterdir()) == []
