"""RWKV-4 as a run meets it: named by a config, in every precision, with its audit, its state, and at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding.pooling import STATE
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.loading import model_source
from rwkv_sweep.models.quantization.selection import KINDS
from tests.generation_checks import LoadingChecks
from tests.rwkv4_checkpoints import Sizes, author_checkpoint, numpy_layers
from tests.small_models import FP32

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=3, hidden=128, wide=256)
SENTENCES = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "author.pth"
    torch.save(author_checkpoint(SIZES), path)
    return ModelConfig(name="local", source="local", path=str(path), tokenizer="bytes")


def test_the_state_is_refused_in_one_line(config: ModelConfig) -> None:
    source = model_source(config)
    source.check_use("mean", 512, FP32, source.shape())
    with pytest.raises(UserError, match=r"pooling=state with an RWKV-4, .*valid are poolings of tokens") as raised:
        source.check_use(STATE, 512, FP32, source.shape())
    assert "\n" not in str(raised.value)


class TestLoading(LoadingChecks):
    generation = 4
    kinds: ClassVar = set(KINDS) - {"time_mix.gate"}
    chosen = "output"
    least: ClassVar = {**LoadingChecks.least, ("float32", "int8"): 0.98, ("float32", "int8_dynamic"): 0.98}

    def numpy_layers(self, ids: list[int]) -> Any:
        return numpy_layers(author_checkpoint(SIZES), ids)
