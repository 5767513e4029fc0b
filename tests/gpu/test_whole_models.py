"""Whole encoders on a GPU beside a CPU: quantized layers in graphs, the mistakes of the study, other networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from rwkv_sweep.config.schema import AggregationConfig, ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from tests.gpu.device import GPU
from tests.small_models import CPU, FP32, encoder_of

pytestmark = pytest.mark.gpu

CUDA = GPU
NONE = AggregationConfig(name="none")
PAIRS = [
    ("The cat sat on the mat.", "A cat is sitting on a mat."),
    ("Officials said nothing.", "Nothing was said."),
    ("Shares fell by a tenth after the report, which nobody had expected.", "The share price fell."),
]
SENTENCES = [sentence for pair in PAIRS for sentence in pair]


def shipped(device: torch.device, precision: PrecisionConfig = FP32, **mistakes: object) -> RwkvEncoder:
    """The trained model of the package."""
    config = ModelConfig("tiny", "assets", **mistakes)  # type: ignore[arg-type]
    return encoder_of(config, precision, device, batch_tokens=16384)


def cosines(one: torch.Tensor, other: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.cosine_similarity(one.double(), other.double(), dim=-1).numpy()


@pytest.mark.parametrize("quantization", ["int8_dynamic", "fp8", "nf4", "int8"])
def test_pairs_of_quantized_layers_score_as_they_do_outside_a_graph(quantization: str) -> None:
    if quantization in ("nf4", "int8"):
        pytest.importorskip("bitsandbytes")
    base = "float16" if quantization == "int8" else "bfloat16"
    embedder = Embedder(shipped(CUDA, PrecisionConfig(quantization, base, quantization)), [5], "mean", NONE)
    for pair in PAIRS:
        one, other = embedder.embed_tokens(embedder.encoder.tokenize(pair))
        expected = float(torch.nn.functional.cosine_similarity(one, other, dim=0))
        assert embedder.score_pair(*pair) == pytest.approx(expected, abs=5e-3)
    assert embedder.pair_path == "CUDA graph"


@pytest.mark.parametrize("mistakes", [{}, {"full_depth": True}, {"rescale_every": 6}])
def test_the_shipped_model_gives_on_a_gpu_what_it_gives_on_a_cpu(mistakes: dict[str, object]) -> None:
    layers = [-1, 0, 5, 6, 11, 12]
    here, there = (shipped(device, **mistakes).encode(SENTENCES, layers, ["mean", "last"]) for device in (CPU, CUDA))
    for name, vectors_LSD in here.items():
        torch.testing.assert_close(there[name], vectors_LSD, rtol=2e-3, atol=2e-3 * float(vectors_LSD.abs().max()))


@pytest.mark.parametrize(("base", "least"), [("float32", 0.99999), ("float16", 0.999), ("bfloat16", 0.999)])
def test_other_networks_give_on_a_gpu_what_they_give_on_a_cpu(tmp_path: Path, base: str, least: float) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast

    words = sorted({word for sentence in SENTENCES for word in sentence.split()})
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(["?", *words])}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?", pad_token="?").save_pretrained(tmp_path)
    torch.manual_seed(0)
    GPT2Model(GPT2Config(vocab_size=len(words) + 1, n_positions=64, n_embd=32, n_layer=3, n_head=4)).save_pretrained(
        tmp_path
    )
    config = ModelConfig("hf", "hf", str(tmp_path))

    def encoder(precision: PrecisionConfig, device: torch.device) -> RwkvEncoder:
        return encoder_of(config, precision, device, max_tokens=64)

    expected = encoder(FP32, CPU).encode(SENTENCES, [0, 2, 3], ["mean"])["mean"]
    on_gpu = encoder(PrecisionConfig("this", base), CUDA)
    assert cosines(on_gpu.encode(SENTENCES, [0, 2, 3], ["mean"])["mean"], expected).min() > least
    embedder = Embedder(on_gpu, [2], "mean", NONE)
    scores = [embedder.score_pair(*pair) for pair in PAIRS]
    assert scores == pytest.approx(list(cosines(expected[1, ::2], expected[1, 1::2])), abs=5 * (1 - least) + 1e-4)
    assert embedder.pair_path.startswith("eager (a network of transformers")
