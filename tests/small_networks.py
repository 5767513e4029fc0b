"""Small networks of `transformers` with random weights, and a tokenizer of a few words beside each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

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


def save_networks(root: Path) -> dict[str, Path]:
    """A folder for each of `networks`."""
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
