"""Make the chosen run of a sweep, or one run, the next version of a registered model of MLflow.

    rwkv-sweep register RUN NAME [--uri URI]

RUN is the folder of a sweep, of a run, or runs:/ID. Of a sweep the run is taken that was chosen on select.split or,
where none was, the one with the highest Spearman on the first split. It must have been tracked. The version is printed,
and Encoder.from_run("models:/NAME/VERSION") loads it.
"""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.own_files import RESULT_FILE, SWEEP_FILE
from rwkv_sweep.records.results import FINISHED, MODEL, Result
from rwkv_sweep.utils.redaction import HIDDEN

SPEARMAN = "quality/spearman"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The run, and the model's name."""
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("--uri", help="MLflow's tracking URI; of a folder, that of its sweep where none is given")


def run(args: argparse.Namespace) -> int:
    """Register, and print the version's URI."""
    # Imported here, so that --help is quick.
    from rwkv_sweep.utils.console import quiet_dependencies

    quiet_dependencies()
    from rwkv_sweep.tracking.client import RECORD
    from rwkv_sweep.tracking.model_uris import client_of, register

    if not args.name.strip():
        raise UserError("NAME is empty: valid is the name of a registered model, such as my-encoder")
    if args.run.startswith("runs:/"):
        client, _ = client_of(args.uri)
        print(register(client, args.run.removeprefix("runs:/").partition("/")[0], args.name, ""))
        return 0
    folder = Path(args.run)
    result, uri = _chosen(folder), args.uri or _tracked_at(folder)
    client, _ = client_of(uri)
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    runs = client.search_runs(experiments, f"tags.`{RECORD}` = '{result.id}'", max_results=1)
    if not runs:
        raise UserError(f"RUN={folder}: {result.name} is not in MLflow: valid is a run there, see rwkv-sweep import")
    print(register(client, runs[0].info.run_id, args.name, _description(result)))
    return 0


def _chosen(folder: Path) -> Result:
    """The run in a folder, or of the sweep in it the one chosen on `select.split`, or else the best.

    Raises:
        UserError: there is no finished run.
    """
    from rwkv_sweep.records.sweep_folder import sweep_results

    if (folder / RESULT_FILE).is_file():
        results = [Result.load(folder)]
    elif (folder / SWEEP_FILE).is_file():
        results = sweep_results(folder)
    else:
        raise UserError(
            f"RUN={folder} is neither the folder of a sweep nor of a run: valid is one of these, or runs:/ID"
        )
    runs = [result for result in results if result.kind == MODEL and result.status == FINISHED]
    if not runs:
        raise UserError(f"RUN={folder} holds no finished run of a model: valid is the folder of one, or of its sweep")
    scored = [result for result in runs if SPEARMAN in result.metrics]
    if not scored and len(runs) > 1:
        raise UserError(f"RUN={folder} holds {len(runs)} runs without a Spearman: valid is the folder of one of them")
    if len({result.tags.get("data_fingerprint") for result in scored}) > 1:
        raise UserError(f"RUN={folder} holds runs on several data sets: valid is the folder of one run")
    return _selected(folder, runs)


def _selected(folder: Path, runs: list[Result]) -> Result:
    """The run that the sweep in `folder` chose on `select.split`, or else the one with the highest Spearman.

    The terminal shows which, and why.
    """
    from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
    from rwkv_sweep.records.sweep_record import SweepRecord
    from rwkv_sweep.report.answers import find
    from rwkv_sweep.report.plain_sweep.selection import chosen_run

    choice = None
    if len(runs) > 1:
        findings = find(SweepRecord.load(folder), sweep_results(folder), result_folders(folder))
        choice = chosen_run(findings.answer)
    if choice is not None:
        result = next(run for run in runs if run.name == choice.name)
        reason = f", chosen on {choice.split} by {choice.by.rpartition('/')[2].replace('_', ' ')}"
    else:
        result = max(runs, key=lambda run: run.metrics.get(SPEARMAN, -math.inf))
        reason = ", the highest Spearman: no split chose one" if len(runs) > 1 else ""
    print(f"{result.name}{reason}: {_description(result)}", file=sys.stderr)
    return result


def _tracked_at(folder: Path) -> str | None:
    """Where the sweep of a folder, or of a run's folder, was tracked; None where that is not recorded.

    Raises:
        UserError: its URI held a password, which is not kept on disk.
    """
    from rwkv_sweep.records.sweep_record import SweepRecord

    for root in (folder, *folder.absolute().parents[:3]):
        if (root / SWEEP_FILE).is_file():
            uri = SweepRecord.load(root).tracking_config().uri
            if HIDDEN in uri:
                raise UserError(f"--uri must be given: the password of {uri} was not kept on disk")
            return uri
    return None


def _description(result: Result) -> str:
    if SPEARMAN not in result.metrics:
        return "no Spearman was measured"
    bounds = ", ".join(f"{result.metrics.get(f'{SPEARMAN}_{end}', float('nan')):.3f}" for end in ("lo", "hi"))
    return f"Spearman {result.metrics[SPEARMAN]:.3f} [{bounds}] on {result.params.get('dataset')}"
