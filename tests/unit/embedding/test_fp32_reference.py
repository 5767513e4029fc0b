"""The fp32 weights beside another precision: kept on a GPU, let go on a CPU."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.embedding import fp32_reference
from rwkv_sweep.embedding.fp32_reference import REFERENCE, ResidentReference
from rwkv_sweep.models import resident_model

TINY = ModelConfig(name="tiny", source="assets")
MORE = ModelConfig(name="more", source="assets")
GPU = torch.device("cuda", 0)
MIB = 2**20


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A made-up card of 100 MiB: bytes of it that are taken, in all and by others, and the models that were loaded."""
    state = SimpleNamespace(others=20 * MIB, allocated=20 * MIB, loaded=[])

    def load(cfg: ModelConfig, precision: Any, device: torch.device, *_: object) -> Any:
        assert precision == REFERENCE
        state.loaded.append(cfg.name)
        state.allocated = state.others + 30 * MIB
        weight = SimpleNamespace(device=torch.device("cpu"))
        return SimpleNamespace(model=SimpleNamespace(parameters=lambda: iter([weight])))

    for module in (fp32_reference, resident_model):
        monkeypatch.setattr(module, "load_model", load)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: state.allocated)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (100 * MIB - state.allocated, 100 * MIB))
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: None)
    return state


def test_it_stays_on_a_gpu_and_is_counted(card: SimpleNamespace) -> None:
    reference = ResidentReference()
    for _ in range(3):
        with reference.loaded(TINY, GPU):
            assert reference.allocated_bytes == 30 * MIB
    assert card.loaded == ["tiny"] and reference.allocated_bytes == 30 * MIB
    assert reference.why_not(None, GPU) is None  # type: ignore[arg-type]


def test_it_goes_where_memory_is_short(card: SimpleNamespace) -> None:
    card.others = card.allocated = 40 * MIB
    reference = ResidentReference()
    for _ in range(2):
        with reference.loaded(TINY, GPU):
            assert reference.allocated_bytes == 30 * MIB
        assert reference.allocated_bytes == 0
        card.allocated = 40 * MIB
    assert card.loaded == ["tiny", "tiny"]


def test_a_cpu_lets_it_go(card: SimpleNamespace) -> None:
    reference = ResidentReference()
    for _ in range(2):
        with reference.loaded(TINY, torch.device("cpu")):
            assert reference.allocated_bytes == 0
    assert card.loaded == ["tiny", "tiny"]


def test_another_model_takes_its_place(card: SimpleNamespace) -> None:
    reference = ResidentReference()
    for model in (TINY, MORE, MORE):
        with reference.loaded(model, GPU):
            pass
    assert card.loaded == ["tiny", "more"]
