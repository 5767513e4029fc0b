"""Lines of text files: marks, damage, and where it is."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from rwkv_sweep.data.text_lines import text_lines
from rwkv_sweep.errors import UserError


def test_a_byte_order_mark_is_one_at_the_start_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\ufeffone\n\ufefftwo\n", encoding="utf-8")
    assert list(text_lines(path)) == ["one\n", "\ufefftwo\n"]


def test_damage_names_the_line_after_the_last_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "a.txt.gz"
    whole = gzip.compress(b"".join(b"line %d %d\n" % (number, number**7) for number in range(20_000)))
    path.write_bytes(whole[: len(whole) // 2])
    read = 0
    with pytest.raises(UserError) as raised:
        for _ in text_lines(path):
            read += 1
    assert read > 1000
    assert str(raised.value).startswith(f"{path}, line {read + 1}: cannot be read: ")


@pytest.mark.parametrize(("name", "reason"), [("folder", "Is a directory"), ("absent", "No such file or directory")])
def test_what_cannot_be_opened_is_named_without_a_line(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(UserError) as raised:
        list(text_lines(tmp_path / name))
    assert str(raised.value) == f"{tmp_path / name} cannot be read: {reason}"
