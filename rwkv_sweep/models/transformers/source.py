"""Any other encoder or decoder, read by `transformers` without any code from the repository."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from rwkv_sweep.config.path_values import existing_folder
from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.errors import UnsupportedError, UserError
from rwkv_sweep.models.common.interface import LoadedModel, ModelSource, Network, Tags
from rwkv_sweep.models.common.shape import EncoderShape, Shape
from rwkv_sweep.models.pretrained.locate import hub_folder
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, check_shards, fingerprint, model_files, read_json
from rwkv_sweep.models.quantization import check_precision
from rwkv_sweep.models.quantization.dtypes import DTYPES, SHORT_NAMES, TF32
from rwkv_sweep.models.transformers.network import HfNetwork
from rwkv_sweep.models.transformers.tokenizer import HfTokenizer, first_line_of, read_tokenizer

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
OURS = "rwkv"
"""`model_type` of an RWKV-4, the one generation that transformers has; later ones begin with it and run natively."""
WITHOUT_HUB = (
    f"copy its {CONFIG_FILE}, model.safetensors (or pytorch_model.bin) and tokenizer into a folder and set "
    "model.path=<that folder>"
)
"""What to do with such a network where the hub cannot be reached."""


class TransformersModel(ModelSource):
    """A folder at `model.path`, or the repository `model.id` on the hub."""

    reads_path = True
    copied_source = "hf"

    def folder(self) -> Path:
        """Where its files lie.

        Raises:
            UserError: neither path nor repository is given, or it is not there; a key of RWKVs is set.
        """
        cfg = self.cfg
        self._check_keys()
        if cfg.path is None:
            if not cfg.id:
                raise UserError(
                    f"model.source={cfg.source} needs model.id=<repository on the hub, such as bert-base-uncased> or "
                    f"model.path=<folder with {CONFIG_FILE}, weights and tokenizer>"
                )
            return hub_folder(cfg, FILES, need_weights=True, without_hub=WITHOUT_HUB)
        valid = (
            f"the folder of a transformers model, with its {CONFIG_FILE}; the .pth file of an RWKV or EmbeddingRWKV is "
            "read by model=local"
        )
        folder = existing_folder("model.path", cfg.path, valid)
        if not (folder / CONFIG_FILE).is_file():
            raise UserError(
                f"model.path={cfg.path} holds no {CONFIG_FILE}: valid is the folder of a transformers model"
            )
        return folder

    def shape(self) -> EncoderShape:
        """See `ModelSource.shape`."""
        folder = self.folder()
        return _shape(folder, self._tokenizer(folder))

    def check(self) -> EncoderShape:
        """See `ModelSource.check`."""
        folder = self.folder()
        check_shards(folder)
        return _shape(folder, self._tokenizer(folder))

    def check_use(self, pooling: str, max_tokens: int, precision: PrecisionConfig, shape: Shape) -> None:
        """See `ModelSource.check_use`."""
        if pooling == "state":
            raise UserError(f"pooling=state with model.source={self.cfg.source}: only an RWKV hands out its states")
        source, colon, name = pooling.rpartition(":")
        if name == "eos":
            raise UserError(
                f"pooling=eos with model.source={self.cfg.source}: only an RWKV is given end-of-text tokens; valid are "
                "other poolings, such as last"
            )
        if colon:
            raise UserError(
                f"pooling.source={source} with model.source={self.cfg.source}: only an RWKV has a time mix, valid is "
                "pooling.source=residual"
            )
        super().check_use(pooling, max_tokens, precision, shape)
        self._check_plain(precision)

    def fingerprints(self) -> tuple[str, str]:
        """See `ModelSource.fingerprints`."""
        folder = self.folder()
        return fingerprint(folder), self._tokenizer(folder).fingerprint

    def files(self) -> list[Path]:
        """See `ModelSource.files`."""
        folder = self.folder()
        others = [path for pattern in FILES for path in sorted(folder.glob(pattern)) if path.is_file()]
        return list(dict.fromkeys([*model_files(folder), *others]))

    def tags(self, network: Network, precision: PrecisionConfig, device: torch.device) -> Tags:
        """See `ModelSource.tags`."""
        name = SHORT_NAMES[precision.base]
        return {"precision": name, "matmul": name, **network.tags(device)}

    def _load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None) -> LoadedModel:
        self._check_plain(precision)
        check_precision(precision, device)
        folder = self.folder()
        tokenizer = self._tokenizer(folder)
        shape = _shape(folder, tokenizer)
        check_shards(folder)
        torch.set_float32_matmul_precision("highest")
        network = HfNetwork(_read_weights(folder, precision).to(device), shape, tokenizer.pad_id)
        tags = self.tags(network, precision, device)
        return LoadedModel(self.cfg.name, network, tokenizer, True, fingerprint(folder), tags)

    def _check_keys(self) -> None:
        """Raises UserError for keys that only an RWKV has."""
        cfg = self.cfg
        if cfg.tokenizer is not None:
            raise UserError(
                f"model.tokenizer={cfg.tokenizer} with model.source={cfg.source}: valid is null, it brings its own"
            )
        ours: dict[str, object] = {"foreign_tokenizer": cfg.foreign_tokenizer, "full_depth": cfg.full_depth or None}
        ours |= {"file": cfg.file, "eos_count": cfg.eos_count or None, "eos_id": cfg.eos_id}
        for key, value in ours.items():
            if value is not None:
                raise UserError(
                    f"model.{key}={str(value).lower()} with model.source={cfg.source}: valid with an RWKV alone"
                )
        if cfg.rescale_every:
            raise UserError(f"model.rescale_every={cfg.rescale_every} with model.source={cfg.source}: valid is 0")

    def _check_plain(self, precision: PrecisionConfig) -> None:
        """Raises UnsupportedError where a precision is not a plain dtype."""
        if precision.quantization != "none" or precision.base == TF32:
            raise UnsupportedError(
                f"precision={precision.name} with model.source={self.cfg.source}: valid are fp32, bf16 and fp16, "
                "without quantization"
            )

    def _tokenizer(self, folder: Path) -> HfTokenizer:
        return read_tokenizer(folder, self.cfg.path or self.cfg.id or "")


def _read_weights(folder: Path, precision: PrecisionConfig) -> nn.Module:
    """The network, or of one with a decoder too its encoder, in eval mode and without gradients, on the CPU."""
    from transformers import AutoModel

    try:
        inner = AutoModel.from_pretrained(folder, trust_remote_code=False, dtype=DTYPES[precision.base])
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        raise UserError(f"{folder} cannot be loaded as a transformers model ({first_line_of(error)})") from error
    if inner.config.is_encoder_decoder:
        inner = inner.get_encoder()
    # Vectors of whole sentences need no memory of their tokens; RWKV-4 would halve its stream every few blocks.
    inner.config.use_cache = False
    if hasattr(inner.config, "rescale_every"):
        inner.config.rescale_every = 0
    network: nn.Module = inner.eval().requires_grad_(False)
    return network


def _shape(folder: Path, tokenizer: HfTokenizer) -> EncoderShape:
    from transformers import AutoConfig

    kind = str(read_json(folder / CONFIG_FILE).get("model_type"))
    if kind.startswith(OURS) and kind != OURS:
        raise UserError(
            f"{folder / CONFIG_FILE} has model_type={kind}: valid for it is model=local model.path={folder}"
        )
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False).get_text_config()
        sizes = config.vocab_size, config.hidden_size, config.num_hidden_layers
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise UserError(
            f"{folder / CONFIG_FILE} is of no text model transformers knows ({first_line_of(error)})"
        ) from error
    if tokenizer.vocab_size > sizes[0]:
        raise UserError(
            f"tokenizer {tokenizer.name} has ids up to {tokenizer.vocab_size - 1}, but the model's embedding table has "
            f"{sizes[0]} rows: valid is the tokenizer that the model was trained with"
        )
    limits = [getattr(config, "max_position_embeddings", None), tokenizer.longest]
    return EncoderShape(*sizes, longest=min((limit for limit in limits if limit and limit > 0), default=None))
