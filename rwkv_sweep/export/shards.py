"""A folder of files of texts: one file of vectors for each, by one process after another or by several at a time.

Several processes may run the same command on one folder: each takes the next file that is not done and that no other is
at work on.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rwkv_sweep.config.path_values import existing_folder
from rwkv_sweep.errors import UserError
from rwkv_sweep.export.encoding import BusyError, Encoded
from rwkv_sweep.export.texts import VALID, is_text_file
from rwkv_sweep.utils.redaction import redact

ENDING = ".parquet"
"""Of the files of vectors."""


@dataclass(frozen=True)
class Shard:
    """A file of texts, and the file of its vectors."""

    source: Path
    target: Path


@dataclass
class Shards:
    """How many files were encoded, were there before, are being written by other processes, or failed; and texts."""

    encoded: int = 0
    before: int = 0
    busy: int = 0
    failed: int = 0
    texts: int = 0

    def __str__(self) -> str:
        parts = [f"{self.encoded} files encoded ({self.texts} texts)", f"{self.before} there before"]
        parts += [f"{self.busy} being written by others"] if self.busy else []
        parts += [f"{self.failed} failed"] if self.failed else []
        return ", ".join(parts)


def list_shards(folder: Path, target: Path) -> list[Shard]:
    """The files of texts in a folder, by name; hidden ones are left out.

    Raises:
        UserError: there are none, or two of them would have one file of vectors.
    """
    existing_folder("TEXTS", folder, "a folder of files of texts")
    sources = sorted(path for path in folder.iterdir() if is_text_file(path) and not path.name.startswith("."))
    if not sources:
        raise UserError(f"TEXTS={folder} holds no file of texts: valid in it is {VALID}")
    if target.is_file():
        raise UserError(f"--out={target} is a file: valid with a folder of texts is a folder")
    shards = [Shard(source, target / f"{source.name.partition('.')[0]}{ENDING}") for source in sources]
    names = [shard.target.name for shard in shards]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UserError(f"TEXTS={folder} holds two files whose vectors would be in {twice}: rename one of them")
    return shards


def encode_shards(shards: Sequence[Shard], encode: Callable[[Shard], Encoded]) -> Shards:
    """Encode what is not done; a file that fails is reported, and the others are encoded all the same."""
    done = Shards()
    for shard in shards:
        if shard.target.exists():
            done.before += 1
            continue
        try:
            done.texts += encode(shard).texts
            done.encoded += 1
        except BusyError:
            done.busy += 1
        except UserError as error:
            print(f"error: {redact(str(error))}", file=sys.stderr)
            done.failed += 1
    return done
