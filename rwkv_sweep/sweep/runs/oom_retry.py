"""Out of memory: a job is measured again in smaller batches."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace

import torch

from rwkv_sweep.records.out_of_memory import is_out_of_memory
from rwkv_sweep.records.results import Result
from rwkv_sweep.utils.console import log_line

SMALLEST_BATCH_TOKENS = 32
"""Below this a batch is one sentence in any case, and halving changes nothing."""


def with_smaller_batches(batch_tokens: int, measure: Callable[[int], Result]) -> Result:
    """`measure(batch_tokens)`; out of memory, again with half of them, logged each time and recorded in a tag.

    Args:
        batch_tokens: asked for.
        measure: with so many tokens per packed batch.

    Raises:
        what `measure` raises; a lack of memory only once batches are as small as they get.
    """
    size = batch_tokens
    while True:
        try:
            result = measure(size)
            break
        except Exception as error:
            if not is_out_of_memory(error) or size < 2 * SMALLEST_BATCH_TOKENS:
                raise
            reason = (str(error).splitlines() or [type(error).__name__])[0]
        # After the except block the error is gone, and with it the frames that refer to the tensors.
        release_memory()
        size //= 2
        log_line(f"out of memory ({reason:.120}): again with batch_tokens={size}")
    if size == batch_tokens:
        return result
    note = f"out of memory with {batch_tokens} tokens a batch, measured with {size}"
    return replace(result, tags={**result.tags, "note.batch_tokens": note, "batch_tokens": str(size)})


def release_memory() -> None:
    """Hand back what nothing refers to any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
