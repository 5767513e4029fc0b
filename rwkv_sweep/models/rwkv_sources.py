"""RWKVs of each kind of source: the packaged one, a local checkpoint, one on the hub, and random weights."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from pathlib import Path

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.common.interface import LoadedModel, ModelSource, Network, Tags
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.common.shape import RwkvShape, Shape, too_large
from rwkv_sweep.models.generations import DEFAULT_GENERATION, GENERATIONS, generation_of
from rwkv_sweep.models.pretrained import locate
from rwkv_sweep.models.pretrained.mismatched_tokenizer import foreign_tokenizer
from rwkv_sweep.models.pretrained.tokenizers import TOKENIZER_FILE, Tokenizer, load_tokenizer
from rwkv_sweep.models.pretrained.weight_files import fingerprint, model_files
from rwkv_sweep.models.quantization import apply_precision, check_precision, kernel_tags
from rwkv_sweep.models.quantization.calibration.observed import token_batches

RANDOM_SEED = 0


class RwkvSource(ModelSource):
    """An RWKV of any generation."""

    gpt2_stand_in: str | None = None
    """A tokenizer in place of `model.foreign_tokenizer=gpt2`; None fetches GPT-2's."""

    def check_use(self, pooling: str, max_tokens: int, precision: PrecisionConfig, shape: Shape) -> None:
        """See `ModelSource.check_use`."""
        if pooling == "state" and shape.state_size is None:
            raise UserError(
                "pooling=state with an RWKV-4, which has no matrix-valued state: valid are poolings of tokens, such as "
                "mean"
            )
        super().check_use(pooling, max_tokens, precision, shape)

    def tags(self, network: Network, precision: PrecisionConfig, device: torch.device) -> Tags:
        """See `ModelSource.tags`."""
        return kernel_tags(precision, device) | network.tags(device)

    def _tokenizer(self, name: str | None, folder: Path | None, table_size: int) -> Tokenizer:
        """name: of a tokenizer, None for the one in `folder`. table_size: rows of the embedding table."""
        if self.cfg.foreign_tokenizer is not None:
            return foreign_tokenizer(self.cfg.foreign_tokenizer, table_size, self.gpt2_stand_in)
        return load_tokenizer(name, folder, table_size)

    def _ready(
        self,
        model: RwkvModel,
        tokenizer: Tokenizer,
        digest: str,
        precision: PrecisionConfig,
        device: torch.device,
        calibration: Corpus | None,
        trained: bool,
    ) -> LoadedModel:
        """The model in its precision, on its device. digest: the model's fingerprint."""
        batches = None if calibration is None else token_batches(tokenizer.encode(list(calibration.texts)), device)
        apply_precision(model, precision, device, batches)
        model.prepare(device)
        model.full_depth, model.rescale_every = self.cfg.full_depth, self.cfg.rescale_every
        tags = self.tags(model, precision, device)
        if calibration is not None:
            tags["calibration"] = f"{precision.calibration} on {calibration.name}, {calibration.fingerprint[:16]}"
        return LoadedModel(self.cfg.name, model.eval(), tokenizer, trained, digest, tags)


class RwkvCheckpoint(RwkvSource):
    """A trained RWKV in a file or folder; each kind says where that lies."""

    @abstractmethod
    def path(self, need_weights: bool = True) -> Path:
        """The folder or .pth file; without `need_weights` config.json may be all that it holds.

        Raises:
            UserError: it is not there and cannot be had.
        """

    def shape(self) -> RwkvShape:
        """See `ModelSource.shape`; of a model on the hub config.json alone is fetched."""
        path = self.path(need_weights=False)
        return generation_of(path).read_shape(path)

    def check(self) -> RwkvShape:
        """See `ModelSource.check`: reads the weights once (mapped, not copied) and lets them go."""
        path = self.path()
        shape, _ = generation_of(path).read_weights(path)
        self._own_tokenizer(path, shape)
        return shape

    def fingerprints(self) -> tuple[str, str]:
        """See `ModelSource.fingerprints`."""
        path = self.path()
        return fingerprint(path), self._own_tokenizer(path, generation_of(path).read_shape(path)).fingerprint

    def files(self) -> list[Path]:
        """See `ModelSource.files`."""
        path = self.path()
        beside = [path / TOKENIZER_FILE] if path.is_dir() and self.cfg.tokenizer is None else []
        named = [] if self.cfg.tokenizer in (None, "world", "bytes") else [Path(self.cfg.tokenizer).expanduser()]
        return [*model_files(path), *beside, *named]

    def _load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None) -> LoadedModel:
        check_precision(precision, device)
        path = self.path()
        generation = generation_of(path)
        tokenizer = self._own_tokenizer(path, generation.read_shape(path))
        model = generation.load(path)
        return self._ready(model, tokenizer, fingerprint(path), precision, device, calibration, trained=True)

    def _own_tokenizer(self, path: Path, shape: RwkvShape) -> Tokenizer:
        return self._tokenizer(self.cfg.tokenizer, path if path.is_dir() else None, shape.vocab_size)


