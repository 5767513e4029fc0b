"""Which split of a data set something is fitted to: the one that its key names, else the data set's own."""

from __future__ import annotations

from rwkv_sweep.config.groups import AggregationConfig, DatasetConfig
from rwkv_sweep.errors import UserError

LEARNED = "learned"
"""The aggregation whose weights are fitted."""


def aggregation_split(aggregation: AggregationConfig, dataset: DatasetConfig) -> str | None:
    """The split that the weights of `aggregation=learned` are fitted to; None for any other aggregation.

    Raises:
        UserError: neither the aggregation nor the data set names one.
    """
    if aggregation.name != LEARNED:
        return None
    split = aggregation.fit or dataset.fit
    if split is None:
        raise UserError(
            "aggregation=learned aggregation.fit=null: valid is a split of the dataset to fit the weights to, other "
            "than what is scored, such as aggregation.fit=train"
        )
    return split
