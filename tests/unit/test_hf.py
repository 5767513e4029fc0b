"""Other networks of transformers behind our interface, against what transformers itself gives for one sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config import ModelConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.extract import RwkvEncoder
from rwkv_sweep.layers import EMBEDDING
from rwkv_sweep.models.hf import HfNetwork
from rwkv_sweep.models.hf_loading import check_hf, check_hf_run
from rwkv_sweep.models.loading import identify_model, load_model

CPU = torch.device("cpu")
FP32 = PrecisionConfig("fp32", "float32")
BARE = PromptConfig("none")
SENTENCES = ["a cat sat", "the dog ran over the warm mat and slept all day", "no", "one two three four five"]
WORDS = sorted({word for sentence in SENTENCES for word in sentence.split()})
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
L, D = 3, 32


def save_tokenizer(folder: Path, around: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocab = {word: index for index, word in enumerate(SPECIAL + WORDS)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    if around:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    names = {"unk_token": "[UNK]", "pad_token": "[PAD]"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)


def networks() -> dict[str, Callable[[], Any]]:
    import transformers as hub

    size = {"vocab_size": len(SPECIAL) + len(WORDS)}
    wide: dict[str, Any] = {**size, "hidden_size": D, "num_hidden_layers": L}
    heads: dict[str, Any] = {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
    narrow: dict[str, Any] = {**size, "d_model": D, "d_kv": 8, "d_ff": 64, "num_layers": L, "num_heads": 4}

    def bert() -> Any:
        return hub.BertModel(hub.BertConfig(**wide, **heads))

    def gpt2() -> Any:
        return hub.GPT2Model(hub.GPT2Config(**size, n_positions=64, n_embd=D, n_layer=L, n_head=4))

    def rwkv() -> Any:
        return hub.RwkvModel(hub.RwkvConfig(**wide, context_length=64, rescale_every=1))

    def t5() -> Any:
        return hub.T5Model(hub.T5Config(**narrow))

    def albert() -> Any:
        return hub.AlbertModel(hub.AlbertConfig(**wide, **heads, embedding_size=16))

    def fnet() -> Any:
        return hub.FNetModel(hub.FNetConfig(**wide, intermediate_size=64, max_position_embeddings=64))

    return {"bert": bert, "gpt2": gpt2, "rwkv": rwkv, "t5": t5, "albert": albert, "fnet": fnet}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("hf")
    for name, make in networks().items():
        torch.manual_seed(0)
        model = make()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)  # far from what padding or a wrong layer could hide
        if name == "rwkv":
            for block in model.blocks:
                torch.nn.init.normal_(block.attention.time_decay, std=0.3)
        model.save_pretrained(root / name)
        save_tokenizer(root / name, around=name in ("bert", "albert"))
    return {name: root / name for name in networks()}


def encoder(folder: Path, precision: PrecisionConfig = FP32) -> RwkvEncoder:
    return RwkvEncoder(load_model(ModelConfig("hf", "hf", str(folder)), precision, CPU), BARE, CPU, 64, 4096)


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
    found = {EMBEDDING: states[0], **{k: states[k + 1] for k in range(L - 1)}, L: out.last_hidden_state[0]}
    if folder.name in ("bert", "albert", "fnet"):  # no final norm
        found[L - 1] = states[L]
    return found


@pytest.mark.parametrize("name", ["bert", "gpt2", "rwkv", "t5", "albert", "fnet"])
def test_layers_are_those_of_transformers_however_sentences_are_batched(folders: dict[str, Path], name: str) -> None:
    ours = encoder(folders[name])
    layers = [EMBEDDING, *range(L + 1)]
    found = ours.encode(SENTENCES, layers, ["mean", "last"])
    tokenized = ours.tokenize(SENTENCES)
    for row, ids in enumerate(tokenized.ids):
        expected = alone(folders[name], ids)
        for index, layer in enumerate(layers):
            if layer not in expected:
                continue
            torch.testing.assert_close(found["mean"][index, row], expected[layer].mean(0), atol=2e-4, rtol=1e-3)
            torch.testing.assert_close(found["last"][index, row], expected[layer][-1], atol=2e-4, rtol=1e-3)
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


def test_special_tokens_stand_around_each_text_and_survive_truncation(folders: dict[str, Path]) -> None:
    loaded = load_model(ModelConfig("hf", "hf", str(folders["bert"])), FP32, CPU)
    short = RwkvEncoder(loaded, BARE, CPU, 5, 4096).tokenize(SENTENCES)
    assert short.ids[1][0] == 2 and short.ids[1][-1] == 3 and len(short.ids[1]) == 5 and short.truncated == 2
    assert short.spans == [(0, len(ids)) for ids in short.ids]
    echo = PromptConfig("echo", "no {sentence} one {sentence}", "second")
    tokenized = RwkvEncoder(loaded, echo, CPU, 64, 4096).tokenize(["a cat"])
    (start, end), ids = tokenized.spans[0], tokenized.ids[0]
    words = SPECIAL + WORDS
    assert [words[token] for token in ids] == ["[CLS]", "no", "a", "cat", "one", "a", "cat", "[SEP]"]
    assert [words[token] for token in ids[start:end]] == ["a", "cat"]
    with pytest.raises(UserError, match="max_tokens=2 leaves no room for a sentence beside the 2 special tokens"):
        RwkvEncoder(loaded, BARE, CPU, 2, 4096).tokenize(SENTENCES)


def test_plain_dtypes_run_and_others_are_unsupported(folders: dict[str, Path]) -> None:
    exact = encoder(folders["bert"]).encode(SENTENCES, [L], ["mean"])["mean"]
    rounded = encoder(folders["bert"], PrecisionConfig("bf16", "bfloat16")).encode(SENTENCES, [L], ["mean"])["mean"]
    assert (torch.cosine_similarity(exact, rounded, dim=-1) > 0.99).all() and not torch.equal(exact, rounded)
    with pytest.raises(UnsupportedError, match=r"precision=int8 with model\.source=hf: valid are fp32, bf16 and fp16"):
        encoder(folders["bert"], PrecisionConfig("int8", "float32", "int8"))


def test_what_cannot_be_is_refused_before_a_run(folders: dict[str, Path], tmp_path: Path, run_of: Any) -> None:
    good = ModelConfig("hf", "hf", str(folders["bert"]))
    shape = check_hf(good)
    assert (shape.num_hidden_layers, shape.hidden_size, shape.longest) == (L, D, 64)
    with pytest.raises(UserError, match=r"max_tokens=512 is more than .* reads: valid is 64 or less"):
        check_hf_run(run_of(good, max_tokens=512), shape)
    with pytest.raises(UserError, match=r"pooling=state with model\.source=hf"):
        check_hf_run(run_of(good, pooling="state"), shape)
    for wrong, message in (
        (ModelConfig("hf", "hf"), "needs model.id=.* or model.path="),
        (ModelConfig("hf", "hf", str(tmp_path)), "holds no config.json"),
        (ModelConfig("hf", "hf", str(folders["bert"]), tokenizer="world"), "model.tokenizer=world .* brings its own"),
        (ModelConfig("hf", "hf", str(folders["bert"]), full_depth=True), "model.full_depth=true .* RWKV-6 alone"),
        (ModelConfig("hf", "hf", str(folders["bert"]), rescale_every=6), "model.rescale_every=6"),
    ):
        with pytest.raises(UserError, match=message):
            check_hf(wrong)


def test_an_unreachable_repository_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    message = r"model\.id=a/b at revision main .*config\.json, model\.safetensors .*tokenizer into .*set model\.path"
    with pytest.raises(UserError, match=message):
        check_hf(ModelConfig("hf", "hf", id="a/b"))


def test_the_python_api_takes_it_too(folders: dict[str, Path]) -> None:
    from rwkv_sweep import Encoder

    ours = Encoder.from_config("model=hf", f"model.path={folders['gpt2']}", "layer=1", "device=cpu", "max_tokens=64")
    expected = encoder(folders["gpt2"]).encode(SENTENCES, [1], ["mean"])["mean"][0]
    torch.testing.assert_close(torch.from_numpy(ours.encode(SENTENCES)), expected)
    with pytest.raises(UserError, match=r"max_tokens=512 is more than .* reads"):
        Encoder.from_config("model=hf", f"model.path={folders['gpt2']}", "device=cpu")


def test_code_in_a_repository_never_runs(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    folder.mkdir()
    for file in folders["bert"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match=r"config.json is of no text model transformers knows"):
        check_hf(ModelConfig("hf", "hf", str(folder)))
    assert not (tmp_path / "ran").exists()


def test_other_weights_or_another_tokenizer_are_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    assert identify_model(ModelConfig("hf", "hf", str(folders["bert"]))) == identify_model(
        ModelConfig("other name", "hf", str(folders["bert"]))
    )
    bert, gpt2 = (identify_model(ModelConfig("hf", "hf", str(folders[name]))) for name in ("bert", "gpt2"))
    assert bert[0] != gpt2[0] and bert[1] != gpt2[1], "the one adds [CLS] and [SEP]"
    loaded = load_model(ModelConfig("hf", "hf", str(folders["bert"])), FP32, CPU)
    assert (loaded.fingerprint, loaded.tokenizer.fingerprint) == bert and isinstance(loaded.model, HfNetwork)


@pytest.fixture
def run_of() -> Callable[..., Any]:
    from dataclasses import replace

    from hydra import compose, initialize_config_dir

    from rwkv_sweep.config import conf_dir, register_schemas
    from rwkv_sweep.validation import run_config

    def make(model: ModelConfig, max_tokens: int = 64, pooling: str = "mean") -> Any:
        register_schemas()
        with initialize_config_dir(str(conf_dir()), version_base="1.3"):
            run = run_config(compose("config", [f"max_tokens={max_tokens}", f"pooling={pooling}"]))
        return replace(run, model=model)

    return make
