"""Labelled pairs to fit or to choose on: those of a split that have no sentence in common with what is scored.

Shapes: N pairs to fit on, S sentences of the split to fit on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UserError


@dataclass(frozen=True)
class FittingPairs:
    """The pairs that something is fitted to.

    Attributes:
        sentences: every first one, then every second one.
        labels: [N].
        name: the split, and how many of its pairs were left out.
        binary: whether their labels and those scored are 0 and 1.
    """

    sentences: Texts
    labels: np.ndarray
    name: str
    binary: bool


def fitting_pairs(dataset: DatasetConfig, key: str, spec: str, scored: Sequence[PairSplit]) -> FittingPairs:
    """Those of the split `spec` of which neither sentence is in a split that is scored.

    Args:
        key: of the config, which names the split; for messages.
        scored: the first one says whether labels are 0 and 1.

    Raises:
        UserError: the split cannot be read, is one that is scored, or leaves too few pairs or one label alone.
    """
    split = load_fit_split(dataset, spec)
    pairs = len(split)
    seen_S = np.zeros(2 * pairs, dtype=bool)
    for scored_split in scored:
        seen_S |= split.sentences.is_in(scored_split.sentences)
    kept = np.flatnonzero(~(seen_S[:pairs] | seen_S[pairs:]))
    where = f"{key}={spec}"
    names = [scored_split.name for scored_split in scored]
    if spec in names or not len(kept):
        raise UserError(
            f"{where} has no pair that is not scored too, by dataset.splits=[{','.join(dataset.splits)}]: valid is a "
            f"split other than {', '.join(names)}"
        )
    labels_N = split.labels[kept]
    binary = scored[0].binary and set(np.unique(labels_N).tolist()) <= {0.0, 1.0}
    fewest = int(np.bincount(labels_N.astype(int), minlength=2).min()) if binary else len(np.unique(labels_N))
    if fewest < 2:
        needed = "two pairs or more of each label" if binary else "two different labels or more"
        raise UserError(f"{where} leaves {len(kept)} pairs with too few labels to fit: valid is a split with {needed}")
    chosen = [*kept.tolist(), *(kept + pairs).tolist()]
    left_out = pairs - len(kept)
    name = spec + (f" without the {left_out} pairs with a sentence that is scored too" if left_out else "")
    return FittingPairs(Texts.of(split.sentences[row] for row in chosen), labels_N, name, binary)
