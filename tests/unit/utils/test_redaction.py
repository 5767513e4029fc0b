"""Passwords and tokens do not get into text."""

from __future__ import annotations

import csv
import html
import io
import json
import logging
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from rwkv_sweep.config.output_guard import guard_output
from rwkv_sweep.config.schema import TrackingConfig
from rwkv_sweep.records.results import Result
from rwkv_sweep.tracking.uris import lasting, ui_command
from rwkv_sweep.utils.redaction import HIDDEN, MIN_NUMBER, SECRETS, redact, redact_files


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("postgresql://user:pass@host:5432/db", "postgresql://***@host:5432/db"),
        ("postgresql+psycopg2://u:p@ss/w:rd@host/db", "postgresql+psycopg2://***@host/db"),
        ("tracking.uri='https://token@host/x' layer=1", "tracking.uri='https://***@host/x' layer=1"),
        (r"- tracking.uri=postgresql\://u\:p@h\:5432/d", r"- tracking.uri=postgresql\://***@h\:5432/d"),
        ("mysql://host/db?user=u&password=secret&ssl=1", "mysql://host/db?user=u&password=***&ssl=1"),
        ("https://host/x?sslpassword=s3&api_key=k", "https://host/x?sslpassword=***&api_key=***"),
        ("sqlite:///mlruns/mlflow.db", "sqlite:///mlruns/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
        ("mail someone@example.org", "mail someone@example.org"),
        ("postgresql+psycopg2://mlflow@/mlflow?host=/tmp/s", "postgresql+psycopg2://***@/mlflow?host=/tmp/s"),
    ],
)
def test_redact(text: str, clean: str) -> None:
    assert redact(text) == clean
    assert redact(clean) == clean


def test_files_are_cleaned_in_place(tmp_path: Path) -> None:
    secret, plain = tmp_path / "config.yaml", tmp_path / "overrides.yaml"
    secret.write_text("tracking:\n  uri: postgresql://u:p@h/d\n")
    plain.write_text("- layer=1\n")
    before = plain.stat().st_mtime_ns
    redact_files([secret, plain, tmp_path / "absent.yaml"])
    assert secret.read_text() == "tracking:\n  uri: postgresql://***@h/d\n"
    assert plain.stat().st_mtime_ns == before


def test_what_lies_on_disk_and_is_printed_has_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = TrackingConfig(True, "postgresql://u:p@h/d", "artifacts", "e")
    assert lasting(config)["uri"] == "postgresql://***@h/d" and lasting(config)["artifacts"] == f"{tmp_path}/artifacts"
    assert ui_command(config) == "mlflow ui --backend-store-uri 'postgresql://***@h/d'"
    local = TrackingConfig(True, "sqlite:///a/mlflow.db", "artifacts", "e")
    assert lasting(local)["uri"] == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert ui_command(TrackingConfig(True, "http://u:p@server:5000", "x", "e")) == "http://***@server:5000"


AWKWARD = (
    "pa'hunter2",
    'quo"ted',
    "two words",
    "a<b>c&d",
    "back\\slash",
    "p@ss/w:rd#?x",
    "100%sure+1",
    "ünï€😀",
    "''\"\"\\\\'",
)


def ways_to_write(secret: str) -> dict[str, str]:
    """A secret as JSON, YAML, HTML, a shell, Python, CSV and URIs have it, made by others' code."""
    line = io.StringIO()
    csv.writer(line).writerow([secret, "x"])
    return {
        "plain": secret,
        "json": json.dumps(secret),
        "json in json": json.dumps(json.dumps({"uri": secret})),
        "json with letters": json.dumps(secret, ensure_ascii=False),
        "page": json.dumps(secret).replace("<", "\\u003c"),
        "yaml": yaml.dump({"uri": secret}),
        "yaml in quotes": yaml.dump({"uri": secret}, default_style='"'),
        "yaml in single quotes": yaml.dump({"uri": secret}, default_style="'", allow_unicode=True),
        "yaml, folded": yaml.dump({"uri": "word " * 14 + secret}),
        "html": html.escape(secret),
        "shell": shlex.quote(secret),
        "python": repr(secret),
        "csv": line.getvalue(),
        "percent": quote(secret, safe=""),
        "percent, lower case": re.sub("%..", lambda match: match[0].lower(), quote(secret, safe="")),
        "percent twice": quote(quote(secret, safe=""), safe=""),
        "form": quote_plus(secret),
    }


