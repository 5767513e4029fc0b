"""What all verbs share: arguments, secrets hidden, and one line and an exit code for each way to end."""

from __future__ import annotations

import errno
import importlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rwkv_sweep import cli
from rwkv_sweep.cli import report
from rwkv_sweep.cli.verbs import VERBS, run_verb, unknown_verb
from rwkv_sweep.errors import BAD_INPUT, UserError
from rwkv_sweep.utils.redaction import SECRETS
from rwkv_sweep.utils.signals import Terminated
from tests.made_up_sweeps import SweepWriter

HEAVY = ("torch", "mlflow", "transformers", "datasets", "numba", "scipy", "sklearn", "pandas", "numpy", "altair")
SECRET = "hunter two"
RECORD_URI = "postgresql://me:hunter%20two@host/runs"


@pytest.fixture
def process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Streams, handlers and secrets of this process as they were, after a command that has one of its own."""
    factory = logging.getLogRecordFactory()
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    monkeypatch.setattr(OmegaConf, "to_yaml", OmegaConf.to_yaml)
    SECRETS.forget_all()
    yield
    SECRETS.forget_all()
    logging.setLogRecordFactory(factory)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def ended(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["rwkv-sweep", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert isinstance(end.value.code, int)
    return end.value.code


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    """One run, and one whose record holds the secret where a name belongs."""
    writer = SweepWriter(tmp_path / SECRET.replace(" ", "-"), jobs=2)
    writer.run(0.4, 10.0, layer=1)
    path = writer.run(0.3, 9.0, layer=2) / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": f"{SECRET} at {RECORD_URI}"}))
    path = writer.root / "sweep.json"
    tracking = {"enabled": True, "uri": "sqlite:///x.db", "artifacts": "x", "experiment": "x"}
    path.write_text(json.dumps({**json.loads(path.read_text()), "tracking": tracking}))
    return writer.root


@pytest.mark.parametrize("verb", ["report", "compare", "import"])
def test_no_verb_shows_a_secret_of_its_environment(
    process: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], sweep: Path, verb: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", SECRET)
    given = {
        "report": [sweep],
        "compare": [sweep, sweep, "--resamples", 20],
        "import": [sweep, "--uri", f"sqlite:///{sweep}/mlflow.db", "--artifacts", sweep / "artifacts"],
    }
    code = ended(monkeypatch, verb, *given[verb])
    out, err = capsys.readouterr()
    assert code == (2 if verb == "import" else 0) and "is damaged: status is" in err
    assert SECRET not in out + err and "hunter%20two" not in out + err and "***" in err


@pytest.mark.parametrize("verb", ["report", "compare", "import", "cache"])
def test_no_verb_shows_a_secret_of_its_arguments(
    process: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """Here of a URI that was given for a folder."""
    given = {"compare": [RECORD_URI, RECORD_URI], "cache": ["list", "--path", RECORD_URI]}.get(verb, [RECORD_URI])
    code = ended(monkeypatch, verb, *given)
    out, err = capsys.readouterr()
    assert code == 2 and "error: " in err
    assert SECRET not in out + err and "hunter%20two" not in out + err


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (Terminated(signal.SIGTERM), 143, "interrupted"),
        (Terminated(signal.SIGHUP), 129, "interrupted"),
        (PermissionError(errno.EACCES, "Permission denied", "/of/others"), 2, "error: /of/others: Permission denied"),
        (OSError("no number"), 2, "error: no number"),
        (OSError(28, "No space left on device"), 2, "error: No space left on device"),
        (UserError("layer=99 is not there"), 2, "error: layer=99 is not there"),
        (UserError("http://me:secret@host/x fails"), 2, "error: http://***@host/x fails"),
    ],
)
def test_ways_to_end(
    process: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    code: int,
    line: str,
) -> None:
    def fail(args: object) -> int:
        raise raised

    monkeypatch.setattr(report, "run", fail)
    assert ended(monkeypatch, "report", "folder") == code
    assert capsys.readouterr() == ("", f"{line}\n")


def test_each_module_is_a_verb_and_has_what_a_verb_needs() -> None:
    folder = Path(report.__file__).parent
    assert {path.stem for path in folder.glob("*.py")} - {"__init__", "verbs", "sweep"} == {
        verb.module for verb in VERBS.values()
    }
    for name, verb in VERBS.items():
        module = importlib.import_module(f"rwkv_sweep.cli.{verb.module}")
        assert f"rwkv-sweep {name}" in module.__doc__


def test_help_loads_nothing_heavy() -> None:
    look = f"""
import contextlib, sys
from rwkv_sweep.cli.verbs import VERBS, run_verb
for name in VERBS:
    with contextlib.suppress(SystemExit):
        run_verb(name, ["--help"])
    print(name, [heavy for heavy in {HEAVY} if heavy in sys.modules], file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stderr.splitlines() == [f"{name} []" for name in VERBS]


@pytest.mark.parametrize("arguments", [[], ["a", "--unknown"], ["a", "b", "--out"]])
def test_arguments_that_are_not_valid_are_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        run_verb("report", arguments)
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (BAD_INPUT, "", 1) and err.startswith("error: ")


def test_a_flaw_of_the_program_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(report, "run", run)
    with pytest.raises(ZeroDivisionError):
        run_verb("report", ["folder"])


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        ("reprot", "did you mean report?"),
        ("Report", "did you mean report?"),
        ("references", "did you mean reference?"),
        ("import_records", "did you mean import?"),
        ("layer", "commands are report, compare, encode, export, register, cache, import, server, reference, warm"),
    ],
)
def test_a_word_that_is_no_command_gets_a_hint(argument: str, hint: str) -> None:
    message = unknown_verb(argument)
    assert message is not None and message.startswith(f"{argument} is neither a command nor key=value: {hint}")


@pytest.mark.parametrize("argument", ["", "-m", "--help", "layer=5", "+experiment=paper", "~store", "a/b", *VERBS])
def test_what_may_be_a_command_or_hydras_is_left_alone(argument: str) -> None:
    assert unknown_verb(argument) is None
