"""What the columns of a sweep's table mean, in one line under it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import Box

MEANINGS = (
    ("Spearman", "Spearman: rank correlation of cosines with grades"),
    ("vs ", "vs NAME: Spearman less that of this baseline"),
    ("probe ", "probe: a linear classifier or regression on the vectors"),
    ("pair time / final", "pair time / final: time for a pair over final-layer inference's, interleaved"),
    ("batch time / final", "batch time / final: the same in packed batches"),
    ("pair speed / fp32", "pair speed / fp32: speed for a pair over that of fp32, interleaved"),
    ("batch speed / fp32", "batch speed / fp32: the same in packed batches"),
    ("ms/pair", "ms/pair: mean time for one pair"),
    ("p99 ms", "p99 ms: 99th percentile of it"),
    ("tokens/s", "tokens/s: in packed batches"),
    ("bytes/vector", "bytes/vector: of one stored embedding"),
    ("weights MiB", "weights MiB: in memory"),
    ("peak MiB", "peak MiB: of the device's memory"),
    ("process MiB", "process MiB: peak of the whole process"),
)
"""Start of a column's name, and what it means. Columns that are keys of the config need no word."""

INTERVAL = "[95 %]: 95 % bootstrap interval"

DROPPED_FIRST = (
    *("p99 ms", "weights MiB", "peak MiB", "process MiB", "vs word_overlap", "vs word_vectors"),
    *("anisotropy", "infonce", "effective rank", "bytes/vector", "probe spearman", "vs ", "tokens/s", "batch "),
)
"""What a narrow terminal leaves out, by the start of the name, the least important first; summary.csv has it all."""
RULES = Box("    \n    \n \u2500\u2500 \n    \n \u2500\u2500 \n    \n    \n    \n")
"""A line under the names of the columns and one above the baselines."""


def column_meanings(names: Sequence[str]) -> str:
    """One line on those of these columns that hold measurements; empty where none does."""
    meanings = [meaning for start, meaning in MEANINGS if any(name.startswith(start) for name in names)]
    if any(name.endswith("[95 %]") for name in names):
        meanings.append(INTERVAL)
    return f"{'; '.join(meanings)}." if meanings else ""
