"""Bring into MLflow what it could not take when it happened. Doing so twice changes nothing.

    python -m rwkv_sweep.tracking import FOLDER [--uri URI] [--experiment NAME] [--artifacts FOLDER]

FOLDER is a sweep's or a run's, or one that holds many, such as multirun. Without --uri, runs go where the sweep was to
be tracked; a URI with a password is not kept on disk and must be given again.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.redaction import HIDDEN, redact
from rwkv_sweep.sweep_folder import LOCK_FILE
from rwkv_sweep.sweep_record import SWEEP_FILE, SweepRecord
from rwkv_sweep.terminal import quiet_dependencies


def main(arguments: list[str] | None = None) -> int:
    """Returns the exit code: 0, 1 where the server failed, 2 for bad input."""
    parser = argparse.ArgumentParser(
        prog="python -m rwkv_sweep.tracking", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("action", choices=("import",))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--uri", help="MLflow's tracking URI")
    parser.add_argument("--experiment", help="the experiment's name")
    parser.add_argument("--artifacts", help="where artifacts go, for an SQLite database")
    args = parser.parse_args(arguments)
    quiet_dependencies()
    given: dict[str, Any] = {"uri": args.uri, "experiment": args.experiment, "artifacts": args.artifacts}
    try:
        roots = sorted(path.parent for path in args.folder.rglob(SWEEP_FILE))
        if not roots:
            raise UserError(f"{args.folder} holds no {SWEEP_FILE}: give the folder of a sweep or a run")
        for root in roots:
            _import(root, {key: value for key, value in given.items() if value is not None})
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Exception as error:  # a server or database can fail in many ways
        reason = (redact(str(error)).splitlines() or [""])[0]
        print(f"error: the import failed ({type(error).__name__}: {reason})", file=sys.stderr)
        return 1
    return 0


def _import(root: Path, given: dict[str, Any]) -> None:
    from rwkv_sweep.tracking import Tracker, close_imported, import_folder

    config = replace(TrackingConfig(**SweepRecord.load(root).tracking), **given)
    if f"{HIDDEN}@" in config.uri:
        raise UserError(f"--uri must be given: the password of {config.uri} was not kept on disk")
    try:
        with FileLock(root / LOCK_FILE, timeout=0):
            tracker = Tracker(config)
            done = import_folder(tracker, root)
            close_imported(tracker, root)
    except Timeout as error:
        raise UserError(f"{root} is still being written: its own end tracks what is missing") from error
    print(f"{root}: {done.new} imported, {done.completed} completed, {done.present} there already")


if __name__ == "__main__":
    sys.exit(main())
