"""What a resumed sweep finds, keeps and sets aside. Which runs are the same: see test_run_key.py."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.records.sweep_folder import claim, prepare_resume, sweep_results
from rwkv_sweep.records.sweep_record import STOP_FILE, SWEEP_FILE, SweepRecord
from rwkv_sweep.sweep.runs.resume import recorded, reuse_finished
from rwkv_sweep.tracking import Servers

NOWHERE = TrackingConfig(False, "sqlite:///x.db", "x", "x")


def finished(folder: Path, name: str, status: str = FINISHED) -> Result:
    result = Result(
        name, "model", status, {"layer": name}, {"quality/spearman": 0.5}, id=f"id-{name}", key=f"key-{name}"
    )
    result.save(folder)
    (folder / "pairs.csv").write_text(name)
    return result


def test_a_folder_of_its_own_key_is_taken_as_it_is(tmp_path: Path) -> None:
    result = finished(tmp_path, "a")
    assert recorded(tmp_path, "key-a") == result
    assert recorded(tmp_path, "key-b") is None and recorded(tmp_path / "none", "key-a") is None
    finished(tmp_path, "a", FAILED)
    assert recorded(tmp_path, "key-a") is None
    (tmp_path / "result.json").write_text("{")
    assert recorded(tmp_path, "key-a") is None


def sweep_of(folders: list[str], multirun: bool = True) -> SweepRecord:
    return SweepRecord("x", None, [], ["mean"], None, {}, multirun=multirun, jobs=len(folders), folders=folders)


def tree(root: Path) -> dict[str, bytes]:
    """All files below a folder, with their content."""
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_what_is_finished_stays_the_rest_is_set_aside(tmp_path: Path) -> None:
    for number, name, status in ((0, "a", FINISHED), (1, "b", FAILED), (2, "c", FINISHED), (4, "e", FINISHED)):
        finished(tmp_path / str(number), name, status)
    (tmp_path / "3" / ".hydra").mkdir(parents=True)
    (tmp_path / "3" / ".hydra" / "config.yaml").write_text("x")
    (tmp_path / "3" / "pairs.csv").write_text("half")
    (tmp_path / "3" / ".result.json.0123abcd.unfinished").write_text("half")
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "result.json").write_text("{")
    (tmp_path / "baselines" / "x").mkdir(parents=True)
    (tmp_path / STOP_FILE).write_text("b")
    folders = [tmp_path / str(number) for number in range(4)]
    keys = {0: "key-a", 1: "key-b", 2: "key-e", 3: "key-d"}
    prepare_resume(tmp_path, sweep_of(list("012345")), folders, keys)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "baselines", "earlier"]
    earlier = sorted(path.name for path in (tmp_path / "earlier").iterdir())
    assert earlier == ["1-id-b", "2-id-c", "4-id-e", "5-damaged"]
    assert [result.name for result in sweep_results(tmp_path)] == ["a"]

    (tmp_path / "2").mkdir()
    result = reuse_finished(tmp_path / "2", tmp_path, "key-e", "new name", NOWHERE, Servers())
    assert result is not None and (result.name, result.id) == ("new name", "id-e")
    assert (tmp_path / "2" / "pairs.csv").read_text() == "e" and recorded(tmp_path / "2", "key-e") == result
    assert reuse_finished(tmp_path / "2", tmp_path, "key-b", "x", NOWHERE, Servers()) is None  # it had failed
    assert reuse_finished(tmp_path / "2", tmp_path, "key-z", "x", NOWHERE, Servers()) is None


def test_setting_aside_twice_keeps_one(tmp_path: Path) -> None:
    for _ in range(2):
        finished(tmp_path / "0", "a")
        prepare_resume(tmp_path, sweep_of(["0"]), [tmp_path / "0"], {0: "another"})
    assert [path.name for path in (tmp_path / "earlier").iterdir()] == ["0-id-a"]


def test_a_move_cut_off_half_way_is_completed(tmp_path: Path) -> None:
    finished(tmp_path / "0", "a")
    (tmp_path / "earlier" / "0-id-a").mkdir(parents=True)
    (tmp_path / "0" / "pairs.csv").rename(tmp_path / "earlier" / "0-id-a" / "pairs.csv")
    prepare_resume(tmp_path, sweep_of(["0"]), [tmp_path / "0"], {0: "another"})
    assert set(tree(tmp_path)) == {"earlier/0-id-a/pairs.csv", "earlier/0-id-a/result.json"}


def test_a_single_runs_record_is_set_aside_too(tmp_path: Path) -> None:
    finished(tmp_path, "a")
    (tmp_path / SWEEP_FILE).write_text("{}")
    before = sweep_of(["."], multirun=False)
    prepare_resume(tmp_path, before, [tmp_path], {0: "key-a"})
    assert (tmp_path / "result.json").exists()
    prepare_resume(tmp_path, before, [tmp_path], {0: "another"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["earlier", SWEEP_FILE]
    assert {path.name for path in (tmp_path / "earlier" / "run-id-a").iterdir()} == {"result.json", "pairs.csv"}


FOREIGN = ("2019/thesis.txt", "7/result.json", "0/mine.csv", "1/notes.json", "mine.csv", "notes.json", "earlier/x.txt")


@pytest.mark.parametrize("multirun", [True, False])
@pytest.mark.parametrize("key", ["the same", "another"])
def test_what_is_of_others_is_left_alone(tmp_path: Path, multirun: bool, key: str) -> None:
    """Beside the sweep's files and in its jobs' folders: names alone prove nothing."""
    for name in FOREIGN:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"of others: {name}")
    (tmp_path / "0" / "pairs.csv").write_text("half a run")  # without a record
    finished(tmp_path / "1" if multirun else tmp_path, "b")
    folders = [tmp_path / "0", tmp_path / "1"] if multirun else [tmp_path]
    before = sweep_of(["0", "1"] if multirun else ["."], multirun)
    prepare_resume(tmp_path, before, folders, {number: f"key-{key}" for number in range(2)})
    after = tree(tmp_path)
    assert {name: after.get(name) for name in FOREIGN} == {name: f"of others: {name}".encode() for name in FOREIGN}
    assert ("0/pairs.csv" in after) is not multirun  # a single run has no folder 0


def test_nothing_is_moved_through_a_symbolic_link(tmp_path: Path) -> None:
    elsewhere, root = tmp_path / "elsewhere", tmp_path / "sweep"
    finished(elsewhere / "0", "a")
    root.mkdir()
    (root / "0").symlink_to(elsewhere / "0")
    finished(root / "1", "b")
    (root / "1" / "pairs.csv").unlink()
    (root / "1" / "pairs.csv").symlink_to(elsewhere / "0" / "pairs.csv")
    (root / "1" / ".hydra").symlink_to(elsewhere)
    (elsewhere / "config.yaml").write_text("mine")
    before = tree(elsewhere)
    prepare_resume(root, sweep_of(["0", "1"]), [root / "0", root / "1"], {})
    assert tree(elsewhere) == before and (root / "0").is_symlink() and (root / "1" / "pairs.csv").is_symlink()
    assert [path.name for path in (root / "earlier" / "1-id-b").iterdir()] == ["result.json"]


@pytest.mark.parametrize("identity", ["../../x", "", "a/b", "."])
def test_a_records_id_is_no_path(tmp_path: Path, identity: str) -> None:
    Result("a", "model", FAILED, {}, id=identity).save(tmp_path / "0")
    prepare_resume(tmp_path, sweep_of(["0"]), [tmp_path / "0"], {})
    (moved,) = tree(tmp_path)
    assert moved.startswith("earlier/0-") and moved.count("/") == 2


def test_a_record_without_folders_knows_as_many_as_it_had_jobs(tmp_path: Path) -> None:
    for number in (0, 1, 2):
        finished(tmp_path / str(number), f"r{number}")
    prepare_resume(tmp_path, SweepRecord("x", None, [], [], None, {}, multirun=True, jobs=2), None, {})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2", "earlier"]


def test_damaged_records_are_failures_that_say_so(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "0" / "result.json").write_text('{"name": 5}')
    (result,) = sweep_results(tmp_path)
    assert result.status == FAILED and result.error is not None and "is damaged: " in result.error["message"]


def test_one_process_at_a_time(tmp_path: Path) -> None:
    root = tmp_path / "sweep"
    claim(root, False, "hydra.sweep.dir").release()
    with FileLock(root / ".lock"), pytest.raises(UserError, match="is being written by another process"):
        claim(root, True, "hydra.sweep.dir")
    (root / SWEEP_FILE).write_text("{}")
    with pytest.raises(UserError, match="holds a sweep already: valid is resume=true"):
        claim(root, False, "hydra.sweep.dir")
    lock = claim(root, True, "hydra.sweep.dir")
    assert lock.is_locked
    lock.release()


class TrackedRuns:
    """A tracker with finished runs, whose files are in folders of their own, but for those that cannot be had."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def finished(self, key: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(info=SimpleNamespace(run_id=run_id)) for run_id in ("gone", *self._folders)]

    def fetch(self, run_id: str, folder: Path) -> None:
        if run_id == "gone":
            raise OSError("no such bucket")
        shutil.copytree(self._folders[run_id], folder, dirs_exist_ok=True)


def test_a_run_that_mlflow_has_is_copied_from_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of runs found by their key the first that can be had and is what its record says."""
    kept = {name: tmp_path / "artifacts" / name for name in ("other", "right", "later")}
    for name, of in (("other", "b"), ("right", "a"), ("later", "a")):
        finished(kept[name], of)
    servers = Servers()
    tracker = TrackedRuns(kept)
    servers.tracked = lambda tracking, work, **kwargs: work(tracker)  # type: ignore[method-assign,assignment]
    (tmp_path / "job").mkdir()
    tracking = TrackingConfig(True, "sqlite:///x.db", "x", "x")
    result = reuse_finished(tmp_path / "job", tmp_path, "key-a", "a", tracking, servers)
    assert result is not None and result.tags["taken_over_from"] == "right"
    assert (tmp_path / "job" / "pairs.csv").read_text() == "a"
    assert sorted(path.name for path in (tmp_path / "job").iterdir()) == ["pairs.csv", "result.json"]
    assert "the artifacts of run gone cannot be had (OSError)" in capsys.readouterr().err
