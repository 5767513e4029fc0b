"""What a person at the terminal sees while a run goes on."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator

from rwkv_sweep.utils.redaction import redact
from rwkv_sweep.utils.user_folders import redirect_caches

log = logging.getLogger(__name__)


def log_line(message: str, error: bool = False) -> None:
    """One line on stderr, and in the run's log file; without secrets."""
    message = redact(message)
    log.info(message)
    print(f"{'error: ' if error else ''}{message}", file=sys.stderr, flush=True)


@functools.cache
def log_line_once(message: str) -> None:
    """As `log_line`, the first time in this process: a sweep reads one file many times."""
    log_line(message)


@contextlib.contextmanager
def progress_bar(total: int, name: str) -> Iterator[Callable[[int], None]]:
    """A bar over `total` sentences, for work that takes longer than a second, on a terminal only."""
    from tqdm import tqdm

    with tqdm(total=total, desc=name, unit="sentence", leave=False, delay=1.0, disable=None) as bar:

        def advance(count: int) -> None:
            bar.update(count)

        yield advance


def announce(runs: int | None) -> None:
    """A sign of life before jobs are composed and torch is loaded. On stdout: bad input is one line on stderr.

    Args:
        runs: how many there are to be; None where the sweeper chooses them as it goes.
    """
    count = "runs" if runs is None else f"{runs} run{'s' * (runs != 1)}"
    print(f"{count}: checking model, data and device", flush=True)


def quiet_dependencies() -> None:
    """Keep from the user what dependencies print that they can do nothing about, and give them folders that can be
    written. Our own warnings still show."""
    redirect_caches()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # read when torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    for name in ("mlflow", "alembic", "transformers", "datasets", "gensim", "bitsandbytes", "huggingface_hub"):
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\..*)?")
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    warnings.filterwarnings("ignore", category=FutureWarning)
