"""Several layers to one vector per sentence, from vectors that are pooled already.

Shapes: L layers, S sentences, D hidden size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from rwkv_sweep.config.schema import AGGREGATIONS, AggregationConfig
from rwkv_sweep.errors import UserError

SCHEMES = ("linear", "geometric")


def aggregate(v_LSD: Tensor, config: AggregationConfig, layers: Sequence[int]) -> Tensor:
    """One vector per sentence, [S, D'], D' = D except for `concat`, whose vectors are [S, layers * D].

    Why `normalize=unit`: outputs grow with depth, and in a plain mean the long ones drown the others. In the byte-level
    model the vectors of block 11 are on average 28 times as long as those of block 0 (205 against 7.3; blocks 1 to 10:
    8.6 to 11.8), and the mean of 12 layers has a cosine of .93 with block 11 alone. It decides what is compared, and
    does not score better there: Spearman of the mean of all blocks is .347 with unit lengths and .353 without on the
    first 1000 rows of MRPC train (difference .006, 95 % interval -.002 to .014), .382 and .385 on validation.

    Not here: layers weighted by the softmax of their cosine with the mean layer. It gave .347 with unit lengths (as the
    mean) and .355 without (.002 over the mean, 95 % interval -.002 to .006), so nothing beyond noise.

    Args:
        v_LSD: pooled vectors of each layer.
        config: how; checked by `check_aggregation`. `learned` stands for weights that are not fitted yet: once they
            are, their sum is `weighted`.
        layers: indices of the layers of `v_LSD`, in the same order: `weighted` goes by their depth.

    Raises:
        ValueError: weights that are not fitted yet.
    """
    if config.name == "none":
        (v_SD,) = v_LSD
        return v_SD
    if config.normalize == "unit":
        v_LSD = unit(v_LSD)
    if config.name == "mean":
        return v_LSD.mean(0)
    if config.name == "max":
        return v_LSD.amax(0)
    if config.name == "concat":
        return v_LSD.transpose(0, 1).flatten(1)
    if config.name != "weighted":
        raise ValueError(f"aggregation={config.name} is fitted before it is used")
    weights = tuple(layer_weights(config.weights, layers))
    return torch.tensordot(_on_device(weights, v_LSD.device, v_LSD.dtype), v_LSD, dims=1)


@functools.cache
def _on_device(weights: tuple[float, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Copied once: a CUDA graph cannot hold a copy from ordinary memory."""
    with torch.inference_mode(False):
        return torch.tensor(weights, device=device, dtype=dtype)


def unit(v_LSD: Tensor) -> Tensor:
    """Every layer's vector of every sentence at length 1; a zero vector stays zero."""
    length_LS1 = v_LSD.norm(dim=-1, keepdim=True)
    return v_LSD / length_LS1.masked_fill(length_LS1 == 0, 1)


def layer_weights(weights: object, layers: Sequence[int]) -> list[float]:
    """The weight of each layer, in the order listed, summing to 1 (a list of numbers: as given).

    `linear` gives the shallowest layer asked for 1, the next 2, and so on; `geometric` 1, 2, 4, and so on.
    """
    if isinstance(weights, (list, tuple)):
        return [float(weight) for weight in weights]
    ranks = [sorted(layers).index(layer) for layer in layers]
    raw = [2.0**rank if weights == "geometric" else rank + 1.0 for rank in ranks]
    return [weight / sum(raw) for weight in raw]


def check_aggregation(config: AggregationConfig, layers: Sequence[int]) -> None:
    """Raises UserError where several layers are asked for and nothing says how to make one vector of them, or where
    the weights do not fit the layers."""
    if config.name == "none" and len(layers) > 1:
        ways = ", ".join(way for way in AGGREGATIONS if way != "none")
        raise UserError(
            f"aggregation=none takes one layer, but layer names {len(layers)}: "
            f"choose aggregation={ways}, or sweep single layers with -m layer=1,3,5"
        )
    if config.name == "weighted" and config.weights not in SCHEMES:
        _check_numbers(config.weights, len(layers))


def _check_numbers(weights: object, count: int) -> None:
    valid = f"valid are {', '.join(SCHEMES)}, or a list of {count} numbers, one a layer, not all of them 0"
    shown = "[" + ",".join(map(str, weights)) + "]" if isinstance(weights, (list, tuple)) else weights
    if not isinstance(weights, (list, tuple)):
        raise UserError(f"aggregation.weights={shown} is not known: {valid}")
    if not all(
        isinstance(weight, (int, float)) and not isinstance(weight, bool) and math.isfinite(weight)
        for weight in weights
    ):
        raise UserError(f"aggregation.weights={shown} is not a list of numbers: {valid}")
    if len(weights) != count:
        raise UserError(f"aggregation.weights={shown} holds {len(weights)} numbers for {count} layers: {valid}")
    if not any(weights):
        raise UserError(f"aggregation.weights={shown} is all zero: {valid}")
