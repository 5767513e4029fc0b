"""The configurations of a search: what one pass over the sentences can be made into."""

from __future__ import annotations

from dataclasses import dataclass

from rwkv_sweep.config.layer_spec import EMBEDDING, layer_name, layers_name, resolve_layers
from rwkv_sweep.config.schema import AggregationConfig, SearchConfig
from rwkv_sweep.errors import UserError

WEIGHTS = ("linear", "geometric")
"""Aggregations of a search that are `aggregation=weighted` with these weights."""


@dataclass(frozen=True)
class Configuration:
    """Layers, pooling and aggregation of a run; post-processings share its vectors.

    Attributes:
        pooling: its name.
        spec: the layers as `layer` names them. layers: their indices.
        aggregation: of these layers; `none` for a single one.
    """

    pooling: str
    spec: str
    layers: tuple[int, ...]
    aggregation: AggregationConfig

    def overrides(self, postprocess: str) -> str:
        """What makes a run of it on the command line, beside the keys of the search's own run."""
        parts = [f"layer={self.spec}", f"pooling={self.pooling}", f"aggregation={self.aggregation.name}"]
        if self.aggregation.name == "weighted":
            parts.append(f"aggregation.weights={self.aggregation.weights}")
        return " ".join([*parts, f"postprocess={postprocess}"])


def configurations(
    search: SearchConfig, aggregation: AggregationConfig, split: str, num_blocks: int
) -> list[Configuration]:
    """All of a search, those of one pooling together: each single layer, and each aggregation of each set of layers.

    Args:
        aggregation: of the search's run, for `normalize`.
        split: that learned weights are fitted to.

    Raises:
        UserError: a set of layers that the model does not have, or that is a single one.
    """
    singles = [EMBEDDING, *range(num_blocks + 1)]
    alone = AggregationConfig("none", aggregation.normalize)
    sets = [(spec, _several(spec, num_blocks)) for spec in search.layers]
    chosen = []
    for pooling in search.poolings:
        chosen += [Configuration(pooling, layer_name(layer, num_blocks), (layer,), alone) for layer in singles]
        for spec, layers in sets:
            for name in search.aggregations:
                chosen.append(Configuration(pooling, spec, layers, _aggregation(name, aggregation.normalize, split)))
    return chosen


def _several(spec: str, num_blocks: int) -> tuple[int, ...]:
    try:
        layers = resolve_layers(spec, num_blocks)
    except UserError as error:
        raise UserError(f"search.layers={spec}: {error}") from error
    if len(layers) < 2:
        raise UserError(
            f"search.layers={spec} is one layer, {layers_name(layers, num_blocks)}, and each of these is searched "
            "anyway: valid are sets of several, such as all, first4 or last4"
        )
    return layers


def _aggregation(name: str, normalize: str, split: str) -> AggregationConfig:
    if name in WEIGHTS:
        return AggregationConfig("weighted", normalize, name)
    return AggregationConfig(name, normalize, fit=split if name == "learned" else None)
