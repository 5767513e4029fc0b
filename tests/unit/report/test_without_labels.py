"""Whether a metric without labels orders the layers of a sweep as Spearman does: statement, table and page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep.evaluation.metrics import score
from rwkv_sweep.records.results import FINISHED, Result, write_pairs
from rwkv_sweep.report.common.labels import run_labels
from rwkv_sweep.report.common.ranking import rankings
from rwkv_sweep.report.common.statements import Records
from rwkv_sweep.report.plain_sweep import representation
from rwkv_sweep.report.plain_sweep.answer import plain_answer
from rwkv_sweep.report.plain_sweep.representation import HIGHEST, WithoutLabels, rank_correlations, without_labels
from rwkv_sweep.report.summary import summary_rows
from rwkv_sweep.stats.bootstrap import resampled_counts

PAIRS = 300
NOISE = (3.0, 2.0, 1.2, 0.8, 0.5, 1.5)
"""Of each layer's scores: layer 4 is the best."""


def made_up(root: Path, layers: int = 6, lacking: int = 0, with_scores: bool = True) -> Records:
    """A sweep over layers. `infonce` falls with the noise, and `curvature` too, which chooses its lowest value.

    lacking: how many layers have no metrics.
    """
    random = np.random.default_rng(0)
    labels_P = random.normal(size=PAIRS)
    results, folders = [], []
    for number in range(layers):
        scores_P = labels_P + NOISE[number] * random.normal(size=PAIRS)
        quality = score(scores_P, labels_P, 100, 0)
        metrics = {
            **{"quality/pairs": float(PAIRS), "quality/all/pairs": float(PAIRS)},
            **{
                f"quality{of}/spearman{end}": getattr(quality, f"spearman{end}")
                for of in ("", "/all")
                for end in ("", "_lo", "_hi")
            },
        }
        if number >= lacking:
            metrics |= {"representation/infonce": -NOISE[number], "representation/curvature": -NOISE[number]}
            metrics |= {
                "representation/dime": 1.0,
                "probe/accuracy": 0.7,
                "probe/accuracy_lo": 0.6,
                "probe/accuracy_hi": 0.8,
            }
        params = {
            "model": "tiny",
            "dataset": "pairs",
            "dataset.splits": "[all]",
            "layer": str(number),
            "depth": number + 1,
        }
        params |= {"aggregation": "none", "precision": "fp32"}
        result = Result(f"layer={number}", "model", FINISHED, params, metrics, {"data_fingerprint": "x"})
        folder = root / str(number)
        folder.mkdir(parents=True)
        if with_scores:
            write_pairs(folder, (("all", row, labels_P[row], scores_P[row]) for row in range(PAIRS)))
        results.append(result)
        folders.append(folder)
    return Records(results, folders)


def statements(records: Records) -> list[WithoutLabels]:
    (ranking,) = rankings(records)
    return without_labels(ranking, records, run_labels(records.results, ["layer"]))


def test_the_metric_that_follows_spearman_is_first(tmp_path: Path) -> None:
    (statement,) = statements(made_up(tmp_path))
    assert statement.layers == 6
    by_name = {one.name: one for one in statement.agreements}
    assert set(by_name) == {"infonce", "curvature"}  # dime is the same everywhere
    infonce, curvature = by_name["infonce"], by_name["curvature"]
    assert infonce.rho.value == pytest.approx(1) and 0.5 < infonce.rho.lo <= infonce.rho.hi <= 1
    assert (infonce.choice, infonce.is_worse) == ("layer 4", False)
    assert (curvature.choice, curvature.is_worse) == ("layer 4", False) or curvature.is_worse
    assert "infonce +1.00" in statement.text and "infonce (layer 4)" in statement.text
    assert "curvature (" not in statement.text


def test_the_interval_is_over_resampled_pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spearman of each layer, and its rank correlation with the metric, by SciPy on each resample written out."""
    monkeypatch.setattr(representation, "RESAMPLES", 200)
    records = made_up(tmp_path)
    (statement,) = statements(records)
    values = [run.metrics["representation/infonce"] for run in records.results]
    tables = [np.loadtxt(folder / "pairs.csv", delimiter=",", skiprows=1, usecols=(2, 3)) for folder in records.folders]
    rhos = []
    for counts_RP in resampled_counts(PAIRS, 200, representation.SEED):
        for counts_P in counts_RP.astype(int):
            drawn = [np.repeat(table, counts_P, axis=0) for table in tables]
            rhos.append(spearmanr(values, [spearmanr(table[:, 0], table[:, 1]).statistic for table in drawn]).statistic)
    infonce = next(one for one in statement.agreements if one.name == "infonce")
    assert (infonce.rho.lo, infonce.rho.hi) == pytest.approx(tuple(np.quantile(rhos, (0.025, 0.975))))
    assert infonce.rho.lo < infonce.rho.value


def test_rank_correlations_equal_scipy_with_ties() -> None:
    values_L, others_LR = np.array([1.0, 2, 2, 5]), np.array([[3.0, 1, 7], [3, 2, 7], [1, 2, 7], [0, 9, 7]])
    actual_R = rank_correlations(values_L, others_LR)
    assert actual_R[:2] == pytest.approx([spearmanr(values_L, others_LR[:, i]).statistic for i in (0, 1)])
    assert np.isnan(actual_R[2])


@pytest.mark.parametrize("how", [{"layers": 4}, {"layers": 6, "lacking": 2}, {"with_scores": False}])
def test_nothing_is_said_of_fewer_than_five_layers_or_without_scores(tmp_path: Path, how: dict[str, int]) -> None:
    assert statements(made_up(tmp_path, **how)) == []


def test_answer_and_table_have_it(tmp_path: Path) -> None:
    records = made_up(tmp_path)
    answer = plain_answer(records, rankings(records), ["layer"])
    assert any(text.startswith("Without labels, over 6 layers: ") for _, texts in answer.bullets() for text in texts)
    header, rows = summary_rows(records.results, ["layer"])
    columns = dict(zip(header, rows[0], strict=True))
    assert columns["probe accuracy [95 %]"] == "0.7000 [0.600, 0.800]" and columns["infonce"] == "-3.000"
    timed = [Result(**{**vars(run), "metrics": {**run.metrics, "latency/mean_ms": 1.0}}) for run in records.results]
    assert "infonce" not in summary_rows(timed, ["layer"])[0]


def test_every_metric_without_labels_has_a_direction() -> None:
    assert "alignment" not in HIGHEST and len(HIGHEST) == 10
