"""Several layers to one vector per sentence, from vectors that are pooled already."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from rwkv_sweep.config import AGGREGATIONS
from rwkv_sweep.errors import UserError

Aggregate = Callable[[Tensor], Tensor]
"""[layers, S, D] to [S, D'], D' = D except for `concat`."""


def only(v_LSD: Tensor) -> Tensor:
    """The one layer there is."""
    (v_SD,) = v_LSD
    return v_SD


def mean(v_LSD: Tensor) -> Tensor:
    return v_LSD.mean(0)


def concat(v_LSD: Tensor) -> Tensor:
    """The layers side by side: [S, layers * D]."""
    return v_LSD.transpose(0, 1).flatten(1)


AGGREGATES: dict[str, Aggregate] = {"none": only, "mean": mean, "concat": concat}


def check_aggregation(name: str, layers: Sequence[int]) -> None:
    """Raises UserError where several layers are asked for and nothing says how to make one vector of them."""
    if name == "none" and len(layers) > 1:
        ways = ", ".join(way for way in AGGREGATIONS if way != "none")
        raise UserError(
            f"aggregation=none takes one layer, but layer names {len(layers)}: "
            f"choose aggregation={ways}, or sweep single layers with -m layer=1,3,5"
        )
