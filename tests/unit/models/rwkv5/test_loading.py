"""RWKV-5 as a run meets it: named by a config, in every precision, with its audit, its state, and at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding.pooling import STATE, vector_size
from rwkv_sweep.models.quantization.selection import KINDS
from tests.generation_checks import LoadingChecks
from tests.rwkv5_checkpoints import Sizes, author_checkpoint, numpy_layers
from tests.small_models import encoder_of

pytestmark = pytest.mark.usefixtures("one_thread")

SIZES = Sizes(blocks=3, hidden=128, head_size=64, wide=256)
SENTENCES = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]


@pytest.fixture
def config(tmp_path: Path) -> ModelConfig:
    path = tmp_path / "author.pth"
    torch.save(author_checkpoint(SIZES), path)
    return ModelConfig(name="local", source="local", path=str(path), tokenizer="bytes")


def test_the_state_is_pooled(config: ModelConfig) -> None:
    encoder = encoder_of(config)
    size = vector_size(STATE, encoder.loaded.model.config)
    vectors = encoder.encode(SENTENCES, [0, 2], [STATE, "mean"])
    assert vectors[STATE].shape == (2, 3, size) and size == 2 * 64 * 64
    alone = encoder.encode(SENTENCES[:1], [2], [STATE])[STATE]
    torch.testing.assert_close(alone[0, 0], vectors[STATE][1, 0], rtol=1e-4, atol=1e-5)


class TestLoading(LoadingChecks):
    generation = 5
    kinds: ClassVar = set(KINDS)
    chosen = "gate"

    def numpy_layers(self, ids: list[int]) -> Any:
        return numpy_layers(author_checkpoint(SIZES), ids)
