"""One sweep against its jobs as separate processes: the headline sweep of twelve runs, each way from an empty folder.

As separate processes nothing is shared: each job starts Python, loads its model, runs its own forward to its own depth,
scores the baselines and is timed, with a store of its own. Both ways run the same command line with the same settings.

Command: make bench-sweep
         python -m benchmarks.sweep --layers 1 3 5 --precisions fp16 --out sweep.json
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

from benchmarks.common import benchmark_parser, write_record
from rwkv_sweep.utils.stage_timer import STAGES

ROOT = Path(__file__).parent.parent


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--layers", nargs="+", default=["1", "3", "5", "7", "9", "11"])
    parser.add_argument("--precisions", nargs="+", default=["fp16", "int8"])
    parser.add_argument("overrides", nargs="*", help="for both ways, as in `device=cpu device.threads=2`")
    return parser.parse_args()


def run(folder: Path, overrides: list[str]) -> tuple[float, list[dict[str, float]]]:
    """Seconds of one command in an empty folder, and the metrics of its runs.

    Raises:
        RuntimeError: it failed.
    """
    command = [sys.executable, "-m", "rwkv_sweep", *overrides]
    folder.mkdir()
    start = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    # Artifacts hold copies of the records.
    paths = [path for name in ("outputs", "multirun") for path in sorted((folder / name).rglob("result.json"))]
    return seconds, [json.loads(path.read_text())["metrics"] for path in paths]


def split(metrics: list[dict[str, float]]) -> dict[str, float]:
    """Seconds of each stage, over all runs."""
    return {stage: sum(values.get(f"time/{stage}_s", 0.0) for values in metrics) for stage in STAGES}


def main() -> None:
    args = arguments()
    jobs = list(itertools.product(args.layers, args.precisions))
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        swept = [f"layer={','.join(args.layers)}", f"precision={','.join(args.precisions)}"]
        together, metrics = run(root / "sweep", ["-m", *swept, *args.overrides])
        apart_s, apart_metrics = [], []
        for number, (layer, precision) in enumerate(jobs):
            seconds, job_metrics = run(
                root / str(number), [f"layer={layer}", f"precision={precision}", *args.overrides]
            )
            apart_s.append(seconds)
            apart_metrics += job_metrics
    stages = {"one sweep": split(metrics), "separate processes": split(apart_metrics)}
    totals = {"one sweep": together, "separate processes": sum(apart_s)}
    print(f"{date.today()}  {len(jobs)} jobs")
    print(f"{'':20}{'seconds':>9}" + "".join(f"{stage:>10}" for stage in STAGES) + f"{'rest':>10}")
    for way, total in totals.items():
        cells = [*stages[way].values(), total - sum(stages[way].values())]
        print(f"{way:20}{total:9.1f}" + "".join(f"{cell:10.1f}" for cell in cells))
    print(f"separate processes take {sum(apart_s) / together:.2f} times as long")
    write_record(args.out, args, {"seconds": totals, "stages_s": stages, "separate_s": apart_s})


if __name__ == "__main__":
    main()
