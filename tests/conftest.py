"""Paths and machine facts that all tests share. torch is imported only once a test needs it."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.jitter import sitecustomize as jitter
from tests.search_path import search_path

ROOT = Path(__file__).resolve().parents[1]
CPU_THREADS = 2
LONG = ("tests/e2e/", "tests/unit/test_examples.py", "tests/unit/data/test_assets.py", "tests/unit/models/")
"""Files and folders that take longest; the order within them stays."""

# Set before anything imports them, so that no test, nor a process it starts, talks to the network or eats the machine.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", str(CPU_THREADS))


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "what is measured takes made-up random times, in processes that tests start too (0: all the same time)"
    parser.addoption("--jitter-clock", type=int, metavar="SEED", default=None, help=text)


def pytest_configure(config: pytest.Config) -> None:
    gc.disable()  # until all is imported: of a million objects, none is garbage
    # Ignored where pytest was started in the background of a script, and what is interrupted here inherits that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # Hypothesis fails tests that take long, or whose inputs do.
    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")
    seed = config.getoption("--jitter-clock")
    if seed is None:
        return
    os.environ[jitter.VARIABLE] = str(seed)
    os.environ["PYTHONPATH"] = search_path()
    jitter.install(seed)


def pytest_collection_finish() -> None:
    gc.freeze()  # what was imported is looked through no more
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Long files first, so that no process ends with one of them while the others have nothing left to do.
    items.sort(key=lambda item: not any(item.nodeid.startswith(name) for name in LONG))
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For thousands of tiny products: a second thread gains little, and on a busy machine both wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def repo_root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Data sets too large for the repository."""
    return _beside_the_repository("data")


@pytest.fixture(scope="session")
def shared_models() -> Path:
    """Checkpoints too large for the repository."""
    return _beside_the_repository("models")


def _beside_the_repository(name: str) -> Path:
    folder = ROOT.parent / "shared" / name
    if not folder.is_dir():
        pytest.skip(f"no folder ../shared/{name} beside the repository")
    return folder
