"""The fused forwards of RWKV-4 and 5 against their plain PyTorch blocks, whole models at once, and single pairs by CUDA
graph."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import AggregationConfig, ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.embedding.pooling import POOLS, STATE, idf_weights
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.checkpoint_tensors import named
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.quantization.dtypes import is_matrix
from rwkv_sweep.models.rwkv4 import checkpoint as checkpoint4
from rwkv_sweep.models.rwkv4 import network as network4
from rwkv_sweep.models.rwkv4 import triton_forward as triton4
from rwkv_sweep.models.rwkv5 import checkpoint as checkpoint5
from rwkv_sweep.models.rwkv5 import network as network5
from rwkv_sweep.models.rwkv5 import triton_forward as triton5
from rwkv_sweep.ops.common.packing import Packed
from rwkv_sweep.ops.wkv4 import wkv4_reference
from tests import rwkv4_checkpoints, rwkv5_checkpoints
from tests.gpu.device import GPU
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.gpu

CHECKPOINT = Path(__file__).parents[3] / "shared" / "models" / "rwkv5-tiny-bytes.pth"
RAGGED, MANY = [1, 16, 17, 257, 26, 5, 33], [1, 16, 17, 257, 26, 2048]
"""The second is above the size from which programs walk over several rows, and has a sentence that carries a state."""
TOLERANCE = {torch.float32: 2e-5, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Relative error of a layer's output after a few blocks; in 16 bits both paths round, each in its own places."""
PAIRS = [
    ("The cat sat on the mat.", "A cat is sitting on a mat."),
    ("a", "b"),
    ("A rather longer sentence, so that the pair needs another graph than the first." * 2, "And a short one."),
    ("Back to the first size.", "With other words in it."),
]
SIZES: dict[str, tuple[int, Any]] = {
    "RWKV-5, heads of 8": (5, rwkv5_checkpoints.Sizes(hidden=64, wide=160)),
    "RWKV-5, heads of 64": (5, rwkv5_checkpoints.Sizes(hidden=128, head_size=64, wide=448)),
    "RWKV-5, wider keys": (5, rwkv5_checkpoints.Sizes(hidden=64, inner=96, wide=160)),
    "RWKV-4": (4, rwkv4_checkpoints.Sizes(hidden=128, wide=256)),
    "RWKV-4, 72 channels": (4, rwkv4_checkpoints.Sizes(hidden=72, wide=288)),
    "RWKV-4, wider keys": (4, rwkv4_checkpoints.Sizes(hidden=64, inner=96, wide=256)),
}
each_shape = pytest.mark.parametrize("shape", SIZES)
Outputs = dict[tuple[str, int], Tensor]


