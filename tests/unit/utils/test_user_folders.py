"""Where nothing usual can be written, caches go to this user's own temporary folder, or nowhere, and runs go on."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numba
import numpy as np
import pytest
from numba.core import caching as numba_caching

from rwkv_sweep.ops.numba import caching
from rwkv_sweep.utils import user_folders
from rwkv_sweep.utils.user_folders import CACHES, can_be_written, redirect_caches, temporary_folder
from tests.search_path import search_path


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The system's temporary folder, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    temporary_folder.cache_clear()
    yield tmp_path
    temporary_folder.cache_clear()


def own_name(temporary: Path) -> Path:
    return temporary / f"rwkv_sweep-{os.getuid()}"


def test_the_temporary_folder_is_this_users_alone(temporary: Path) -> None:
    folder = temporary_folder()
    assert folder == own_name(temporary)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    temporary_folder.cache_clear()
    assert temporary_folder() == folder


def a_file(path: Path) -> None:
    path.touch()


def a_link(path: Path) -> None:
    path.with_name("elsewhere").mkdir(mode=0o700)
    path.symlink_to(path.with_name("elsewhere"))


def a_link_to_nothing(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def for_a_group(path: Path) -> None:
    path.mkdir()
    path.chmod(0o770)


def for_everyone(path: Path) -> None:
    path.mkdir()
    path.chmod(0o777)


def of_another_user(path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give a folder away")
    path.mkdir(mode=0o700)
    os.chown(path, 12345, 12345)


@pytest.mark.parametrize("make", [a_file, a_link, a_link_to_nothing, for_a_group, for_everyone, of_another_user])
def test_what_others_may_have_put_there_is_not_taken(temporary: Path, make: Callable[[Path], None]) -> None:
    make(own_name(temporary))
    assert temporary_folder() is None


def test_no_temporary_folder_at_all(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(temporary / "nowhere"))
    assert temporary_folder() is None


@pytest.fixture
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (*CACHES, "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "NUMBA_CACHE_DIR"):
        # Set first, so that what the code under test sets goes with the test.
        monkeypatch.setenv(variable, "")
        monkeypatch.delenv(variable)


@pytest.mark.usefixtures("no_variables")
def test_a_home_that_can_be_written_stays_in_use(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary / "home"))
    redirect_caches()
    assert not set(CACHES) & set(os.environ)


@pytest.mark.usefixtures("no_variables")
def test_libraries_are_sent_elsewhere_where_home_is_no_folder(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/dev/null/home")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/given/by/the/user")
    redirect_caches()
    assert os.environ["TRITON_CACHE_DIR"] == "/given/by/the/user"
    assert {os.environ["MPLCONFIGDIR"], os.environ["HF_HOME"]} == {
        str(own_name(temporary) / "matplotlib"),
        str(own_name(temporary) / "huggingface"),
    }


@pytest.mark.usefixtures("no_variables")
def test_a_user_whom_the_system_does_not_know_gets_a_home(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "")  # restored at the end
    monkeypatch.delenv("HOME")

    def nobody() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", nobody)
    redirect_caches()
    assert os.environ["HOME"] == str(own_name(temporary))


@pytest.mark.usefixtures("no_variables")
def test_models_that_others_fetched_are_used_where_they_lie(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(temporary))
    (temporary / ".cache" / "huggingface").mkdir(parents=True)
    monkeypatch.setattr(user_folders, "can_be_written", lambda folder: False)
    redirect_caches()
    assert "HF_HOME" not in os.environ and "MPLCONFIGDIR" in os.environ


@pytest.mark.parametrize(
    ("folder", "expected"), [("", True), ("new", True), ("new/deep", True), ("file", False), ("file/below", False)]
)
def test_whether_a_folder_can_be_written(tmp_path: Path, folder: str, expected: bool) -> None:
    (tmp_path / "file").touch()
    assert can_be_written(tmp_path / folder) is expected
    assert not can_be_written(tmp_path / ("n" * 300))


# Compiled Numba kernels.


def doubled(x: np.ndarray) -> None:
    for i in range(len(x)):
        x[i] *= 2


def works(function: Callable[[np.ndarray], None]) -> bool:
    x = np.ones(3)
    function(x)
    return x.tolist() == [2, 2, 2]


@pytest.fixture
def nowhere_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the package's folder nor the user's cache can be written: a folder named for the purpose is left."""
    monkeypatch.setattr(numba_caching.CacheImpl, "_locator_classes", [numba_caching.UserProvidedCacheLocator])
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")
    caching._report.cache_clear()


@pytest.mark.usefixtures("nowhere_usual")
def test_kernels_are_kept_in_the_temporary_folder(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RuntimeError, match="cannot cache function"):
        numba.njit(cache=True)(doubled)
    functions = [caching.cached(numba.njit(doubled)) for _ in range(3)]
    assert works(functions[0])
    assert list(own_name(temporary).glob("numba/*/*.nbc"))
    assert works(functions[1]) and sum(functions[1].stats.cache_hits.values()) == 1
    assert capsys.readouterr().err.count(f"compiled Numba kernels are kept in {own_name(temporary)}/numba (") == 1


@pytest.mark.usefixtures("nowhere_usual")
def test_kernels_are_compiled_without_any_cache(temporary: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a_file(own_name(temporary))
    assert all(works(caching.cached(numba.njit(doubled))) for _ in range(2))
    assert capsys.readouterr().err.count("compiled Numba kernels are kept nowhere (") == 1


def cut_off(folder: Path) -> None:
    for path in folder.glob("numba/*/*.nb?"):
        path.write_bytes(path.read_bytes()[:20])


def empty(folder: Path) -> None:
    for path in folder.glob("numba/*/*.nbi"):
        path.write_bytes(b"")


def gone(folder: Path) -> None:
    for path in folder.glob("numba/*/*.nbc"):
        path.unlink()


def no_longer_a_folder(folder: Path) -> None:
    for path in folder.glob("numba/*"):
        path.rename(path.with_name("moved"))
        path.touch()


@pytest.mark.usefixtures("nowhere_usual")
@pytest.mark.parametrize("harm", [cut_off, empty, gone, no_longer_a_folder])
def test_a_damaged_cache_costs_time_alone(temporary: Path, harm: Callable[[Path], None]) -> None:
    assert works(caching.cached(numba.njit(doubled)))
    later = caching.cached(numba.njit(doubled))
    harm(own_name(temporary))
    assert works(later)


def test_all_kernels_compile_without_a_place_to_write(tmp_path: Path, repo_root: Path) -> None:
    """As in a container: the package is imported where Numba finds no folder."""
    script = """
from numba.core import caching
caching.CacheImpl._locator_classes = [caching.UserProvidedCacheLocator]
import numpy as np, torch
from rwkv_sweep.ops.numba.int8 import dequantized, quantize_int8
q_TK, scale_T = quantize_int8(torch.ones(1, 1))
assert dequantized(q_TK.int(), scale_T, scale_T).shape == (1, 1)
from rwkv_sweep.ops.numba import square, token_shift
from rwkv_sweep.ops.numba import residual
from rwkv_sweep.ops.numba import time_mix
from rwkv_sweep.ops.numba import means
"""
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root), "TMPDIR": str(tmp_path)}
    a_file(own_name(tmp_path))
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiled Numba kernels are kept nowhere") == 1
