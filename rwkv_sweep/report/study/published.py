"""What the study reported.

arXiv 2502.14620, "Exploring RWKV for Sentence Embeddings: Layer-wise Analysis and Baseline Comparison for Semantic
Similarity", its table and its public notebook: RWKV/v6-Finch-1B6-HF in fp16 on a Tesla T4, mean pooling, cosine.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

SOURCE = "arXiv 2502.14620"
MODEL_ID = "RWKV/v6-Finch-1B6-HF"
DEVICE = "Tesla T4"
DATASETS = ("mrpc", "mrpc_study")
"""Options of `dataset` that are the study's data."""
TRAIN, VALIDATION = "train[:1000]", "validation"


@dataclass(frozen=True)
class Published:
    """One column of the study's table. None where it reports nothing, or nothing that can be compared.

    Attributes:
        spearman: by split.
        seconds: per pair, mean, on train[:1000].
        megabytes: `max_memory_allocated`, on train[:1000].
    """

    spearman: Mapping[str, float]
    seconds: float | None = None
    megabytes: float | None = None


LAYERS = {
    1: Published({TRAIN: 0.2879, VALIDATION: 0.3498}, 0.3366, 3078),
    3: Published({TRAIN: 0.2766, VALIDATION: 0.3410}, 0.3348, 3078),
    5: Published({TRAIN: 0.2671, VALIDATION: 0.3345}, 0.3342, 3078),
    7: Published({TRAIN: 0.2491, VALIDATION: 0.3170}, 0.3301, 3078),
    9: Published({TRAIN: 0.2296, VALIDATION: 0.3127}, 0.3277, 3078),
    11: Published({TRAIN: 0.2245, VALIDATION: 0.3073}, 0.3279, 3078),
}
"""By block, counted from 0."""

GLOVE = Published({TRAIN: 0.3876, VALIDATION: 0.4326}, 0.0006)
"""GloVe 6B 50d. Its memory was that of the RWKV lying on the card, its time on validation a timer that ran on."""
