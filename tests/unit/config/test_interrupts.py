"""An interrupt that arrives while OmegaConf reads a config ends the program, whatever else fails on its way out."""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from rwkv_sweep.config.hydra_store import conf_dir, register_schemas
from rwkv_sweep.config.validation import run_config
from rwkv_sweep.errors import UserError, ends_the_program, interrupt_behind
from rwkv_sweep.utils.signals import Terminated

EVERY = 6007
"""Lines between the places that are tried, about eighty of them."""


@pytest.fixture(scope="module")
def config() -> DictConfig:
    register_schemas()
    with initialize_config_dir(str(conf_dir()), version_base="1.3"):
        return compose("config", [])


def interrupted_at(line: int, config: DictConfig) -> tuple[BaseException | None, int]:
    """What is raised where an interrupt comes at this line that is executed, and how many were executed."""
    executed = 0

    def trace(frame: FrameType, event: str, value: Any) -> Any:
        nonlocal executed
        if event == "line":
            executed += 1
            if executed == line:
                sys.settrace(None)
                raise Terminated
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        run_config(config)
    except BaseException as error:
        return error, executed
    finally:
        sys.settrace(before)
    return None, executed


def test_no_interrupt_is_taken_for_bad_input(config: DictConfig) -> None:
    _, lines = interrupted_at(-1, config)
    errors = [interrupted_at(line, config)[0] for line in range(1, lines, EVERY)]
    assert len(errors) > 20
    assert all(error is not None and isinstance(interrupt_behind(error), Terminated) for error in errors)


def test_an_error_that_hides_an_interrupt_ends_the_program() -> None:
    try:
        try:
            raise Terminated
        finally:
            raise AttributeError("what was left unfinished")
    except AttributeError as hidden:
        error = UserError("bad input")
        error.__cause__ = hidden
    assert ends_the_program(error) and isinstance(interrupt_behind(error), Terminated)
    assert not ends_the_program(UserError("bad input")) and interrupt_behind(ValueError()) is None
