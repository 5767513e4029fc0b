"""The model that stays loaded between jobs."""

from __future__ import annotations

import gc
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.models import resident_model
from rwkv_sweep.models.pretrained.locate import MODEL
from rwkv_sweep.models.resident_model import ResidentModel

CPU = torch.device("cpu")
FP32 = PrecisionConfig(name="fp32", base="float32")
FP16 = PrecisionConfig(name="fp16", base="float16")


def local(folder: Path) -> ModelConfig:
    return ModelConfig(name="local", source="local", path=str(folder))


def test_the_same_model_is_loaded_once(tmp_path: Path) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    resident = ResidentModel()
    first = resident.load(local(tmp_path / "model"), FP32, CPU)
    assert resident.load(local(tmp_path / "model"), FP32, CPU) is first


def test_another_precision_or_file_is_loaded_and_the_old_model_is_gone_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(MODEL, tmp_path / "model")
    cfg, real, alive = local(tmp_path / "model"), resident_model.load_model, []

    def load(*args: object) -> object:
        gc.collect()
        alive.append(sum(reference() is not None for reference in seen))
        loaded = real(*args)  # type: ignore[arg-type]
        seen.append(weakref.ref(loaded.model))
        return loaded

    seen: list[weakref.ref[torch.nn.Module]] = []
    monkeypatch.setattr(resident_model, "load_model", load)
    resident = ResidentModel()
    resident.load(cfg, FP32, CPU)
    assert resident.load(cfg, FP16, CPU).kernel_tags["precision"] == "fp16"
    (tmp_path / "model" / "config.json").touch()
    resident.load(cfg, FP16, CPU)
    assert alive == [0, 0, 0]
