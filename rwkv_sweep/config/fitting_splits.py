"""Which split of a data set something is fitted to: the one that its key names, else the data set's own."""

from __future__ import annotations

from rwkv_sweep.config.groups import AggregationConfig, DatasetConfig, PrecisionConfig, SelectConfig
from rwkv_sweep.errors import UnsupportedError, UserError

LEARNED = "learned"
"""The aggregation whose weights are fitted."""
NOTHING_CHOSEN = "none"
"""`select.split` where nothing is to be chosen, though the data set has a split for it."""


def aggregation_split(aggregation: AggregationConfig, dataset: DatasetConfig) -> str | None:
    """The split that the weights of `aggregation=learned` are fitted to; None for any other aggregation.

    Raises:
        UnsupportedError: neither the aggregation nor the data set names one; a sweep goes on with its other runs.
    """
    if aggregation.name != LEARNED:
        return None
    split = aggregation.fit or dataset.fit
    if split is None:
        raise UnsupportedError(
            "aggregation=learned aggregation.fit=null: valid is a split of the dataset to fit the weights to, other "
            "than what is scored, such as aggregation.fit=train"
        )
    return split


def calibration_split(precision: PrecisionConfig, dataset: DatasetConfig) -> str | None:
    """The split that `precision.calibration=gptq` reads; None for any other calibration.

    Raises:
        UserError: neither the precision nor the data set names one.
    """
    if precision.calibration != "gptq":
        return None
    split = precision.calibration_fit or dataset.fit
    if split is None:
        raise UserError(
            "precision.calibration=gptq precision.calibration_fit=null: valid is a split of the dataset other than the "
            "one scored, such as precision.calibration_fit=train[:200]"
        )
    return split


def output_split(output: str, fit: str | None, dataset: DatasetConfig) -> str | None:
    """The split that the ranges of `output=int8` are taken from; None for any other output.

    Raises:
        UserError: neither `output_fit` nor the data set names one.
    """
    if output != "int8":
        return None
    split = fit or dataset.fit
    if split is None:
        raise UserError(
            "output=int8 output_fit=null: valid is a split of the dataset to take each dimension's range from, other "
            "than the one scored, such as output_fit=train[:200]"
        )
    return split


def selection_split(select: SelectConfig, dataset: DatasetConfig) -> str | None:
    """The split that configurations are chosen on: the one that is named, else that of the data set unless it is
    scored; None for none."""
    if select.split is not None:
        return None if select.split == NOTHING_CHOSEN else select.split
    scored = {part.partition("[")[0] for spec in dataset.splits for part in spec.split("+")}
    return None if dataset.fit is None or dataset.fit.partition("[")[0] in scored else dataset.fit
