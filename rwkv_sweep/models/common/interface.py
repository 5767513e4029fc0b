"""What the program asks of a model of any kind: where it comes from (`ModelSource`) and the loaded network (`Network`).

Each kind implements both; nothing outside `models` asks which kind it has.

Shapes: T packed tokens, B sentences, D hidden size.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.errors import UserError
from rwkv_sweep.hardware.devices import keep_freed_memory
from rwkv_sweep.models.common.end_of_text import EndOfText
from rwkv_sweep.models.common.layer_handover import OnLayer, OnMean, OnState
from rwkv_sweep.models.common.shape import Shape
from rwkv_sweep.models.common.task_heads import TaskHead
from rwkv_sweep.models.pretrained.tokenizers import Tokenizer
from rwkv_sweep.ops.common.packing import Packed

Tags = dict[str, str]


class Network(nn.Module, ABC):
    """A network over packed batches that hands over its layers as they come to be.

    Attributes:
        config: its sizes.
        quantizable: whether its linear layers can be quantized. Block k is then `blocks.k`, its halves are `attention`
            and `feed_forward`, and their linear layers have the names that `precision.modules` takes, such as `key`;
            what it lacks of these, `config.lacking_kinds` says.
    """

    config: Shape
    quantizable = False

    @abstractmethod
    def forward(
        self,
        input_ids: Tensor,
        packed: Packed,
        layers: Collection[int],
        on_layer: OnLayer,
        on_state: OnState | None = None,
        on_mean: OnMean | None = None,
    ) -> None:
        """Run as deep as the deepest of `layers` and hand over each of them.

        Args:
            input_ids: [T] packed token ids.
            packed: the sentences' lengths.
            layers: indices as in `rwkv_sweep.config.layer_spec`.
            on_layer: called once for each of `layers`, from the shallowest on.
            on_state: called once for each block among `layers` (not for the embedding or the final norm), just before
                its on_layer; never where `config.state_size` is None. None costs nothing.
            on_mean: called once for each of `layers`, just before its on_layer; where the fused path runs, nearly free.
        """

    def inner_forward(
        self, input_ids: Tensor, packed: Packed, layers: Collection[int], source: str, on_layer: OnLayer
    ) -> None:
        """Run up to the time mix of the deepest of `layers` and hand over what lies inside of these blocks.

        Args:
            input_ids, packed: as of `forward`.
            layers: blocks.
            source: `values` or `time_mix`, see `PoolingConfig`.
            on_layer: called once for each of `layers`, with [T, `config.value_size`] or [T, D].

        Raises:
            NotImplementedError: the network has no time mix; `ModelSource.check_use` refuses that before.
        """
        raise NotImplementedError(f"{type(self).__name__} has no time mix")

    @abstractmethod
    def depth(self, layers: Sequence[int]) -> int:
        """Blocks that a forward for these layers runs."""

    @abstractmethod
    def tags(self, device: torch.device) -> Tags:
        """What runs its blocks in inference on `device`, for the record."""

    @abstractmethod
    def capture_obstacle(self, device: torch.device) -> str | None:
        """Why a forward on this GPU cannot be captured as a CUDA graph, in a few words; None where it can."""

    @abstractmethod
    def parameter_count(self) -> int:
        """Numbers in its weights before any quantization."""


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to run.

    Attributes:
        name: `model.name` of the config.
        model: in eval mode, without gradients, on its device and in its precision.
        tokenizer: fits the model's embedding table.
        trained: False for random weights, whose quality means nothing.
        fingerprint: 16 hex digits of the SHA-256 of weights and config as stored, before the precision.
        kernel_tags: what runs, see `ModelSource.tags`.
        end_of_text: how the texts that it reads are ended; None for not at all.
        task_heads: by name, where its checkpoint has some.
    """

    name: str
    model: Network
    tokenizer: Tokenizer
    trained: bool
    fingerprint: str
    kernel_tags: Tags
    end_of_text: EndOfText | None = None
    task_heads: Mapping[str, TaskHead] = field(default_factory=dict)

    def depth(self, layers: Sequence[int]) -> int:
        """Blocks that a forward for these layers runs."""
        return self.model.depth(layers)


class ModelSource(ABC):
    """A model that a config names, not yet loaded.

    Attributes:
        cfg: what names it.
        reads_path: whether it is what lies at `model.path`.
        copied_source: `model.source` of a copy of its files.
    """

    reads_path = False
    copied_source = "local"

    def __init__(self, cfg: ModelConfig) -> None:
        self.cfg = cfg

    @abstractmethod
    def shape(self) -> Shape:
        """Its sizes, without its weights.

        Raises:
            UserError: the model is not there, cannot be reached, or is none of this kind.
        """

    @abstractmethod
    def check(self) -> Shape:
        """Its sizes, once everything that can be refused before a run was looked at: files, tensors, tokenizer.

        Raises:
            UserError: what is wrong with them.
        """

    def check_use(self, pooling: str, max_tokens: int, precision: PrecisionConfig, shape: Shape) -> None:
        """Refuse what a network of this kind cannot do, on any device.

        Args:
            pooling: `PoolingConfig.spec`.
            shape: as `check` gives it.

        Raises:
            UserError: a pooling or a number of tokens.
            UnsupportedError: a precision.
        """
        if shape.longest is not None and max_tokens > shape.longest:
            raise UserError(
                f"max_tokens={max_tokens} is more than {self.cfg.path or self.cfg.id} reads: valid is "
                f"{shape.longest} or less"
            )

    @abstractmethod
    def fingerprints(self) -> tuple[str, str]:
        """Of weights (see `LoadedModel`) and tokenizer, without loading the weights.

        Raises:
            UserError: the model is not there, cannot be reached, or is none of this kind.
        """

    @abstractmethod
    def files(self) -> list[Path]:
        """All files that loading reads, config and weights first, the tokenizer's among them; none where nothing is
        read. A copy of them in another folder is the same model, by the source `copied_source`.

        Raises:
            UserError: the model is not there, or cannot be reached.
        """

    @abstractmethod
    def tags(self, network: Network, precision: PrecisionConfig, device: torch.device) -> Tags:
        """What runs this model on `device`, or would run it in another precision than `network` has, in words."""

    def load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None = None) -> LoadedModel:
        """Load weights and tokenizer, convert to the precision, move to the device; the cheap checks come first.

        calibration: what `precision.calibration=gptq` reads.

        Raises:
            UserError: as `check`; or a weight does not fit the precision.
            UnsupportedError: this device, or this kind of network, cannot run the precision.
        """
        if device.type == "cpu":
            keep_freed_memory()
        return self._load(precision, device, calibration)

    @abstractmethod
    def _load(self, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None) -> LoadedModel: ...
