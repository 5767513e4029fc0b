"""Signs of life of a sweep whose jobs run in other processes."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rwkv_sweep.records.job_folders import note_folder
from rwkv_sweep.records.results import RESULT_FILE
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.sweep.progress_reports import QUIET_AFTER_S, QUIET_S, ProgressReports, runs_in_order


def end_job(root: Path, record: SweepRecord, number: int) -> None:
    (root / str(number)).mkdir()
    note_folder(root, record, number, root / str(number))
    (root / str(number) / RESULT_FILE).touch()


@pytest.mark.parametrize(
    ("jobs", "folders", "total"), [(3, ["0", "1", "2"], " of 3"), (3, None, " of 3"), (None, None, "")]
)
def test_jobs_that_have_ended_are_counted(
    tmp_path: Path, jobs: int | None, folders: list[str] | None, total: str
) -> None:
    record = SweepRecord("x", None, [], [], None, {}, multirun=True, jobs=jobs, folders=folders)
    lines: list[str] = []
    now = [100.0]
    reports = ProgressReports(tmp_path, record, lines.append, lambda: now[0])
    for number, seconds in enumerate((120.0, 140.0)):
        end_job(tmp_path, record, number)
        now[0] = seconds
        reports.look()
    now[0] = 160.0
    reports.look()
    assert lines == [f"{count}{total} runs have ended, after {after} s" for count, after in ((1, 20), (2, 40), (2, 60))]


def test_a_night_in_a_queue_is_not_filled_with_lines(tmp_path: Path) -> None:
    record = SweepRecord("x", None, [], [], None, {}, multirun=True, jobs=2, folders=["0", "1"])
    lines: list[str] = []
    now = [0.0]
    reports = ProgressReports(tmp_path, record, lines.append, lambda: now[0])
    now[0] = QUIET_AFTER_S
    reports.look()
    for seconds in (1.0, QUIET_S - 1):
        now[0] = QUIET_AFTER_S + seconds
        reports.look()
    assert len(lines) == 1
    now[0] = QUIET_AFTER_S + QUIET_S
    reports.look()
    end_job(tmp_path, record, 1)
    now[0] += 1
    reports.look()
    assert [line.partition(" of")[0] for line in lines] == ["0", "0", "1"]


@pytest.mark.parametrize(
    ("target", "in_order"),
    [
        ("hydra._internal.core_plugins.basic_launcher.BasicLauncher", True),
        ("hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", False),
        ("hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher", False),
    ],
)
def test_which_launchers_report_for_themselves(target: str, in_order: bool) -> None:
    assert runs_in_order(OmegaConf.create({"hydra": {"launcher": {"_target_": target}}})) is in_order
