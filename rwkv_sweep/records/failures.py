"""What becomes of an error in a run: a record with its reason."""

from __future__ import annotations

import math
import time
import traceback
from dataclasses import replace

from rwkv_sweep.errors import NonFiniteError, UserError, first_line
from rwkv_sweep.records.out_of_memory import is_out_of_memory
from rwkv_sweep.records.results import FAILED, Result
from rwkv_sweep.utils.redaction import redact


def without_non_finite(result: Result) -> Result:
    """The record without metrics that are NaN or infinite, which JSON cannot represent; a tag names each."""
    bad = {key: value for key, value in result.metrics.items() if not math.isfinite(value)}
    if not bad:
        return result
    metrics = {key: value for key, value in result.metrics.items() if key not in bad}
    notes = {f"note.{key}": f"left out: it was {value}" for key, value in bad.items()}
    return replace(result, metrics=metrics, tags={**result.tags, **notes})


def failed(planned: Result, error: BaseException) -> Result:
    """`planned` as a failure.

    Its error has kind: the class of the error; message: one line; traceback: only of what the user cannot correct.
    """
    known = isinstance(error, (UserError, NonFiniteError))
    kind = "OutOfMemory" if is_out_of_memory(error) else type(error).__name__
    message = " ".join(redact(str(error)).split()) if known else redact(first_line(error))
    reason = {"kind": kind, "message": message}
    if not known:
        reason["traceback"] = redact("".join(traceback.format_exception(error)))
    return replace(planned, status=FAILED, error=reason, ended=time.time())
