"""The list of our own files, and that writing code knows no other."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rwkv_sweep.records import own_files, results
from rwkv_sweep.records.own_files import HYDRA_FILES, LOG_FILE, RUN_FILES, present, remove_run, run_files
from rwkv_sweep.utils.files import unfinished_name


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


OTHERS = [
    ".env",
    "mine.csv",
    "notes.json",
    "mlruns/mlflow.db",
    ".hydra/mine.yaml",
    "sub/result.json",
    "result.json.bak",
]


def test_only_a_runs_files_are_its_files(tmp_path: Path) -> None:
    fill(tmp_path, *RUN_FILES, *HYDRA_FILES, LOG_FILE, *OTHERS)
    names = [path.relative_to(tmp_path).as_posix() for path in run_files(tmp_path)]
    assert names == [*HYDRA_FILES, LOG_FILE, *RUN_FILES]


def test_the_record_comes_last() -> None:
    """It says that the rest is there, so that nothing may be copied or moved after it."""
    assert RUN_FILES[-1] == results.RESULT_FILE


def test_links_and_folders_are_no_files(tmp_path: Path) -> None:
    fill(tmp_path / "elsewhere", "pairs.csv", "config.yaml")
    folder = tmp_path / "run"
    (folder / "audit.json").mkdir(parents=True)
    (folder / "pairs.csv").symlink_to(tmp_path / "elsewhere" / "pairs.csv")
    (folder / "result.json").symlink_to(tmp_path / "nowhere")
    (folder / ".hydra").symlink_to(tmp_path / "elsewhere")
    assert run_files(folder) == []


@pytest.mark.parametrize("others", [[], OTHERS])
def test_half_a_run_is_removed_and_nothing_else(tmp_path: Path, others: list[str]) -> None:
    half = [name for name in RUN_FILES if name != results.RESULT_FILE]
    left = [unfinished_name("result.json", "0123abcd"), unfinished_name("pairs.csv", "89abcdef")]
    alike = [unfinished_name("thesis.csv", "0123abcd"), ".result.json.swp"] if others else []
    fill(tmp_path / "0", *half, *HYDRA_FILES, LOG_FILE, *left, *others, *alike)
    remove_run(tmp_path / "0")
    assert (tmp_path / "0").exists() is bool(others)
    assert names(tmp_path) == sorted(f"0/{name}" for name in [*others, *alike])


def test_a_folder_that_is_a_link_is_not_emptied(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / ".hydra").mkdir(parents=True)
    (tmp_path / "0").symlink_to(tmp_path / "elsewhere")
    own_files.remove_empty(tmp_path / "0")
    assert (tmp_path / "0").is_symlink() and (tmp_path / "elsewhere").is_dir()


def test_a_file_of_a_run_that_is_not_in_the_list_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"new\.csv is not in own_files\.RUN_FILES"):
        results._write_of_run(tmp_path, "new.csv", "")
    assert list(tmp_path.iterdir()) == []


def test_no_name_is_listed_twice_and_each_is_there() -> None:
    listed = [*RUN_FILES, *HYDRA_FILES, LOG_FILE, *own_files.SWEEP_FILES, *own_files.SWEEP_FOLDERS]
    assert len(set(listed)) == len(listed)
    assert present(Path("/nonexistent"), listed) == []


def test_names_are_written_down_once(repo_root: Path) -> None:
    """A name as a literal elsewhere in the code would go past the list."""
    listed = {*RUN_FILES, *own_files.SWEEP_FILES} - {own_files.LOCK_FILE, own_files.STOP_FILE}  # words of others, too
    for path in sorted((repo_root / "rwkv_sweep").rglob("*.py")):
        literals = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert path.name == "own_files.py" or not literals & listed, path
