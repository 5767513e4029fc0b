"""A run's figures on the split that configurations are chosen on; the scored split is never read for them.

Shapes: S sentences, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.fitting_pairs import fitting_pairs
from rwkv_sweep.data.splits import PairSplit
from rwkv_sweep.errors import UndefinedError
from rwkv_sweep.evaluation.metrics import score
from rwkv_sweep.evaluation.quality import pair_scores

CROSS_VALIDATED = "aggregation/fit_score"


def measure_selection(
    vectors: Callable[[Sequence[str]], np.ndarray],
    dataset: DatasetConfig,
    spec: str,
    splits: Sequence[PairSplit],
    resamples: int,
    seed: int,
    learned: Mapping[str, float],
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics `select/<metric>` of the split's pairs that have no sentence in common with a scored split, and the tag
    `select_split`, which names them.

    Args:
        vectors: sentences to the run's own vectors [S, D].
        spec: the split.
        splits: all that are scored.
        resamples, seed: of the intervals.
        learned: metrics of weights that were fitted to the same split, of which the cross-validated Spearman counts:
            the one of the pairs they were fitted to would be too high. Empty where there are none.

    Raises:
        UserError: the split cannot be read, is scored, or leaves too few pairs.
        NonFiniteError: NaN or infinity in vectors.
    """
    pairs = fitting_pairs(dataset, "select.split", spec, splits)
    tags = {"select_split": pairs.name}
    if learned:
        tags["note.select"] = "Spearman on the split is cross-validated, as the weights are fitted to it"
        return {"select/spearman": learned[CROSS_VALIDATED], "select/pairs": float(len(pairs.labels))}, tags
    try:
        quality = score(pair_scores(vectors(pairs.sentences)), pairs.labels, resamples, seed)
    except UndefinedError as error:
        return {}, {**tags, "note.select": f"undefined: {error}"}
    return {f"select/{name}": float(value) for name, value in asdict(quality).items() if value is not None}, tags
