"""The model stays loaded between the jobs of one process that share it."""

from __future__ import annotations

import gc
from pathlib import Path

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.data.corpus import Corpus
from rwkv_sweep.models.common.interface import LoadedModel
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.utils.files import file_stamp


class ResidentModel:
    """The last model that was loaded, kept for the next job."""

    def __init__(self) -> None:
        self._kept: tuple[object, LoadedModel] | None = None

    def load(
        self, cfg: ModelConfig, precision: PrecisionConfig, device: torch.device, calibration: Corpus | None = None
    ) -> LoadedModel:
        """As `load_model`; the last model is handed out again where nothing about it has changed.

        Another one is let go before the next is loaded, so that two never lie in memory together.

        Raises:
            UserError, UnsupportedError: see `ModelSource.load`.
        """
        key = (repr(cfg), repr(precision), str(device), _stamp(cfg), calibration and calibration.fingerprint)
        if self._kept is None or self._kept[0] != key:
            self.release()
            self._kept = (key, load_model(cfg, precision, device, calibration))
        return self._kept[1]

    def release(self) -> None:
        """Let the model go, and what the device keeps of its memory."""
        if self._kept is None:
            return
        device = next(self._kept[1].model.parameters()).device
        self._kept = None
        gc.collect()
        if device.type == "cuda":
            torch.cuda.empty_cache()


def _stamp(cfg: ModelConfig) -> object:
    """Of the files that a path names: a file written anew between two jobs is another model."""
    return None if cfg.path is None else file_stamp(Path(cfg.path).expanduser())
