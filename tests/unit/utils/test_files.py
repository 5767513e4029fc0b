"""What tells one content of a file from another: digests and stamps."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from rwkv_sweep.utils import files
from rwkv_sweep.utils.files import file_sha256, file_stamp, unchanged_file_sha256


@pytest.mark.parametrize("size", [0, 1, (1 << 22) - 1, 1 << 22, (1 << 22) + 1])
def test_digest_is_that_of_the_whole_content(tmp_path: Path, size: int) -> None:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(size))
    assert file_sha256(path) == unchanged_file_sha256(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_an_unchanged_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, read = tmp_path / "weights", []
    path.write_bytes(b"one")
    monkeypatch.setattr(files, "file_sha256", lambda path: read.append(path) or file_sha256(path))
    digests = {unchanged_file_sha256(path) for _ in range(3)}
    assert digests == {hashlib.sha256(b"one").hexdigest()} and len(read) == 1
    path.write_bytes(b"other")
    assert unchanged_file_sha256(path) == hashlib.sha256(b"other").hexdigest() and len(read) == 2


@pytest.mark.parametrize("folder", [False, True])
@pytest.mark.parametrize("change", ["size", "time", "name"])
def test_a_stamp_changes_with_its_files(tmp_path: Path, folder: bool, change: str) -> None:
    root = tmp_path / "model"
    file = root / "a" if folder else root
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(b"one")
    os.utime(file, ns=(0, 5))
    before = file_stamp(root)
    assert before == ((file.name, 3, 5),) == file_stamp(root)
    if change == "name":
        file = file.rename(file.with_name("b"))
        root = root if folder else file
    else:
        file.write_bytes(b"more" if change == "size" else b"two")
        os.utime(file, ns=(0, 5 if change == "size" else 6))
    assert file_stamp(root) != before


def test_a_stamp_of_what_is_not_there_is_empty(tmp_path: Path) -> None:
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    assert file_stamp(tmp_path / "nothing") == file_stamp(tmp_path / "folder") == ()
