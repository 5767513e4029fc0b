"""Folders of jobs: composed as Hydra will, recorded, and refused where two runs or two owners would share one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hydra.core.utils import setup_globals
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.config.error_messages import is_bad_input
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.job_folders import composed_folders, note_folder, recorded_folders
from rwkv_sweep.records.own_files import HYDRA_FILES, LOCK_FILE, LOG_FILE, MULTIRUN_FILE, RUN_FILES, SWEEP_FILES
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.records.sweep_folder import sweep_results
from rwkv_sweep.records.sweep_record import SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.folder_checks import Planned, check_jobs, check_root, require_name

BASIC = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
JOBLIB = "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher"
SLURM = "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"


def composed(subdir: str, layer: int, launcher: str = BASIC, output_subdir: str | None = ".hydra") -> DictConfig:
    hydra = {
        "sweep": {"dir": "s", "subdir": subdir},
        "job": {"name": "rwkv_sweep", "num": "???", "id": "???"},
        "launcher": {"_target_": launcher},
        "output_subdir": output_subdir,
    }
    return OmegaConf.create({"hydra": hydra, "layer": layer, "report": None})


def jobs_of(root: Path, subdir: str, number: int = 2) -> list[Planned]:
    configs = [composed(subdir, layer) for layer in range(number)]
    folders = composed_folders(configs, root)
    assert folders is not None
    return [Planned(f"layer={k}", folders[k], configs[k]) for k in range(number)]


@pytest.mark.parametrize(
    ("subdir", "launcher", "expected"),
    [
        ("${hydra.job.num}", BASIC, ["0", "1"]),
        ("${hydra:job.num}", BASIC, ["0", "1"]),
        ("x/${layer}/y", BASIC, ["x/0/y", "x/1/y"]),
        ("../y${hydra.job.num}", BASIC, ["../y0", "../y1"]),
        ("./a/../b${layer}", BASIC, ["b0", "b1"]),
        ("/elsewhere/${layer}", BASIC, ["/elsewhere/0", "/elsewhere/1"]),
        ("${hydra.job.id}", BASIC, ["0", "1"]),
        ("${hydra.job.id}", JOBLIB, ["rwkv_sweep_0", "rwkv_sweep_1"]),
        ("${hydra.job.num}", SLURM, ["0", "1"]),
        ("${hydra.job.id}", SLURM, None),  # SLURM gives it
        ("${hydra:job.id}", SLURM, None),
        ("${oc.env:NOT_SET_HERE_SLURM_ID}", SLURM, None),
    ],
)
def test_folders_are_those_that_hydra_will_make(
    tmp_path: Path, subdir: str, launcher: str, expected: list[str] | None
) -> None:
    setup_globals()  # resolvers such as ${hydra:...}
    folders = composed_folders([composed(subdir, layer, launcher) for layer in range(2)], tmp_path)
    assert folders == (None if expected is None else [Path(os.path.normpath(tmp_path / name)) for name in expected])


@pytest.mark.parametrize("subdir", ["${x}", "${hydra.x}", "${oc.env:NOT_SET_HERE}"])
def test_a_subdir_that_refers_to_nothing_is_bad_input(tmp_path: Path, subdir: str) -> None:
    with pytest.raises(OmegaConfBaseException) as caught:
        composed_folders([composed(subdir, 0)], tmp_path)
    assert is_bad_input(caught.value)


@pytest.mark.parametrize(
    ("subdir", "reason"),
    [
        ("same", "gives two runs the same folder"),
        ("x/../same", "gives two runs the same folder"),
        (".", "the sweep's own or holds it"),
        ("a/${layer}/../..", "the sweep's own or holds it"),
        ("..", "the sweep's own or holds it"),
        ("baselines/${layer}", "baselines is where something else of the sweep is stored"),
        ("earlier/${layer}", "earlier is where something else of the sweep is stored"),
        ("report/${layer}", "report is where something else of the sweep is stored"),
        ("summary.csv/${layer}", "summary.csv is where something else of the sweep is stored"),
        ("link/${layer}", "a symbolic link leads to"),
        ("file/${layer}", "/file is no folder"),
        ("n" * 256 + "${layer}", "a name of 257 bytes"),
        ("ü" * 128 + "${layer}", "a name of 257 bytes"),
        ("a\n${layer}", "a character that cannot be printed"),
        ("bad\udcff${layer}", "is not valid UTF-8"),
        (r"\${x}${layer}", "which Hydra reads as a variable"),
    ],
)
def test_folders_that_cannot_be(tmp_path: Path, subdir: str, reason: str) -> None:
    root = tmp_path / "sweep"
    (tmp_path / "elsewhere").mkdir()
    root.mkdir()
    (root / "link").symlink_to(tmp_path / "elsewhere")
    (root / "file").write_text("x")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError) as caught:
        check_jobs(root, jobs_of(root, subdir), [])
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", [*RUN_FILES, *HYDRA_FILES, LOG_FILE])
def test_a_job_overwrites_no_file_that_its_sweep_has_not_written(tmp_path: Path, name: str) -> None:
    path = tmp_path / "1" / name
    path.parent.mkdir(parents=True)
    path.write_text("of others")
    jobs = jobs_of(tmp_path, "${hydra.job.num}")
    with pytest.raises(UserError, match="not of this sweep, that would be overwritten"):
        check_jobs(tmp_path, jobs, [])
    check_jobs(tmp_path, jobs, [tmp_path / "1"])  # of the sweep that is resumed


def test_other_files_may_lie_in_a_jobs_folder(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "notes.json").write_text("of others")
    check_jobs(tmp_path, jobs_of(tmp_path, "${hydra.job.num}"), [])


@pytest.mark.parametrize("multirun", [True, False])
@pytest.mark.parametrize("name", [*SWEEP_FILES, *RUN_FILES, *HYDRA_FILES, "notes.json", LOG_FILE])
def test_a_new_sweep_overwrites_no_file(tmp_path: Path, name: str, multirun: bool) -> None:
    """What is written into the sweep's own folder: a run's files there are those of a single run."""
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("of others")
    written = {*SWEEP_FILES} if multirun else {*SWEEP_FILES, *RUN_FILES, *HYDRA_FILES} - {MULTIRUN_FILE}
    config = composed("${hydra.job.num}", 0)
    if name in written - {SWEEP_FILE}:  # with that one it is a sweep, to be resumed or not
        with pytest.raises(UserError, match=r"which would be overwritten, and no sweep\.json"):
            check_root(tmp_path, multirun, config)
        (tmp_path / SWEEP_FILE).write_text("{}")
    check_root(tmp_path, multirun, config)


@pytest.mark.parametrize(("output_subdir", "refused"), [(".", True), (None, False), ("conf", False)])
def test_hydras_files_lie_where_its_config_says(tmp_path: Path, output_subdir: str | None, refused: bool) -> None:
    (tmp_path / "config.yaml").write_text("of others")
    config = composed("x", 0, output_subdir=output_subdir)
    if refused:
        with pytest.raises(UserError, match=r"holds \./config\.yaml"):
            check_root(tmp_path, False, config)
    else:
        check_root(tmp_path, False, config)


def test_an_empty_lock_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / LOCK_FILE).touch()
    check_root(tmp_path, True, composed("x", 0))


def test_a_report_overwrites_no_files_of_others(tmp_path: Path) -> None:
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "thesis.tex").write_text("of others")
    config = composed("x", 0)
    check_root(tmp_path, True, config)
    config.report = "paper"
    with pytest.raises(UserError, match="holds files in report/ that would be overwritten"):
        check_root(tmp_path, True, config)


@pytest.mark.parametrize(
    "name", ["a b", "a'b", 'a"b', "back\\", "ü汉", "a%2Fb", "a,b=[c]", "$x", "{x}", "#?", "n" * 255]
)
def test_names_that_can_be(name: str) -> None:
    require_name(Path("/") / name, "hydra.sweep.dir")


@pytest.mark.parametrize("recorded", [["0", "1"], None])
def test_a_job_notes_a_folder_that_its_sweep_did_not_foresee(tmp_path: Path, recorded: list[str] | None) -> None:
    record = SweepRecord("x", None, [], [], None, {}, multirun=True, jobs=2, folders=recorded)
    record.save(tmp_path)
    folders = {0: tmp_path / "0", 1: tmp_path / "by" / "time-12"}
    for number, folder in folders.items():
        note_folder(tmp_path, record, number, folder)
        Result(f"run {number}", "model", FINISHED, {}).save(folder)
    Result("of others", "model", FINISHED, {}).save(tmp_path / "1")
    assert recorded_folders(tmp_path, record) == folders
    assert [result.name for result in sweep_results(tmp_path)] == ["run 0", "run 1"]
    assert (tmp_path / ".folders" / "0").exists() is (recorded is None)


def test_notes_are_read_from_no_link(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "0").write_text("x\n")
    root = tmp_path / "sweep"
    root.mkdir()
    (root / ".folders").symlink_to(tmp_path / "elsewhere")
    record = SweepRecord("x", None, [], [], None, {}, multirun=True)
    assert recorded_folders(root, record) == {}
