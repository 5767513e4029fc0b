"""Layers of one encoder side by side on tasks of `mteb`: each text is read once, whatever the layers and the task.

Shapes: L layers, N tasks, S texts, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import rankdata

from rwkv_sweep.api.composing import mteb_meta
from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.api.inputs import as_texts
from rwkv_sweep.api.reading import chosen_prompt
from rwkv_sweep.api.similarity import similarity, similarity_pairwise
from rwkv_sweep.config.layer_spec import layer_name, resolve_layers
from rwkv_sweep.errors import UserError, first_line
from rwkv_sweep.records.csv_tables import table_text


@dataclass(frozen=True)
class LayerScores:
    """What each layer reaches on each task.

    Attributes:
        layers, tasks: their names.
        scores_LN: the main score of each task, higher is better.
    """

    layers: list[str]
    tasks: list[str]
    scores_LN: np.ndarray

    @property
    def average_L(self) -> np.ndarray:
        """Mean score over the tasks."""
        mean_L: np.ndarray = self.scores_LN.mean(1)
        return mean_L

    @property
    def borda_L(self) -> np.ndarray:
        """Borda count: on each task a point for each layer that is beaten, half a point for an equal one, summed.

        It does not depend on the scales of the tasks, as the average does.
        """
        points_LN = rankdata(self.scores_LN, axis=0) - 1
        sum_L: np.ndarray = points_LN.sum(1)
        return sum_L

    def csv(self) -> str:
        """As CSV, the layer with the highest Borda count first: `layer`, each task, `average`, `borda`."""
        order = np.lexsort((-self.average_L, -self.borda_L))
        rows = [[self.layers[i], *self.scores_LN[i].tolist(), self.average_L[i], self.borda_L[i]] for i in order]
        return table_text(["layer", *self.tasks, "average", "borda"], rows)


def evaluate_layers(
    encoder: Encoder, tasks: Iterable[Any], layers: Any = "all", *, batch_size: int = 512, on_empty: str = "error"
) -> LayerScores:
    """Score layers on tasks of any kind (classification, clustering, retrieval, reranking, pairs) by `mteb.evaluate`.

    A task's texts are encoded once for all layers, each text once; their vectors, 4 L D bytes a text, are in memory
    until the task is done. Vectors are pooled as the encoder is configured; its own layers, aggregation and
    post-processing play no part.

    Args:
        tasks: `mteb` tasks, or their names, such as `Banking77Classification`.
        layers: as `layer` in the config.
        batch_size, on_empty: as of `Encoder.encode`.

    Raises:
        UserError: `mteb` is not installed; a layer, or a task, that there is not; data of a task that cannot be had.
    """
    try:
        import mteb
    except ImportError as error:
        raise UserError(
            f"evaluate_layers needs mteb, which cannot be imported ({error}): valid is pip install 'mteb>=2.20'"
        ) from error
    chosen = resolve_layers(layers, encoder.num_blocks)
    names = [layer_name(layer, encoder.num_blocks) for layer in chosen]
    loaded = [_task(task) for task in tasks]
    if not loaded:
        raise UserError("evaluate_layers has no tasks: valid is at least one task of mteb, or its name")
    columns = []
    for task in loaded:
        _load(task)
        texts = TextVectors(encoder, chosen, batch_size, on_empty)
        views = [LayerView(encoder, texts, row, name) for row, name in enumerate(names)]
        columns.append([_score(mteb, view, task, batch_size) for view in views])
    return LayerScores(names, [task.metadata.name for task in loaded], np.array(columns, dtype=np.float64).T)


class TextVectors:
    """Vectors of all layers by text, each computed when it is first asked for."""

    def __init__(self, encoder: Encoder, layers: Sequence[int], batch_size: int, on_empty: str) -> None:
        self._encoder, self._layers, self._batch_size, self._on_empty = encoder, list(layers), batch_size, on_empty
        self._kept: dict[tuple[str, str], np.ndarray] = {}

    def of(self, texts: Sequence[str], before: str, row: int) -> np.ndarray:
        """[S, D] of the layer number `row`, each text read behind the prompt `before`."""
        if missing := [text for text in dict.fromkeys(texts) if (before, text) not in self._kept]:
            vectors_LSD = self._encoder.encode_layers(
                missing, self._layers, prompt=before, batch_size=self._batch_size, on_empty=self._on_empty
            )
            self._kept |= {(before, text): vectors_LSD[:, place] for place, text in enumerate(missing)}
        if not texts:
            return np.zeros((0, self._encoder.encode_layers("x", self._layers[:1]).shape[-1]), np.float32)
        return np.stack([self._kept[before, text][row] for text in texts])


class LayerView:
    """One layer of an encoder, as `mteb` takes encoders."""

    def __init__(self, encoder: Encoder, texts: TextVectors, row: int, name: str) -> None:
        self._encoder, self._texts, self._row, self._name = encoder, texts, row, name

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: Any = None,
        hf_subset: Any = None,
        prompt_type: Any = None,
        **ignored: Any,
    ) -> np.ndarray:
        """[S, D]. ignored: how others batch and show progress; `evaluate_layers` has set that."""
        kind = None if prompt_type is None else str(getattr(prompt_type, "value", prompt_type))
        texts, _ = as_texts(inputs)
        return self._texts.of(texts, chosen_prompt(self._encoder.prompts, None, None, kind), self._row)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [A, B]."""
        return similarity(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines [A]."""
        return similarity_pairwise(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """The encoder's, under this layer's name."""
        revision = self._encoder.mteb_model_meta.revision
        return mteb_meta(replace(self._encoder.config, layer=self._name), revision)


def _task(task: Any) -> Any:
    """A task itself, or that of this name."""
    if not isinstance(task, str):
        return task
    import mteb

    try:
        return mteb.get_task(task)
    except (KeyError, ValueError) as error:
        raise UserError(f"task={task} is none of mteb's: {first_line(error)}") from error


def _load(task: Any) -> None:
    """Load a task's data.

    Raises:
        UserError: it cannot be had; the line says what to put where.
    """
    try:
        task.load_data()
    except (OSError, ValueError, KeyError) as error:  # those of `datasets` and the hub's client are among them
        where = task.metadata.dataset
        repository, revision = where.get("path"), where.get("revision")
        raise UserError(
            f"task={task.metadata.name}: its data cannot be had ({first_line(error)}); offline, run `hf download "
            f"--repo-type dataset {repository} --revision {revision}` where there is a network, and set HF_HOME to a "
            "copy of that cache"
        ) from error


def _score(mteb: Any, view: LayerView, task: Any, batch_size: int) -> float:
    result = mteb.evaluate(
        view,
        task,
        cache=None,
        co2_tracker=False,
        encode_kwargs={"batch_size": batch_size},
        show_progress_bar=False,
    )
    return float(result.task_results[0].get_score())