def shows(text: str, secret: str) -> bool:
    """Whether a secret can be read from a text by undoing any of these ways."""

    def bare(some: str) -> str:
        return re.sub(r"[\s\\'\"]+", "", some)

    def unicode_escapes(some: str) -> str:
        return re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), some)

    readings = [text, unquote(text), unquote(unquote(text)), unquote_plus(text), html.unescape(text)]
    readings += [unicode_escapes(text).encode("utf-16", "surrogatepass").decode("utf-16", "replace")]
    return any(bare(secret) in bare(reading) for reading in readings if bare(secret)) or secret in text


@pytest.fixture
def forgetful() -> Iterator[None]:
    """No secret before, none after."""
    SECRETS.forget_all()
    yield
    SECRETS.forget_all()


@pytest.mark.parametrize("secret", AWKWARD)
def test_a_password_is_hidden_however_it_is_written(secret: str, forgetful: None) -> None:
    SECRETS.remember_uri(f"postgresql://me:{quote(secret, safe='')}@host/runs")
    for way, text in ways_to_write(secret).items():
        clean = redact(f"could not connect: {text}: refused")
        assert HIDDEN in clean and "could not connect: " in clean and "refused" in clean, way
        assert not shows(clean, secret), (way, clean)
        assert redact(clean) == clean


@given(secret=st.text(st.characters(min_codepoint=32, exclude_categories=["Cs", "Cc"]), min_size=4, max_size=20))
@settings(max_examples=200, deadline=None, derandomize=True)
def test_any_secret_is_hidden_however_it_is_written(secret: str) -> None:
    SECRETS.forget_all()
    try:
        SECRETS.remember_uri(f"mysql://me:{quote(secret, safe='')}@host/runs")
        uri = f"mysql://me:{secret}@host/runs"
        for way, text in ways_to_write(uri).items():
            assert f"me:{secret}@" not in redact(text), way
        if len(secret.strip()) >= MIN_NUMBER:
            for way, text in ways_to_write(secret).items():
                assert not shows(redact(text).replace(HIDDEN, "\0"), secret), way
    finally:
        SECRETS.forget_all()


@pytest.mark.parametrize(
    "name", ["pwd", "pass", "password", "key", "auth", "access_token", "sig", "sslpassword", "what"]
)
@pytest.mark.parametrize("secret", ["hunter2secret", "a'b\"c d", "x"])
def test_parameters_of_a_uri(name: str, secret: str, forgetful: None) -> None:
    SECRETS.remember_uri(f"https://host/x?sslmode=require&{name}={quote(secret)}")
    assert redact(f"Retrying: /x?sslmode=require&{name}={quote(secret)}/api/2.0") == (
        f"Retrying: /x?sslmode=require&{name}=***/api/2.0"
    )
    assert redact(f"{{'{name}': 'y', 'sslmode': 'require'}}") == f"{{'{name}': 'y', 'sslmode': 'require'}}"


@pytest.mark.parametrize("password", ["hunter2;x", "plain-secret", "{br}}aced;x}", "x y"])
def test_odbc_connect_strings(password: str, forgetful: None) -> None:
    value = "{" + password + "}" if ";" in password else password
    connect = f"DRIVER={{ODBC Driver 18}};SERVER=db;UID=reader;PWD={value}"
    SECRETS.remember_uri(f"mssql+pyodbc:///?odbc_connect={quote_plus(connect)}")
    for text in (
        connect,
        quote(connect),
        quote_plus(connect),
        json.dumps(connect),
        f"mssql:///?odbc_connect={quote(connect)}",
    ):
        clean = redact(text)
        assert not shows(clean, password) and "***" in clean, clean
        assert "reader" in clean


