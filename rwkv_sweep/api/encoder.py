"""The public class: a model, a choice of layers, pooling and aggregation, and the methods of sentence-transformers.

Shapes: L layers, K texts that are not empty, S sentences, D dimensions.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rwkv_sweep.api.calibration import Calibration
from rwkv_sweep.api.composing import EXAMPLE, composed, described, mteb_meta, with_float32_output
from rwkv_sweep.api.fitting import Fitted, SavedState, check_fit, given_calibration, given_corpus
from rwkv_sweep.api.inputs import arguments_of, as_texts, refuse_unknown, require_count
from rwkv_sweep.api.loading import check_reference, load_saved
from rwkv_sweep.api.methods import SentenceMethods
from rwkv_sweep.api.outputs import as_array_or_tensor, finished
from rwkv_sweep.api.reading import Reading, check_prompts, chosen_prompt, pooled, spread
from rwkv_sweep.config.layer_spec import layers_name, resolve_layers
from rwkv_sweep.config.schema import RunConfig, require_one_of
from rwkv_sweep.embedding.aggregation import check_aggregation
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder, tokens_per_batch
from rwkv_sweep.embedding.pooling import check_pooling
from rwkv_sweep.evaluation.output_formats import PRECISIONS, quantized
from rwkv_sweep.evaluation.quality import PostprocessFit
from rwkv_sweep.hardware.devices import resolve_device, set_threads
from rwkv_sweep.models.loading import model_source


class Encoder(SentenceMethods):
    """A loaded model and a choice of layers, pooling and aggregation.

    A vector depends on its own text and on nothing else in the call, as far as rounding goes; with LLM.int8, which
    chooses its outlier columns over a whole batch, a little on the others.

    Attributes:
        config: all of it, as on the command line.
        prompts: texts to put before others, by name.
        num_blocks: L; `layer` is 0 to L - 1, `final`, `embedding`, `all`, or a list.
        device: where the model is.
    """

    def __init__(
        self,
        config: RunConfig,
        *,
        corpus: Iterable[str] | None = None,
        prompts: Mapping[str, str] | None = None,
        saved: SavedState | None = None,
    ) -> None:
        """Load the model, and fit what is fitted.

        Args:
            config: of a run; `from_config` makes it from overrides.
            corpus: texts to fit on, in place of those that the config names; `encode(precision="int8")` needs them.
            prompts: by name, such as `{"query": "Question: "}`; see `encode_query`.
            saved: what a run has fitted, in place of fitting it here; see `from_run`.

        Raises:
            UserError: a model, precision, device, layer, pooling or aggregation that cannot be; nothing to fit on.
        """
        if not isinstance(config, RunConfig):
            raise TypeError(f"Encoder takes a RunConfig, not {config!r}: use {EXAMPLE}")
        self.config, self.prompts = config, check_prompts(prompts or {})
        texts = given_corpus(corpus)
        counted = check_fit(config.pooling, config.postprocess, config.dataset, texts) if saved is None else None
        set_threads(config.device)
        self.device: torch.device = resolve_device(config.device)
        source = model_source(config.model)
        calibration = given_calibration(config.precision, config.dataset, texts if saved is None else None)
        loaded = source.load(config.precision, self.device, calibration)
        self.num_blocks: int = loaded.model.config.num_hidden_layers
        source.check_use(config.pooling.spec, config.max_tokens, config.precision, loaded.model.config)
        self._layers = self._checked(config.layer)
        tokens = tokens_per_batch(config.batch_tokens, self.device)
        encoder = RwkvEncoder(loaded, config.prompt, self.device, config.max_tokens, tokens)
        encoder = encoder if counted is None else encoder.with_idf([counted])
        fit = (PostprocessFit(config.postprocess, config.dataset), texts, config.seed, saved)
        self._fitted = Fitted(encoder, config.pooling.spec, config.aggregation, config.precision, *fit)
        self._dimension = self._fitted.dimension(self._layers)
        self._calibration = Calibration(texts)

    @classmethod
    def from_config(
        cls,
        *overrides: str,
        corpus: Iterable[str] | None = None,
        prompts: Mapping[str, str] | None = None,
        **unknown: Any,
    ) -> Encoder:
        """The encoder of a run with these overrides, written as on the command line: `"layer=5"`, `"precision=fp16"`.

        Args:
            overrides: each an argument of its own. corpus, prompts: as of `Encoder`.

        Raises:
            TypeError: overrides in another form.
            UserError: what the command line would refuse, or `Encoder`.
        """
        return cls(with_float32_output(composed(overrides, unknown)), corpus=corpus, prompts=prompts)

    @classmethod
    def from_run(
        cls,
        run: str | os.PathLike[str],
        *,
        device: str | None = None,
        corpus: Iterable[str] | None = None,
        prompts: Mapping[str, str] | None = None,
        tracking_uri: str | None = None,
    ) -> Encoder:
        """The encoder of a finished run, with what the run has fitted: it gives the run's scores again.

        Args:
            run: the folder of a run, or of what `rwkv-sweep export` wrote; `runs:/ID` or `models:/NAME/VERSION` of
                MLflow.
            device: `cpu`, `cuda` or `auto`; None for the kind that the run had.
            corpus, prompts: as of `Encoder`; the corpus shows ranges to `precision="int8"` of `encode` alone.
            tracking_uri: of MLflow; None takes `MLFLOW_TRACKING_URI`, and then `mlruns/mlflow.db`.

        Raises:
            UserError: no finished run; other weights, or none; or other vectors by this version or device.
        """
        config, saved, record = load_saved(run, device, tracking_uri)
        encoder = cls(config, corpus=corpus, prompts=prompts, saved=saved)
        check_reference(record, encoder._fitted.embedder(encoder._layers))
        return encoder

    def encode(
        self,
        sentences: str | Iterable[str] | Iterable[Mapping[str, Any]],
        layers: Any = None,
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        prompt_type: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        precision: str = "float32",
        convert_to_numpy: bool = True,
        convert_to_tensor: bool = False,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        on_empty: str = "error",
        task_metadata: Any = None,
        hf_split: Any = None,
        hf_subset: Any = None,
        **unknown: Any,
    ) -> Any:
        """One vector a sentence.

        Args:
            sentences: texts; a single one; or batches with a list of texts under `text`, as `mteb` gives them.
            layers: as `layer` in the config, in place of the configured ones.
            prompt: put before each text.
            prompt_name: that of `prompts`, in place of `prompt`.
            prompt_type: `query` or `document`: the prompt for these, where there is one; see `encode_query`.
            batch_size: texts per batch at most. A batch holds no more than `batch_tokens` tokens all the same.
            show_progress_bar: on stderr.
            precision: number format of the vectors, see `rwkv_sweep.api.outputs.quantized`; that of the model is the
                key `precision`. `int8` and `uint8` need the encoder's `corpus`.
            convert_to_numpy: False gives a list of tensors.
            convert_to_tensor: True gives one tensor, on the encoder's device.
            normalize_embeddings: scale each to length 1.
            truncate_dim: keep the first so many dimensions.
            on_empty: what becomes of a text without tokens: `error`, or `zero` for a vector of zeros.
            task_metadata, hf_split, hf_subset: what `mteb` says of its task; nothing depends on them.

        Returns:
            float32 [S, D'], of a single text [D'], D' as `get_sentence_embedding_dimension` tells for the configured
            layers.

        Raises:
            TypeError: an argument that does not exist, or a sentence that is no text.
            UserError: a value that cannot be, or a text without tokens.
            NonFiniteError: NaN or infinity in a vector.
        """
        refuse_unknown("encode", unknown, arguments_of(Encoder.encode))
        require_one_of("precision", precision, PRECISIONS)
        before = chosen_prompt(self.prompts, prompt, prompt_name, prompt_type)
        reading = Reading(before, batch_size, bool(show_progress_bar), on_empty)
        chosen = self._layers if layers is None else self._checked(layers)
        require_count("truncate_dim", truncate_dim, self._fitted.dimension(chosen))
        texts, single = as_texts(sentences)

        def embed(some: Sequence[str], how: Reading) -> np.ndarray:
            return finished(self._embed(some, chosen, how), truncate_dim, normalize_embeddings)

        way = (chosen, before, truncate_dim, normalize_embeddings)
        strict = replace(reading, on_empty="error")
        limits_2D = self._calibration.ranges(precision, way, lambda corpus: embed(corpus, strict))
        vectors_SD = quantized(embed(texts, reading), precision, limits_2D)
        vectors = as_array_or_tensor(vectors_SD, convert_to_numpy, convert_to_tensor, self.device)
        return vectors[0] if single else vectors

    def encode_layers(
        self,
        sentences: str | Iterable[str] | Iterable[Mapping[str, Any]],
        layers: Any = "all",
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        batch_size: int | None = None,
        show_progress_bar: bool | None = None,
        on_empty: str = "error",
        **unknown: Any,
    ) -> np.ndarray:
        """Pooled vectors of each layer, before aggregation and post-processing, all from one pass.

        layers: as `layer` in the config. Others, and errors: as in `encode`.

        Returns:
            float32 [layers, S, D], of a single text [layers, 1, D].
        """
        refuse_unknown("encode_layers", unknown, arguments_of(Encoder.encode_layers))
        chosen = resolve_layers(layers, self.num_blocks)
        check_pooling(self.config.pooling.spec, chosen, self.num_blocks)
        before = chosen_prompt(self.prompts, prompt, prompt_name, None)
        texts, _ = as_texts(sentences)
        pooled_LKD, rows = self._pooled(texts, chosen, Reading(before, batch_size, bool(show_progress_bar), on_empty))
        return spread(pooled_LKD.numpy(), rows, len(texts), axis=1)

    def __repr__(self) -> str:
        layers = layers_name(self._layers, self.num_blocks)
        return f"Encoder({described(self.config, layers, self.device, self._dimension)})"

    @property
    def mteb_model_meta(self) -> Any:
        """What `mteb` files results under; needs `mteb`."""
        return mteb_meta(self.config, self._fitted.encoder.loaded.fingerprint)

    def _checked(self, spec: object) -> tuple[int, ...]:
        chosen = resolve_layers(spec, self.num_blocks)
        check_pooling(self.config.pooling.spec, chosen, self.num_blocks)
        check_aggregation(self.config.aggregation, chosen)
        return chosen

    def _embed(self, texts: Sequence[str], layers: tuple[int, ...], reading: Reading) -> np.ndarray:
        """[S, D'], post-processed, as read back from the run's output format; zeros for texts without tokens."""
        pooled_LKD, rows = self._pooled(texts, layers, reading)
        return spread(self._fitted.restored(pooled_LKD, layers), rows, len(texts), axis=0)

    def _pooled(self, texts: Sequence[str], layers: tuple[int, ...], reading: Reading) -> tuple[Tensor, list[int]]:
        return pooled(self._fitted.encoder, texts, layers, self.config.pooling.spec, reading)
