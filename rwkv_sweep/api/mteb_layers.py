"""Layers of one encoder side by side on tasks of `mteb`: each text is read once, whatever the layers and the task.

Shapes: L layers, N tasks, S texts, D hidden size.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rwkv_sweep.api.composing import mteb_meta
from rwkv_sweep.api.encoder import Encoder
from rwkv_sweep.api.inputs import as_texts
from rwkv_sweep.api.reading import chosen_prompt
from rwkv_sweep.api.similarity import similarity, similarity_pairwise
from rwkv_sweep.config.layer_spec import layer_name, resolve_layers
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.tasks.layer_scores import LayerScores
from rwkv_sweep.evaluation.tasks.loading import load_task, main_score, require_mteb, task_named


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
    require_mteb("evaluate_layers")
    chosen = resolve_layers(layers, encoder.num_blocks)
    names = [layer_name(layer, encoder.num_blocks) for layer in chosen]
    loaded = [task_named(task) if isinstance(task, str) else task for task in tasks]
    if not loaded:
        raise UserError("evaluate_layers has no tasks: valid is at least one task of mteb, or its name")
    columns = []
    for task in loaded:
        load_task(task)
        texts = TextVectors(encoder, chosen, batch_size, on_empty)
        views = [LayerView(encoder, texts, row, name) for row, name in enumerate(names)]
        columns.append([main_score(view, task, batch_size) for view in views])
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
