"""What an encoder in Python is fitted on: never on the sentences of a call, which would decide each other's vectors.

Shapes: V rows of the embedding table, L layers, K texts, D dimensions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from rwkv_sweep.api.inputs import as_texts
from rwkv_sweep.config.fitting_splits import LEARNED
from rwkv_sweep.config.layer_spec import layers_name, resolve_layers
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig, PoolingConfig, PostprocessConfig, PrecisionConfig
from rwkv_sweep.data.corpus import Corpus, calibration_corpus, load_corpus
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import IDF
from rwkv_sweep.embedding.postprocessing import Postprocess, check_postprocess, fit, needs_fit, unfitted
from rwkv_sweep.errors import UserError
from rwkv_sweep.evaluation.layer_choice.weights_pass import equal_weights, fit_aggregation
from rwkv_sweep.evaluation.output_formats import FLOAT32, OutputFormat
from rwkv_sweep.evaluation.quality import PostprocessFit, fitted_postprocess, sentence_vectors


def given_corpus(corpus: Iterable[str] | None) -> Texts | None:
    """The texts that a caller gave to fit on.

    Raises:
        TypeError, UserError: see `as_texts`; or no text at all.
    """
    if corpus is None:
        return None
    texts, _ = as_texts(corpus)
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("corpus holds no text: valid are the texts to fit on")
    return Texts.of(texts)


def given_calibration(precision: PrecisionConfig, dataset: DatasetConfig, corpus: Texts | None) -> Corpus | None:
    """What `precision.calibration` reads: the given texts, or the split of the config as in a run; None for none.

    Raises:
        UserError: see `calibration_corpus`; or both are given.
    """
    if precision.calibration != "gptq":
        return None
    if corpus is not None:
        if precision.calibration_fit is not None:
            raise UserError(
                f"precision.calibration_fit={precision.calibration_fit} and the argument corpus: valid is one of the "
                "two"
            )
        return Corpus("the given texts", corpus)
    return calibration_corpus(precision, dataset, load_splits(dataset))


def check_fit(
    pooling: PoolingConfig, postprocess: PostprocessConfig, dataset: DatasetConfig, corpus: Texts | None
) -> Texts | None:
    """The texts in which `pooling=idf` counts tokens; None for other poolings.

    Raises:
        UserError: nothing to fit pooling or post-processing on, or two things; a split or file that cannot be read.
    """
    named = {"postprocess.fit": postprocess.fit} if needs_fit(postprocess) else {}
    if pooling.name == IDF:
        named |= {"pooling.fit": pooling.fit, "pooling.corpus": pooling.corpus}
    if corpus is not None:
        for key, value in named.items():
            if value is not None:
                raise UserError(f"{key}={value} and the argument corpus: valid is one of the two")
        return corpus if pooling.name == IDF else None
    splits = ",".join(dataset.splits)
    if needs_fit(postprocess) and postprocess.fit is None:
        raise UserError(
            f"postprocess={postprocess.name} needs texts to be fitted on: valid are postprocess.fit=SPLIT, a "
            f"split of dataset={dataset.name} other than the scored dataset.splits=[{splits}], or the argument "
            "corpus, a list of texts"
        )
    if pooling.name != IDF:
        return None
    counted = load_corpus(pooling, dataset)
    if counted is None:
        raise UserError(
            f"pooling=idf needs texts in which to count tokens: valid are pooling.fit=SPLIT, a split of "
            f"dataset={dataset.name} such as {splits}, pooling.corpus=FILE with one text a line, or the argument "
            "corpus, a list of texts"
        )
    return counted.texts


@dataclass(frozen=True)
class SavedState:
    """What a run has fitted.

    Attributes:
        spec: `layer` of the run.
        postprocess: of these layers' vectors; None where the run had none.
        idf_V: for the pooling `idf`, else None.
        form: that the run compared its vectors in.
    """

    spec: object
    postprocess: Postprocess | None = None
    idf_V: Tensor | None = None
    form: OutputFormat = FLOAT32

    def postprocess_of(self, layers: Sequence[int], num_blocks: int) -> Postprocess | None:
        """For these layers.

        Raises:
            UserError: post-processing was fitted for others.
        """
        if self.postprocess is not None and tuple(layers) != resolve_layers(self.spec, num_blocks):
            raise UserError(
                f"layers={layers_name(layers, num_blocks)} with an encoder of a run: its post-processing was fitted "
                f"for layer={self.spec} alone, which is valid"
            )
        return self.postprocess

    def form_of(self, layers: Sequence[int], num_blocks: int) -> OutputFormat:
        """For these layers.

        Raises:
            UserError: ranges of `int8` were taken for others.
        """
        if self.form.ranges_2D is not None and tuple(layers) != resolve_layers(self.spec, num_blocks):
            raise UserError(
                f"layers={layers_name(layers, num_blocks)} with an encoder of a run: the ranges of its output=int8 are "
                f"those of layer={self.spec} alone, which is valid"
            )
        return self.form


class Fitted:
    """Embedders for any layers of one encoder, each with its learned weights and post-processing, fitted once."""

    def __init__(
        self,
        encoder: RwkvEncoder,
        pooling: str,
        aggregation: AggregationConfig,
        precision: PrecisionConfig,
        fitting: PostprocessFit,
        corpus: Texts | None,
        seed: int,
        saved: SavedState | None = None,
    ) -> None:
        """corpus: what `given_corpus` gives, in place of the split that `fitting` names. seed: of learned weights.
        saved: of a run, so that nothing is fitted."""
        self.encoder = encoder if saved is None else replace(encoder, idf_V=saved.idf_V)
        self.corpus, self._saved, self._seed = corpus, saved, seed
        self._pooling, self._aggregation, self._precision, self._fitting = pooling, aggregation, precision, fitting
        self._embedders: dict[tuple[int, ...], Embedder] = {}

    def embedder(self, layers: Sequence[int]) -> Embedder:
        """For these layers.

        Raises:
            UserError: the split to fit on holds scored sentences alone, or has too few directions; the model has no
                such task head, or these vectors do not fit it.
        """
        key = tuple(layers)
        if key not in self._embedders:
            plain = self._aggregating(Embedder(self.encoder, key, self._pooling, self._aggregation))
            self._embedders[key] = replace(plain, postprocess=self._postprocess(plain))
        return self._embedders[key]

    def form(self, layers: Sequence[int]) -> OutputFormat:
        """That vectors of these layers are given in: the run's, else float32.

        Raises:
            UserError: see `SavedState.form_of`.
        """
        if self._saved is None:
            return FLOAT32
        return self._saved.form_of(layers, self.encoder.loaded.model.config.num_hidden_layers)

    def restored(self, pooled_LKD: Tensor, layers: Sequence[int]) -> np.ndarray:
        """[K, D'] of pooled vectors, post-processed, in their form."""
        return self.form(layers).restored(self.embedder(layers).combine(pooled_LKD).numpy())

    def dimension(self, layers: Sequence[int]) -> int:
        """Of a vector of these layers, in its form."""
        return self.form(layers).dimension(self.embedder(layers).dimension)

    def _aggregating(self, plain: Embedder) -> Embedder:
        """With the weights of `aggregation=learned`, fitted as in a run of this config."""
        if plain.aggregation.name != LEARNED:
            return plain
        if not self.encoder.loaded.trained:
            return equal_weights(plain).embedder
        source, dataset = VectorSource(self.encoder, self._precision, [], store=None), self._fitting.dataset
        return fit_aggregation(plain, source, dataset, load_splits(dataset), self._seed).embedder

    def _postprocess(self, plain: Embedder) -> Postprocess | None:
        config, shape = self._fitting.config, self.encoder.loaded.model.config
        check_postprocess(config, plain.pooling, plain.aggregation, plain.layers, shape)
        if not needs_fit(config):
            return unfitted(config, self.encoder.loaded.task_heads)
        if self._saved is not None:
            return self._saved.postprocess_of(plain.layers, shape.num_hidden_layers)
        source = VectorSource(self.encoder, self._precision, [], store=None)
        if self.corpus is not None:
            return fit(config.name, sentence_vectors(source, plain, self.corpus), config.components)
        # As in a run of this config: without the sentences that it scores.
        splits = load_splits(self._fitting.dataset)
        return fitted_postprocess(source, plain, self._fitting, splits, raw=())[0]
