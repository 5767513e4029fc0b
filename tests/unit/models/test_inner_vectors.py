"""`pooling.source`: values and time-mix outputs of each generation are what hooks on the plain blocks read, from a
forward that ends behind the time mix of the deepest block."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import PooledTokens, pool, vector_size
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.common.shape import EncoderShape
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import FP32, encoder_of, random_config, shake

GENERATIONS, SOURCES, LAYERS = (4, 5, 6, 7), ("values", "time_mix"), (0, 1, 2)
SENTENCES = ("A cat sleeps.", "x", "Rain fell on the northern coast all day long.", "No.")

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=GENERATIONS)
def encoder(request: pytest.FixtureRequest) -> RwkvEncoder:
    """Random weights, every one of which matters."""
    encoder = encoder_of(replace(random_config(), generation=request.param))
    shake(encoder.loaded.model, 0.1)
    return encoder


def hooked(model: RwkvModel, ids_T: Tensor, packed: Packed, source: str) -> list[Tensor]:
    """What hooks read of each block while the plain blocks run whole."""
    raw: dict[str, list[Any]] = {"values": [], "time_mix": [], "input": []}
    handles = []
    for block in model.blocks:
        mix: Any = block.attention
        handles += [
            mix.value.register_forward_hook(lambda _, inputs, out: raw["input"].append(inputs[0])),
            mix.value.register_forward_hook(lambda _, inputs, out: raw["values"].append(out.float())),
            mix.register_forward_hook(lambda _, inputs, out: raw["time_mix"].append(out)),
        ]
    # With gradients the plain blocks run.
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    try:
        model(ids_T, packed, [len(model.blocks) - 1], lambda _, h_TD: None)
    finally:
        for handle in handles:
            handle.remove()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
    if source == "time_mix":
        outputs = raw["time_mix"]
        return [(out[0] if isinstance(out, tuple) else out).detach() for out in outputs]
    values = [value.detach() for value in raw["values"]]
    if model.generation == 7:  # v + (v_first - v) * sigmoid(v0 + x v1 v2), as published
        for index in range(1, len(values)):
            mix = model.blocks[index].attention
            share = torch.sigmoid(mix.v0 + raw["input"][index].detach() @ mix.v1 @ mix.v2)
            values[index] = values[index] + (values[0] - values[index]) * share
    return values


def packed_ids(encoder: RwkvEncoder, sentences: Sequence[str]) -> tuple[Tensor, Packed]:
    ids = encoder.tokenize(sentences).ids
    return torch.tensor([token for sentence in ids for token in sentence]), Packed.of([len(tokens) for tokens in ids])


@pytest.mark.parametrize("path", ["CPU kernels", "plain"])
@pytest.mark.parametrize("source", SOURCES)
def test_tokens_are_those_of_hooks(encoder: RwkvEncoder, source: str, path: str) -> None:
    model: Any = encoder.loaded.model
    ids_T, packed = packed_ids(encoder, SENTENCES)
    expected = hooked(model, ids_T, packed, source)
    read: dict[int, Tensor] = {}
    if path == "plain":  # with gradients, as above
        model.blocks[0].ln1.weight.requires_grad_(True)
        model.inner_forward(ids_T, packed, LAYERS, source, lambda layer, x: read.setdefault(layer, x.detach().clone()))
        model.blocks[0].ln1.weight.requires_grad_(False)
    else:
        with torch.inference_mode():
            model.inner_forward(ids_T, packed, LAYERS, source, lambda layer, x: read.setdefault(layer, x.clone()))
    assert sorted(read) == list(LAYERS)
    # The kernels add up in another order: three blocks later that is a few more roundings.
    rounding = 1e-6 if path == "plain" else 5e-6
    for layer in LAYERS:
        assert float((read[layer] - expected[layer]).norm() / expected[layer].norm()) < rounding
    # Other layers, values and time mix are not the same thing.
    assert not torch.allclose(expected[0], expected[2])
    other = hooked(model, ids_T, packed, SOURCES[1 - SOURCES.index(source)])
    assert not torch.allclose(other[2], expected[2])


@pytest.mark.parametrize("pooling", ["mean", "last", "max", "position"])
@pytest.mark.parametrize("source", SOURCES)
def test_every_pooling_takes_them(encoder: RwkvEncoder, source: str, pooling: str) -> None:
    model: Any = encoder.loaded.model
    ids_T, packed = packed_ids(encoder, SENTENCES)
    expected = [pool(pooling, x_TA, PooledTokens(packed)) for x_TA in hooked(model, ids_T, packed, source)]
    both = encoder.encode(SENTENCES, LAYERS, [f"{source}:{pooling}", pooling])
    torch.testing.assert_close(both[f"{source}:{pooling}"], torch.stack(expected), rtol=1e-5, atol=3e-5)
    torch.testing.assert_close(both[pooling], encoder.encode(SENTENCES, LAYERS, [pooling])[pooling])


@pytest.mark.parametrize("source", SOURCES)
def test_nothing_runs_behind_the_last_time_mix(encoder: RwkvEncoder, source: str) -> None:
    model: Any = encoder.loaded.model
    entered: list[str] = []
    handles = [
        part.register_forward_hook(lambda *_, name=f"{index} {kind}": entered.append(name))
        for index, block in enumerate(model.blocks)
        for kind, part in (("value", block.attention.value), ("channel mix", block.feed_forward.value))
    ]
    encoder.encode(SENTENCES, [1], [f"{source}:mean"])
    for handle in handles:
        handle.remove()
    assert entered == ["0 value", "0 channel mix", "1 value"]


def test_values_have_their_own_width() -> None:
    """Of an RWKV whose time mix is wider than its stream."""
    shape = Rwkv4Config(
        vocab_size=256, hidden_size=16, num_hidden_layers=2, attention_hidden_size=24, intermediate_size=32
    )
    assert [vector_size(name, shape) for name in ("mean", "values:mean", "time_mix:mean")] == [16, 24, 16]
    assert EncoderShape(1, 2, 3, None).value_size is None


@pytest.mark.parametrize("source", SOURCES)
def test_another_network_has_no_time_mix(source: str) -> None:
    network = model_source(ModelConfig("hf", "hf", path="bert"))
    shape = EncoderShape(vocab_size=10, hidden_size=8, num_hidden_layers=2, longest=None)
    with pytest.raises(UserError) as caught:
        network.check_use(f"{source}:mean", 512, FP32, shape)
    assert str(caught.value) == (
        f"pooling.source={source} with model.source=hf: only an RWKV has a time mix, valid is pooling.source=residual"
    )
    network.check_use("mean", 512, FP32, shape)
