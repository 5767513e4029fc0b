"""Which layer each criterion chooses, and what its choice loses in Spearman against the best layer in hindsight.

Reads the folder of a sweep over layers whose first split is scored; the second one and the probe's own pairs are there
to choose by. The loss is that on the scored split, with a 95 % paired bootstrap interval.

Command: python -m benchmarks.layer_choice SWEEP
"""

from __future__ import annotations

import argparse
from pathlib import Path

from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.records.sweep_folder import sweep_results
from rwkv_sweep.report.common.ranking import recorded_scores
from rwkv_sweep.report.common.run_groups import layer, metric
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.common.text import table
from rwkv_sweep.report.plain_sweep.representation import HIGHEST

RESAMPLES, SEED = 2000, 0


def criteria(scored: str, other: str | None) -> dict[str, tuple[str, bool]]:
    """Metric of each criterion, and whether its highest value chooses."""
    chosen = {f"best in hindsight ({scored})": (spearman_key(scored), True)}
    if other is not None:
        chosen[f"Spearman on {other}"] = (spearman_key(other), True)
    chosen["Spearman on the split to choose on"] = ("select/spearman", True)
    chosen["probe, cross-validated"] = ("probe/fit_score", True)
    return chosen | {name: (f"representation/{name}", highest) for name, highest in HIGHEST.items()}


def rows(folder: Path) -> list[list[str]]:
    """Criterion, its layer, that layer's Spearman, and the loss with its interval."""
    runs = {run.name: run for run in sweep_results(folder) if run.kind == "model" and run.status == FINISHED}
    places = {Result.load(path.parent).name: path.parent for path in folder.glob("[0-9]*/result.json")}
    scored, *others = split_names(list(runs.values()))
    best = max(runs.values(), key=lambda run: metric(run, spearman_key(scored)) or -2.0)
    lines = []
    for name, (key, highest) in criteria(scored, others[0] if others else None).items():
        values = {run.name: value for run in runs.values() if (value := metric(run, key)) is not None}
        if not values:
            continue
        chosen = runs[(max if highest else min)(values, key=values.__getitem__)]
        own, theirs = recorded_scores(places[chosen.name], scored), recorded_scores(places[best.name], scored)
        assert own is not None and theirs is not None
        loss = "0"
        if chosen is not best:
            difference = paired_difference(theirs[1], own[1], own[0], RESAMPLES, SEED)
            loss = f"{difference.value:.3f} [{difference.lo:.3f}, {difference.hi:.3f}]"
        lines.append([name, layer(chosen), f"{chosen.metrics[spearman_key(scored)]:.3f}", loss])
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path, help="folder of the sweep")
    print(table(["chosen by", "layer", "Spearman", "loss [95 %]"], rows(parser.parse_args().sweep)))


if __name__ == "__main__":
    main()
