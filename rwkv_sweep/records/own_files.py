"""The names of all files that runs and sweeps write: what may be logged, moved, replaced and removed, nothing else.

A folder may contain other people's files (`hydra.run.dir=.`), so no pattern (`*.csv`, all digits) decides what is ours.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

RESULT_FILE = "result.json"
PAIRS_FILE = "pairs.csv"
AUDIT_FILE = "audit.json"
LATENCY_FILE = "latency_ms.csv"
THROUGHPUT_FILE = "throughput.csv"
OVERHEAD_FILE = "overhead_ms.csv"
CKA_FILE = "cka.csv"
SEARCH_FILE = "search.csv"
CRASH_FILE = "crash.txt"
"""Python's account of where an isolated job crashed; there only if it did."""
FITTED_FILE = "fitted.safetensors"
ENCODER_FILE = "encoder.json"
ENCODER_FILES = (FITTED_FILE, ENCODER_FILE)
"""What an encoder is made of again, see `encoder_record`; the first is there only where something was fitted."""

RUN_FILES = (
    PAIRS_FILE,
    AUDIT_FILE,
    LATENCY_FILE,
    THROUGHPUT_FILE,
    OVERHEAD_FILE,
    CKA_FILE,
    SEARCH_FILE,
    CRASH_FILE,
    *ENCODER_FILES,
    RESULT_FILE,
)
"""Of one run, in its folder; the record last, as its presence shows that the rest is there."""

LOG_FILE = "rwkv_sweep.log"
HYDRA_NAMES = ("config.yaml", "hydra.yaml", "overrides.yaml")
HYDRA_FILES = tuple(f".hydra/{name}" for name in HYDRA_NAMES)
"""What Hydra writes of a job, where `hydra.output_subdir` is its default."""

SWEEP_FILE = "sweep.json"
STOP_FILE = "stopped"
"""Is in the folder of a sweep that `on_error=stop` ended, with the name of the run that failed."""
LOCK_FILE = ".lock"
SUMMARY_FILE = "summary.csv"
SUMMARY_TABLE = "summary.md"
PAGE_FILE = "report.html"
MULTIRUN_FILE = "multirun.yaml"
"""Written by Hydra."""

SWEEP_FILES = (SWEEP_FILE, STOP_FILE, LOCK_FILE, SUMMARY_FILE, SUMMARY_TABLE, PAGE_FILE, MULTIRUN_FILE)
"""Of a sweep, in its folder."""

BASELINES = "baselines"
REPORT = "report"
EARLIER = "earlier"
"""Within a resumed sweep's folder: what earlier attempts recorded under another job's number, or did not finish."""
NOTES = ".folders"
"""Within a sweep's folder: where jobs are whose folders were not known beforehand, see `job_folders`."""
SWEEP_FOLDERS = (BASELINES, REPORT, EARLIER, NOTES)

_UNFINISHED = re.compile(r"\.(?P<name>.+)\.[0-9a-f]{8}\.unfinished")


def present(folder: Path, names: Iterable[str]) -> list[Path]:
    """Those of these files (relative to `folder`) that are there as regular files, not through a symbolic link."""
    return [folder / name for name in names if _is_regular(folder, name)]


def run_files(folder: Path) -> list[Path]:
    """The files of the run in `folder`, with Hydra's and its log, that are there."""
    return present(folder, (*HYDRA_FILES, LOG_FILE, *RUN_FILES))


def remove_run(folder: Path) -> None:
    """Remove the files of a run that has no record, and its folder where nothing else is in it."""
    for path in [*run_files(folder), *_unfinished(folder)]:
        path.unlink(missing_ok=True)
    remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a run's folder if it is empty (but for Hydra's empty one within)."""
    for path in (folder / HYDRA_FILES[0]).parent, folder:
        if not path.is_symlink():
            with contextlib.suppress(OSError):  # not empty, or not there
                path.rmdir()


def _is_regular(folder: Path, name: str) -> bool:
    path = folder
    for part in Path(name).parts:
        path = path / part
        if path.is_symlink():
            return False
    return path.is_file()


def _unfinished(folder: Path) -> Iterator[Path]:
    """Files of a run that a killed process was writing."""
    for path in folder.iterdir() if folder.is_dir() else ():
        match = _UNFINISHED.fullmatch(path.name)
        if match and match["name"] in RUN_FILES and not path.is_symlink():
            yield path
