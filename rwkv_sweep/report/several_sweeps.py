"""Several sweeps (of models, generations, commits) read as one: on one page, in one table, with one answer.

A run is named after its sweep too, which becomes one more key in which runs differ. Runs of two sweeps that scored the
same pairs are compared pair by pair, like those of one sweep; others are not, and that is said. Speeds are compared as
within a sweep: only what was timed on one device beside the same reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FINISHED, MODEL, Result
from rwkv_sweep.records.sweep_folder import result_folders, sweep_results
from rwkv_sweep.records.sweep_record import SweepRecord
from rwkv_sweep.report.answers import find
from rwkv_sweep.report.common.ranking import data_of
from rwkv_sweep.report.common.run_groups import interval, is_transductive, metric
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.common.statements import Answer, Plain, Section
from rwkv_sweep.report.common.text import listed, with_interval
from rwkv_sweep.report.findings.findings import Findings
from rwkv_sweep.report.page.data import page_data
from rwkv_sweep.report.page.html import SCRIPTS, page
from rwkv_sweep.report.plain_sweep.answer import difference
from rwkv_sweep.utils.files import write_atomically

SWEEP = "sweep"
"""The key that says which sweep a run is of."""
MACHINE = ("device_name", "version.rwkv_sweep", "commit")
MOST_NAMED = 6


@dataclass(frozen=True)
class Sweeps:
    """Sweeps by name, in the order given. record: what stands for all of them. findings: of all their runs."""

    names: list[str]
    record: SweepRecord
    findings: Findings


def read_sweeps(roots: Sequence[Path]) -> Sweeps:
    """All runs of several sweeps' folders.

    Raises:
        UserError: a folder is given twice, or contains no sweep, or its record is damaged.
    """
    if twice := [root for place, root in enumerate(roots) if root.resolve() in {r.resolve() for r in roots[:place]}]:
        raise UserError(f"{twice[0]} is given twice: valid is each sweep once")
    records = [SweepRecord.load(root) for root in roots]
    names = short_names(roots)
    runs: list[tuple[Result, Path]] = []
    for name, root in zip(names, roots, strict=True):
        for result, folder in zip(sweep_results(root), result_folders(root), strict=True):
            named = _of_sweep(result, name)
            if named.kind == MODEL or not any(_same_baseline(named, other) for other, _ in runs):
                runs.append((named, folder))
    runs.sort(key=lambda run: run[0].kind != MODEL)
    record = _record(names, records)
    results, folders = [result for result, _ in runs], [folder for _, folder in runs]
    findings = find(record, results, folders)
    comparison = Section("", [Plain(sentence) for sentence in compared_sweeps(names, findings)])
    answer = Answer(findings.answer.question, [comparison, *findings.answer.sections])
    return Sweeps(names, record, replace(findings, answer=answer))


def write_sweeps_page(path: Path, sweeps: Sweeps) -> Path:
    """Write the page of all these sweeps to `path`, and return it. Raises OSError where that is not possible."""
    write_atomically(path, page(sweeps.record.name, page_data(sweeps.record, sweeps.findings), SCRIPTS))
    return path


def short_names(roots: Sequence[Path]) -> list[str]:
    """Each folder's last parts, as many as tell all of them apart."""
    parts = [root.resolve().parts for root in roots]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(own[-count:]) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(root.resolve()) for root in roots]


def compared_sweeps(names: Sequence[str], findings: Findings) -> list[str]:
    """What sets the sweeps apart, and the best run of each with its distance from the best of all."""
    runs = [run for run in findings.records.results if run.kind == MODEL and run.status == FINISHED]
    of = {name: [run for run in runs if run.params[SWEEP] == name] for name in names}
    sentences = [*_changes(of)]
    best = {name: run for name in names if (run := _best(of[name])) is not None}
    if not best:
        return [*sentences, "None of these sweeps scored quality."]
    ahead = max(best, key=lambda name: _spearman(best[name]) or -2.0)
    for name in sorted(best, key=lambda name: -(_spearman(best[name]) or -2.0)):
        sentences.append(_best_sentence(name, best, ahead, findings))
    sentences += [f"{name}: no run with a Spearman." for name in names if name not in best]
    return sentences