def test_environment_variables(forgetful: None) -> None:
    SECRETS.remember_environment(
        {
            "MLFLOW_TRACKING_USERNAME": "someone",
            "MLFLOW_TRACKING_PASSWORD": "first-secret",
            "MLFLOW_TRACKING_TOKEN": "second-secret",
            "AWS_SECRET_ACCESS_KEY": "third/secret+x",
            "TEAM_URI": "mysql://u:fourth-secret@h/d",
            "PGPASSWORD": "fifth-secret",
            "TOKENIZERS_PARALLELISM": "false",
            "PWD": "/home/someone",
            "API_KEY": "12",
        }
    )
    for secret in (
        "first-secret",
        "second-secret",
        "third/secret+x",
        "third%2Fsecret%2Bx",
        "fourth-secret",
        "fifth-secret",
    ):
        assert redact(f"got {secret}.") == "got ***."
    assert redact("Basic c29tZW9uZTpmaXJzdC1zZWNyZXQ=") == "Basic ***="  # someone:first-secret
    assert redact("false /home/someone 12") == "false /home/someone 12"


@pytest.mark.parametrize(
    "argument",
    [
        "tracking.uri='mysql://me:hunter two@h/d'",
        'tracking.uri="mysql://me:hunter two@h/d"',
        r"tracking.uri=mysql\://me\:hunter\ two@h/d",
        "tracking.uri=mysql://me:hunter two@h/d'",  # cannot be read
        "tracking={uri:'mysql://me:hunter two@h/d',enabled:true}",
        "tracking.uri='sqlite:///x','mysql://me:hunter two@h/d'",
        "+wrong.key='mysql://me:hunter two@h/d'",
    ],
)
def test_uris_of_a_command_line(argument: str, forgetful: None) -> None:
    SECRETS.remember_command(["-m", "layer=0,1", argument])
    for text in (argument, "no such user: hunter two", "hunter%20two", "hunter\n  two"):
        assert not shows(redact(text), "hunter two")


@pytest.mark.parametrize("secret", ["abc", "1234567", "mean", "some-folder"])
def test_what_cannot_be_distinguished_from_other_text_is_hidden_in_uris_alone(secret: str, forgetful: None) -> None:
    SECRETS.remember_ordinary(["/home/me/some-folder", "mean"])
    SECRETS.remember_uri(f"postgresql://me:{secret}@host/runs?pin={secret}")
    text = f"pooling=mean 0.1234567 abcdef /home/me/some-folder pin={secret}"
    assert redact(text) == text.replace(f"pin={secret}", "pin=***")
    assert redact(f"at postgresql://me:{secret}@host/runs") == "at postgresql://***@host/runs"


def test_streams_logs_and_config_files(forgetful: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, secret = io.StringIO(), "hunter' \"two"
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", out)
    monkeypatch.setattr(OmegaConf, "to_yaml", OmegaConf.to_yaml)
    before = logging.getLogRecordFactory()
    handler = logging.FileHandler(tmp_path / "log", encoding="utf-8")
    log = logging.getLogger("somebody.elses")
    log.addHandler(handler)
    try:
        guard_output()
        SECRETS.remember_uri(f"mysql://me:{secret}@host/d")
        print("said", secret)
        log.warning("GET %s", f"/?{secret}")
        try:
            raise ValueError(secret)
        except ValueError:
            log.exception("failed", stack_info=True)
        OmegaConf.save({"uri": f"x {secret}", "list": [secret], "number": 1}, tmp_path / "config.yaml")
    finally:
        logging.setLogRecordFactory(before)
        log.removeHandler(handler)
        handler.close()
    written = [out.getvalue(), (tmp_path / "log").read_text(), (tmp_path / "config.yaml").read_text()]
    assert not any(shows(text, secret) for text in written)
    assert "said ***\n" in written[0] and "GET /?***" in written[1] and "ValueError: ***" in written[1]
    assert yaml.safe_load(written[2]) == {"uri": "x ***", "list": ["***"], "number": 1}


def test_records_keep_their_numbers_and_digests(forgetful: None, tmp_path: Path) -> None:
    SECRETS.remember_uri("mysql://me:hunter2@h/d")
    error = {"kind": "X", "message": "no hunter2", "traceback": "hunter2"}
    Result("u=hunter2", "model", "FAILED", {"a": "hunter2", "n": 2}, {"m": 2.0}, {"t": "hunter2"}, error, key="k").save(
        tmp_path
    )
    text = (tmp_path / "result.json").read_text()
    assert "hunter2" not in text
    loaded = Result.load(tmp_path)
    assert (loaded.name, loaded.params, loaded.metrics) == ("u=***", {"a": "***", "n": 2}, {"m": 2.0})
