"""The probe of a run: trained on the vectors of one split, scored on another.

Shapes: P scored pairs, N pairs to train on, S sentences of the split to train on, F features.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from rwkv_sweep.config.schema import DatasetConfig
from rwkv_sweep.data.splits import PairSplit, load_fit_split
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.errors import UndefinedError, UserError
from rwkv_sweep.evaluation.probe import Probe, classified, classify, pair_features, regress, regressed

Vectors = Callable[[Sequence[str]], np.ndarray]
"""Sentences to the run's own vectors [S, D]."""


@dataclass(frozen=True)
class FittingPairs:
    """The pairs that a probe is trained on.

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


def fitting_pairs(dataset: DatasetConfig, spec: str, scored: PairSplit) -> FittingPairs:
    """Those of the split `spec` of which neither sentence is in the split that is scored.

    Raises:
        UserError: the split cannot be read, is the one scored, or leaves too few pairs or one label alone.
    """
    split = load_fit_split(dataset, spec)
    pairs = len(split)
    seen_S = split.sentences.is_in(scored.sentences)
    kept = np.flatnonzero(~(seen_S[:pairs] | seen_S[pairs:]))
    where = f"measure.probe_fit={spec}"
    if spec == scored.name or not len(kept):
        raise UserError(
            f"{where} has no pair that is not scored too, by dataset.splits=[{','.join(dataset.splits)}]: valid is a "
            f"split other than {scored.name}"
        )
    labels_N = split.labels[kept]
    binary = scored.binary and set(np.unique(labels_N).tolist()) <= {0.0, 1.0}
    fewest = int(np.bincount(labels_N.astype(int), minlength=2).min()) if binary else len(np.unique(labels_N))
    if fewest < 2:
        needed = "two pairs or more of each label" if binary else "two different labels or more"
        raise UserError(
            f"{where} leaves {len(kept)} pairs with too few labels to train on: valid is a split with {needed}"
        )
    chosen = [*kept.tolist(), *(kept + pairs).tolist()]
    left_out = pairs - len(kept)
    name = spec + (f" without the {left_out} pairs with a sentence that is scored too" if left_out else "")
    return FittingPairs(Texts.of(split.sentences[row] for row in chosen), labels_N, name, binary)


def measure_probe(
    vectors: Vectors, dataset: DatasetConfig, spec: str, scored: PairSplit, resamples: int, seed: int
) -> tuple[dict[str, float], dict[str, str]]:
    """Metrics `probe/*` on the scored split, and the tag `probe_fit`.

    Args:
        vectors: of the run.
        spec: the split to train on.
        resamples, seed: of the intervals; the seed is also that of the folds.

    Raises:
        UserError: as `fitting_pairs`.
        NonFiniteError: NaN or infinity in vectors.
    """
    pairs = fitting_pairs(dataset, spec, scored)
    train_NF, score_PF = pair_features(vectors(pairs.sentences)), pair_features(vectors(scored.sentences))
    tags = {"probe_fit": pairs.name}
    try:
        if pairs.binary:
            probe = classify(train_NF, pairs.labels, score_PF, seed)
            intervals = classified(probe.predictions, scored.labels, resamples, seed)
        else:
            probe = regress(train_NF, pairs.labels, score_PF)
            intervals = regressed(probe.predictions, scored.labels, resamples, seed)
    except UndefinedError as error:
        return {}, {**tags, "note.probe": f"undefined: {error}"}
    metrics = _of_training(probe, len(pairs.labels))
    for name, interval in intervals.items():
        metrics |= interval.metrics(f"probe/{name}")
    return metrics, tags


def _of_training(probe: Probe, pairs: int) -> dict[str, float]:
    return {
        "probe/fit_pairs": float(pairs),
        "probe/fit_score": probe.cross_validated,
        "probe/regularization": probe.strength,
    }
