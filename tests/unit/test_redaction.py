"""Passwords and tokens do not get into text."""

from __future__ import annotations

from pathlib import Path

import pytest

from rwkv_sweep.config import TrackingConfig
from rwkv_sweep.redaction import redact, redact_files
from rwkv_sweep.tracking.uris import lasting, ui_command


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
    assert ui_command(config) == "mlflow ui --backend-store-uri postgresql://***@h/d"
    local = TrackingConfig(True, "sqlite:///a/mlflow.db", "artifacts", "e")
    assert lasting(local)["uri"] == f"sqlite:///{tmp_path}/a/mlflow.db"
    assert ui_command(TrackingConfig(True, "http://u:p@server:5000", "x", "e")) == "http://***@server:5000"