def model_on_gpu(shape: str, dtype: torch.dtype, prepared: bool = True) -> RwkvModel:
    """A small model whose every parameter is random and matters."""
    generation, sizes = SIZES[shape]
    make: Any = {4: network4.Rwkv4Model, 5: network5.Rwkv5Model}[generation]
    tensors = (rwkv4_checkpoints if generation == 4 else rwkv5_checkpoints).author_checkpoint(sizes)
    config, weights = (checkpoint4 if generation == 4 else checkpoint5).fitted(named(Path("random.pth"), tensors, {}))
    model: RwkvModel = make(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    for name, parameter in model.named_parameters():
        parameter.data = parameter.data.to(GPU, dtype if is_matrix(name, parameter) else torch.float32)
    for module in model.modules():
        if hasattr(module, "matmul_dtype"):
            module.matmul_dtype = dtype
    if prepared:
        model.prepare(GPU)
    return model


@torch.inference_mode()
def outputs(model: RwkvModel, lengths: list[int], layers: list[int]) -> Outputs:
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


@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@pytest.mark.parametrize("lengths", [[1], [1, 2, 16, 17, 31, 32], [300, 5]], ids=str)
def test_the_wkv4_operator(lengths: list[int], dtype: torch.dtype) -> None:
    """Against the token loop in fp64, with keys from tiny to huge."""
    pytest.importorskip("triton")
    from rwkv_sweep.ops.triton.wkv4 import wkv4

    packed, width = Packed.of(lengths, GPU), 72
    random = torch.Generator().manual_seed(0)
    r, k, v = (torch.randn(packed.tokens, width, generator=random).to(GPU, dtype) for _ in range(3))
    k = k * torch.logspace(-1, 2, width, device=GPU, dtype=dtype)
    decay, u = (2 * torch.randn(width, generator=random).to(GPU) for _ in range(2))
    expected = wkv4_reference(k.double(), v.double(), -torch.exp(decay.double()), u.double(), packed)
    expected *= torch.sigmoid(r.double())
    error = (wkv4(r, k, v, decay, u, packed, dtype).double() - expected).abs().max() / expected.abs().max()
    # The sums are of fp32 whatever the inputs. Of an exponent as large as these the last bit is worth |k| * 2 ** -23,
    # which is then a weight's relative error; two of them stand in each quotient. In 16 bits the result is rounded too.
    assert float(error) <= 2 * float(k.abs().max()) * 2**-23 + torch.finfo(dtype).eps / 2


@pytest.mark.parametrize("prepared", [True, False], ids=["prepared", "unprepared"])
@pytest.mark.parametrize("lengths", [RAGGED, MANY], ids=["few", "many"])
@pytest.mark.parametrize("dtype", list(TOLERANCE), ids=str)
@each_shape
def test_layers_means_and_states_equal_the_plain_blocks(
    shape: str, dtype: torch.dtype, lengths: list[int], prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = model_on_gpu(shape, dtype, prepared)
    layers = [EMBEDDING, 0, 1, 2, 3]
    fused, plain = (triton4, network4) if model.generation == 4 else (triton5, network5)
    assert model.runner(torch.zeros(1, device=GPU)) is fused.run_blocks
    assert model.path_tags(GPU)["blocks"].startswith("fused (triton") and model.capture_obstacle(GPU) is None
    ours = outputs(model, lengths, layers)
    assert (("wkv", 0) in ours) == (model.generation == 5)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    assert model.runner(torch.zeros(1, device=GPU)) is plain.run_blocks
    assert_equal(ours, outputs(model, lengths, layers), TOLERANCE[dtype])


@each_shape
def test_early_exit_gives_the_same_layers(shape: str) -> None:
    model = model_on_gpu(shape, torch.float32)
    full = outputs(model, RAGGED, [EMBEDDING, 0, 1, 2, 3])
    for layers in ([0], [1], [EMBEDDING], [0, 2]):
        part = outputs(model, RAGGED, layers)
        assert {index for _, index in part} == set(layers)
        assert_equal(part, {key: full[key] for key in part}, 0.0)


@each_shape
def test_preparing_keeps_the_numbers_and_shares_the_memory(shape: str) -> None:
    plain, prepared = model_on_gpu(shape, torch.float32, False), model_on_gpu(shape, torch.float32)
    for (name, one), (_, other) in zip(plain.state_dict().items(), prepared.state_dict().items(), strict=True):
        assert torch.equal(one, other), name
    mix: Any = prepared.blocks[1].attention
    stack = mix.stack_3ED if prepared.generation == 4 else mix.stack_4ED
    assert mix.key.weight.data_ptr() == stack.data_ptr()


@each_shape
def test_training_takes_the_plain_blocks(shape: str) -> None:
    model = model_on_gpu(shape, torch.float32, False).requires_grad_(True)
    received: list[Tensor] = []
    model(torch.arange(20, device=GPU), Packed.of([20], GPU), [2], lambda _, h_TD: received.append(h_TD))
    received[0].square().sum().backward()
    key: Any = model.blocks[0].attention.key
    assert key.weight.grad is not None


@pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"the trained checkpoint {CHECKPOINT} is absent")
@pytest.mark.parametrize("base", ["float32", "tfloat32", "bfloat16", "float16"])
def test_the_trained_checkpoint(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(name="tiny5", source="local", path=str(CHECKPOINT), tokenizer="bytes")
    model = encoder_of(config, PrecisionConfig(base, base), GPU).loaded.model
    assert isinstance(model, network5.Rwkv5Model)
    layers = list(range(EMBEDDING, len(model.blocks) + 1))
    ours = outputs(model, RAGGED, layers)
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    tolerance = {"float32": 5e-5, "tfloat32": 5e-3, "bfloat16": 4e-2, "float16": 5e-3}[base]
    assert_equal(ours, outputs(model, RAGGED, layers), tolerance)


def encoder_on_gpu(generation: int, base: str = "float32", quantization: str = "none") -> RwkvEncoder:
    config = replace(random_config(128, 3, 32, 448), generation=generation)
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


@pytest.mark.parametrize(
    ("generation", "pooling"), [*((4, name) for name in POOLS), *((5, name) for name in (*POOLS, STATE))]
)
def test_pairs_by_graph_equal_eager_for_every_pooling(generation: int, pooling: str) -> None:
    encoder = encoder_on_gpu(generation)
    assert_graphs_equal_eager(Embedder(encoder, [1], pooling, AggregationConfig(name="none")), 1e-5)


@pytest.mark.parametrize("base", ["bfloat16", "float16", "tfloat32"])
@pytest.mark.parametrize("generation", [4, 5])
def test_pairs_by_graph_equal_eager_in_other_precisions(generation: int, base: str) -> None:
    aggregation = AggregationConfig(name="concat")
    assert_graphs_equal_eager(Embedder(encoder_on_gpu(generation, base), [-1, 0, 1, 2, 3], "mean", aggregation), 2e-3)


@pytest.mark.parametrize("quantization", ["int8_dynamic", "fp8", "int8", "nf4"])
@pytest.mark.parametrize("generation", [4, 5])
def test_quantized_layers_equal_the_plain_blocks_with_them(
    generation: int, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if quantization in ("int8", "nf4"):
        pytest.importorskip("bitsandbytes")
    base = "bfloat16" if quantization == "fp8" else "float16"
    model = encoder_on_gpu(generation, base, quantization).loaded.model
    assert isinstance(model, RwkvModel)
    ours = outputs(model, RAGGED, [0, 1, 2])
    monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    # fp8: the two paths' inputs differ by bf16's 2 ** -9, a 64th of the 2 ** -3 between two numbers of fp8. So one in
    # 64 falls to the other side of a rounding and moves by 2 ** -3 of itself: 2 ** -3 * 64 ** -0.5 = 1.6e-2 of a row's
    # norm in each of 12 layers one behind another (4 in each of 3 blocks), 12 ** 0.5 times as much in all, 5.4e-2; and
    # up to twice that, since inputs move by more than 2 ** -9 from the second layer on.
    assert_equal(ours, outputs(model, RAGGED, [0, 1, 2]), 0.1 if quantization == "fp8" else 5e-2)
