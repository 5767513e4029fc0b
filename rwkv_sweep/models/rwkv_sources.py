"""Trained RWKVs of each kind of source: the packaged one, a local checkpoint, one on the hub, an EmbeddingRWKV."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from rwkv_sweep.config.schema import PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.end_of_text import end_of_text
from rwkv_sweep.models.common.generation import Generation
from rwkv_sweep.models.common.interface import LoadedModel, ModelSource, Network, Tags
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.common.shape import RwkvShape, Shape
from rwkv_sweep.models.common.task_heads import TaskHead
from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.pretrained import locate
from rwkv_sweep.models.pretrained.mismatched_tokenizer import foreign_tokenizer
from rwkv_sweep.models.pretrained.tokenizers import TOKENIZER_FILE, Tokenizer, load_tokenizer
from rwkv_sweep.models.pretrained.weight_files import fingerprint, model_files
from rwkv_sweep.models.quantization import apply_precision, check_precision, kernel_tags
from rwkv_sweep.models.quantization.calibration.observed import token_batches
from rwkv_sweep.utils.console import log_line_once


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
        end = end_of_text(self.cfg, shape)
        if pooling.rpartition(":")[2] == "eos" and end is None:
            raise UserError(
                f"pooling=eos with model={self.cfg.name}, whose texts are given no end-of-text token: valid are "
                "model.eos_id=<token id, such as 0 of the World vocabulary>, an EmbeddingRWKV without "
                "model.eos_count=0, or another pooling, such as last"
            )
        if end is not None and end.most(max_tokens) < 1:
            raise UserError(
                f"max_tokens={max_tokens} leaves no token for a text beside its end-of-text tokens: valid with "
                f"model.eos_count={end.count} is {end.count + 1} or more"
            )
        super().check_use(pooling, max_tokens, precision, shape)

    def tags(self, network: Network, precision: PrecisionConfig, device: torch.device) -> Tags:
        """See `ModelSource.tags`."""
        end = end_of_text(self.cfg, network.config)
        ended = {} if end is None else {"end_of_text": str(end)}
        return kernel_tags(precision, device) | network.tags(device) | ended

    def _tokenizer(self, name: str | None, folder: Path | None, table_size: int) -> Tokenizer:
        """name: of a tokenizer, None for the one in `folder`. table_size: rows of the embedding table."""
        if self.cfg.foreign_tokenizer is not None:
            return foreign_tokenizer(self.cfg.foreign_tokenizer, table_size, self.gpt2_stand_in)
        return load_tokenizer(name, folder, table_size)

    def _ready(
        self,
        model: RwkvModel,
        tokenizer: Tokenizer,
        digest: Callable[[], str],
        precision: PrecisionConfig,
        device: torch.device,
        calibration: Corpus | None,
        trained: bool,
        heads: Mapping[str, TaskHead],
    ) -> LoadedModel:
        """The model in its precision, on its device. digest: gives the model's fingerprint. heads: its task heads."""
        batches = None if calibration is None else token_batches(tokenizer.encode(list(calibration.texts)), device)
        apply_precision(model, precision, device, batches)
        model.prepare(device)
        model.full_depth, model.rescale_every = self.cfg.full_depth, self.cfg.rescale_every
        tags = self.tags(model, precision, device)
        if calibration is not None:
            tags["calibration"] = f"{precision.calibration} on {calibration.name}, {calibration.fingerprint[:16]}"
        end = end_of_text(self.cfg, model.config)
        return LoadedModel(self.cfg.name, model.eval(), tokenizer, trained, digest(), tags, end, heads)


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
        return self._accepted(path, generation_of(path).read_shape(path))

    def check(self) -> RwkvShape:
        """See `ModelSource.check`: reads the weights once (mapped, not copied) and lets them go."""
        path = self.path()
        generation = generation_of(path)
        shape = self._accepted(path, generation.read_weights(path)[0])
        _task_heads(generation, path, shape)
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
        shape = self._accepted(path, generation.read_shape(path))
        tokenizer, heads = self._own_tokenizer(path, shape), _task_heads(generation, path, shape)
        # Hashing takes one core longer than the rest takes together.
        with ThreadPoolExecutor(1) as thread:
            digest = thread.submit(fingerprint, path)
            model = generation.load(path)
            return self._ready(model, tokenizer, digest.result, precision, device, calibration, True, heads)

    def _accepted(self, path: Path, shape: RwkvShape) -> RwkvShape:
        """The shape of what lies at `path`, where this kind of source takes it."""
        return shape

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


def _task_heads(generation: Generation, path: Path, shape: RwkvShape) -> Mapping[str, TaskHead]:
    """Of an EmbeddingRWKV, with a line on what its own embedding is."""
    if not shape.task_heads:
        return {}
    log_line_once(
        f"{path} is an EmbeddingRWKV with the task heads {', '.join(shape.task_heads)}: its own embedding is "
        "layer=final pooling=eos postprocess=head"
    )
    return generation.read_task_heads(path)


class HubModel(RwkvCheckpoint):
    """A repository on the Hugging Face hub, or one .pth file in it."""

    def path(self, need_weights: bool = True) -> Path:
        """See `RwkvCheckpoint.path`."""
        if self.cfg.file is not None:
            return locate.hub_file(self.cfg)
        return locate.hub_folder(self.cfg, locate.RWKV_FILES, need_weights, locate.RWKV_WITHOUT_HUB)


class EmbeddingRwkv(RwkvCheckpoint):
    """An EmbeddingRWKV at `model.path`, or on the hub."""

    reads_path = True

    def path(self, need_weights: bool = True) -> Path:
        """See `RwkvCheckpoint.path`."""
        return locate.hub_file(self.cfg) if self.cfg.path is None else locate.local_path(self.cfg)

    def _accepted(self, path: Path, shape: RwkvShape) -> RwkvShape:
        if not shape.task_heads:
            raise UserError(
                f"model.path={path} with model={self.cfg.name} has no task heads (head.sts_head.* and others), so it "
                f"is no EmbeddingRWKV: valid for it is model=local model.path={path}"
            )
        return shape
