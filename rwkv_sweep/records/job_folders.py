"""Where the jobs of a sweep are stored: as Hydra composes it (`hydra.sweep.subdir`), recorded in sweep.json before any
starts.

Folders that cannot be known beforehand (of a sweeper that chooses its jobs as it goes, of a name with a scheduler's id)
are noted by the jobs themselves, each in a file of its own.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from rwkv_sweep.records.own_files import NOTES
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.utils.files import write_atomically


def composed_folders(jobs: Sequence[DictConfig], root: Path) -> list[Path] | None:
    """The folders of these jobs by number, absolute; None where they are known where a job runs alone.

    Raises:
        OmegaConfBaseException: `hydra.sweep.subdir` refers to a key that is not there.
    """
    folders: list[Path] = []
    before = HydraConfig.instance().cfg
    try:
        for number, job in enumerate(jobs):
            HydraConfig.instance().cfg = job  # type: ignore[assignment]  # for ${hydra:...}
            subdir = _subdir(job, number)
            if subdir is None:
                return None
            folders.append(Path(os.path.normpath(root / subdir)))
    finally:
        HydraConfig.instance().cfg = before
    return folders


def _subdir(job: DictConfig, number: int) -> str | None:
    """What Hydra's launchers will compose; they set the same number and, on this machine, the same id."""
    launcher = str(job.hydra.launcher._target_).rpartition(".")[2]
    ids = {"BasicLauncher": number, "JoblibLauncher": f"{job.hydra.job.name}_{number}"}
    with open_dict(job.hydra.job):
        job.hydra.job.num = number
        if launcher in ids:
            job.hydra.job.id = ids[launcher]
    try:
        raw = str(OmegaConf.to_container(job.hydra.sweep, resolve=False))
        if launcher not in ids and "job.id" in raw:  # a scheduler gives it
            return None
        return str(OmegaConf.select(job, "hydra.sweep.subdir", throw_on_missing=True))
    except OmegaConfBaseException:
        if launcher in ids:
            raise
        return None  # such as a variable of the scheduler's


def relative(root: Path, folder: Path) -> str:
    """A job's folder as it is recorded: the sweep's folder may be moved as a whole."""
    return os.path.relpath(folder, root)


def note_folder(root: Path, record: SweepRecord, number: int, folder: Path) -> None:
    """Note where a job is stored, if sweep.json does not have it; called by the job itself, wherever it runs."""
    name = relative(root, folder)
    if record.multirun and not (record.folders and number < len(record.folders) and record.folders[number] == name):
        write_atomically(root / NOTES / str(number), name + "\n")


def recorded_folders(root: Path, record: SweepRecord) -> dict[int, Path]:
    """Folders of the jobs by number, as the sweep has recorded them, whether or not they are there."""
    if not record.multirun:
        return {0: root}
    names = dict(enumerate(record.folders or []))
    names.update(_notes(root))
    if not names and record.folders is None:  # of a version that recorded none, and numbered them
        names = {number: str(number) for number in range(record.jobs or 0)}
    return {number: Path(os.path.normpath(root / name)) for number, name in sorted(names.items())}


def _notes(root: Path) -> Iterator[tuple[int, str]]:
    for path in note_files(root):
        yield int(path.name), path.read_text(encoding="utf-8").rstrip("\n")


def note_files(root: Path) -> list[Path]:
    """The notes that jobs have left in a sweep's folder."""
    folder = root / NOTES
    if folder.is_symlink() or not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.name.isdecimal() and path.is_file() and not path.is_symlink()]


def is_reached_by_link(folder: Path, root: Path) -> bool:
    """Whether a symbolic link below the sweep's folder (or beside it) leads to the job's folder."""
    common = Path(os.path.commonpath([folder, root]))
    path = common
    for part in folder.relative_to(common).parts:
        path = path / part
        if path.is_symlink():
            return True
    return False
