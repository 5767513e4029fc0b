"""Loading `model=hf`: files, tokenizer and weights by `transformers`, without any code from the repository."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig, RunConfig
from rwkv_sweep.errors import UnsupportedError, UserError, ends_the_program
from rwkv_sweep.models.common.shape import EncoderShape
from rwkv_sweep.models.pretrained.locate import hub_folder
from rwkv_sweep.models.pretrained.tokenizers import Tokenizer, check_unicode
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, check_shards, read_json
from rwkv_sweep.models.quantization import check_precision
from rwkv_sweep.models.quantization.dtypes import DTYPES, SHORT_NAMES, TF32
from rwkv_sweep.models.transformers.network import HfNetwork
from rwkv_sweep.utils.path_values import existing_folder

HF = "hf"
"""`model.source` of such a network."""
FILES = (
    CONFIG_FILE,
    "tokenizer*",
    "special_tokens_map.json",
    "vocab*",
    "merges.txt",
    "spiece.model",
    "sentencepiece*",
    "*.tiktoken",
)
UNLIMITED = 10**9
"""Tokenizers without a longest text say 10^30."""


class HfTokenizer:
    """A repository's own tokenizer. What it puts around a text ([CLS] and [SEP], <s>) is in `prefix` and `suffix`.

    Raises:
        UserError: there is none in the folder, or it adds special tokens elsewhere than around a text.
    """

    def __init__(self, folder: Path, name: str) -> None:
        from transformers import AutoTokenizer

        try:
            self._inner: Any = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        except BaseException as error:  # each kind of tokenizer has errors of its own, a panic is not even an Exception
            if ends_the_program(error):
                raise
            raise UserError(f"{folder} holds no tokenizer that transformers can read ({_line(error)})") from error
        self.name, self.vocab_size = name, len(self._inner)
        self.longest: int | None = self._inner.model_max_length if self._inner.model_max_length < UNLIMITED else None
        self.pad_id: int = self._inner.pad_token_id or 0
        bare, whole = self._ids(["a"], False)[0], self._ids(["a"], True)[0]
        at = next((at for at in range(len(whole)) if whole[at : at + len(bare)] == bare), None)
        if at is None:
            raise UserError(f"tokenizer {name} makes {whole} of a text with the ids {bare}: valid are ids around these")
        self.prefix: Sequence[int] = whole[:at]
        self.suffix: Sequence[int] = whole[at + len(bare) :]
        backend = getattr(self._inner, "backend_tokenizer", None)
        content = backend.to_str() if backend is not None else json.dumps(sorted(self._inner.get_vocab().items()))
        digest = hashlib.sha256(content.encode() + repr((self.prefix, self.suffix)).encode())
        self.fingerprint = digest.hexdigest()[:16]

    def encode(self, sentences: Sequence[str]) -> list[list[int]]:
        """See `Tokenizer.encode`."""
        check_unicode(sentences)
        return self._ids(list(sentences), False) if sentences else []

    def _ids(self, sentences: list[str], around: bool) -> list[list[int]]:
        # Truncation and its warning are not the tokenizer's business here: see `rwkv_sweep.embedding.prompts`.
        found = self._inner(sentences, add_special_tokens=around, return_attention_mask=False, verbose=False)
        return [list(ids) for ids in found["input_ids"]]


def hf_folder(cfg: ModelConfig, need_weights: bool = True) -> Path:
    """`model.path`, or the repository `model.id` in the hub's cache.

    Raises:
        UserError: neither is given, or it is not there; a key of RWKV-6 models is set.
    """
    if cfg.tokenizer is not None:
        raise UserError(f"model.tokenizer={cfg.tokenizer} with model.source={HF}: valid is null, it brings its own")
    for key, value in (("foreign_tokenizer", cfg.foreign_tokenizer), ("full_depth", cfg.full_depth or None)):
        if value is not None:
            raise UserError(f"model.{key}={str(value).lower()} with model.source={HF}: valid with an RWKV-6 alone")
    if cfg.rescale_every:
        raise UserError(f"model.rescale_every={cfg.rescale_every} with model.source={HF}: valid is 0")
    if cfg.path is None:
        if not cfg.id:
            raise UserError(
                f"model.source={HF} needs model.id=<repository on the hub, such as bert-base-uncased> or "
                f"model.path=<folder with {CONFIG_FILE}, weights and tokenizer>"
            )
        return hub_folder(cfg, FILES, need_weights)
    folder = existing_folder("model.path", cfg.path, f"the folder of a transformers model, with its {CONFIG_FILE}")
    if not (folder / CONFIG_FILE).is_file():
        raise UserError(f"model.path={cfg.path} holds no {CONFIG_FILE}: valid is the folder of a transformers model")
    return folder


def check_hf(cfg: ModelConfig) -> EncoderShape:
    """Its sizes, once files and tokenizer were found fit.

    Raises:
        UserError: files are missing, or cannot be read without running code from the repository.
    """
    folder = hf_folder(cfg)
    check_shards(folder)
    return _shape(folder, hf_tokenizer(cfg, folder))


def check_hf_run(run: RunConfig, shape: EncoderShape) -> None:
    """Refuse what only an RWKV-6 can do.

    Raises:
        UserError: pooling=state, or more tokens than the network reads.
        UnsupportedError: a quantization, or TF32.
    """
    if run.pooling.name == "state":
        raise UserError(f"pooling=state with model.source={HF}: only an RWKV-6 here hands out its states")
    if shape.longest is not None and run.max_tokens > shape.longest:
        raise UserError(
            f"max_tokens={run.max_tokens} is more than {run.model.path or run.model.id} reads: valid is "
            f"{shape.longest} or less"
        )
    check_hf_precision(run.precision)


def check_hf_precision(precision: PrecisionConfig) -> None:
    """Raises UnsupportedError where a precision is not a plain dtype."""
    if precision.quantization != "none" or precision.base == TF32:
        raise UnsupportedError(
            f"precision={precision.name} with model.source={HF}: valid are fp32, bf16 and fp16, without quantization"
        )


def hf_tokenizer(cfg: ModelConfig, folder: Path) -> HfTokenizer:
    """The repository's tokenizer; one that was read before and lies there unchanged is handed out again."""
    stamp = tuple((file.name, file.stat().st_mtime_ns) for file in sorted(folder.iterdir()) if file.is_file())
    return _tokenizer(folder, cfg.path or cfg.id or "", stamp)


