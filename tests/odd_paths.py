"""Paths that cannot be what a key asks for, each made in a folder, and the keys that take a path."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path


def file(folder: Path) -> str:
    path = folder / "file.txt"
    path.write_text("nothing of use\n")
    return str(path)


def pipe(folder: Path, name: str = "pipe") -> str:
    os.mkfifo(folder / name)
    return str(folder / name)


def unix_socket(folder: Path) -> str:
    before = os.getcwd()
    os.chdir(folder)  # its address may have 100 bytes
    try:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind("socket")
    finally:
        os.chdir(before)
    return str(folder / "socket")


def link(folder: Path, to: str) -> str:
    (folder / "link").symlink_to(to)
    return str(folder / "link")


def forbidden(folder: Path) -> str:
    path = folder / "forbidden"
    path.mkdir()
    path.chmod(0)
    return str(path)


def unreadable(folder: Path) -> str:
    path = Path(file(folder))
    path.chmod(0)
    return str(path)


def read_only(folder: Path) -> str:
    path = folder / "read_only"
    path.mkdir()
    path.chmod(0o555)
    return str(path / "new")


IMPOSSIBLE: dict[str, Callable[[Path], str]] = {
    "a file": file,
    "below a file": lambda folder: file(folder) + "/below",
    "a name of 300 bytes": lambda folder: str(folder / ("n" * 300)),
    "below a name of 300 bytes": lambda folder: str(folder / ("n" * 300) / "below"),
    "5,000 bytes": lambda folder: str(folder) + "/name" * 1000,
    "/dev/null": lambda folder: "/dev/null",
    "below /dev/null": lambda folder: "/dev/null/x",
    "a pipe": pipe,
    "a pipe named .tsv": lambda folder: pipe(folder, "pipe.tsv"),
    "below a pipe": lambda folder: pipe(folder) + "/below",
    "a socket": unix_socket,
    "a link to nothing": lambda folder: link(folder, "nowhere"),
    "below a link to nothing": lambda folder: link(folder, "nowhere") + "/below",
    "a loop of links": lambda folder: link(folder, "link"),
    "below a loop of links": lambda folder: link(folder, "link") + "/below",
    "a NUL": lambda folder: str(folder / "a\0b"),
    "not UTF-8": lambda folder: str(folder / "caf\udce9"),
    "empty": lambda folder: "",
    "blank": lambda folder: " ",
}
"""What can be no folder, and no file of use, whoever asks."""

PERMISSIONS: dict[str, Callable[[Path], str]] = {
    "a folder without permission": forbidden,
    "below a folder without permission": lambda folder: forbidden(folder) + "/below",
    "a file without permission": unreadable,
    "in a read-only folder": read_only,
}
"""What permissions forbid, which do not bind the superuser."""

ABSENT: dict[str, Callable[[Path], str]] = {
    "nothing there": lambda folder: str(folder / "nowhere" / "at all"),
    "a home of nobody": lambda folder: "~no_such_user_here/x",
}
"""What cannot be read, but can be made; a `~` is then a name like any other."""
