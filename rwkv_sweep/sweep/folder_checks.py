"""What can be refused of a sweep's folders before anything is written: names that cannot be, folders that two runs
would share, files of others that would be overwritten."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from rwkv_sweep.config.path_values import MAX_NAME, require_folder_to_be, require_path
from rwkv_sweep.config.schema import StoreConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.job_folders import is_reached_by_link
from rwkv_sweep.records.own_files import (
    HYDRA_NAMES,
    LOCK_FILE,
    LOG_FILE,
    MULTIRUN_FILE,
    REPORT,
    RUN_FILES,
    SWEEP_FILE,
    SWEEP_FILES,
    SWEEP_FOLDERS,
)
from rwkv_sweep.utils.redaction import redact

SWEEP_KEY, RUN_KEY, JOB_KEY = "hydra.sweep.dir", "hydra.run.dir", "hydra.sweep.subdir"


def named_root(value: str, key: str) -> Path:
    """The folder that `hydra.run.dir` or `hydra.sweep.dir` names; an empty value would silently be the current one.

    Raises:
        UserError: the value is no path.
    """
    require_path(key, value, "a folder, such as . for the current one")
    return Path(value)


def check_places(root: Path, multirun: bool, stores: Iterable[StoreConfig]) -> None:
    """Check that the folder of a sweep (or a single run), and of what its runs keep, can be folders.

    Raises:
        UserError: one cannot be.
    """
    key = SWEEP_KEY if multirun else RUN_KEY
    require_name(root, key)
    require_folder_to_be(key, str(root), "a folder that can be written")
    for store in {store.path: store for store in stores if store.enabled}.values():
        check_store(store)


def check_store(config: StoreConfig) -> None:
    """Raises UserError where the store can be no folder; one that cannot be written is left out by the runs."""
    require_folder_to_be("store.path", config.path, "a folder", writable=False)


def check_root(root: Path, multirun: bool, config: DictConfig) -> None:
    """Check the folder of a sweep, or of a single run, that is to be made or filled; one that holds a sweep is not new.

    Raises:
        UserError: its name cannot be, or it holds a file of others that would be overwritten.
    """
    key = SWEEP_KEY if multirun else RUN_KEY
    require_name(root, key)
    if os.path.lexists(root / SWEEP_FILE) or not root.is_dir():
        return
    names = [name for name in SWEEP_FILES if multirun or name != MULTIRUN_FILE]
    if not multirun:
        names += [*RUN_FILES, *_hydra_files(config)]
    for name in names:
        path = root / name
        if os.path.lexists(path) and not (name == LOCK_FILE and path.is_file() and path.stat().st_size == 0):
            raise UserError(
                f"{key}={root} holds {name}, which would be overwritten, and no {SWEEP_FILE} that marks it as a run's: "
                "valid is another folder"
            )
    if config.report is not None and (root / REPORT).is_dir() and any((root / REPORT).iterdir()):
        raise UserError(f"{key}={root} holds files in {REPORT}/ that would be overwritten: valid is another folder")


@dataclass(frozen=True)
class Planned:
    """A job to come. name: of the run, for messages. folder: its own, absolute. config: as composed."""

    name: str
    folder: Path
    config: DictConfig


def check_jobs(root: Path, jobs: Sequence[Planned], known: Collection[Path]) -> None:
    """Check the folders of a sweep's jobs, among each other and with what is there.

    Args:
        known: folders that the sweep, which is resumed, has written before.

    Raises:
        UserError: the first folder that cannot be.
    """
    taken: dict[Path, str] = {}
    for job in jobs:
        if job.folder in taken:
            raise UserError(
                f"{JOB_KEY} gives two runs the same folder {job.folder} ({taken[job.folder]} and {job.name}): valid is "
                "a name that differs between them, such as ${hydra.job.num}"
            )
        taken[job.folder] = job.name
        _check_place(root, job)
        if job.folder not in known:
            _check_free(job)


def require_name(folder: Path, key: str) -> None:
    """Raises UserError where Hydra, a file system or MLflow cannot take the folder's name."""
    text = str(folder)
    shown = text.encode("utf-8", "backslashreplace").decode()
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UserError(f"{key}={shown} is not valid UTF-8, which records and MLflow need: use another name") from error
    if "${" in text:
        raise UserError(f"{key}={shown} holds '${{', which Hydra reads as a variable: use another name")
    if not text.isprintable():
        raise UserError(f"{key}={shown!r} holds a character that cannot be printed: use another name")
    if redact(text) != text:
        raise UserError(
            f"{key}={redact(text)} would show a secret in its name: leave the key out by "
            "hydra.job.config.override_dirname.exclude_keys, or use another name"
        )
    for part in folder.parts:
        if len(part.encode()) > MAX_NAME:
            raise UserError(
                f"{key} gives a name of {len(part.encode())} bytes ({part:.40}...): valid are at most {MAX_NAME}, "
                "see hydra.job.config.override_dirname.exclude_keys"
            )


def _check_place(root: Path, job: Planned) -> None:
    """Raises UserError where a job's folder is the sweep's, or one that holds something else of the sweep's."""
    require_name(job.folder, JOB_KEY)
    if job.folder == root or job.folder in root.parents:
        raise UserError(
            f"{JOB_KEY} gives {job.name} the folder {job.folder}, which is the sweep's own or holds it: valid is a "
            "name such as ${hydra.job.num}"
        )
    parts = job.folder.relative_to(root).parts if root in job.folder.parents else ()
    if parts and parts[0] in (*SWEEP_FOLDERS, *SWEEP_FILES):
        raise UserError(
            f"{JOB_KEY} gives {job.name} the folder {job.folder}, but {parts[0]} is where something else of the sweep "
            "is stored: valid is a name such as ${hydra.job.num}"
        )
    if is_reached_by_link(job.folder, root):
        raise UserError(
            f"{JOB_KEY} gives {job.name} the folder {job.folder}, which a symbolic link leads to: valid is a folder"
        )
    for path in (job.folder, *job.folder.parents):
        if os.path.lexists(path):
            if not path.is_dir():
                raise UserError(f"{JOB_KEY} gives {job.name} the folder {job.folder}, but {path} is no folder")
            break


def _check_free(job: Planned) -> None:
    """Raises UserError where a file in a job's folder, of which the sweep knows nothing, would be overwritten."""
    for name in (*RUN_FILES, *_hydra_files(job.config), LOG_FILE):
        if os.path.lexists(job.folder / name):
            raise UserError(
                f"{JOB_KEY} gives {job.name} the folder {job.folder}, which holds {name}, not of this sweep, that "
                "would be overwritten: valid is another name or folder"
            )


def _hydra_files(config: DictConfig) -> list[str]:
    subdir = config.hydra.output_subdir
    return [] if subdir is None else [os.path.join(str(subdir), name) for name in HYDRA_NAMES]
