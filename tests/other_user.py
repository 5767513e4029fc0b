"""Processes of another user, whom the system does not know, and folders that such a user can reach."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

USER = 12345
# It may read all: the interpreter may lie in a folder of root's. What it may write is as for any other user.
_READS_ALL = ["--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"]


def as_other_user(groups: str = "") -> list[str]:
    """What stands before a command for it to be one of user 12345; skips the test where that cannot be."""
    if (reason := _why_not()) is not None:
        pytest.skip(f"no process of another user can be started: {reason}")
    return _command(groups)


@contextlib.contextmanager
def reachable_folder() -> Iterator[Path]:
    """An empty folder that every user may enter, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        for path in (folder, *(path for path in folder.rglob("*") if path.is_dir() and not path.is_symlink())):
            path.chmod(0o755)
        shutil.rmtree(folder)


def _command(groups: str) -> list[str]:
    chosen = f"--groups={groups}" if groups else "--clear-groups"
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", chosen, *_READS_ALL]


@functools.cache
def _why_not() -> str | None:
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return "only root can"
    if shutil.which("setpriv") is None:
        return "there is no setpriv"
    probe = [*_command(""), sys.executable, "-c", "import os; print(os.getuid())"]
    done = subprocess.run(probe, capture_output=True, text=True)
    return None if done.stdout.strip() == str(USER) else done.stderr.strip()
