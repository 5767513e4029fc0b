"""Stored vectors: what there is, and how much of it may stay.

rwkv-sweep cache list [--path FOLDER]
rwkv-sweep cache prune --max-gib 1 [--path FOLDER]
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from rwkv_sweep.embedding.cache import GIB, EmbeddingStore


def main(arguments: list[str]) -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="rwkv-sweep cache", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("list", "prune"))
    parser.add_argument("--path", type=Path, default=Path("mlruns/store"))
    parser.add_argument("--max-gib", type=_size, help="how much `prune` leaves; 0 removes all")
    args = parser.parse_args(arguments)
    if not args.path.is_dir():
        parser.error(f"--path {args.path} is not a folder")
    if args.action == "prune" and args.max_gib is None:
        parser.error("prune needs --max-gib, how much may stay: --max-gib 0 removes all")
    store = EmbeddingStore(args.path, 0)
    if args.action == "prune":
        print(f"removed {store.prune(int(args.max_gib * GIB)) / GIB:.3f} GiB from {args.path}")
    else:
        _list(store, args.path)
    return 0


def _list(store: EmbeddingStore, path: Path) -> None:
    entries = store.entries()
    for entry in entries:
        about = " ".join(f"{key}={value}" for key, value in entry.about.items())
        print(f"{entry.key}  {entry.size / 2**20:9.1f} MiB  {about}")
    print(f"{len(entries)} entries, {sum(entry.size for entry in entries) / GIB:.3f} GiB in {path}")


def _size(text: str) -> float:
    size = float(text)
    if not 0 <= size < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a size: valid is a number of GiB, 0 or more")
    return size
