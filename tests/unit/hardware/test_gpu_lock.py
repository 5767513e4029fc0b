"""Jobs of one host spread over its GPUs."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from rwkv_sweep.config.schema import DeviceConfig
from rwkv_sweep.hardware import gpu_lock
from rwkv_sweep.hardware.gpu_lock import GpuChoice
from rwkv_sweep.utils.console import log_line_once
from tests.search_path import search_path

AUTO = DeviceConfig("auto", "auto")


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(gpu_lock, "lock_folder", lambda: tmp_path)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize("job", [0, 1, 2, 3])
def test_the_jobs_number_chooses(job: int) -> None:
    with GpuChoice().own(AUTO, job) as device:
        assert device.index == job % 2 and device.type == "auto"


def test_a_taken_gpu_is_passed_over_and_two_are_all() -> None:
    with GpuChoice().own(AUTO, 0) as first:
        with GpuChoice().own(AUTO, 2) as second:
            assert (first.index, second.index) == (0, 1)
            got: list[int | None] = []

            def third() -> None:
                with GpuChoice().own(AUTO, 4) as device:
                    got.append(device.index)

            waiting = threading.Thread(target=third)
            waiting.start()
            waiting.join(3 * gpu_lock.POLL_SECONDS)
            assert waiting.is_alive() and got == []
        waiting.join(30)
    assert got == [1]


def test_a_process_stays_with_its_gpu() -> None:
    gpus = GpuChoice()
    for job in (1, 2):
        with gpus.own(AUTO, job) as device:
            assert device.index == 1


def test_a_gpu_of_ones_own_choice_may_be_shared() -> None:
    chosen = DeviceConfig("cuda", "cuda", index=1)
    with GpuChoice().own(chosen, 0) as one, GpuChoice().own(chosen, 1) as other:
        assert one is chosen and other is chosen


def test_the_cpu_needs_none() -> None:
    cpu = DeviceConfig("cpu", "cpu")
    with GpuChoice().own(cpu, 3) as device:
        assert device is cpu


def test_a_dead_process_holds_no_gpu(tmp_path: Path, repo_root: Path) -> None:
    lock = gpu_lock._lock_path(0)
    script = f"import filelock, os\nlock = filelock.FileLock({str(lock)!r})\nlock.acquire()\nos.kill(os.getpid(), 9)"
    subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONPATH": search_path(repo_root)}, check=False
    )
    assert lock.exists()
    with GpuChoice().own(AUTO, 0) as device:
        assert device.index == 0


def test_gpus_are_named_as_the_system_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    assert gpu_lock._lock_path(1).name.endswith("gpu-5.lock")


def test_without_locks_each_job_takes_its_first_choice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def none_to_be_had() -> Path:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(gpu_lock, "lock_folder", none_to_be_had)
    log_line_once.cache_clear()
    with GpuChoice().own(AUTO, 1) as one, GpuChoice().own(AUTO, 3) as other:
        assert one.index == other.index == 1
    assert capsys.readouterr().err.count("GPUs are taken without locks") == 1


def test_another_users_lock_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Opened for writing it would be refused, as a folder is to everyone."""
    gpu_lock._lock_path(0).mkdir()
    with GpuChoice().own(AUTO, 0) as device:
        assert device.index == 0
    assert gpu_lock._lock_path(0).is_dir()
