"""Files that several users may share: their access follows the folder that they are in; locks that may fail."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

LOCK_MODE = 0o644
"""Of a lock whose folder cannot be asked."""


def follow_folder(path: Path) -> None:
    """Give a file that was just written the group of its folder, and to group and others the folder's rights.

    Whoever may write the folder may then write the file. Others cannot where the folder is for everyone but keeps each
    user's files apart (the sticky bit, as of /tmp). A system that refuses leaves the file as it is.
    """
    with contextlib.suppress(OSError):
        folder, file = path.parent.stat(), path.stat()
        mode = _mode(folder)
        if folder.st_gid != file.st_gid:
            try:
                os.chown(path, -1, folder.st_gid)
            except (OSError, AttributeError):
                # Its group is another one, which gets what everyone does.
                mode = mode & ~0o060 | (mode & 0o006) << 3
        path.chmod(mode)


@contextlib.contextmanager
def shared_lock(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock file; its access follows its folder.

    Args:
        timeout: seconds; without it as long as it takes.

    Raises:
        OSError: the lock file cannot be made or opened.
        filelock.Timeout: another process holds it that long.
    """
    lock = FileLock(path, timeout=timeout, mode=_lock_mode(path))
    new = not path.exists()
    with lock:
        if new:
            follow_folder(path)
        yield


def _lock_mode(path: Path) -> int:
    try:
        return _mode(path.parent.stat())
    except OSError:
        return LOCK_MODE


def _mode(folder: os.stat_result) -> int:
    mode = stat.S_IMODE(folder.st_mode) & 0o666
    return mode & ~0o022 if folder.st_mode & stat.S_ISVTX else mode
