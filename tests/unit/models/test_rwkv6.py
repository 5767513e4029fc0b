"""The network: against the author's own inference code (the `rwkv` package), packed against single, stopping early."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.models.rwkv6.checkpoint import _to_original_name
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM, load_causal_lm
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import shake, small_lm

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKPOINT = Path(__file__).parents[4] / "shared" / "models" / "rwkv6-tiny-bytes.pth"
SENTENCES = ["The cat sat on the mat.", "A", "Ünïcödé, 1234 and a rather longer sentence than the first one was."]

needs_checkpoint = pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"the trained checkpoint {CHECKPOINT} is absent")


def random_lm(head_size: int = 8, **sizes: int) -> Rwkv6ForCausalLM:
    """A small model whose every parameter matters."""
    model = small_lm(head_size=head_size, **sizes)
    shake(model, 0.1)
    return model


def author_logits(path: Path, ids: list[int]) -> Tensor:
    """Logits [T, V] of the `rwkv` package for the .pth file at `path`."""
    os.environ.update(RWKV_V7_ON="0", RWKV_JIT_ON="0", RWKV_CUDA_ON="0")
    from rwkv.model import RWKV

    model: Any = RWKV(model=str(path.with_suffix("")), strategy="cpu fp32", verbose=False)
    logits, _ = model.forward(ids, None, full_output=True)
    assert isinstance(logits, Tensor)
    return logits


def packed_ids(sentences: list[str]) -> tuple[Tensor, Packed]:
    ids = [list(sentence.encode()) for sentence in sentences]
    return torch.tensor([token for sentence in ids for token in sentence]), Packed.of([len(i) for i in ids])


@torch.inference_mode()
def layers_of(model: Rwkv6Model, sentences: list[str], layers: list[int]) -> dict[int, Tensor]:
    outputs: dict[int, Tensor] = {}
    ids, packed = packed_ids(sentences)
    model(ids, packed, layers, lambda index, h_TD: outputs.__setitem__(index, h_TD))
    return outputs


@pytest.mark.parametrize(
    ("head_size", "sizes"),
    [
        (8, {}),
        (16, {"time_mix_extra_dim": 8, "time_decay_extra_dim": 24}),
        (32, {"intermediate_size": 96}),
        (64, {"hidden_size": 128, "num_blocks": 2}),
    ],
)
def test_logits_equal_the_authors_on_random_weights(tmp_path: Path, head_size: int, sizes: dict[str, int]) -> None:
    model = random_lm(head_size, **sizes)
    path = tmp_path / "model.pth"
    torch.save({_to_original_name(name): weight.clone() for name, weight in model.state_dict().items()}, path)
    ids, packed = packed_ids([SENTENCES[2]])
    with torch.inference_mode():
        logits_TV = model(ids, packed)
    expected_TV = author_logits(path, ids.tolist())
    assert expected_TV.abs().max() > 1
    torch.testing.assert_close(logits_TV, expected_TV, rtol=1e-4, atol=1e-4)


@needs_checkpoint
def test_logits_equal_the_authors_on_the_trained_checkpoint() -> None:
    ids, packed = packed_ids([SENTENCES[2]])
    with torch.inference_mode():
        logits_TV = load_causal_lm(CHECKPOINT)(ids, packed)
    expected_TV = author_logits(CHECKPOINT, ids.tolist())
    assert (logits_TV - expected_TV).abs().max() < 1e-5 * expected_TV.abs().max()
    assert (logits_TV.argmax(1) == expected_TV.argmax(1)).all()


def test_packed_batch_equals_sentences_one_by_one() -> None:
    model = random_lm().rwkv
    together = layers_of(model, SENTENCES, [0, 1, 2, 3])
    alone = [layers_of(model, [sentence], [0, 1, 2, 3]) for sentence in SENTENCES]
    for index, h_TD in together.items():
        torch.testing.assert_close(h_TD, torch.cat([one[index] for one in alone]), rtol=1e-4, atol=1e-4)


def test_stopping_early_gives_the_same_layers_and_skips_the_rest() -> None:
    model = random_lm().rwkv
    full = layers_of(model, SENTENCES, [EMBEDDING, 0, 1, 2, 3])
    assert list(full) == [EMBEDDING, 0, 1, 2, 3]
    torch.testing.assert_close(layers_of(model, SENTENCES, [1]), {1: full[1]}, rtol=0, atol=0)
    ran: list[int] = []
    for index, block in enumerate(model.blocks):
        block.attention.output.register_forward_hook(lambda *_, index=index: ran.append(index))
    # With hooks the modules are called, which multiply in another order: compared with themselves.
    early = layers_of(model, SENTENCES, [1])
    assert ran == [0, 1] and list(early) == [1]
    hooked = layers_of(model, SENTENCES, [EMBEDDING, 0, 1, 2, 3])
    assert ran == [0, 1, 0, 1, 2]
    torch.testing.assert_close(early, {1: hooked[1]}, rtol=0, atol=0)


def test_final_is_the_norm_of_the_last_block() -> None:
    model = random_lm().rwkv
    outputs = layers_of(model, SENTENCES, [2, 3])
    torch.testing.assert_close(outputs[3], model.ln_out(outputs[2]))


@needs_checkpoint
def test_fp16_is_finite_and_close_to_fp32_on_the_trained_checkpoint() -> None:
    outputs = []
    for name, base in (("fp32", "float32"), ("fp16", "float16")):
        config = ModelConfig(name="trained", source="local", path=str(CHECKPOINT), tokenizer="bytes")
        loaded = load_model(config, PrecisionConfig(name, base), torch.device("cpu"))
        outputs.append(layers_of(loaded.model, SENTENCES, list(range(13))))
    for index, exact_TD in outputs[0].items():
        half_TD = outputs[1][index]
        assert torch.isfinite(half_TD).all()
        assert torch.cosine_similarity(half_TD, exact_TD).min() > 0.9999
