"""Many processes that track their runs at once: `crowd.py URI ARTIFACTS WORKERS RUNS FOLDER`.

All are forked from one that has loaded MLflow but opened nothing, and meet a database that none has made yet. Prints
the seconds between the first and the last, and each worker's number of runs that could not be tracked.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.tracking import Servers, Tracker


def main() -> None:
    uri, artifacts, workers, runs, folder = sys.argv[1:]
    config = TrackingConfig(True, uri, artifacts, "crowd")
    started = time.monotonic()
    children = []
    for worker in range(int(workers)):
        child = os.fork()
        if child == 0:
            os._exit(track_share(config, range(worker, int(runs), int(workers)), Path(folder)))
        children.append(child)
    lost = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    print(json.dumps({"seconds": time.monotonic() - started, "lost": lost}))


def track_share(config: TrackingConfig, share: range, folder: Path) -> int:
    lost, servers = 0, Servers()
    for number in share:
        record = folder / str(number)
        record.mkdir()
        params = {f"key_{index}": index for index in range(50)}
        metrics = {f"quality/{index}": number + index / 100 for index in range(60)}
        now = time.time()
        result = Result(
            f"run {number}", "model", FINISHED, params, metrics, {}, None, now, now, f"id{number}", f"k{number}"
        )
        result.save(record)

        def log(tracker: Tracker, result: Result = result, record: Path = record) -> str:
            return tracker.log_result(result, record, None)

        lost += servers.tracked(config, log, retry=True) is None
    return lost


if __name__ == "__main__":
    main()
