"""Everything about the runs of a sweep that can be refused before the first of them starts."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from rwkv_sweep.config.fitting_splits import aggregation_split, output_split, selection_split
from rwkv_sweep.config.params import data_key
from rwkv_sweep.config.path_values import refusals_of
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.data.corpus import calibration_corpus, fitting_corpus, load_corpus
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit, load_fit_split, load_splits
from rwkv_sweep.embedding.pooling import IDF
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.evaluation.baselines import Baseline, baseline_folder, load_baselines, run_baseline
from rwkv_sweep.evaluation.resampling import Resampling
from rwkv_sweep.evaluation.tasks.loading import check_tasks
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.records.results import FINDINGS, FINISHED, Result
from rwkv_sweep.records.sweep_record import STOP_FILE
from rwkv_sweep.sweep.runs.checking import check_device, check_layers, check_output, check_use
from rwkv_sweep.sweep.runs.choosing import check_search
from rwkv_sweep.sweep.runs.process import Process
from rwkv_sweep.sweep.runs.resume import recorded, reuse_finished
from rwkv_sweep.sweep.runs.run_key import baseline_key
from rwkv_sweep.utils.console import log_line
from rwkv_sweep.utils.files import write_atomically


@dataclass(frozen=True)
class Prepared:
    """Data and baselines shared by all runs with the same data."""

    run: RunConfig
    splits: list[PairSplit]
    baselines: list[Baseline]

    def run_baselines(self, root: Path, parent: str | None, process: Process) -> None:
        """Run each baseline that `root` has no record of, nor, where the sweep is resumed, MLflow; and track it.

        Args:
            root: the sweep's folder.
            parent: the sweep's run in MLflow, if it is tracked.
            process: what it keeps from baseline to baseline.
        """
        tracking, resampling = self.run.tracking, Resampling(self.run.bootstrap, self.run.seed)
        for baseline in self.baselines:
            name = baseline.name
            folder = baseline_folder(root, name, data_key(self.run))
            key = baseline_key(name, self.run, process.fingerprints)
            folder.mkdir(parents=True, exist_ok=True)
            result = recorded(folder, key)
            if result is None and self.run.resume:
                result = reuse_finished(folder, root, key, name, tracking, process.servers)
            again = result is not None
            if result is None:
                result = run_baseline(baseline, self.splits, self.run.dataset, self.run.measure, resampling, folder)
                result = replace(result, id=uuid.uuid4().hex, key=key)
                result.save(folder)
                _report_unfinished(result, self.run.on_error, root)
            process.servers.track_result(tracking, result, folder, parent, again)


def _report_unfinished(result: Result, on_error: str, root: Path) -> None:
    """Report a baseline without a figure; one that failed ends the sweep where `on_error=stop`, as a job would."""
    if result.status == FINISHED or result.error is None:
        return
    failed = result.status not in FINDINGS
    log_line(f"{result.name} {result.status.lower()}: {result.error['message']}", error=failed)
    if failed and on_error == "stop":
        write_atomically(root / STOP_FILE, result.name + "\n")


@dataclass(frozen=True)
class Checked:
    """What came out of the checks of a sweep's runs.

    Attributes:
        prepared: data and baselines, once for all runs that share them.
        same_as: of each run the number of the first run that is the same one: its own, unless its layers were named
            before by another name (`final`, `-1` and `12`) or by the same.
    """

    prepared: list[Prepared]
    same_as: list[int]


def check_runs(runs: Iterable[RunConfig], device_here: bool = True) -> Checked:
    """Check every run's model shape, layers, aggregation, device and data.

    Args:
        device_here: whether the runs' device is this machine's; a cluster's is known to its nodes alone.

    Raises:
        UserError: the first thing found wrong.
        UnsupportedError: this device, or what is installed, can run none of them.
    """
    prepared: dict[str, Prepared] = {}
    shapes: dict[str, Shape] = {}
    fits: set[str] = set()
    unsupported: list[UnsupportedError] = []
    first_of: dict[str, int] = {}
    same_as: list[int] = []
    runs = list(runs)
    _require_model_path_read(runs)
    for number, run in enumerate(runs):
        model = repr(run.model)
        if model not in shapes:
            with refusals_of("model.path", run.model.path):
                shapes[model] = model_source(run.model).check()
        layers = check_layers(run.layer, run.pooling.spec, run.aggregation, run.postprocess, shapes[model])
        check_output(run.output, layers, run.pooling.spec, run.aggregation, shapes[model])
        same_as.append(first_of.setdefault(repr(replace(run, layer=layers)), number))
        try:
            check_use(run.model, run.precision, run.pooling.spec, run.max_tokens, shapes[model])
            if device_here:
                check_device(run.precision, run.device)
        except UnsupportedError as error:
            # The job will be recorded as unsupported; a command of nothing but such jobs is refused.
            unsupported.append(error)
        key = data_key(run)
        if key not in prepared:
            with refusals_of("dataset.path", run.dataset.path):
                splits = load_splits(run.dataset)
            check_tasks(run.dataset.tasks)
            baselines = load_baselines(run.baselines, run.word_vectors.path, run.dataset.word_split)
            prepared[key] = Prepared(run, splits, baselines)
        fit = repr((run.pooling, run.postprocess, run.dataset, run.measure.probe, run.measure.probe_fit))
        fit += repr((run.aggregation, run.precision.calibration, run.precision.calibration_fit))
        fit += repr((run.select, run.search, run.output, run.output_fit))
        if fit not in fits:
            fits.add(fit)
            try:
                _check_fit(run, prepared[key].splits)
            except UnsupportedError as error:  # data without a split to fit learned weights to
                unsupported.append(error)
    if unsupported and len(unsupported) == len(same_as):
        raise unsupported[0]
    return Checked(list(prepared.values()), same_as)


def _require_model_path_read(runs: list[RunConfig]) -> None:
    """Raises UserError where `model.path` is given, and no run reads it: each would be of another model than asked."""
    given = [run.model for run in runs if run.model.path is not None]
    if given and not any(model_source(model).reads_path for model in given):
        model = given[0]
        raise UserError(
            f"model.path={model.path} is not read with model={model.name}: valid is model=local model.path={model.path}"
        )


def _check_fit(run: RunConfig, splits: list[PairSplit]) -> None:
    """Raises UserError where the texts that something of a run is fitted on cannot be read or used."""
    calibration_corpus(run.precision, run.dataset, splits)
    if (split := output_split(run.output, run.output_fit, run.dataset)) is not None:
        fitting_corpus("output_fit", split, run.dataset, splits)
    if run.pooling.name == IDF:
        load_corpus(run.pooling, run.dataset)
    if run.postprocess.name != "none" and run.postprocess.fit is not None:
        load_fit_split(run.dataset, run.postprocess.fit)
    if run.measure.probe and run.measure.probe_fit is not None:
        fitting_pairs(run.dataset, "measure.probe_fit", run.measure.probe_fit, splits[:1])
    if (spec := aggregation_split(run.aggregation, run.dataset)) is not None:
        fitting_pairs(run.dataset, "aggregation.fit", spec, splits)
    spec = selection_split(run.select, run.dataset)
    check_search(run.search, run.select, spec, run.pooling.fit or run.pooling.corpus)
    if spec is not None:
        fitting_pairs(run.dataset, "select.split", spec, splits)
