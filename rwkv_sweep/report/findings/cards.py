"""The figures at the top of a sweep's page: its best runs, where the numbers show which those are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.report.common.ranking import Ranking
from rwkv_sweep.report.common.run_groups import interval, is_transductive, metric
from rwkv_sweep.report.common.splits import spearman_key
from rwkv_sweep.report.common.text import counted, first_few
from rwkv_sweep.report.speeds.speeds import BATCHES, PAIRS, Regime, speeds

WEIGHTS = "memory/weights_mib"
UNITS = {PAIRS.raw: ("ms", ".2f"), BATCHES.raw: ("tokens/s", ",.0f")}


@dataclass(frozen=True)
class Card:
    """name: what is shown. value: the figure. of: whose it is, and who shares it."""

    name: str
    value: str
    of: str


def cards(results: Sequence[Result], ranked: Sequence[Ranking], labels: Mapping[str, str]) -> list[Card]:
    """One for each figure that any finished run has. A tie, or a difference within noise, is called one.

    ranked: of each set of pairs, as `rankings` gives them. labels: of each run, by its name.
    """
    runs = [run for run in results if run.kind == "model" and run.status == FINISHED]
    baselines = [run for run in results if run.kind == "baseline" and run.status == FINISHED]
    drawn_cards = [
        _spearman(ranked, labels),
        _baseline(baselines, labels),
        _speed(runs, PAIRS, labels, "time of a pair", "fastest for single pairs"),
        _speed(runs, BATCHES, labels, "throughput", "fastest in packed batches"),
        _weights(runs, labels),
    ]
    return [card for card in drawn_cards if card is not None]


def _spearman(ranked: Sequence[Ranking], labels: Mapping[str, str]) -> Card | None:
    if not ranked:
        return None
    if len(ranked) > 1:
        return Card("Spearman", f"{len(ranked)} sets of pairs", "not compared with each other")
    (ranking,) = ranked
    compared = ranking.among([run for run in ranking.runs if not is_transductive(run)])
    ranking = compared if compared.runs else ranking
    best = ranking.runs[0]
    alike = len(ranking.within_noise) - 1
    own = interval(best, spearman_key(ranking.split))
    of = labels[best.name] + (f", {own.lo:.3f} to {own.hi:.3f}" if own else "")
    if alike:
        of += f"; {alike} of {len(ranking.runs) - 1} others within noise"
    value = f"{ranking.values[0]:.3f}"
    if len(ranking.runs) == 1:
        return Card(f"Spearman, {ranking.split}", value, of)
    return Card(f"highest Spearman, {ranking.split}", value, of)


def _baseline(baselines: Sequence[Result], labels: Mapping[str, str]) -> Card | None:
    scored = [(value, run) for run in baselines if (value := metric(run, "quality/spearman")) is not None]
    if not scored or len({run.tags.get("data_fingerprint") for _, run in scored}) > 1:
        return None
    best = max(value for value, _ in scored)
    names = [labels[run.name] for value, run in scored if value == best]
    return Card("best baseline" if len(scored) > 1 else "baseline", f"{best:.3f}", first_few(names))


def _speed(runs: Sequence[Result], regime: Regime, labels: Mapping[str, str], one: str, several: str) -> Card | None:
    """The fastest where runs were timed on one scale; else from where to where their figures range."""
    timed = [(value, run) for run in runs if (value := metric(run, regime.raw)) is not None]
    if not timed:
        return None
    unit, form = UNITS[regime.raw]
    if len(timed) == 1:
        ((value, run),) = timed
        return Card(one, f"{value:{form}} {unit}", labels[run.name])
    compared = speeds(runs, regime)
    if not compared.of:
        values = [value for value, _ in timed]
        ends = f"{min(values):{form}} to {max(values):{form}} {unit}"
        return Card(one, ends, f"not compared: {compared.why_not}")
    names = compared.fastest
    if len(names) == len(compared.of):
        return Card(several, "a tie", f"{counted(len(names), 'run')} within noise")
    by_name = {run.name: value for value, run in timed}
    # What was timed interleaved may rank runs otherwise than their own figures do, and then counts.
    figure = f"{by_name[names[0]]:{form}} {unit}" if compared.margin else f"{compared.of[names[0]].value:.2f} times"
    others = f"; {len(names) - 1} of {len(compared.of) - 1} others within noise" if len(names) > 1 else ""
    others += f"; {compared.left_out} not compared" if compared.left_out else ""
    over = "" if compared.margin else f", over {compared.reference}"
    return Card(several, figure, labels[names[0]] + over + others)


def _weights(runs: Sequence[Result], labels: Mapping[str, str]) -> Card | None:
    known = [(value, run) for run in runs if (value := metric(run, WEIGHTS)) is not None]
    if not known:
        return None
    least = min(value for value, _ in known)
    names = [labels[run.name] for value, run in known if value == least]
    if len(names) == len(known) > 1:
        return Card("weights", f"{least:,.1f} MiB", f"all {len(known)} runs alike")
    return Card("smallest weights" if len(known) > 1 else "weights", f"{least:,.1f} MiB", first_few(names))
