"""A job in a process of its own: its end, whatever it is, becomes a record; and it ends with its parent."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.records.results import FAILED, FINISHED, Result
from rwkv_sweep.sweep.runs import subprocess_run
from rwkv_sweep.sweep.runs.subprocess_run import run_isolated
from tests.search_path import LIMIT_S, search_path

PLANNED = Result("a", "model", FAILED, {"layer": 1}, id="this", key="k")
CHILDREN = {
    "segfault": "import ctypes, faulthandler as f; f.enable(open(folder + '/crash.txt', 'w')); ctypes.string_at(0)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "quits": "import os; os._exit(3)",
    "sleeps": "import time; time.sleep(60)",
    "finishes": "replace(Result(**request['planned']), status='FINISHED', metrics={'a': 1.0}).save(Path(folder))",
    "another": "replace(Result(**request['planned']), id='other', status='FINISHED').save(Path(folder))",
}
HEAD = """
import json, sys
from dataclasses import replace
from pathlib import Path
from rwkv_sweep.records.results import Result
request = json.loads(sys.stdin.readline())
folder = request['folder']
"""


@pytest.fixture
def child(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Puts other programs in the place of the one that carries out a job."""
    modules = tmp_path / "modules"
    modules.mkdir()
    for name, body in CHILDREN.items():
        (modules / f"child_{name}.py").write_text(HEAD + body + "\n")
    monkeypatch.syspath_prepend(str(modules))
    folder = tmp_path / "run"
    folder.mkdir()
    return folder


def run(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, timeout_s: float | None = None) -> Result:
    monkeypatch.setattr(subprocess_run, "CHILD", f"child_{name}")
    return run_isolated(asdict(RunConfig(isolate=True, timeout_s=timeout_s)), PLANNED, folder, folder, timeout_s)


def test_its_record_is_the_result(child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("finishes", child, monkeypatch)
    assert (result.status, result.metrics, result.id) == (FINISHED, {"a": 1.0}, "this")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("segfault", "its process was ended by SIGSEGV"),
        ("killed", "its process was ended by SIGKILL, as the system does to a process when memory runs out"),
        ("quits", "its process ended with code 3 and left no record"),
        ("another", "its process ended with code 0 and left no record"),
    ],
)
def test_a_crash_is_a_failure_with_its_reason(
    child: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    result = run(name, child, monkeypatch)
    assert result.status == FAILED and result.error is not None
    assert (result.error["kind"], result.error["message"]) == ("Crash", message)
    assert ("Segmentation fault" in result.error.get("traceback", "")) == (name == "segfault")


def test_a_job_that_takes_too_long_is_ended(child: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = run("sleeps", child, monkeypatch, timeout_s=0.5)
    assert result.status == FAILED
    assert result.error == {"kind": "Timeout", "message": "took longer than timeout_s=0.5 and was ended"}


def test_it_ends_with_its_parent(repo_root: Path) -> None:
    watch = "from rwkv_sweep import isolated_job; isolated_job._end_with_parent()"
    script = f"""
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", {watch!r}], stdin=subprocess.PIPE, start_new_session=True)
print(child.pid, flush=True)
sys.stdin.read()
"""
    environment = {**os.environ, "PYTHONPATH": search_path(repo_root)}
    parent = subprocess.Popen(
        [sys.executable, "-c", script], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    assert child.is_running()
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs([child], timeout=LIMIT_S)
    assert not [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]
