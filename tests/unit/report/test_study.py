"""The study's mistakes as switches: what each does to ids, depth and layers, and that none is on by default."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.pretrained.mismatched_tokenizer import ForeignTokenizer, foreign_tokenizer
from rwkv_sweep.models.pretrained.tokenizers import BytesTokenizer, WorldTokenizer
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import CPU, FP32, TINY, encoder_of

SENTENCES = ["A cat sleeps on the mat.", "Prices rose by 3 percent in May.", "No."]


def encoder(model: ModelConfig) -> RwkvEncoder:
    return encoder_of(model, max_tokens=128, batch_tokens=1)


@torch.inference_mode()
def rescaled(model: Rwkv6Model, ids: Tensor, every: int) -> dict[int, Tensor]:
    """Each layer as half-precision code has it, literally: weights that write into the stream are divided, and the
    stream is halved after every so many blocks."""
    packed = Packed.of([len(ids)])
    h_TD = model.blocks[0].pre_ln(model.embeddings(ids).float())
    layers = {EMBEDDING: h_TD}
    for index, block in enumerate(model.blocks):
        for linear in (block.attention.output, block.feed_forward.value):
            linear.weight.data /= 2 ** (index // every)
        h_TD = block(h_TD, packed)
        if (index + 1) % every == 0:
            h_TD = h_TD / 2
        layers[index] = h_TD
    layers[len(model.blocks)] = model.ln_out(h_TD)
    return layers


def test_rescaled_layers_are_those_of_rescaled_weights() -> None:
    layers = [EMBEDDING, *range(13)]
    model = replace(TINY, rescale_every=3)
    for pooling in ("mean", "last"):  # the network's own means, and what is pooled of tokens
        rescaled_layers = encoder(model).encode(SENTENCES, layers, [pooling])[pooling]
        plain = encoder(TINY).encode(SENTENCES, layers, [pooling])[pooling]
        for row, sentence in enumerate(SENTENCES):
            literal = load_model(TINY, FP32, CPU)
            ids = torch.tensor(literal.tokenizer.encode([sentence])[0])
            expected = rescaled(literal.model, ids, 3)
            for index, layer in enumerate(layers):
                h_TD = expected[layer]
                # The norms' epsilon weighs more in a smaller stream.
                pooled_D = h_TD.mean(0) if pooling == "mean" else h_TD[-1]
                torch.testing.assert_close(rescaled_layers[index, row], pooled_D, rtol=2e-3, atol=2e-3)
        # Harmless for one layer's cosine, wrong for means over layers: block 5 counts a quarter of block 1.
        torch.testing.assert_close(rescaled_layers[layers.index(5)] * 4, plain[layers.index(5)])
        torch.testing.assert_close(rescaled_layers[layers.index(1)], plain[layers.index(1)])


def test_full_depth_runs_every_block_and_changes_no_vector(monkeypatch: pytest.MonkeyPatch) -> None:
    shallow, deep = encoder(TINY), encoder(replace(TINY, full_depth=True))
    ran: list[int] = []
    for index, block in enumerate(deep.loaded.model.blocks):
        block.attention.output.register_forward_hook(lambda *_, index=index: ran.append(index))
    one, other = (compared.encode(SENTENCES[:1], [1], ["mean"])["mean"] for compared in (shallow, deep))
    assert torch.equal(one, other) and ran == list(range(12))
    assert (shallow.loaded.depth([1]), deep.loaded.depth([1]), deep.loaded.depth([EMBEDDING])) == (2, 12, 12)


def test_foreign_ids_are_those_of_the_other_vocabulary_folded_into_the_table() -> None:
    world, text = WorldTokenizer(), SENTENCES[:1]
    ours = ForeignTokenizer(world, 1024)
    assert ours.encode(text) == [[token % 1024 for token in world.encode(text)[0]]] and max(ours.encode(text)[0]) < 1024
    assert ours.name == "world (not the model's, folded into 1024 rows)" and ours.vocab_size == 1024
    # Nothing is folded where the table is large enough, as with GPT-2's 50,257 ids and Finch's 65,536 rows.
    large = ForeignTokenizer(BytesTokenizer(), 65536)
    assert large.encode(text) == BytesTokenizer().encode(text) and large.name == "bytes (not the model's)"
    assert len({ours.fingerprint, large.fingerprint, world.fingerprint}) == 3


def test_gpt2_ids_of_the_embedded_model_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    assert foreign_tokenizer("gpt2", 1024, "world").name.startswith("world (not the model's")

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Name or service not known\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", unreachable)
    message = (
        r"gpt2 is not in the local cache .*Name or service not known\)\. .*tokenizer\.json of openai-community/gpt2"
    )
    with pytest.raises(UserError, match=message) as error:
        foreign_tokenizer("gpt2", 65536)
    assert "\n" not in str(error.value)


def test_each_mistake_is_recorded_and_makes_another_model_of_it() -> None:
    tags = load_model(TINY, FP32, CPU).kernel_tags
    assert not tags.keys() & {"full_depth", "rescale_every"}
    wrong = load_model(replace(TINY, full_depth=True, rescale_every=6, foreign_tokenizer="gpt2"), FP32, CPU)
    assert wrong.kernel_tags["full_depth"] == "every layer runs all blocks"
    assert "after each 6 blocks" in wrong.kernel_tags["rescale_every"]
    # The store's key holds these tags and the tokenizer's fingerprint.
    assert wrong.tokenizer.fingerprint != load_model(TINY, FP32, CPU).tokenizer.fingerprint
    prints = model_source(replace(TINY, foreign_tokenizer="gpt2")).fingerprints()
    assert prints == (wrong.fingerprint, wrong.tokenizer.fingerprint)


def test_no_mistake_is_a_default(repo_root: Path) -> None:
    from omegaconf import OmegaConf

    off = {"foreign_tokenizer": None, "full_depth": False, "rescale_every": 0}
    assert off.items() <= asdict(TINY).items()
    for file in (repo_root / "conf" / "model").glob("*.yaml"):
        assert off.items() <= dict(OmegaConf.load(file)).items(), file.name
