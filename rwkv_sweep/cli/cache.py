"""Stored vectors: what there is, and how much of it may stay.

rwkv-sweep cache list [--path FOLDER]
rwkv-sweep cache prune --max-gib 1 [--path FOLDER]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import TYPE_CHECKING

from rwkv_sweep.errors import UserError

if TYPE_CHECKING:
    from rwkv_sweep.embedding.cache import EmbeddingStore


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done, and in which folder."""
    parser.add_argument("action", choices=("list", "prune"))
    parser.add_argument("--path", type=Path, default=Path("mlruns/store"))
    parser.add_argument("--max-gib", type=_size, help="how much `prune` leaves; 0 removes all")


def run(args: argparse.Namespace) -> int:
    """List the entries, or remove those used longest ago."""
    if not args.path.is_dir():
        raise UserError(f"--path={args.path} is not a folder")
    if args.action == "prune" and args.max_gib is None:
        raise UserError("prune needs --max-gib, how much may stay: --max-gib 0 removes all")
    # Imported here, so that --help is quick.
    from rwkv_sweep.embedding.cache import GIB, EmbeddingStore

    store = EmbeddingStore(args.path, 0)
    if args.action == "prune":
        print(f"removed {store.prune(int(args.max_gib * GIB)) / GIB:.3f} GiB from {args.path}")
    else:
        _list(store, args.path)
    return 0


def _list(store: EmbeddingStore, path: Path) -> None:
    from rwkv_sweep.embedding.cache import GIB

    entries = store.entries()
    for entry in entries:
        about = " ".join(f"{key}={value}" for key, value in entry.about.items())
        print(f"{entry.key}  {entry.size / 2**20:9.1f} MiB  {about}")
    print(f"{len(entries)} entries, {sum(entry.size for entry in entries) / GIB:.3f} GiB in {path}")


def _size(text: str) -> float:
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a size: valid is a number of GiB, 0 or more")
    return size