def _of_sweep(result: Result, name: str) -> Result:
    """The same run, named after its sweep. Baselines keep their names, by which runs are compared with them."""
    if result.kind != MODEL:
        return result
    return replace(result, name=f"{SWEEP}={name} {result.name}", params={SWEEP: name, **result.params})


def _same_baseline(one: Result, other: Result) -> bool:
    return (
        other.kind == one.kind
        and other.name == one.name
        and data_of(other) == data_of(one)
        and _spearman(other) == _spearman(one)
    )


def _record(names: Sequence[str], records: Sequence[SweepRecord]) -> SweepRecord:
    jobs = [record.jobs for record in records]
    selects = [record.select for record in records]
    return SweepRecord(
        name=listed(names),
        parent=None,
        swept=list(dict.fromkeys([SWEEP, *(key for record in records for key in record.swept)])),
        poolings=list(dict.fromkeys(pooling for record in records for pooling in record.poolings)),
        report=None,
        tracking=asdict(TrackingConfig(enabled=False)),
        multirun=True,
        jobs=None if None in jobs else sum(count for count in jobs if count is not None),
        cwd=records[0].cwd,
        select=selects[0] if all(select == selects[0] for select in selects) else {},
    )


def _changes(of: Mapping[str, Sequence[Result]]) -> list[str]:
    """What is the same within each sweep and differs between them, in params and in what they ran on."""
    known = {name: runs for name, runs in of.items() if runs}
    parts = []
    for values in (lambda run: run.params, lambda run: {key: run.tags.get(key) for key in MACHINE}):
        keys = dict.fromkeys(key for runs in known.values() for run in runs for key in values(run) if key != SWEEP)
        for key in keys:
            own = {name: {str(values(run).get(key, "")) for run in runs} for name, runs in known.items()}
            if all(len(value) == 1 for value in own.values()) and len({min(value) for value in own.values()}) > 1:
                parts.append(f"{key} ({', '.join(min(own[name]) or 'none' for name in known)})")
    if not parts:
        return ["The sweeps differ in nothing that their records hold, beyond what was swept within each."]
    more = f" and {len(parts) - MOST_NAMED} more" if len(parts) > MOST_NAMED else ""
    return [f"The sweeps differ in {'; '.join(parts[:MOST_NAMED])}{more}."]


def _spearman(run: Result) -> float | None:
    splits = split_names([run])
    return metric(run, spearman_key(splits[0])) if splits else metric(run, "quality/spearman")


def _best(runs: Sequence[Result]) -> Result | None:
    """The run with the highest Spearman, of those that were not fitted on the scored sentences where there are such."""
    scored = [run for run in runs if _spearman(run) is not None]
    inductive = [run for run in scored if not is_transductive(run)]
    return max(inductive or scored, key=lambda run: _spearman(run) or -2.0, default=None)


def _best_sentence(name: str, best: Mapping[str, Result], ahead: str, findings: Findings) -> str:
    run, split = best[name], (split_names([best[name]]) or [""])[0]
    own = with_interval(interval(run, spearman_key(split)))
    text = f"{name}: the highest is {findings.labels[run.name]}, {own} on {split}"
    if name == ahead:
        return f"{text}, the highest of all sweeps, chosen after looking."
    if data_of(run)[2] != data_of(best[ahead])[2]:
        return f"{text}; other pairs than those of {ahead}, so the two cannot be compared."
    delta = difference(findings.records.folder(run), findings.records.folder(best[ahead]), split)
    if delta is None:
        return f"{text}; its scores cannot be compared with those of {ahead} pair by pair."
    verdict = "within noise of" if delta.lo <= 0 <= delta.hi else "below"
    return f"{text}, {verdict} that of {ahead} ({with_interval(delta, '+.3f')} on the same pairs)."
