"""Sentence vectors in Python, without a sweep: `from rwkv_sweep import Encoder`.

    encoder = Encoder.from_config("model=tiny", "layer=[3,5]", "aggregation=mean")
    vectors = encoder.encode(["A cat sleeps.", "The cat is asleep."])
    encoder.similarity(vectors, vectors)

It has the methods that `sentence_transformers` users know, and `encode` takes what `mteb` (2) hands to an encoder.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra

from rwkv_sweep.aggregation import aggregate, check_aggregation
from rwkv_sweep.config import RunConfig
from rwkv_sweep.config_store import conf_dir, register_schemas
from rwkv_sweep.corpus import Corpus, load_corpus
from rwkv_sweep.devices import resolve_device, set_threads
from rwkv_sweep.errors import UserError
from rwkv_sweep.extract import RwkvEncoder, tokens_per_batch
from rwkv_sweep.layers import resolve_layers
from rwkv_sweep.models.hf import HfNetwork
from rwkv_sweep.models.hf_loading import check_hf_run
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.pooling import IDF, check_pooling
from rwkv_sweep.validation import run_config


class Encoder:
    """A loaded model and a choice of layers, pooling and aggregation.

    Attributes:
        config: all of it, as on the command line.
        num_blocks: L; `layer` is 0 to L - 1, `final`, `embedding`, `all`, or a list.
    """

    def __init__(self, config: RunConfig) -> None:
        """Load the model.

        Raises:
            UserError: a model, precision, device, layer, pooling or aggregation that cannot be; or a post-processing,
                which needs pairs to be fitted on.
        """
        if config.postprocess.name != "none":
            raise UserError(
                f"postprocess={config.postprocess.name} is fitted on the sentences of a sweep: valid here is none"
            )
        set_threads(config.device)
        device = resolve_device(config.device)
        loaded = load_model(config.model, config.precision, device)
        self.config = config
        self.num_blocks: int = loaded.model.config.num_hidden_layers
        if isinstance(loaded.model, HfNetwork):
            check_hf_run(config, loaded.model.config)
        batch_tokens = tokens_per_batch(config.batch_tokens, device)
        self._encoder = RwkvEncoder(loaded, config.prompt, device, config.max_tokens, batch_tokens)
        if config.pooling.name == IDF:
            self._encoder = self._encoder.with_idf([_named_corpus(config).texts])
        self._checked(config.layer)

    @classmethod
    def from_config(cls, *overrides: str) -> Encoder:
        """The encoder of a run with these overrides, written as on the command line: `"layer=5"`, `"precision=fp16"`.

        Raises:
            UserError, hydra.errors.HydraException: what the command line would refuse.
        """
        register_schemas()
        # A notebook or a program that uses Hydra itself keeps its own state.
        state, GlobalHydra.instance().hydra = GlobalHydra.instance().hydra, None
        try:
            with initialize_config_dir(version_base=None, config_dir=str(conf_dir()), job_name="rwkv_sweep"):
                return cls(run_config(compose("config", list(overrides))))
        finally:
            GlobalHydra.instance().hydra = state

    def encode(
        self,
        sentences: str | Sequence[str] | Iterable[Mapping[str, Any]],
        layers: object = None,
        *,
        normalize_embeddings: bool = False,
        **ignored: Any,
    ) -> np.ndarray:
        """One vector a sentence.

        Args:
            sentences: texts; a single one; or batches with a list of texts under `text`, as `mteb` gives them.
            layers: as `layer` in the config, in place of the configured ones.
            normalize_embeddings: scale each to length 1.
            ignored: what other encoders take (batch_size, task_metadata, prompt_type, ...); batches here are packed by
                `batch_tokens`, and the prompt is the configured one.

        Returns:
            float32 [S, D'], of a single text [D']; D' is the hidden size (times the layers for `aggregation=concat`).

        Raises:
            UserError: layers that the model does not have, or several with aggregation=none; a text without tokens.
            NonFiniteError: NaN or infinity in a vector.
        """
        chosen = self._checked(self.config.layer if layers is None else layers)
        texts = _texts(sentences)
        found = self._vectors(texts, chosen)
        vectors_SD: np.ndarray = aggregate(found, self.config.aggregation, chosen).numpy()
        if normalize_embeddings:
            vectors_SD = vectors_SD / np.maximum(np.linalg.norm(vectors_SD, axis=1, keepdims=True), 1e-12)
        return vectors_SD[0] if isinstance(sentences, str) else vectors_SD

    def encode_layers(self, sentences: Sequence[str], layers: object = "all") -> np.ndarray:
        """Pooled vectors of each layer, float32 [layers, S, D], all from one pass; arguments and errors as `encode`."""
        chosen = resolve_layers(layers, self.num_blocks)
        check_pooling(self.config.pooling.name, chosen, self.num_blocks)
        found: np.ndarray = self._vectors(_texts(sentences), chosen).numpy()
        return found

    def similarity(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Cosine of each of the first with each of the second, [A, B]; zero vectors have cosine 0."""
        one, other = (_unit(np.atleast_2d(np.asarray(each))) for each in (embeddings1, embeddings2))
        product: np.ndarray = one @ other.T
        return product

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> np.ndarray:
        """Cosine of each of the first with the same one of the second, [A]."""
        one, other = (_unit(np.atleast_2d(np.asarray(each))) for each in (embeddings1, embeddings2))
        product: np.ndarray = (one * other).sum(1)
        return product

    @property
    def mteb_model_meta(self) -> Any:
        """What `mteb` files results under; needs `mteb`."""
        from mteb.models import ModelMeta

        name = f"rwkv_sweep/{self.config.model.name}-layer-{str(self.config.layer).replace(' ', '')}"
        return ModelMeta.create_empty({"name": name, "revision": self._encoder.loaded.fingerprint})

    def _checked(self, spec: object) -> tuple[int, ...]:
        chosen = resolve_layers(spec, self.num_blocks)
        check_pooling(self.config.pooling.name, chosen, self.num_blocks)
        check_aggregation(self.config.aggregation, chosen)
        return chosen

    def _vectors(self, texts: Sequence[str], layers: Sequence[int]) -> Any:
        pooling = self.config.pooling.name
        return self._encoder.encode(texts, layers, [pooling])[pooling]


def _named_corpus(config: RunConfig) -> Corpus:
    """The texts in which `pooling=idf` counts tokens: those of a call would decide each other's vectors."""
    corpus = load_corpus(config.pooling, config.dataset)
    if corpus is None:
        raise UserError(
            "pooling=idf needs texts in which to count tokens: valid are pooling.corpus=FILE with one text a line, or "
            f"pooling.fit=SPLIT of dataset={config.dataset.name}, such as pooling.fit={config.dataset.splits[0]}"
        )
    return corpus


def _texts(sentences: str | Sequence[str] | Iterable[Mapping[str, Any]]) -> list[str]:
    if isinstance(sentences, str):
        return [sentences]
    found: list[str] = []
    for each in sentences:
        found += [each] if isinstance(each, str) else each["text"]
    return found


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, length, out=np.zeros_like(vectors), where=length > 0)
