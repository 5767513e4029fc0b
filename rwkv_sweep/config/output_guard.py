"""Secrets kept out of all that a process writes: both streams, every log handler, and Hydra's config files."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from rwkv_sweep.utils.redaction import SECRETS, redact, redact_all

_WORDS = """
    mlflow rwkv_sweep tracking server database postgresql psycopg2 mysql pymysql mssql pyodbc sqlite localhost http
    password authentication failed user connection refused host python hydra report result summary sweep model baseline
    multirun outputs mlruns artifacts finished running killed unsupported undefined error warning info debug true false
    none null yes
"""
"""What messages and records hold in any case; with it go all keys and options of the configuration."""


class _RedactingStream:
    """A text stream that hides secrets in what is written to it; in all else the stream that it stands for."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(redact(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __iter__(self) -> Any:
        return iter(self._stream)


def guard_output() -> None:
    """Hide secrets in all that this process writes from now on; for a process that is this program's own.

    What is already guarded stays so; which secrets there are is remembered before or later.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None and not isinstance(stream, _RedactingStream):
            setattr(sys, name, _RedactingStream(stream))
    factory = logging.getLogRecordFactory()
    if not getattr(factory, "redacts", False):
        logging.setLogRecordFactory(_redacting(factory))
    if not getattr(OmegaConf.to_yaml, "redacts", False):
        OmegaConf.to_yaml = staticmethod(_redacting_yaml(OmegaConf.to_yaml))  # type: ignore[method-assign]
    _leave_ordinary_words()


def guard_command(arguments: list[str]) -> None:
    """As `guard_output`, with the secrets of this process's command line and environment."""
    # Arguments without a URI are on the screen, in names and in records, whatever a secret may be.
    SECRETS.remember_ordinary(argument for argument in arguments if "//" not in argument.replace("\\", ""))
    SECRETS.remember_environment(os.environ)
    SECRETS.remember_command(arguments)
    guard_output()


def remember_config(config: DictConfig) -> None:
    """Hide the secrets of a composed config's tracking URI, which may come from a file or a variable."""
    uri = OmegaConf.select(config, "tracking.uri", throw_on_resolution_failure=False, throw_on_missing=False)
    if isinstance(uri, str):
        SECRETS.remember_uri(uri)
        _leave_ordinary_words()


def _leave_ordinary_words() -> None:
    if SECRETS.remembered():
        SECRETS.remember_ordinary(_ordinary())


def _redacting(factory: Any) -> Any:
    """A log record's message and traceback are made where it is created, so that no handler ever has the secret."""

    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record: logging.LogRecord = factory(*args, **kwargs)
        try:
            message = record.getMessage()
        except Exception:  # arguments that do not fit: the handler reports it, on the guarded stderr
            return record
        if (clean := redact(message)) != message:
            record.msg, record.args = clean, None
        if record.exc_info and record.exc_info[0] is not None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
        if record.stack_info:
            record.stack_info = redact(record.stack_info)
        return record

    make.redacts = True  # type: ignore[attr-defined]
    return make


def _redacting_yaml(to_yaml: Any) -> Any:
    """Hydra writes its files through this one function. Strings are cleaned before YAML quotes and breaks them."""

    @functools.wraps(to_yaml)
    def write(cfg: Any, *, resolve: bool = False, sort_keys: bool = False) -> str:
        whole = cfg if OmegaConf.is_config(cfg) else OmegaConf.create(cfg)
        plain = OmegaConf.to_container(whole, resolve=resolve, enum_to_str=True)
        if (clean := redact_all(plain)) != plain:
            cfg = OmegaConf.create(clean)
        return str(to_yaml(cfg, resolve=resolve, sort_keys=sort_keys))

    write.redacts = True  # type: ignore[attr-defined]
    return write


@functools.cache
def _ordinary() -> tuple[str, ...]:
    places = (os.getcwd, Path.home, lambda: sys.prefix, tempfile.gettempdir)
    return (*_WORDS.split(), *_configuration_words(), *_known(places), socket.gethostname())


def _known(places: Iterable[Callable[[], object]]) -> Iterator[str]:
    """Those that there are: a user may have no home, and a folder may be gone."""
    for place in places:
        with contextlib.suppress(OSError, RuntimeError):
            yield str(place())


def _configuration_words() -> list[str]:
    """Keys, choices and names of options."""
    from rwkv_sweep.config import schema as schema_module
    from rwkv_sweep.config.hydra_store import conf_dir
    from rwkv_sweep.config.validation import CHOICES

    schemas = [value for value in vars(schema_module).values() if isinstance(value, type) and is_dataclass(value)]
    keys = [field.name for schema in schemas for field in fields(schema)]
    choices = [choice for valid in CHOICES.values() for choice in valid]
    return [*keys, *choices, *(path.stem for path in conf_dir().rglob("*.yaml"))]
