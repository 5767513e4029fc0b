"""The pairs on which the configurations of a sweep disagree most, with their texts.

Cosines of different layers live on different scales, so that a pair's place among all pairs is compared: its rank in
each run, as a share of the pairs. Disagreement is the standard deviation of that over the runs.

Texts are not kept beside the scores (a sweep of 500 runs would store 500 copies): they are read once more from where
the run read them, and shown only if they still have the fingerprint that the run recorded.

Shapes: R runs, P pairs, C chosen pairs.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from scipy.stats import rankdata
from yaml import YAMLError

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import FINISHED, PAIRS_FILE, Result

MOST_PAIRS = 4096
"""Pairs of the first split that are looked at, from its beginning: enough to choose from, and bounded in memory."""
SHOWN = 20
Row = tuple[str, int, float, float]
"""split, row, label, score."""


def disagreements(
    results: Sequence[Result], folders: Sequence[Path], cwd: str, damaged: list[str]
) -> list[dict[str, Any]]:
    """One entry for each set of pairs that two or more finished model runs scored.

    Args:
        results: of the sweep. folders: of each. cwd: what relative paths of the dataset start from.
        damaged: messages about files that cannot be read are appended; their runs are left out.

    Returns:
        For each: `split`, `pairs` (how many were looked at), `runs` (indices into `results`), `absent` (why there are
        no texts, or None), and `items`, the largest rank disagreement first, with `row`, `label`, `texts`, `spread`,
        and by run `scores` and `ranks` (0 the least alike, 1 the most).
    """
    scored_by_data: dict[str, list[tuple[int, list[Row]]]] = {}
    for index, (result, folder) in enumerate(zip(results, folders, strict=True)):
        if result.kind != "model" or result.status != FINISHED:
            continue
        try:
            rows = first_rows(folder)
        except UserError as error:
            damaged.append(str(error))
            continue
        if rows:
            data = f"{result.tags.get('data_fingerprint')} {rows[0][0]} {len(rows)}"
            scored_by_data.setdefault(data, []).append((index, rows))
    return [
        _entry(scored, results, folders[scored[0][0]], cwd)
        for scored in scored_by_data.values()
        if len(scored) > 1 and len(scored[0][1]) > 1
    ]


def first_rows(folder: Path, most: int | None = MOST_PAIRS) -> list[Row]:
    """Rows of the first split in `pairs.csv`, at most so many; empty where there is none.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / PAIRS_FILE
    if not path.is_file():
        return []
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file)
            next(rows, None)
            kept_rows = [
                (split, int(row), float(label), float(score)) for split, row, label, score in islice(rows, most)
            ]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return [row for row in kept_rows if row[0] == kept_rows[0][0]]


def largest_disagreements(scores_RP: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which pairs have the most different ranks.

    Args:
        scores_RP: of each of R runs for each of P pairs.
        count: how many pairs to return.

    Returns:
        Indices of the pairs [C], the largest rank disagreement first; the spread of each [C]; ranks of all [R, P], from
        0 to 1.
    """
    ranks_RP = (rankdata(scores_RP, axis=1) - 1) / (scores_RP.shape[1] - 1)
    spread_P = ranks_RP.std(axis=0)
    chosen = np.argsort(-spread_P, kind="stable")[:count]
    return chosen, spread_P[chosen], ranks_RP


def _entry(
    scored: Sequence[tuple[int, list[Row]]], results: Sequence[Result], folder: Path, cwd: str
) -> dict[str, Any]:
    rows = scored[0][1]
    scores_RP = np.array([[score for *_, score in run_rows] for _, run_rows in scored])
    chosen, spread, ranks_RP = largest_disagreements(scores_RP, SHOWN)
    texts, absent = _texts(results[scored[0][0]], folder, [rows[pair][1] for pair in chosen], cwd)
    items = []
    for place, pair in enumerate(chosen):
        items.append(
            {
                "row": rows[pair][1],
                "label": rows[pair][2],
                "texts": texts[place] if texts else None,
                "spread": round(float(spread[place]), 4),
                "scores": [round(float(score), 4) for score in scores_RP[:, pair]],
                "ranks": [round(float(rank), 3) for rank in ranks_RP[:, pair]],
            }
        )
    indices = [index for index, _ in scored]
    return {"split": rows[0][0], "pairs": len(rows), "runs": indices, "absent": absent, "items": items}


def _texts(
    result: Result, folder: Path, rows: Sequence[int], cwd: str
) -> tuple[list[tuple[str, str]] | None, str | None]:
    """Both sentences of each row, or None and the reason."""
    # Imported here: a sweep that scored nothing needs no reader of pairs.
    from rwkv_sweep.data.splits import load_splits

    try:
        config = dataset_config(folder, cwd)
        (split,) = load_splits(replace(config, splits=config.splits[:1]))
    except (UserError, OSError) as error:
        return None, str(error)
    if split.fingerprint != result.tags.get("data_fingerprint"):
        return None, f"the pairs of dataset={config.name} are not those that were scored: they changed since"
    return [(split.sentences1[row], split.sentences2[row]) for row in rows], None


def dataset_config(folder: Path, cwd: str) -> DatasetConfig:
    """The dataset a run was given, with its path made absolute.

    Raises:
        UserError: the run's `.hydra/config.yaml` is absent or damaged.
    """
    path = folder / ".hydra" / "config.yaml"
    try:
        given = OmegaConf.merge(OmegaConf.structured(DatasetConfig), OmegaConf.load(path).dataset)
        config = OmegaConf.to_object(given)
    except FileNotFoundError as error:
        raise UserError(f"{path} is absent, so it is not known which pairs were read") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except (YAMLError, OmegaConfBaseException, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    assert isinstance(config, DatasetConfig)
    if config.path is not None and cwd:
        config.path = str(Path(cwd) / Path(config.path).expanduser())
    return config
