"""A run's own vectors on tasks of `mteb`: classification, clustering, retrieval, reranking, pairs.

Vectors come from the store like those of pairs: the first run of a sweep reads the texts of a task for all layers, the
others read none.

Shapes: S texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rwkv_sweep.errors import NoTokensError
from rwkv_sweep.evaluation.tasks.loading import loaded_task, main_score, require_mteb

BATCH_SIZE = 512
"""Texts that `mteb` hands over at a time; batches of the model are made by tokens."""

Vectors = Callable[[Sequence[str]], np.ndarray]


def measure_tasks(vectors: Vectors, dimension: int, tasks: Sequence[str], name: str, revision: str) -> dict[str, float]:
    """The main score of each task, `tasks/<task>`, and their mean, `tasks/average`; none without tasks.

    Args:
        vectors: texts to the run's own vectors [S, D].
        dimension: D.
        name, revision: of the run and of its model, for what `mteb` records.

    Raises:
        UserError: as `loaded_task`.
        NonFiniteError: NaN or infinity in vectors.
    """
    scores = {}
    for task in tasks:
        encoder = TaskEncoder(vectors, dimension, name, revision)  # its texts are let go of with the task
        scores[f"tasks/{task}"] = main_score(encoder, loaded_task(task), BATCH_SIZE)
    return {**scores, "tasks/average": float(np.mean(list(scores.values())))} if scores else {}


class TaskEncoder:
    """Vectors of texts as `mteb` asks encoders for them, each text read once. A text without tokens has a vector of
    zeros."""

    def __init__(self, vectors: Vectors, dimension: int, name: str, revision: str) -> None:
        """Arguments as of `measure_tasks`."""
        self._vectors, self._dimension, self._name, self._revision = vectors, dimension, name, revision
        self._kept: dict[str, np.ndarray] = {}

    def encode(self, inputs: Iterable[Mapping[str, Any]], **ignored: Any) -> np.ndarray:
        """[S, D] of batches with a list of texts under `text`. ignored: what `mteb` says of its task and batches."""
        texts = [text for batch in inputs for text in batch["text"]]
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        while missing:
            try:
                self._kept |= dict(zip(missing, self._vectors(missing), strict=True))
                break
            except NoTokensError as error:
                empty = set(error.rows)
                zeros = np.zeros(self._dimension)
                self._kept |= {missing[row]: zeros for row in empty}
                missing = [text for row, text in enumerate(missing) if row not in empty]
        if not texts:
            return np.zeros((0, self._dimension))
        return np.stack([self._kept[text] for text in texts])

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [A, B]."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [A]."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """What `mteb` files results under."""
        mteb = require_mteb("dataset.tasks")
        return mteb.models.ModelMeta.create_empty({"name": f"rwkv_sweep/{self._name}", "revision": self._revision})
