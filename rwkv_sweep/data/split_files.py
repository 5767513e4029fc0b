"""Which files of a folder hold a split: one by its name, or several shards as the Hugging Face hub names them."""

from __future__ import annotations

import contextlib
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rwkv_sweep.data.readers import SUFFIXES, Records, read_records, split_suffix
from rwkv_sweep.errors import UserError

# Of `validation-00000-of-00001.parquet`; older files have a digest behind that.
_SHARD = re.compile(r"(?P<split>.+)-(?P<index>\d{5})-of-(?P<count>\d{5})(?:-[0-9a-f]{16})?")


@dataclass(frozen=True)
class _Named:
    """A file by its name.

    Attributes:
        path: the file.
        split: the split that it holds, or a part of.
        index, count: which shard of how many; 0 of 0 where it is no shard.
    """

    path: Path
    split: str
    index: int = 0
    count: int = 0

    @property
    def set(self) -> tuple[int, str]:
        """Equal for the shards of one split; a file that is no shard has its own."""
        _, kind = split_suffix(self.path)
        return (self.count, kind) if self.count else (0, self.path.name)


def files_of_split(root: Path, name: str) -> list[Path]:
    """The files that hold a split, in the order of its rows.

    Args:
        root: one file, whose split is called `all` or by the file's name; or a folder with one file per split
            (`train.tsv`) or its shards (`train-00000-of-00002.parquet`, ...). `dev` stands for `validation` where there
            is none.
        name: the split.

    Raises:
        UserError: there is no such split, several files could be it, or a shard is missing.
    """
    if root.is_file():
        valid = list(dict.fromkeys(["all", split_suffix(root)[0], _named(root).split]))
        if name not in valid:
            raise UserError(
                f"dataset.splits names {name}, but the one file {root} is the split {valid[0]} "
                f"(or {' or '.join(valid[1:])})"
            )
        return [root]
    files = [_named(path) for path in sorted(root.iterdir()) if os.path.isfile(path) and split_suffix(path)[1]]
    matching = [file for file in files if file.split == name]
    if not matching and name == "validation":
        matching = [file for file in files if file.split == "dev"]
    if not matching:
        there = ", ".join(dict.fromkeys(file.split for file in files)) or f"no file of {', '.join(SUFFIXES)}"
        raise UserError(
            f"dataset.splits names {name}, which the folder {root} does not have: there is {there}{_below(root, name)}"
        )
    if len({file.set for file in matching}) > 1:
        raise UserError(f"split {name} is ambiguous: {root} holds {' and '.join(file.path.name for file in matching)}")
    _require_all_shards(matching, root, name)
    return [file.path for file in sorted(matching, key=lambda file: file.index)]


def records_of_split(root: Path, name: str, columns: tuple[str, ...]) -> Records:
    """The records of `files_of_split`, one file after the other; the place of one in a shard names the shard."""
    files = files_of_split(root, name)
    if len(files) == 1:
        return read_records(files[0], columns)
    return _joined(files, columns)


def _joined(files: list[Path], columns: tuple[str, ...]) -> Records:
    for path in files:
        yield from ((f"{path.name}, {place}", record) for place, record in read_records(path, columns))


def _named(path: Path) -> _Named:
    stem, _ = split_suffix(path)
    if shard := _SHARD.fullmatch(stem):
        return _Named(path, shard["split"], int(shard["index"]), int(shard["count"]))
    return _Named(path, stem)


def _require_all_shards(matching: list[_Named], root: Path, name: str) -> None:
    count, times = matching[0].count, Counter(file.index for file in matching)
    if not count:
        return
    if missing := [index for index in range(count) if not times[index]]:
        shown = ", ".join(f"{name}-{index:05d}-of-{count:05d}" for index in missing[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise UserError(f"split {name} is incomplete: {root} lacks {shown}{more}")
    if len(matching) > count:
        twice = [file.path.name for file in matching if times[file.index] > 1 or file.index >= count]
        raise UserError(f"split {name} is ambiguous: {root} holds {' and '.join(twice)}")


def _below(root: Path, name: str) -> str:
    """A hint where a folder within has the split, such as `data` in a copy of a hub's repository."""
    return "".join(f"; dataset.path={folder} has it" for folder in _folders_with(root, name))


def _folders_with(root: Path, name: str) -> Iterator[Path]:
    for folder in sorted(path for path in root.iterdir() if os.path.isdir(path)):
        with contextlib.suppress(OSError):  # a hint need not know folders of others
            files = [path for path in folder.iterdir() if os.path.isfile(path)]
            if any(split_suffix(path)[1] and _named(path).split == name for path in files):
                yield folder
                return
