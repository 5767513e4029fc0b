"""RWKV-7's fused forward against the plain PyTorch blocks, whole models at once, and single pairs by CUDA graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import AggregationConfig, ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import POOLS, STATE, idf_weights
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.models.quantization.dtypes import is_matrix
from rwkv_sweep.models.rwkv7 import triton_forward
from rwkv_sweep.models.rwkv7.checkpoint import fitted
from rwkv_sweep.models.rwkv7.network import Rwkv7Model, run_blocks
from rwkv_sweep.ops.common.packing import Packed
from tests.gpu.device import GPU
from tests.rwkv7_checkpoints import Sizes, author_checkpoint
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.gpu

CHECKPOINT = Path(__file__).parents[3] / "shared" / "models" / "rwkv7-tiny-bytes.pth"
RAGGED, MANY = [1, 16, 17, 257, 26, 5, 33], [1, 16, 17, 257, 26, 2048]
"""The second is above the size from which programs walk over several rows."""
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Relative error of a layer's output after a few blocks; in 16 bits both paths round, each in its own places."""
PAIRS = [
    ("The cat sat on the mat.", "A cat is sitting on a mat."),
    ("a", "b"),
    ("A rather longer sentence, so that the pair needs another graph than the first." * 2, "And a short one."),
    ("Back to the first size.", "With other words in it."),
]


def model_on_gpu(dtype: torch.dtype, prepared: bool = True, **sizes: int) -> Rwkv7Model:
    """A small model whose every parameter is random and matters."""
    config, weights = fitted(Path("random.pth"), author_checkpoint(Sizes(**{"heads": 4, "head_size": 16, **sizes})), {})
    model = Rwkv7Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(GPU, dtype if is_matrix(name, parameter) else torch.float32)
    for block in model.blocks:
        block.feed_forward.matmul_dtype = dtype
    if prepared:
        model.prepare(GPU)
    return model


Outputs = dict[tuple[str, int], Tensor]


@torch.inference_mode()
def outputs(model: Rwkv7Model, lengths: list[int], layers: list[int]) -> Outputs:
    """All that a forward hands over."""
    ids_T = torch.randint(256, (sum(lengths),), generator=torch.Generator().manual_seed(2)).to(GPU)
    received: Outputs = {}

    def on_state(index: int, wkv_BHKV: Tensor, shift_B2D: Tensor) -> None:
        received["wkv", index], received["shift", index] = wkv_BHKV, shift_B2D

    model(
        ids_T,
        Packed.of(lengths, GPU),
        layers,
        lambda index, h_TD: received.__setitem__(("layer", index), h_TD),
        on_state,
        lambda index, mean_BD: received.__setitem__(("mean", index), mean_BD),
    )
    return received


