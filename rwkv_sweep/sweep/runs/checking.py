"""What can be refused of one run before its weights or data are read."""

from __future__ import annotations

from collections.abc import Sequence

from rwkv_sweep.config.layer_spec import resolve_layers
from rwkv_sweep.config.schema import AggregationConfig, DeviceConfig, ModelConfig, PostprocessConfig, PrecisionConfig
from rwkv_sweep.embedding.aggregation import check_aggregation
from rwkv_sweep.embedding.pooling import check_pooling, vector_size
from rwkv_sweep.embedding.postprocessing import check_postprocess
from rwkv_sweep.evaluation.output_formats import check_size
from rwkv_sweep.hardware.devices import resolve_device
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.models.quantization import check_precision, check_selection


def check_layers(
    layer: object, pooling: str, aggregation: AggregationConfig, postprocess: PostprocessConfig, shape: Shape
) -> tuple[int, ...]:
    """The layers that `layer` names in a model of this shape.

    Raises:
        UserError: a layer, pooling, aggregation or post-processing that cannot be.
    """
    layers = resolve_layers(layer, shape.num_hidden_layers)
    check_pooling(pooling, layers, shape.num_hidden_layers)
    check_aggregation(aggregation, layers)
    check_postprocess(postprocess, pooling, aggregation, layers, shape)
    return layers


def check_output(
    output: str, layers: Sequence[int], pooling: str, aggregation: AggregationConfig, shape: Shape
) -> None:
    """Raises UserError where `output` keeps more dimensions than the vectors of these layers have."""
    size = vector_size(pooling, shape)
    check_size(output, size * len(layers) if aggregation.name == "concat" else size)


def check_use(model: ModelConfig, precision: PrecisionConfig, pooling: str, max_tokens: int, shape: Shape) -> None:
    """Raises UserError where a model of this shape has no such precision or pooling, or reads no such text."""
    check_selection(precision, shape.num_hidden_layers, shape.lacking_kinds)
    model_source(model).check_use(pooling, max_tokens, precision, shape)


def check_device(precision: PrecisionConfig, device: DeviceConfig) -> None:
    """Check that this machine has the device, and that it can run the precision.

    Raises:
        UserError: there is no such device.
        UnsupportedError: it cannot run the precision, everything else being right.
    """
    check_precision(precision, resolve_device(device))
