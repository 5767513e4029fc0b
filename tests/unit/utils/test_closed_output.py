"""Output without a reader: nothing is raised, and the exit code says so as a Unix tool's does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys
from rwkv_sweep.utils.closed_output import outlive_output, output_code
outlive_output(); outlive_output()
for number in range(3):
    print("x" * 70_000)            # more than a pipe or a buffer holds
    print("y", file=sys.stderr, flush=True)
    sys.stdout.writelines(["a", "b"])
open(sys.argv[1], "w").write("whole")
sys.exit(output_code())
"""


def run(tmp_path: Path, repo_root: Path, shell: str) -> tuple[int, str]:
    """Exit code of the program within a shell's command, in which it stands as $0 $1 $2 $3; and what it said."""
    code = f'"$@" {shell}'
    program = [sys.executable, "-c", PROGRAM, str(tmp_path / "record")]
    done = subprocess.run(
        ["bash", "-c", f"{code}; exit ${{PIPESTATUS[0]}}", "bash", *program],
        env={"PYTHONPATH": str(repo_root), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (tmp_path / "record").read_text() == "whole"
    assert "Traceback" not in done.stderr and "Exception ignored" not in done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("shell", "code", "said"),
    [
        ("> /dev/null", 0, "y\ny\ny\n"),
        ("| head -c 1", 141, "y\ny\ny\n"),
        ("| true", 141, "y\ny\ny\n"),
        ("2>&1 | head -c 1", 141, ""),
        ("> /dev/full", 1, "y\ny\ny\nerror: standard output cannot be written: No space left on device\n"),
        ("> /dev/null 2> /dev/full", 0, ""),
        (">&-", 0, "y\ny\ny\n"),
        ("> /dev/null 2>&-", 0, ""),
        (">&- 2>&-", 0, ""),
    ],
)
def test_a_reader_that_is_gone(tmp_path: Path, repo_root: Path, shell: str, code: int, said: str) -> None:
    assert run(tmp_path, repo_root, shell) == (code, said)
