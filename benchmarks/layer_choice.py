"""Which layer each criterion chooses on MRPC, and what its choice loses in Spearman against the best in hindsight.

For each byte-level checkpoint, one sweep over all layers, chosen on `train` and scored on `validation`, and one run of
the learned aggregation. A loss is in Spearman on `validation` against the layer that is best there, which nobody knows
beforehand, with a 95 % paired bootstrap interval.

FOLDER holds `rwkv6-tiny-bytes.pth` and the others, and MRPC as TSV. About five minutes a checkpoint on two cores; what
`--work` has finished is not run again.

Command: python -m benchmarks.layer_choice --models FOLDER --data FOLDER --out layer-choice.json
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import benchmark_parser, write_record
from benchmarks.tables import layer_choice
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.ranking import recorded_scores
from rwkv_sweep.report.common.run_groups import layer, metric
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.plain_sweep.representation import HIGHEST

RESAMPLES, SEED = 2000, 0
CHECKPOINTS = ("rwkv5", "rwkv6", "rwkv7")
LAYERS = "0,1,2,3,4,5,6,7,8,9,10,11,final"
CRITERIA = {
    "Spearman on the split to choose on": ("select/spearman", True),
    "probe, cross-validated": ("probe/fit_score", True),
    **{name: (f"representation/{name}", highest) for name, highest in HIGHEST.items()},
    "alignment (of the pairs scored, labels read)": ("representation/alignment", False),
}
"""Metric of each criterion, and whether its highest value chooses."""
LEARNED = "learned weights of all"


def sweep(checkpoint: Path, data: Path, work: Path) -> tuple[Path, Path]:
    """Run the layers and the learned aggregation; returns their folders."""
    common = ["model=local", f"model.path={checkpoint}", "model.tokenizer=bytes", "dataset=mrpc", "resume=true"]
    common += [f"dataset.path={data}", "dataset.splits=[validation]", "select.split=train", "tracking.enabled=false"]
    common += [f"store.path={work / 'store'}", "measure.latency_pairs=0", "measure.throughput=false"]
    layers, learned = work / f"{checkpoint.stem}-layers", work / f"{checkpoint.stem}-learned"
    command = [sys.executable, "-m", "rwkv_sweep"]
    own = ["-m", f"layer={LAYERS}", "measure.representation=true", "measure.probe=true", "measure.probe_fit=train"]
    subprocess.run([*command, *own, *common, f"hydra.sweep.dir={layers}"], check=True)
    own = ["layer=all", "aggregation=learned", "aggregation.fit=train", f"hydra.run.dir={learned}"]
    subprocess.run([*command, *own, *common], check=True)
    return layers, learned


def choices(layers: Path, learned: Path | None = None) -> list[dict[str, Any]]:
    """What each criterion chooses: `by`, `layer`, `spearman` on the first split, and `loss` with its bounds.

    Args:
        layers: folder of a sweep over layers. learned: folder of the run with learned weights, of the same pairs.
    """
    runs = {run.name: (run, folder) for run, folder in _finished(layers)}
    split, *_ = split_names([run for run, _ in runs.values()])
    key = spearman_key(split)
    best, best_folder = max(runs.values(), key=lambda run_folder: metric(run_folder[0], key) or -2.0)
    labels, highest_P = _scores(best_folder, split)

    def row(by: str, chosen: Result, folder: Path, name: str) -> dict[str, Any]:
        loss = paired_difference(highest_P, _scores(folder, split)[1], labels, RESAMPLES, SEED)
        bounds = (0.0, 0.0, 0.0) if chosen is best else (loss.value, loss.lo, loss.hi)
        return {"by": by, "layer": name, "spearman": chosen.metrics[key], "loss": list(bounds)}

    rows = [row(f"best in hindsight ({split})", best, best_folder, layer(best))]
    for by, (name, highest) in CRITERIA.items():
        values = {run_name: value for run_name, (run, _) in runs.items() if (value := metric(run, name)) is not None}
        if values:
            chosen, folder = runs[(max if highest else min)(values, key=values.__getitem__)]
            rows.append(row(by, chosen, folder, layer(chosen)))
    if learned is not None:
        rows.insert(2, row(LEARNED, Result.load(learned), learned, "all"))
    return rows


def _finished(folder: Path) -> Iterator[tuple[Result, Path]]:
    for path in sorted(folder.glob("[0-9]*/result.json"), key=lambda path: int(path.parent.name)):
        run = Result.load(path.parent)
        if run.kind == "model" and run.status == FINISHED:
            yield run, path.parent


def _scores(folder: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    recorded = recorded_scores(folder, split)
    if recorded is None:
        raise SystemExit(f"{folder} has no scores of the split {split}: valid is the folder of a finished run")
    return recorded


def main() -> None:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--models", type=Path, required=True, help="folder of the checkpoints")
    parser.add_argument("--data", type=Path, required=True, help="folder of MRPC")
    parser.add_argument("--work", type=Path, default=Path("layer-choice"), help="folder of the sweeps")
    arguments = parser.parse_args()
    record: dict[str, Any] = {"machine": device_tags(torch.device("cpu")), "choices": {}}
    for name in CHECKPOINTS:
        folders = sweep(arguments.models / f"{name}-tiny-bytes.pth", arguments.data, arguments.work.absolute())
        record["choices"][name] = choices(*folders)
        write_record(arguments.out, arguments, record)
    print(layer_choice(record))


if __name__ == "__main__":
    main()
