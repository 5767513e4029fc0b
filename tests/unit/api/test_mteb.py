"""The encoder inside mteb 2, on a task in memory. Skipped where mteb, no dependency of ours, is missing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from rwkv_sweep import Encoder
from rwkv_sweep.evaluation.metrics import cosine
from tests import mteb_tasks

mteb = pytest.importorskip("mteb", reason="mteb is not installed")

SUBJECTS = ("A man", "A cat", "The bank", "My sister")
ACTIONS = ("plays the guitar.", "sleeps on the mat.", "raised its rates in May.")
PAIRS = [
    (f"{one} {first}", f"{other} {second}", 5.0 * (0.5 * (one == other) + 0.5 * (first == second)))
    for one in SUBJECTS
    for other in SUBJECTS[:2]
    for first in ACTIONS
    for second in ACTIONS[:2]
]


def in_memory_task() -> Any:
    from datasets import Dataset, DatasetDict
    from mteb.abstasks.sts import AbsTaskSTS

    class InMemory(AbsTaskSTS):
        metadata = mteb_tasks.metadata("InMemorySTS", "STS", "cosine_spearman")

        def load_data(self, *args: Any, **kwargs: Any) -> None:
            first, second, scores = (list(column) for column in zip(*PAIRS, strict=True))
            rows = Dataset.from_dict({"sentence1": first, "sentence2": second, "score": scores})
            self.dataset = DatasetDict({"test": rows})
            self.data_loaded = True

    return InMemory()


def test_mteb_scores_it_as_we_do() -> None:
    encoder = Encoder.from_config("layer=3", "device=cpu")
    assert isinstance(encoder, mteb.models.EncoderProtocol)
    actual = mteb.evaluate(encoder, in_memory_task(), cache=None, co2_tracker=False)
    (result,) = actual.task_results
    first, second, labels = zip(*PAIRS, strict=True)
    own = spearmanr(cosine(encoder.encode(first), encoder.encode(second)), labels).statistic
    assert result.get_score() == pytest.approx(float(own), abs=1e-4)
    assert 0 < float(own) < 1 and not np.isclose(own, 1)
    assert actual.model_name == "rwkv_sweep/tiny-layer-3" and actual.model_revision == encoder.mteb_model_meta.revision
