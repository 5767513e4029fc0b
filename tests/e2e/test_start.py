"""What must be quick: help, the composed config, completion."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from rwkv_sweep.cli.verbs import VERBS
from tests.e2e.finished import Command


def test_help_names_groups_and_keys(started: Command, tmp_path: Path) -> None:
    done = started(["--help"], tmp_path)
    assert done.returncode == 0 and done.stderr == ""
    assert "\nprecision: bf16, fp16, fp32, " in done.stdout
    assert "python -m rwkv_sweep -m layer=1,3,5,7,9,11 precision=fp16,int8" in done.stdout
    assert "\nlayer: final\n" in done.stdout
    for name, verb in VERBS.items():
        assert re.search(rf"^{name} +{re.escape(verb.meaning)}$", done.stdout, re.MULTILINE)
    assert list(tmp_path.iterdir()) == []


def test_cfg_job_shows_what_would_run(started: Command, tmp_path: Path) -> None:
    from omegaconf import OmegaConf

    done = started(["--cfg", "job", "layer=5", "precision=int8"], tmp_path)
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
def test_shell_completion(started: Command, tmp_path: Path, line: str, offered: list[str]) -> None:
    done = started(["-sc", "query=bash"], tmp_path, COMP_LINE=line, COMP_POINT=str(len(line)))
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == set(offered)


def test_starting_up_loads_nothing_heavy(environment: dict[str, str], tmp_path: Path) -> None:
    look = "import sys, rwkv_sweep.cli.sweep; print([name for name in {} if name in sys.modules])"
    heavy = ("torch", "mlflow", "transformers", "datasets", "numba", "scipy", "sklearn", "pandas")
    done = subprocess.run(
        [sys.executable, "-c", look.format(heavy)], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_help_of_a_verb(command: Command, tmp_path: Path, verb: str) -> None:
    done = command([verb, "--help"], tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: rwkv-sweep {verb} ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["reprot", "FOLDER"], "reprot is neither a command nor key=value: did you mean report? "),
        (["imports"], "imports is neither a command nor key=value: did you mean import? "),
        (["layer", "5"], "layer is neither a command nor key=value: commands are report, compare, "),
        (["cache"], "the following arguments are required: action; rwkv-sweep cache --help shows "),
        (["cache", "lst"], "argument action: invalid choice: 'lst'"),
        (["report"], "the following arguments are required: FOLDER; rwkv-sweep report --help shows "),
        (["report", "nowhere"], "nowhere is not the folder of a sweep: it holds no sweep.json"),
        (["compare", "a", "b", "--resamples", "many"], "argument --resamples: invalid int value: 'many'"),
        (["import", "nowhere", "--to", "sqlite:///x.db"], "unrecognized arguments: --to sqlite:///x.db"),
        (
            ["import", "nowhere", "postgresql://me:pa'hunter2@127.0.0.1:1/x"],
            "unrecognized arguments: postgresql://***@",
        ),
        (["import", "nowhere", "--url=mysql://me:pa'hunter2@host/x"], "unrecognized arguments: --url=mysql://***@"),
        (["reference", "--write", "nowhere/page.md"], "nowhere/page.md: No such file or directory"),
        (["server", "--port", "http"], "argument --port: invalid int value: 'http'"),
    ],
)
def test_a_command_that_is_not_valid_ends_in_one_line(
    command: Command, tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = command(arguments, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {message}") and done.stderr.count("\n") == 1
    assert "hunter2" not in done.stderr
    assert list(tmp_path.iterdir()) == []
