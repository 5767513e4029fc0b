"""What can be refused of one run before its weights or data are read."""

from __future__ import annotations

from rwkv_sweep.config.layer_spec import resolve_layers
from rwkv_sweep.config.schema import RunConfig
from rwkv_sweep.embedding.aggregation import check_aggregation
from rwkv_sweep.embedding.pooling import check_pooling
from rwkv_sweep.hardware.devices import resolve_device
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.models.quantization import check_precision, check_selection


def check_run(run: RunConfig, shape: Shape, device_here: bool = True) -> tuple[int, ...]:
    """Check a run of a model of this shape, without loading weights or data, and return its layers.

    Raises:
        UserError: a layer, pooling, aggregation, device or precision that cannot be.
        UnsupportedError: a precision that this device cannot run, everything else being right.
    """
    layers = resolve_layers(run.layer, shape.num_hidden_layers)
    check_pooling(run.pooling.name, layers, shape.num_hidden_layers)
    check_aggregation(run.aggregation, layers)
    check_selection(run.precision, shape.num_hidden_layers, shape.lacking_kinds)
    model_source(run.model).check_use(run.pooling.name, run.max_tokens, run.precision, shape)
    if device_here:
        check_precision(run.precision, resolve_device(run.device))
    return layers
