"""Samples of latency as they are stored in a run's folder."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from rwkv_sweep.errors import UserError
from rwkv_sweep.records.results import LATENCY_FILE

QUANTILES = 21
"""0, 5, ..., 100 %: what a chart of a distribution shows."""


def latency_samples(folder: Path) -> np.ndarray:
    """Milliseconds of each timed pair, float64 [N], in the order they were timed; empty where nothing was timed.

    Raises:
        UserError: the file is damaged.
    """
    path = folder / LATENCY_FILE
    if not path.is_file():
        return np.empty(0)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            samples = [float(row["latency_ms"]) for row in csv.DictReader(file)]
        if not all(math.isfinite(sample_ms) and sample_ms > 0 for sample_ms in samples):
            raise ValueError("a latency that is not above zero")
    except (ValueError, KeyError, TypeError, csv.Error) as error:
        raise UserError(f"{path} is damaged: {error}") from error
    return np.array(samples)


def latency_quantiles(folder: Path) -> list[float]:
    """Quantiles of a run's latency at 0, 5, ..., 100 %, in ms; empty where nothing was timed.

    Raises:
        UserError: the file is damaged.
    """
    samples = latency_samples(folder)
    if not samples.size:
        return []
    return [float(f"{value:.6g}") for value in np.quantile(samples, np.linspace(0, 1, QUANTILES))]
