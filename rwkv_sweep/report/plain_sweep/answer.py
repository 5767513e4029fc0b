"""The answer of any sweep: which run is best, whether the pairs can show it, what it beats, and what is cheaper."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from rwkv_sweep.errors import NonFiniteError
from rwkv_sweep.evaluation.metrics import paired_difference
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.comparisons import Comparison, comparisons, limited
from rwkv_sweep.report.common.labels import run_labels, varied_keys
from rwkv_sweep.report.common.ranking import Ranking, data_of, recorded_scores
from rwkv_sweep.report.common.run_groups import depth, interval, is_transductive, metric
from rwkv_sweep.report.common.splits import spearman_key, split_names
from rwkv_sweep.report.common.statements import NOTHING, Answer, Plain, Records, Section, Statement
from rwkv_sweep.report.plain_sweep.representation import without_labels
from rwkv_sweep.report.plain_sweep.search import searched
from rwkv_sweep.report.plain_sweep.selection import chosen
from rwkv_sweep.report.plain_sweep.statements import Against, Baselines, Best, Caution, Cheapest, Cost, OtherSplit
from rwkv_sweep.report.plain_sweep.tasks import on_tasks
from rwkv_sweep.report.speeds.speeds import REGIMES, Speeds, speeds
from rwkv_sweep.stats.intervals import Interval

QUESTION = "Which run is best, can the pairs show it, and what does it cost?"
RESAMPLES, SEED = 2000, 0


def plain_answer(records: Records, ranked: Sequence[Ranking], swept: Sequence[str]) -> Answer:
    """A section for each set of pairs that the sweep scored. ranked: of each, as `rankings` gives them."""
    results = records.results
    runs = [run for run in results if run.kind == "model" and run.status == FINISHED]
    if not runs:
        return Answer(QUESTION, [Section("", [Plain(NOTHING)])])
    labels = run_labels(results, varied_keys(results, swept))
    if not ranked:
        return Answer(QUESTION, [Section("", [Plain(_no_quality(runs)), *_costs(runs, runs[0], labels)])])
    family = comparisons(results)
    sections = []
    for ranking in ranked:
        data = data_of(ranking.runs[0])
        name = " ".join(filter(None, data[:2])) if len(ranked) > 1 else ""
        sections.append(Section(name, _statements(ranking, records, labels, family)))
    return Answer(QUESTION, sections)


def _statements(
    ranking: Ranking, records: Records, labels: Mapping[str, str], family: Sequence[Comparison]
) -> list[Statement]:
    data = data_of(ranking.runs[0])
    baselines = [
        run
        for run in records.results
        if run.kind == "baseline" and run.status == FINISHED and data_of(run)[2] == data[2]
    ]
    inductive = [run for run in ranking.runs if not is_transductive(run)]
    compared = ranking.among(inductive) if inductive else ranking
    best, splits = compared.runs[0], split_names(ranking.runs)
    left_out = len(ranking.runs) - len(compared.runs)
    statements: list[Statement] = [best_statement(compared, labels, left_out)]
    if against := _against(best, baselines, family):
        statements.append(Baselines(labels[best.name], splits[0], against, len(family), len(compared.runs), left_out))
    statements += _costs(compared.within_noise, best, labels)
    others = [_other_split(best, baselines, records, labels, split, splits[0]) for split in splits[1:]]
    statements += [other for other in others if other is not None]
    choice = chosen(compared, records, labels)
    statements[1:1] = [*choice, *searched(compared.runs, splits[0], labels), *on_tasks(ranking.runs, labels)]
    statements += without_labels(compared, records, labels)
    held_out = len(splits) > 1 or bool(choice)
    caution = Caution(compared.pairs, len(compared.runs), _no_signal(compared), held_out, _more(family))
    return [*statements, caution] if caution.text else statements


def best_statement(ranking: Ranking, labels: Mapping[str, str], left_out: int = 0) -> Best:
    """Who is ahead, and of whom that can be said."""
    best, *_ = ranking.runs
    alike = [labels[run.name] for run in ranking.within_noise if run is not best]
    own = interval(best, spearman_key(ranking.split)) or Interval(*[ranking.values[0]] * 3)
    return Best(labels[best.name], own, ranking.split, len(ranking.runs), alike, left_out, ranking.compared)


def _no_signal(ranking: Ranking) -> bool:
    """Whether no run's own interval leaves out 0."""
    own = [interval(run, spearman_key(ranking.split)) for run in ranking.runs]
    return all(interval_of_run is not None and interval_of_run.lo <= 0 <= interval_of_run.hi for interval_of_run in own)


