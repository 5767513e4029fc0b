"""Other networks of transformers behind our interface, against what transformers itself gives for one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.errors import UnsupportedError, UserError
from tests.small_models import FP32, encoder_of
from tests.small_networks import SENTENCES, L, save_networks


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_networks(tmp_path_factory.mktemp("hf"))


def encoder(folder: Path, precision: PrecisionConfig = FP32) -> RwkvEncoder:
    return encoder_of(ModelConfig("hf", "hf", str(folder)), precision, max_tokens=64)


@torch.inference_mode()
def alone(folder: Path, ids: list[int]) -> dict[int, Tensor]:
    """Every layer of one sentence, by transformers alone: its `hidden_states`, with the last block's by a hook."""
    from transformers import AutoModel

    model = AutoModel.from_pretrained(folder)
    model = model.get_encoder() if model.config.is_encoder_decoder else model
    model.config.rescale_every, model.config.use_cache = 0, False
    out = model.eval()(input_ids=torch.tensor([ids]), output_hidden_states=True)
    states = [state[0] for state in out.hidden_states]
    if folder.name == "rwkv":  # blocks and final norm; the embedding is not among them
        first = model.blocks[0].pre_ln(model.embeddings(torch.tensor(ids)))
        return {EMBEDDING: first, **dict(enumerate(states))}
    actual = {EMBEDDING: states[0], **{k: states[k + 1] for k in range(L - 1)}, L: out.last_hidden_state[0]}
    if folder.name in ("bert", "albert", "fnet"):  # no final norm
        actual[L - 1] = states[L]
    return actual


@pytest.mark.parametrize("name", ["bert", "gpt2", "rwkv", "t5", "albert", "fnet"])
def test_layers_are_those_of_transformers_however_sentences_are_batched(folders: dict[str, Path], name: str) -> None:
    ours = encoder(folders[name])
    layers = [EMBEDDING, *range(L + 1)]
    actual = ours.encode(SENTENCES, layers, ["mean", "last"])
    tokenized = ours.tokenize(SENTENCES)
    for row, ids in enumerate(tokenized.ids):
        expected = alone(folders[name], ids)
        for index, layer in enumerate(layers):
            if layer not in expected:
                continue
            torch.testing.assert_close(actual["mean"][index, row], expected[layer].mean(0), atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(actual["last"][index, row], expected[layer][-1], atol=2e-4, rtol=1e-3)
    assert set(range(L - 1)) | {EMBEDDING, L} <= expected.keys()


def test_the_last_block_is_given_raw(folders: dict[str, Path]) -> None:
    """GPT-2's own hidden_states give it after the final norm."""
    ours = encoder(folders["gpt2"])
    raw, final = ours.encode(SENTENCES, [L - 1, L], ["last"])["last"]
    norm = ours.loaded.model.inner.ln_f
    assert not torch.allclose(raw, final, atol=0.1)
    torch.testing.assert_close(norm(raw), final, atol=1e-5, rtol=1e-5)


def test_a_forward_ends_after_the_deepest_layer(folders: dict[str, Path]) -> None:
    ours, ran = encoder(folders["gpt2"]), []
    for index, block in enumerate(ours.loaded.model.inner.h):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    ours.encode(SENTENCES[:1], [1], ["mean"])
    assert ran == [0, 1] and ours.loaded.depth([1]) == 2
    ran.clear()
    ours.encode(SENTENCES[:1], [EMBEDDING], ["mean"])
    assert ran == []
    assert not any(block._forward_pre_hooks for block in ours.loaded.model.inner.h)
    assert encoder(folders["albert"]).loaded.depth([0]) == L, "it has no list of blocks to stop after"


def test_padding_is_used_only_where_it_is_not_read(folders: dict[str, Path]) -> None:
    pads = {name: encoder(folder).loaded.model.pads for name, folder in folders.items()}
    # FNet mixes all tokens by a Fourier transform, padding too, and takes no mask.
    assert pads == {"bert": True, "gpt2": True, "rwkv": True, "t5": True, "albert": True, "fnet": False}
    assert encoder(folders["fnet"]).loaded.kernel_tags["batching"].startswith("sentences of one length together")


def test_plain_dtypes_run_and_others_are_unsupported(folders: dict[str, Path]) -> None:
    exact = encoder(folders["bert"]).encode(SENTENCES, [L], ["mean"])["mean"]
    rounded = encoder(folders["bert"], PrecisionConfig("bf16", "bfloat16")).encode(SENTENCES, [L], ["mean"])["mean"]
    assert (torch.cosine_similarity(exact, rounded, dim=-1) > 0.99).all() and not torch.equal(exact, rounded)
    with pytest.raises(UnsupportedError, match=r"precision=int8 with model\.source=hf: valid are fp32, bf16 and fp16"):
        encoder(folders["bert"], PrecisionConfig("int8", "float32", "int8"))


def test_the_python_api_takes_it_too(folders: dict[str, Path]) -> None:
    from rwkv_sweep import Encoder

    ours = Encoder.from_config("model=hf", f"model.path={folders['gpt2']}", "layer=1", "device=cpu", "max_tokens=64")
    expected = encoder(folders["gpt2"]).encode(SENTENCES, [1], ["mean"])["mean"][0]
    torch.testing.assert_close(torch.from_numpy(ours.encode(SENTENCES)), expected)
    with pytest.raises(UserError, match=r"max_tokens=512 is more than .* reads"):
        Encoder.from_config("model=hf", f"model.path={folders['gpt2']}", "device=cpu")
