"""Values of keys that take a path: what is wrong with one is reported in one line, before anything is opened or made.

A system refuses paths in many ways (a name that is too long, a loop of links, a folder of another user). Python's
`exists` and `is_file` answer some of them with False and raise the others; opening a pipe waits for its other end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from rwkv_sweep.errors import UserError

MAX_NAME = 255
"""Bytes in one name of a path, on the usual file systems."""
MAX_PATH = 4095
"""Bytes of a whole path that Linux takes."""
FILES_BELOW = 300
"""Bytes of a path that are left for the files within a folder that is to be made."""
_SHOWN = 160
"""Characters of a value in a message."""
_KINDS: tuple[tuple[Callable[[int], bool], str], ...] = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISREG, "a file"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (lambda mode: stat.S_ISCHR(mode) or stat.S_ISBLK(mode), "a device"),
)


def existing_file(key: str, value: str | os.PathLike[str], valid: str) -> Path:
    """The regular file that a key names, with `~` expanded; see `existing`."""
    return existing(key, value, valid, folder=False)


def existing_folder(key: str, value: str | os.PathLike[str], valid: str) -> Path:
    """The folder that a key names, with `~` expanded; see `existing`."""
    return existing(key, value, valid, file=False)


def existing(key: str, value: str | os.PathLike[str], valid: str, file: bool = True, folder: bool = True) -> Path:
    """The file or folder that a key names, with `~` expanded; it can be read.

    Args:
        key: such as `dataset.path`; begins the message, with the value.
        valid: what ends the message, such as `a text file`.
        file, folder: whether a regular file, or a folder, is valid.

    Raises:
        UserError: nothing is there, it is of another kind, or it cannot be read.
    """
    value = os.fspath(value)
    reason = _not_a_path(value)
    if not reason:
        try:
            path = Path(value).expanduser()
        except RuntimeError:
            reason = "names the home folder of a user that this system does not know"
        else:
            reason = _not_readable(path, file, folder)
            if not reason:
                return path
    raise UserError(f"{key}={shown_path(value)} {reason}: valid is {valid}")


def require_path(key: str, value: str, valid: str) -> None:
    """Raises UserError where a text is no path whatever the disk holds: it is blank, holds a NUL, or is not UTF-8."""
    if reason := _not_a_path(value):
        raise UserError(f"{key}={shown_path(value)} {reason}: valid is {valid}")


def require_folder_to_be(key: str, value: str, valid: str, writable: bool = True) -> None:
    """Refuse what cannot be a folder, neither one that is there nor one to be made; nothing is made here.

    Args:
        key, valid: as for `existing`.
        writable: also refuse a folder in which this user can make no file.

    Raises:
        UserError: it cannot be.
    """
    require_path(key, value, valid)
    if reason := why_no_folder(Path(value), writable):
        raise UserError(f"{key}={shown_path(value)} {reason}: valid is {valid}")


def why_no_folder(path: Path, writable: bool = True) -> str:
    """Why this is not a folder, nor can be made one, in words that follow its name; empty where it can."""
    path = path.absolute()
    if len(os.fsencode(path)) > MAX_PATH - FILES_BELOW:
        return f"has {len(os.fsencode(path))} bytes, more than {MAX_PATH - FILES_BELOW}"
    for place in (path, *path.parents):
        try:
            if not os.path.lexists(place):
                # False also where a folder above cannot be looked into: then that one is checked and reported.
                continue
            mode = place.stat().st_mode
        except OSError as error:
            return _after(place, path, _refusal(place, error))
        if not stat.S_ISDIR(mode):
            return f"is {_kind(mode)}" if place == path else f"is below {place}, which is {_kind(mode)}"
        if not os.access(place, os.X_OK):
            return _after(place, path, f"cannot be looked into: {os.strerror(errno.EACCES)}") if writable else ""
        if writable and not os.access(place, os.W_OK):
            return _after(place, path, f"cannot be written: {_why_not_written(place)}")
        return ""
    return ""


@contextlib.contextmanager
def refusals_of(key: str, value: str | None) -> Iterator[None]:
    """Errors of the system about what is at a path or below it become a UserError that names the key."""
    try:
        yield
    except OSError as error:
        if value is None or not isinstance(error.filename, str) or not _is_below(error.filename, value):
            raise
        raise UserError(
            f"{key}={shown_path(value)} cannot be read ({shown_path(error.filename)}: {error.strerror}): valid is "
            "what this user can read"
        ) from error


def shown_path(value: object) -> str:
    """A path in a message: what cannot be printed is escaped, and a long one loses its middle."""
    text = "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in str(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN // 2]}...{text[-_SHOWN // 2 :]}"


def _not_a_path(value: str) -> str:
    """Why a text is no path, whatever the disk holds; empty where it is one."""
    if not value.strip():
        return "is empty"
    if "\0" in value:
        return "holds a NUL"
    try:
        value.encode()
    except UnicodeEncodeError:
        return "is not valid UTF-8, which records and MLflow need"
    longest = max((len(part.encode()) for part in Path(value).parts), default=0)
    return f"has a name of {longest} bytes, more than {MAX_NAME}" if longest > MAX_NAME else ""


def _not_readable(path: Path, file: bool, folder: bool) -> str:
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return _refusal(path, error)
    if not ((file and stat.S_ISREG(mode)) or (folder and stat.S_ISDIR(mode))):
        return f"is {_kind(mode)}"
    needed = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
    return "" if os.access(path, needed) else f"cannot be read: {os.strerror(errno.EACCES)}"


def _refusal(path: Path, error: OSError) -> str:
    """Why a path cannot be looked at, in words that follow its name."""
    if error.errno == errno.ENOENT:
        return "is a symbolic link to nothing" if os.path.islink(path) else "does not exist"
    if error.errno == errno.ELOOP:
        return "leads through a loop of symbolic links"
    if error.errno == errno.ENOTDIR:
        above = next((place for place in path.parents if os.path.lexists(place)), path)
        return f"is below {shown_path(above)}, which is not a folder"
    return f"cannot be used: {error.strerror}"


def _after(place: Path, path: Path, reason: str) -> str:
    """`reason` of a folder above `path`, or of itself."""
    return reason if place == path else f"cannot be made: {shown_path(place)} {reason}"


def _why_not_written(folder: Path) -> str:
    read_only = hasattr(os, "statvfs") and os.statvfs(folder).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def _kind(mode: int) -> str:
    return next((name for matches, name in _KINDS if matches(mode)), "of an unknown kind")


def _is_below(path: str, value: str) -> bool:
    root, place = (os.path.abspath(os.path.expanduser(text)) for text in (value, path))
    return place == root or place.startswith(root.rstrip(os.sep) + os.sep)
