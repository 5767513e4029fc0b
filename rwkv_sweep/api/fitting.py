"""What an encoder in Python is fitted on: never on the sentences of a call, which would decide each other's vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from rwkv_sweep.api.inputs import as_texts
from rwkv_sweep.config.schema import AggregationConfig, DatasetConfig, PoolingConfig, PostprocessConfig, PrecisionConfig
from rwkv_sweep.data.corpus import load_corpus
from rwkv_sweep.data.splits import load_splits
from rwkv_sweep.data.text_column import Texts
from rwkv_sweep.embedding.cached_encoder import VectorSource
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import IDF, vector_size
from rwkv_sweep.embedding.postprocessing import Postprocess, fit
from rwkv_sweep.errors import UserError
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


def check_fit(
    pooling: PoolingConfig, postprocess: PostprocessConfig, dataset: DatasetConfig, corpus: Texts | None
) -> Texts | None:
    """The texts in which `pooling=idf` counts tokens; None for other poolings.

    Raises:
        UserError: nothing to fit pooling or post-processing on, or two things; a split or file that cannot be read.
    """
    named = {"postprocess.fit": postprocess.fit} if postprocess.name != "none" else {}
    if pooling.name == IDF:
        named |= {"pooling.fit": pooling.fit, "pooling.corpus": pooling.corpus}
    if corpus is not None:
        for key, value in named.items():
            if value is not None:
                raise UserError(f"{key}={value} and the argument corpus: valid is one of the two")
        return corpus if pooling.name == IDF else None
    splits = ",".join(dataset.splits)
    if postprocess.name != "none" and postprocess.fit is None:
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


class Fitted:
    """Embedders for any layers of one encoder, each with its post-processing, which is fitted once."""

    def __init__(
        self,
        encoder: RwkvEncoder,
        pooling: str,
        aggregation: AggregationConfig,
        precision: PrecisionConfig,
        fitting: PostprocessFit,
        corpus: Texts | None,
    ) -> None:
        """corpus: what `given_corpus` gives, in place of the split that `fitting` names."""
        self.encoder, self.corpus = encoder, corpus
        self._pooling, self._aggregation, self._precision, self._fitting = pooling, aggregation, precision, fitting
        self._embedders: dict[tuple[int, ...], Embedder] = {}

    def embedder(self, layers: Sequence[int]) -> Embedder:
        """For these layers.

        Raises:
            UserError: the split to fit on holds scored sentences alone, or has too few directions.
        """
        key = tuple(layers)
        if key not in self._embedders:
            plain = Embedder(self.encoder, key, self._pooling, self._aggregation)
            self._embedders[key] = replace(plain, postprocess=self._postprocess(plain))
        return self._embedders[key]

    def _postprocess(self, plain: Embedder) -> Postprocess | None:
        config = self._fitting.config
        if config.name == "none":
            return None
        source = VectorSource(self.encoder, self._precision, [], store=None)
        if self.corpus is not None:
            return fit(config.name, sentence_vectors(source, plain, self.corpus), config.components)
        # As in a run of this config: without the sentences that it scores.
        splits = load_splits(self._fitting.dataset)
        return fitted_postprocess(source, plain, self._fitting, splits, raw=())[0]


def dimension(embedder: Embedder) -> int:
    """Length of a finished vector."""
    post = embedder.postprocess
    if post is not None and post.whitening_DR is not None:
        return int(post.whitening_DR.shape[1])
    size = vector_size(embedder.pooling, embedder.encoder.loaded.model.config)
    return size * len(embedder.layers) if embedder.aggregation.name == "concat" else size