def assert_equal(ours: Outputs, plain: Outputs, tolerance: float) -> None:
    assert ours.keys() == plain.keys()
    for key, expected in plain.items():
        assert ours[key].shape == expected.shape and ours[key].dtype == expected.dtype
        error = float((ours[key].double() - expected.double()).norm() / expected.double().norm())
        assert error <= tolerance, f"{key}: relative error {error:.2e}, allowed {tolerance:.2e}"


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "unprepared"])
@pytest.mark.parametrize("head_size", [8, 64])
@pytest.mark.parametrize("lengths", [RAGGED, MANY], ids=["few", "many"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
def test_layers_means_and_states_equal_the_plain_blocks(
    dtype: torch.dtype, lengths: list[int], head_size: int, prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_on_gpu(dtype, prepared, head_size=head_size)
    layers = [EMBEDDING, 0, 1, 2, 3]
    assert model.runner(torch.zeros(1, device=GPU)) is triton_forward.run_blocks
    assert model.path_tags(GPU)["blocks"].startswith("fused (triton")
    ours = outputs(model, lengths, layers)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    assert model.runner(torch.zeros(1, device=GPU)) is run_blocks
    assert_equal(ours, outputs(model, lengths, layers), TOLERANCE[dtype])


@pytest.mark.parametrize("layers", [[0], [1], [EMBEDDING], [0, 2]], ids=str)
def test_early_exit_gives_the_same_layers(layers: list[int]) -> None:
    model = model_on_gpu(torch.float32)
    full = outputs(model, RAGGED, [EMBEDDING, 0, 1, 2, 3])
    part = outputs(model, RAGGED, layers)
    assert {index for _, index in part} == set(layers)
    assert_equal(part, {key: full[key] for key in part}, 0.0)


def test_a_sentence_does_not_feel_its_neighbours() -> None:
    model = model_on_gpu(torch.float32)
    ids_T = torch.randint(256, (sum(MANY),), generator=torch.Generator().manual_seed(3)).to(GPU)
    together: list[Tensor] = []
    with torch.inference_mode():
        model(ids_T, Packed.of(MANY, GPU), [2], lambda _, h_TD: together.append(h_TD))
        for start, length in zip(Packed.of(MANY).starts_B.tolist(), MANY, strict=True):
            alone: list[Tensor] = []
            part = slice(start, start + length)
            model(ids_T[part], Packed.of([length], GPU), [2], lambda _, h_TD, alone=alone: alone.append(h_TD))
            torch.testing.assert_close(together[0][part], alone[0], rtol=1e-4, atol=1e-4)


def test_preparing_keeps_the_numbers_and_shares_the_memory() -> None:
    plain, prepared = model_on_gpu(torch.float32, False), model_on_gpu(torch.float32)
    for (name, one), (_, other) in zip(plain.state_dict().items(), prepared.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    mix = prepared.blocks[1].attention
    assert mix.receptance.weight.data_ptr() == mix.gpu_weights.stack_3ED.data_ptr()
    assert mix.w2.data_ptr() == mix.gpu_weights.factors.high_RD.data_ptr()


def test_training_takes_the_plain_blocks() -> None:
    model = model_on_gpu(torch.float32, False).requires_grad_(True)
    received: list[Tensor] = []
    model(torch.arange(20, device=GPU), Packed.of([20], GPU), [2], lambda _, h_TD: received.append(h_TD))
    received[0].square().sum().backward()
    assert model.blocks[0].attention.key.weight.grad is not None


@pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"the trained checkpoint {CHECKPOINT} is absent")
@pytest.mark.parametrize("base", ["float32", "tfloat32", "bfloat16", "float16"])
def test_the_trained_checkpoint(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(name="tiny7", source="local", path=str(CHECKPOINT), tokenizer="bytes")
    model = encoder_of(config, PrecisionConfig(base, base), GPU).loaded.model
    assert isinstance(model, Rwkv7Model)
    layers = list(range(EMBEDDING, len(model.blocks) + 1))
    ours = outputs(model, RAGGED, layers)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    tolerance = {"float32": 5e-5, "tfloat32": 5e-3, "bfloat16": 4e-2, "float16": 5e-3}[base]
    assert_equal(ours, outputs(model, RAGGED, layers), tolerance)


def encoder_on_gpu(base: str = "float32", quantization: str = "none") -> RwkvEncoder:
    config = replace(random_config(128, 3, 32, 448), generation=7)
    idf_V = idf_weights([list(text.encode()) for pair in PAIRS for text in pair], 256)
    precision = PrecisionConfig(base, base, quantization=quantization)
    encoder = encoder_of(config, precision, GPU, max_tokens=4096, batch_tokens=16384, idf_V=idf_V)
    return replace(encoder, loaded=replace(encoder.loaded, end_of_text=EndOfText(0)))


def assert_graphs_equal_eager(embedder: Embedder, tolerance: float) -> None:
    scores = [embedder.score_pair(*pair) for pair in PAIRS]
    assert embedder.pair_path == "CUDA graph"
    eager = []
    for pair in PAIRS:
        one, other = embedder.embed_tokens(embedder.encoder.tokenize(pair))
        eager.append(float(torch.nn.functional.cosine_similarity(one, other, dim=0)))
    assert scores == pytest.approx(eager, abs=tolerance)
    assert len(set(scores)) == len(scores)


@pytest.mark.parametrize("pooling", [*POOLS, STATE])
def test_pairs_by_graph_equal_eager_for_every_pooling(pooling: str) -> None:
    assert_graphs_equal_eager(Embedder(encoder_on_gpu(), [1], pooling, AggregationConfig(name="none")), 1e-5)


@pytest.mark.parametrize("base", ["bfloat16", "float16", "tfloat32"])
def test_pairs_by_graph_equal_eager_in_other_precisions(base: str) -> None:
    embedder = Embedder(encoder_on_gpu(base), [-1, 0, 1, 2, 3], "mean", AggregationConfig(name="concat"))
    assert_graphs_equal_eager(embedder, 2e-3)


@pytest.mark.parametrize("quantization", ["int8_dynamic", "fp8", "int8", "nf4"])
def test_quantized_layers_equal_the_plain_blocks_with_them(quantization: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if quantization in ("int8", "nf4"):
        pytest.importorskip("bitsandbytes")
    base = "bfloat16" if quantization == "fp8" else "float16"
    model = encoder_on_gpu(base, quantization).loaded.model
    assert isinstance(model, Rwkv7Model)
    ours = outputs(model, RAGGED, [0, 1, 2])
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    # fp8: the two paths' inputs differ by bf16's 2 ** -9, a 64th of the 2 ** -3 between two numbers of fp8. So one in
    # 64 falls to the other side of a rounding and moves by 2 ** -3 of itself: 2 ** -3 * 64 ** -0.5 = 1.6e-2 of a row's
    # norm in each of 12 layers one behind another (4 in each of 3 blocks), 12 ** 0.5 times as much in all, 5.4e-2; and
    # up to twice that, since inputs move by more than 2 ** -9 from the second layer on.
    assert_equal(ours, outputs(model, RAGGED, [0, 1, 2]), 0.1 if quantization == "fp8" else 5e-2)
