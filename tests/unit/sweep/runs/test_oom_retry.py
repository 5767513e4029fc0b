"""Too little memory: known by its many names, met with smaller batches, recorded when that does not help."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from rwkv_sweep.records.out_of_memory import is_out_of_memory
from rwkv_sweep.records.results import FINISHED, Result
from rwkv_sweep.sweep.runs.oom_retry import with_smaller_batches

DONE = Result("a", "model", FINISHED, {}, tags={"device": "cpu"})


def test_pytorchs_own_words_are_known() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(1 << 60)
    assert is_out_of_memory(caught.value)
    with pytest.raises(MemoryError) as numpys:
        np.empty(1 << 60, dtype=np.uint8)
    assert is_out_of_memory(numpys.value)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert not is_out_of_memory(RuntimeError("size mismatch")) and not is_out_of_memory(ValueError("out of memory"))


def test_batches_are_halved_until_they_fit(capsys: pytest.CaptureFixture[str]) -> None:
    tried = []

    def measure(batch_tokens: int) -> Result:
        tried.append(batch_tokens)
        if batch_tokens > 1000:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore words")
        return DONE

    result = with_smaller_batches(4096, measure)
    assert tried == [4096, 2048, 1024, 512]
    note = "out of memory with 4096 tokens a batch, measured with 512"
    assert result == replace(DONE, tags={"device": "cpu", "note.batch_tokens": note, "batch_tokens": "512"})
    logged = capsys.readouterr().err.splitlines()
    assert len(logged) == 3 and logged[0] == (
        "out of memory (CUDA out of memory. Tried to allocate 2 GiB): again with batch_tokens=2048"
    )


def test_what_fits_is_left_alone() -> None:
    assert with_smaller_batches(64, lambda batch_tokens: DONE) is DONE


def test_halving_ends() -> None:
    tried = []

    def measure(batch_tokens: int) -> Result:
        tried.append(batch_tokens)
        raise MemoryError

    with pytest.raises(MemoryError):
        with_smaller_batches(200, measure)
    assert tried == [200, 100, 50]


def test_other_failures_are_not_tried_again() -> None:
    tried = []

    def measure(batch_tokens: int) -> Result:
        tried.append(batch_tokens)
        raise RuntimeError("size mismatch")

    with pytest.raises(RuntimeError, match="size mismatch"):
        with_smaller_batches(64, measure)
    assert len(tried) == 1
