"""Log to MLflow what it could not take during a sweep. Doing so twice changes nothing.

    rwkv-sweep import FOLDER [--uri URI] [--experiment NAME] [--artifacts FOLDER]

FOLDER is a sweep's or a run's, or one that holds many, such as multirun. Without --uri, runs go where the sweep was to
be tracked; a URI with a password is not kept on disk and must be given again.

A record that is damaged, or that MLflow refuses, is left out and named; the others are imported, and the command
exits 2.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rwkv_sweep.errors import BAD_INPUT, SOME_FAILED, UserError
from rwkv_sweep.records.own_files import LOCK_FILE
from rwkv_sweep.records.sweep_record import SWEEP_FILE, SweepRecord
from rwkv_sweep.utils.console import quiet_dependencies
from rwkv_sweep.utils.redaction import HIDDEN


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The folder, and where its runs go."""
    parser.add_argument("folder", type=Path, metavar="FOLDER")
    parser.add_argument("--uri", help="MLflow's tracking URI")
    parser.add_argument("--experiment", help="the experiment's name")
    parser.add_argument("--artifacts", help="where artifacts go, for an SQLite database")


def run(args: argparse.Namespace) -> int:
    """Import; the exit code is 1 where the server failed, and 2 where a record was left out."""
    quiet_dependencies()
    given: dict[str, Any] = {"uri": args.uri, "experiment": args.experiment, "artifacts": args.artifacts}
    given = {key: value for key, value in given.items() if value is not None}
    try:
        return BAD_INPUT if _import_all(args.folder, given) else 0
    except UserError:
        raise
    except Exception as error:  # a server or database can fail in many ways
        from rwkv_sweep.tracking.client import error_line

        print(f"error: the import failed ({error_line(error)})", file=sys.stderr)
        return SOME_FAILED


def _import_all(folder: Path, given: dict[str, Any]) -> bool:
    """Import every sweep at or under `folder`; whether anything was left out, which has been reported.

    Raises:
        UserError: there is none, or it is the only one and cannot be imported.
    """
    roots = sorted(path.parent for path in folder.rglob(SWEEP_FILE))
    if not roots:
        raise UserError(f"{folder} holds no {SWEEP_FILE}: give the folder of a sweep or a run")
    left_out = False
    for root in roots:
        try:
            left_out |= _import(root, given)
        except UserError as error:
            if len(roots) == 1:
                raise
            print(f"error: {error}", file=sys.stderr)
            left_out = True
    return left_out


def _import(root: Path, given: dict[str, Any]) -> bool:
    from filelock import FileLock, Timeout

    from rwkv_sweep.config.schema import TrackingConfig
    from rwkv_sweep.tracking import Tracker, check_tracking, close_imported, import_folder

    record = SweepRecord.load(root)
    config = TrackingConfig(**{"enabled": True, **_recorded(record, given), **given})
    if f"{HIDDEN}@" in config.uri or f"={HIDDEN}" in config.uri:
        raise UserError(f"--uri must be given: the password of {config.uri} was not kept on disk")
    try:
        check_tracking(config)
    except UserError as error:
        raise UserError(str(error).replace("tracking.", "--", 1)) from error
    try:
        with FileLock(root / LOCK_FILE, timeout=0):
            tracker = Tracker(config)
            done = import_folder(tracker, root)
            close_imported(tracker, root)
    except Timeout as error:
        raise UserError(f"{root} is still being written: its own end tracks what is missing") from error
    left_out = f", {done.damaged} left out" if done.damaged else ""
    print(f"{root}: {done.new} imported, {done.completed} completed, {done.present} there already{left_out}")
    return done.damaged > 0


def _recorded(record: SweepRecord, given: dict[str, Any]) -> dict[str, Any]:
    """Where the sweep was to be tracked; not read where the command line gives all of it."""
    if {"uri", "experiment", "artifacts"} <= given.keys():
        return {}
    config = record.tracking_config()
    return {"uri": config.uri, "experiment": config.experiment, "artifacts": config.artifacts}