def _more(family: Sequence[Comparison]) -> list[str]:
    return [sentence] if (sentence := limited(family)) else []


def _no_quality(runs: Sequence[Result]) -> str:
    random = any("random" in run.tags.get("note.quality", "") for run in runs)
    return "No quality was scored: the weights are random." if random else "No quality was scored."


def _against(best: Result, baselines: Sequence[Result], family: Sequence[Comparison]) -> list[Against]:
    """The best run against each baseline, on the first split."""
    verdicts = {comparison.against: comparison.survives for comparison in family if comparison.run == best.name}
    statements = []
    for baseline in baselines:
        delta = interval(best, f"baseline/{baseline.name}/delta")
        if delta is not None:
            own = interval(baseline, "quality/spearman")
            statements.append(Against(baseline.name.replace("_", " "), own, delta, verdicts.get(baseline.name)))
    return statements


def _costs(runs: Sequence[Result], best: Result, labels: Mapping[str, str]) -> list[Statement]:
    """The fastest of these runs, in each regime that was timed on one scale."""
    if len(runs) < 2:
        return []
    regimes, not_compared = [], []
    for regime in REGIMES:
        compared = speeds(runs, regime)
        if best.name in compared.of:
            regimes.append(_cheapest(compared, best, labels))
        elif sum(metric(run, regime.raw) is not None for run in runs) > 1:
            not_compared.append(
                (regime.where, compared.why_not or f"{labels[best.name]} was not timed with the others")
            )
    deepest, fewest = max(map(depth, runs)), min(map(depth, runs))
    shallow = [labels[run.name] for run in runs if depth(run) == fewest]
    cost = Cost(regimes, shallow, fewest, deepest if fewest else 0, not_compared)
    return [cost] if cost.text else []


def _cheapest(compared: Speeds, best: Result, labels: Mapping[str, str]) -> Cheapest:
    fastest = compared.fastest
    ratio = None if best.name in fastest else compared.ratio(fastest[0], best.name)
    return Cheapest(
        compared.regime.where,
        [labels[name] for name in fastest],
        labels[best.name],
        ratio,
        len(compared.of),
        compared.left_out,
    )


def _other_split(
    best: Result,
    baselines: Sequence[Result],
    records: Records,
    labels: Mapping[str, str],
    split: str,
    chosen_on: str,
) -> OtherSplit | None:
    own = interval(best, spearman_key(split))
    if own is None:
        return None
    against = []
    for baseline in baselines:
        theirs = interval(baseline, spearman_key(split))
        delta = difference(records.folder(best), records.folder(baseline), split)
        if delta is not None:
            against.append(Against(baseline.name.replace("_", " "), theirs, delta, None))
    return OtherSplit(labels[best.name], split, chosen_on, own, against)


def difference(ours: Path | None, theirs: Path | None, split: str) -> Interval | None:
    """Spearman of a run less that of another on a split, by paired bootstrap; None without scores of the same pairs."""
    a, b = recorded_scores(ours, split), recorded_scores(theirs, split)
    if a is None or b is None or a[0].tolist() != b[0].tolist():
        return None
    try:
        paired = paired_difference(a[1], b[1], a[0], RESAMPLES, SEED)
    except NonFiniteError:
        return None
    return Interval(paired.value, paired.lo, paired.hi)
