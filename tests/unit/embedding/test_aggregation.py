"""Several layers to one vector, against NumPy."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import AGGREGATIONS, AggregationConfig
from rwkv_sweep.embedding.aggregation import aggregate, check_aggregation
from rwkv_sweep.errors import UserError

BY_HAND: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mean": lambda v_LSD: v_LSD.sum(0) / len(v_LSD),
    "concat": lambda v_LSD: np.concatenate(list(v_LSD), axis=1),
    "max": lambda v_LSD: v_LSD.max(0),
    "weighted": lambda v_LSD: (1 * v_LSD[0] + 2 * v_LSD[1] + 3 * v_LSD[2]) / 6,
}


def random_vectors(layers: int) -> torch.Tensor:
    """Layers of very different lengths, as in a network."""
    random = torch.Generator().manual_seed(0)
    return torch.randn(layers, 4, 5, generator=random) * torch.tensor([1.0, 10.0, 100.0])[:layers, None, None]


@pytest.mark.parametrize("normalize", ["none", "unit"])
@pytest.mark.parametrize("name", BY_HAND)
def test_aggregations_equal_numpy(name: str, normalize: str) -> None:
    v_LSD = random_vectors(3)
    layers = v_LSD.numpy()
    if normalize == "unit":
        layers = layers / np.sqrt((layers**2).sum(-1, keepdims=True))
    actual_SD = aggregate(v_LSD, AggregationConfig(name, normalize, "linear"), (1, 3, 5))
    np.testing.assert_allclose(actual_SD.numpy(), BY_HAND[name](layers), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", BY_HAND)
def test_vectors_keep_their_dtype(name: str, dtype: torch.dtype) -> None:
    v_LSD = random_vectors(3).to(dtype)
    assert aggregate(v_LSD, AggregationConfig(name, "unit", "linear"), (1, 3, 5)).dtype == dtype


@pytest.mark.parametrize(
    ("weights", "layers", "expected"),
    [
        ("linear", (1, 3, 5), [1 / 6, 2 / 6, 3 / 6]),
        ("linear", (5, EMBEDDING, 3), [3 / 6, 1 / 6, 2 / 6]),  # by depth, in whatever order they are listed
        ("geometric", (1, 3, 5), [1 / 7, 2 / 7, 4 / 7]),
        ([0.5, 0, -2], (5, 1, 3), [0.5, 0, -2]),  # as listed
    ],
)
def test_weights(weights: object, layers: tuple[int, ...], expected: list[float]) -> None:
    v_LSD = random_vectors(3)
    actual_SD = aggregate(v_LSD, AggregationConfig("weighted", "none", weights), layers)
    by_hand = sum(weight * layer for weight, layer in zip(expected, v_LSD.numpy(), strict=True))
    np.testing.assert_allclose(actual_SD.numpy(), by_hand, rtol=1e-5, atol=1e-4)


def test_unit_lengths_make_scale_vanish_and_leave_zero_vectors() -> None:
    v_LSD = random_vectors(3)
    v_LSD[1, 2] = 0
    config = AggregationConfig("mean", "unit")
    mean_SD = aggregate(v_LSD, config, (0, 1, 2))
    assert torch.isfinite(mean_SD).all()
    scaled_LSD = v_LSD * torch.tensor([1e-3, 7.0, 1e6])[:, None, None]
    torch.testing.assert_close(aggregate(scaled_LSD, config, (0, 1, 2)), mean_SD)
    torch.testing.assert_close(mean_SD[2], (v_LSD[0, 2] / v_LSD[0, 2].norm() + v_LSD[2, 2] / v_LSD[2, 2].norm()) / 3)


def test_learned_weights_are_fitted_before_they_are_used() -> None:
    with pytest.raises(ValueError, match="aggregation=learned is fitted before it is used"):
        aggregate(random_vectors(3), AggregationConfig("learned", "unit", fit="train"), (1, 3, 5))


@pytest.mark.parametrize("name", [name for name in AGGREGATIONS if name != "learned"])
def test_one_layer_stays_what_it_is(name: str) -> None:
    v_LSD = random_vectors(1)
    torch.testing.assert_close(aggregate(v_LSD, AggregationConfig(name, "none", "geometric"), (3,)), v_LSD[0])
    if name == "none":
        assert aggregate(v_LSD, AggregationConfig(name, "unit"), (3,)) is not None
        torch.testing.assert_close(aggregate(v_LSD, AggregationConfig(name, "unit"), (3,)), v_LSD[0])


def test_several_layers_need_an_aggregation() -> None:
    with pytest.raises(UserError) as caught:
        check_aggregation(AggregationConfig("none"), (1, 3, 5))
    assert str(caught.value) == (
        "aggregation=none takes one layer, but layer names 3: choose aggregation=mean, concat, max, weighted, learned, "
        "or sweep single layers with -m layer=1,3,5"
    )
    with pytest.raises(UserError, match="but layer names 2:"):
        check_aggregation(AggregationConfig("none"), (1, 3))
    check_aggregation(AggregationConfig("none"), (1,))
    for name in ("mean", "concat", "max"):
        check_aggregation(AggregationConfig(name), (1, 3, 5))


VALID = "valid are linear, geometric, or a list of 3 numbers, one a layer, not all of them 0"


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (None, f"aggregation.weights=None is not known: {VALID}"),
        ("cubic", f"aggregation.weights=cubic is not known: {VALID}"),
        ([1, 2], f"aggregation.weights=[1,2] holds 2 numbers for 3 layers: {VALID}"),
        ([1, "x", 2], f"aggregation.weights=[1,x,2] is not a list of numbers: {VALID}"),
        ([1, True, 2], f"aggregation.weights=[1,True,2] is not a list of numbers: {VALID}"),
        ([1, float("nan"), 2], f"aggregation.weights=[1,nan,2] is not a list of numbers: {VALID}"),
        ([0, 0.0, 0], f"aggregation.weights=[0,0.0,0] is all zero: {VALID}"),
    ],
)
def test_weights_that_make_no_sense(weights: object, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check_aggregation(AggregationConfig("weighted", weights=weights), (1, 3, 5))
    assert str(caught.value) == message


@pytest.mark.parametrize("weights", ["linear", "geometric", [1, 0, -0.5]])
def test_weights_that_do(weights: object) -> None:
    check_aggregation(AggregationConfig("weighted", weights=weights), (1, 3, 5))
