"""After a model's kernels were compiled ahead, its job compiles nothing."""

from __future__ import annotations

from typing import Any

import pytest

from rwkv_sweep.config.schema import AggregationConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.embedding.embedder import Embedder
from rwkv_sweep.hardware.devices import current_device
from rwkv_sweep.profiling.kernels import CompiledKernels
from tests.gpu.device import GPU
from tests.small_models import encoder_of, random_config

pytestmark = pytest.mark.gpu

PAIRS = [("The cat sat on the mat.", "A cat is sitting on a mat."), ("a", "b")]
NONE, MEAN = AggregationConfig(name="none"), AggregationConfig(name="mean")


@pytest.mark.parametrize(("layers", "aggregation"), [([4], NONE), ([5], NONE), ([1, 3, 4], MEAN)])
@pytest.mark.parametrize("base", ["float16", "bfloat16", "float32"])
def test_a_job_compiles_nothing(
    base: str, layers: list[int], aggregation: AggregationConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    import triton

    # Sizes of its own for each case, so that no other has compiled its kernels before.
    hidden = 256 + 128 * ["float16", "bfloat16", "float32"].index(base)
    precision = PrecisionConfig(base, base)
    encoder = encoder_of(random_config(hidden, 5, 32, 448), precision, GPU, PromptConfig(name="test"), 4096, 16384)
    embedder = Embedder(encoder, layers, "mean", aggregation)
    batch = encoder.tokenize([text for pair in PAIRS for text in pair] * 50)
    compiled: list[str] = []

    def note(*args: Any, **details: Any) -> None:
        compiled.append(str(details.get("repr")))

    CompiledKernels().compile(embedder, precision, [batch], PAIRS, keep_layers=False)
    monkeypatch.setattr(triton.knobs.runtime, "jit_post_compile_hook", note)
    with current_device(GPU):
        embedder.embed_tokens(batch)
        embedder.prepare_pairs(PAIRS)
        for pair in PAIRS:
            embedder.score_pair(*pair)
    assert not compiled
    assert embedder.pair_path == "CUDA graph"