class PackagedModel(RwkvCheckpoint):
    """The small trained model of this package, which must run without a network."""

    gpt2_stand_in = "world"

    def path(self, need_weights: bool = True) -> Path:
        """See `RwkvCheckpoint.path`."""
        return locate.packaged_folder()


class LocalModel(RwkvCheckpoint):
    """What lies at `model.path`."""

    reads_path = True

    def path(self, need_weights: bool = True) -> Path:
        """See `RwkvCheckpoint.path`."""
        return locate.local_path(self.cfg)


class HubModel(RwkvCheckpoint):
    """A repository on the Hugging Face hub."""

    def path(self, need_weights: bool = True) -> Path:
        """See `RwkvCheckpoint.path`."""
        return locate.hub_folder(self.cfg, locate.RWKV_FILES, need_weights, locate.RWKV_WITHOUT_HUB)


class RandomModel(RwkvSource):
    """Random weights of given sizes, for measuring speed. Any tokenizer fits them."""

    copied_source = "random"

    def shape(self) -> RwkvShape:
        """See `ModelSource.shape`.

        Raises:
            UserError: a size that is not given or cannot be, or an unknown generation.
        """
        return self._generation().random_config(self._sizes())

    def check(self) -> RwkvShape:
        """See `ModelSource.check`."""
        shape = self.shape()
        self._any_tokenizer(shape)
        return shape

    def files(self) -> list[Path]:
        """See `ModelSource.files`."""
        spec = self.cfg.tokenizer
        return [] if spec in (None, "world", "bytes") else [Path(spec).expanduser()]

    def fingerprints(self) -> tuple[str, str]:
        """See `ModelSource.fingerprints`: seed, generation and sizes stand for the weights they give."""
        shape = self.shape()
        return self._weights_fingerprint(shape), self._any_tokenizer(shape).fingerprint

    def _load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None) -> LoadedModel:
        check_precision(precision, device)
        shape = self.shape()
        tokenizer = self._any_tokenizer(shape)
        model = self._generation().draw(shape, RANDOM_SEED, device)
        digest = self._weights_fingerprint(shape)
        return self._ready(model, tokenizer, digest, precision, device, calibration, trained=False)

    def _generation(self) -> Generation:
        number = DEFAULT_GENERATION if self.cfg.generation is None else self.cfg.generation
        if number not in GENERATIONS:
            raise UserError(f"model.generation={number} is not known: valid are {', '.join(map(str, GENERATIONS))}")
        return GENERATIONS[number]

    def _any_tokenizer(self, shape: RwkvShape) -> Tokenizer:
        spec = "bytes" if self.cfg.tokenizer is None else self.cfg.tokenizer
        return self._tokenizer(spec, None, shape.vocab_size)

    def _weights_fingerprint(self, shape: RwkvShape) -> str:
        number = self._generation().number
        sizes = (shape.hidden_size, shape.num_hidden_layers, shape.head_size, shape.intermediate_size, shape.vocab_size)
        kind = "random" if number == DEFAULT_GENERATION else f"random, generation {number}"
        return hashlib.sha256(repr((kind, RANDOM_SEED, *sizes)).encode()).hexdigest()[:16]

    def _sizes(self) -> dict[str, int]:
        """Under the names that `Generation.random_config` takes."""
        sizes = {key: _required_size(self.cfg, key) for key in SIZES}
        if message := too_large(sizes):
            raise UserError(f"model.{message}")
        if sizes["hidden_size"] % sizes["head_size"]:
            raise UserError(
                f"model.hidden_size={sizes['hidden_size']} is not a multiple of model.head_size={sizes['head_size']}"
            )
        return {SIZES[key]: size for key, size in sizes.items()}


SIZES = {
    "hidden_size": "hidden_size",
    "num_blocks": "num_hidden_layers",
    "head_size": "head_size",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
"""Keys of `model` that give the sizes of random weights, and their names in a network's config."""


def _required_size(cfg: ModelConfig, key: str) -> int:
    size: int | None = getattr(cfg, key)
    if size is None or size < 1:
        raise UserError(f"model.source=random needs model.{key}, which is {size}: valid is a number from 1 on")
    return size
