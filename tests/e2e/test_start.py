"""What must be quick: help, the composed config, completion."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.finished import Command


def test_help_names_groups_and_keys(command: Command, tmp_path: Path) -> None:
    done = command(["--help"], tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "\nprecision: bf16, fp16, fp32, " in done.stdout
    assert "python -m rwkv_sweep -m layer=1,3,5,7,9,11 precision=fp16,int8" in done.stdout
    assert "\nlayer: final\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_shows_what_would_run(command: Command, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    done = command(["--cfg", "job", "layer=5", "precision=int8"], tmp_path)
    assert done.returncode == 0, done.stderr
    config = OmegaConf.create(done.stdout)
    assert (config.layer, config.precision.quantization, config.model.name) == (5, "int8", "tiny")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("rwkv_sweep precision=b", ["precision=bf16"]),
        ("rwkv_sweep precision=fp1", ["precision=fp16"]),
        ("rwkv_sweep measure.late", ["measure.latency_pairs="]),
    ],
)
def test_shell_completion(command: Command, tmp_path: Path, line: str, offered: list[str]) -> None:
    done = command(["-sc", "query=bash"], tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(offered)


def test_starting_up_loads_nothing_heavy(environment: dict[str, str], tmp_path: Path) -> None:
    look = "import sys, rwkv_sweep.cli.sweep; print([name for name in {} if name in sys.modules])"
    heavy = ("torch", "mlflow", "transformers", "datasets", "numba", "scipy", "sklearn", "pandas")
    done = subprocess.run(
        [sys.executable, "-c", look.format(heavy)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")
