"""How close a precision's vectors and scores come to those of fp32, on the same sentences.

The fp32 vectors come from the store, or from one forward of a second model, which is let go before anything is timed.
Shapes: L layers, S sentences, P pairs, D dimensions.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import psutil
import torch
from torch import Tensor

from rwkv_sweep.config import ModelConfig, PrecisionConfig
from rwkv_sweep.evaluate import cosine, paired_difference
from rwkv_sweep.extract import Progress, RwkvEncoder
from rwkv_sweep.layers import layer_name
from rwkv_sweep.models.hf import HfNetwork
from rwkv_sweep.models.loading import Network, load_model, running_tags

REFERENCE = PrecisionConfig("fp32", "float32")
ROOM = 0.9
"""Share of the free memory that the fp32 weights may take."""


@dataclass(frozen=True)
class Found:
    """What one precision gave for a split: pooled vectors of each layer, sentence vectors, scores of the pairs."""

    layers_LSD: np.ndarray
    sentences_SD: np.ndarray
    scores_P: np.ndarray


@dataclass(frozen=True)
class ReferenceEncoder(RwkvEncoder):
    """The same encoder in fp32. Its weights are loaded only when something must be encoded, and let go after.

    `loaded` is that of the other precision but for its kernel tags, so that what is in the store is found without
    loading anything.
    """

    model: ModelConfig | None = None

    @classmethod
    def beside(cls, encoder: RwkvEncoder, model: ModelConfig) -> ReferenceEncoder:
        """The reference of `encoder`, whose weights `model` names."""
        tags = running_tags(encoder.loaded.model, REFERENCE, encoder.device)
        values = {each.name: getattr(encoder, each.name) for each in fields(encoder)}
        return cls(**{**values, "loaded": replace(encoder.loaded, kernel_tags=tags)}, model=model)

    def encode(
        self, sentences: Sequence[str], layers: Sequence[int], poolings: Sequence[str], progress: Progress | None = None
    ) -> dict[str, Tensor]:
        """As `RwkvEncoder.encode`."""
        assert self.model is not None
        values = {each.name: getattr(self, each.name) for each in fields(RwkvEncoder)}
        encoder = RwkvEncoder(**{**values, "loaded": load_model(self.model, REFERENCE, self.device)})
        try:
            return encoder.encode(sentences, layers, poolings, progress)
        finally:
            del encoder, values
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()


def is_reference(precision: PrecisionConfig) -> bool:
    """Whether this is fp32 itself, which the others are held against."""
    return (precision.base, precision.quantization) == (REFERENCE.base, REFERENCE.quantization)


def why_no_reference(model: Network, device: torch.device) -> str | None:
    """Why this model cannot be loaded in fp32 beside the one that is there; None where it can."""
    plain: torch.nn.Module = model
    if not isinstance(model, HfNetwork):  # which is never quantized, so that its tensors are what they were
        with torch.device("meta"):
            plain = model.blank()
    needed = 4 * sum(parameter.numel() for parameter in plain.parameters())
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed <= ROOM * free:
        return None
    return f"fp32 weights of {needed / 2**30:.1f} GiB do not fit into the {free / 2**30:.1f} GiB that are free"


def parity_metrics(
    ours: Found,
    reference: Found,
    labels_P: np.ndarray | None,
    layers: Sequence[int],
    num_blocks: int,
    resamples: int,
    seed: int,
) -> dict[str, float]:
    """Metrics `parity/*`, see docs/metrics.md.

    Args:
        ours, reference: of the same sentences and layers.
        labels_P: None where the weights are random, and Spearman means nothing.
        layers, num_blocks: for their names.
        resamples, seed: of the bootstrap.

    Raises:
        NonFiniteError: NaN or infinity in vectors or scores.
        ValueError: shapes that differ.
    """
    found = _cosines("parity", ours.sentences_SD, reference.sentences_SD)
    for index, layer in enumerate(layers):
        prefix = f"parity/layer/{layer_name(layer, num_blocks)}"
        found |= _cosines(prefix, ours.layers_LSD[index], reference.layers_LSD[index])
    if min(np.ptp(ours.scores_P), np.ptp(reference.scores_P)) > 0:
        from scipy.stats import spearmanr  # takes a second, and is needed late

        found["parity/rank_agreement"] = float(spearmanr(ours.scores_P, reference.scores_P).statistic)
    if labels_P is not None:
        delta = paired_difference(ours.scores_P, reference.scores_P, labels_P, resamples, seed)
        values = {"": delta.value, "_lo": delta.lo, "_hi": delta.hi, "_p": delta.p}
        found |= {f"parity/spearman_delta{suffix}": value for suffix, value in values.items()}
    return found


def _cosines(prefix: str, ours_SD: np.ndarray, reference_SD: np.ndarray) -> dict[str, float]:
    cosines_S = cosine(ours_SD, reference_SD)
    return {
        f"{prefix}/cosine_mean": float(cosines_S.mean()),
        f"{prefix}/cosine_p01": float(np.percentile(cosines_S, 1)),
    }