@functools.lru_cache(maxsize=4)
def _tokenizer(folder: Path, name: str, stamp: object) -> HfTokenizer:
    return HfTokenizer(folder, name)


def load_hf(
    cfg: ModelConfig, precision: PrecisionConfig, device: torch.device
) -> tuple[HfNetwork, Tokenizer, dict[str, str]]:
    """Network, tokenizer and what runs, in words.

    Raises:
        UserError, UnsupportedError: see `check_hf`, `check_hf_precision` and `check_precision`.
    """
    from transformers import AutoModel

    check_hf_precision(precision)
    check_precision(precision, device)
    folder = hf_folder(cfg)
    tokenizer = hf_tokenizer(cfg, folder)
    shape = _shape(folder, tokenizer)
    check_shards(folder)
    torch.set_float32_matmul_precision("highest")
    try:
        inner = AutoModel.from_pretrained(folder, trust_remote_code=False, dtype=DTYPES[precision.base])
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"{folder} cannot be loaded as a transformers model ({_line(error)})") from error
    if inner.config.is_encoder_decoder:
        inner = inner.get_encoder()
    # Vectors of whole sentences need no memory of their tokens; RWKV-4 would halve its stream every few blocks.
    inner.config.use_cache = False
    if hasattr(inner.config, "rescale_every"):
        inner.config.rescale_every = 0
    network = HfNetwork(inner.eval().requires_grad_(False).to(device), shape, tokenizer.pad_id)
    return network, tokenizer, hf_tags(network, precision)


def hf_tags(network: HfNetwork, precision: PrecisionConfig) -> dict[str, str]:
    """What runs, in words."""
    name = SHORT_NAMES[precision.base]
    return {"precision": name, "matmul": name, **network.tags()}


def _shape(folder: Path, tokenizer: HfTokenizer) -> EncoderShape:
    from transformers import AutoConfig

    if (kind := read_json(folder / CONFIG_FILE).get("model_type")) in ("rwkv6", "rwkv7"):
        raise UserError(
            f"{folder / CONFIG_FILE} has model_type={kind}: valid for it is model=local model.path={folder}"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        sizes = config.vocab_size, config.hidden_size, config.num_hidden_layers
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{folder / CONFIG_FILE} is of no text model transformers knows ({_line(error)})") from error
    if tokenizer.vocab_size > sizes[0]:
        raise UserError(
            f"tokenizer {tokenizer.name} has ids up to {tokenizer.vocab_size - 1}, but the model's embedding table has "
            f"{sizes[0]} rows: valid is the tokenizer that the model was trained with"
        )
    known = [getattr(config, "max_position_embeddings", None), tokenizer.longest]
    return EncoderShape(*sizes, longest=min((each for each in known if each and each > 0), default=None))


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]:.160}"
