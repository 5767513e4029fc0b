"""Where this user may keep caches, locks and libraries' settings when the usual places cannot be written.

In a container, on a read-only mount or for a user without a home folder, libraries find no place for their caches:
some fail, others warn in each process. They are then sent to one folder of this user in the system's temporary folder.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import tempfile
from pathlib import Path

CACHES = {
    "MPLCONFIGDIR": (".config/matplotlib", "matplotlib"),
    "TRITON_CACHE_DIR": (".triton/cache", "triton"),
    "HF_HOME": (".cache/huggingface", "huggingface"),
}
"""Variables that name a library's folder: where it is below the home folder, and below the temporary one."""
XDG = {".config": "XDG_CONFIG_HOME", ".cache": "XDG_CACHE_HOME"}
"""Variables that stand in place of the first part of such a path."""
READ_ONLY_IS_FINE = ("HF_HOME",)
"""What others have put there is used; only where nothing is there, another place is of use."""


@functools.cache
def temporary_folder() -> Path | None:
    """A folder in the system's temporary one that this user owns and no other can write; made where it is not there.

    None where there is none to be had: nothing can be written there, or the name is taken by another user's folder.
    What is in it may be loaded as code (compiled Numba kernels), so a folder that others could write is not taken.
    """
    user = os.getuid() if hasattr(os, "getuid") else 0
    try:
        folder = Path(tempfile.gettempdir()) / f"rwkv_sweep-{user}"
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return None
    safe = not hasattr(os, "getuid") or (status.st_uid == user and not status.st_mode & 0o022)
    return folder if safe else None


def cache_folder() -> Path:
    """Where this user keeps what can be made again at any time: below the usual place, or `temporary_folder`. It may
    not exist, and where there is neither, it cannot be made."""
    home = _home()
    usual = None if home is None else _usual(home, ".cache/rwkv_sweep")
    if usual is not None and can_be_written(usual):
        return usual
    return temporary_folder() or usual or Path(tempfile.gettempdir()) / "rwkv_sweep-none"


def lock_folder() -> Path:
    """Where this user's processes on this machine keep the locks that belong to no other folder.

    Raises:
        OSError: there is no such place.
    """
    folder = temporary_folder()
    if folder is None:
        raise OSError(errno.EACCES, f"{tempfile.gettempdir()} has no folder for this user alone")
    return folder


def redirect_caches() -> None:
    """Send libraries to `temporary_folder` where their usual folders cannot be written; call it before their import.

    What the user's environment names stays as it is.
    """
    home = _home()
    if home is None and (folder := temporary_folder()) is not None:
        # Some libraries ask for it while they are imported, and fail.
        os.environ["HOME"] = str(folder)
        home = folder
    for variable, (usual, name) in CACHES.items():
        if variable in os.environ or home is None:
            continue
        place = _usual(home, usual)
        if can_be_written(place) or (variable in READ_ONLY_IS_FINE and place.is_dir()):
            continue
        if (folder := temporary_folder()) is not None:
            os.environ[variable] = str(folder / name)


def can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, or the folder itself where it is not there yet."""
    for place in (folder, *folder.parents):
        try:
            if place.is_dir():
                return os.access(place, os.W_OK | os.X_OK)
            if os.path.lexists(place):
                return False
        except OSError:
            return False
    return False


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and the system does not know this user
        return None


def _usual(home: Path, usual: str) -> Path:
    first, _, rest = usual.partition("/")
    named = os.environ.get(XDG.get(first, ""), "")
    return Path(named) / rest if named else home / usual
