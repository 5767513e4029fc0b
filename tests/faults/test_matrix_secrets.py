"""A secret of any characters, wherever a run is given one, is in none of its files, nor in what it says.

By default each place meets one of the secrets, and a password as typed all of them; `covering` has the rest.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote, unquote_plus

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from rwkv_sweep.config.output_guard import _ordinary
from tests.commands import Commands
from tests.faults.covering import matrix
from tests.faults.sweeps import arguments, records

SECRETS = (
    "pa'hunter2",
    'quo"ted one',
    "<b>&amp;#x",
    r"back\slash\\",
    "p@ss/w:rd?x=1",
    "100%41sure+",
    "ünï€😀ö",
    "$(id) `x`;|",
)
NAMES = ("pwd", "pass", "password", "key", "auth", "access_token", "sslpassword", "my_own_name")
HTTP, DATABASE, ODBC = "http://127.0.0.1:1", "postgresql://{}127.0.0.1:1/x", "mssql+pyodbc:///?odbc_connect={}"

Place = Callable[[str], tuple[str, dict[str, str]]]
"""Of a secret: the tracking URI, and environment variables."""


def in_parameter(name: str) -> Place:
    return lambda secret: (f"{HTTP}/?sslmode=require&{name}={quote(secret, safe='')}", {})


def in_odbc(secret: str) -> tuple[str, dict[str, str]]:
    return ODBC.format(quote_plus(f"DRIVER=x;SERVER=127.0.0.1;UID=me;PWD={{{secret.replace('}', '}}')}}}")), {}


PLACES: dict[str, Place] = {
    "password": lambda secret: (DATABASE.format(f"me:{quote(secret, safe='')}@"), {}),
    "password as typed": lambda secret: (DATABASE.format(f"me:{secret}@"), {}),
    "user": lambda secret: (f"http://{quote(secret, safe='')}@127.0.0.1:1", {}),
    "user of postgresql": lambda secret: (f"postgresql+psycopg2://{quote(secret, safe='')}@127.0.0.1:1/x", {}),
    "password of http": lambda secret: (f"http://me:{quote(secret, safe='')}@127.0.0.1:1", {}),
    "odbc": in_odbc,
    "basic authentication": lambda s: (HTTP, {"MLFLOW_TRACKING_USERNAME": "me", "MLFLOW_TRACKING_PASSWORD": s}),
    "bearer": lambda secret: (HTTP, {"MLFLOW_TRACKING_TOKEN": secret}),
    "variable": lambda secret: ("${oc.env:OWN_URI}", {"OWN_URI": DATABASE.format(f"me:{quote(secret, safe='')}@")}),
    **{f"parameter {name}": in_parameter(name) for name in NAMES},
}
KINDS = {"run": [], "sweep": ["-m"], "isolated": ["isolate=true"], "joblib": ["-m", "hydra/launcher=parallel"]}


@pytest.fixture(scope="module")
def quick(tiny_checkpoint: Path, few_pairs: Path) -> list[str]:
    """A run's command of a second. Hydra's own folder names hold the overrides, if asked to."""
    return [*arguments([], tiny_checkpoint, few_pairs)[1:], "measure.latency_pairs=0", "layer=0"]


def hydra_quoted(text: str) -> str:
    """As Hydra's grammar wants a string: in double quotes, of which those within are escaped."""
    inner = re.sub(r'(\\*)(?:(")|$)', lambda actual: actual[1] * 2 + ('\\"' if actual[2] else ""), text)
    return f'"{inner}"'


def readings(content: bytes) -> list[str]:
    """A file's text, and without blanks, quotes and backslashes what undoing each usual way of escaping gives."""
    text = content.decode("utf-8", "replace")
    unescaped = re.sub(r"\\u([0-9a-fA-F]{4})", lambda match: chr(int(match[1], 16)), text)
    unescaped = unescaped.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    again = [unquote(text), unquote(unquote(text)), unquote_plus(text), html.unescape(text), unescaped]
    return [text, *(bare(reading) for reading in [text, *again])]


def bare(text: str) -> str:
    return re.sub(r"[\s\\'\"]+", "", text)


def where_it_shows(cwd: Path, secret: str) -> list[str]:
    """Names and contents of files that hold the secret, among them the database and what both streams got."""
    actual = [str(path) for path in cwd.rglob("*") if secret in str(path.relative_to(cwd))]
    for path in cwd.rglob("*"):
        if path.is_file():
            read = readings(path.read_bytes())
            if secret in read[0] or any(bare(secret) in reading for reading in read[1:]):
                actual.append(str(path))
    return actual


def check(commands: Commands, command: list[str], cwd: Path, place: str, secret: str, verbose: bool = True) -> None:
    uri, environment = PLACES[place](secret)
    typed = uri if uri.startswith("${") else hydra_quoted(uri)
    fast = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1", "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "0"}
    command = [*command, f"tracking.uri={typed}", *(["hydra.verbose=true"] if verbose else [])]
    ended = commands.run(command, cwd, environment={**environment, **fast})
    # With hydra.verbose=true a refusal is followed by where it was found, which must hide the secret too.
    assert verbose or "Traceback" not in ended.output, ended.output
    assert where_it_shows(cwd, secret) == []
    if "needs the package pyodbc" in ended.output:
        assert ended.code == 2
    elif re.search(r"^error: tracking\.uri=.* (cannot be read|is not valid)", ended.output, re.M):
        assert ended.code == 2 and place == "password as typed"  # no URI with such a secret as it is
    else:
        assert ended.code == 0, ended.output
        assert "tracking at " in ended.output and "runs are kept on disk" in ended.output


@pytest.mark.faults
@matrix({"place": list(PLACES), "secret": SECRETS}, failed_before=[("password as typed", None)])
def test_each_place_and_each_secret(
    commands: Commands, quick: list[str], tmp_path: Path, place: str, secret: str
) -> None:
    check(commands, quick, tmp_path, place, secret)


@pytest.mark.faults
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_of_run(commands: Commands, quick: list[str], tmp_path: Path, kind: str) -> None:
    # Folders named after the overrides; a path among them would make several folders of one.
    shown = "hydra.job.config.override_dirname.exclude_keys=[tracking.uri,model.path,dataset.path]"
    named = ["hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.override_dirname}", shown]
    command = [*KINDS[kind], *quick, "hydra.run.dir=sweep", *(named if "-m" in KINDS[kind] else [])]
    check(commands, command, tmp_path, "password as typed", "pa'hunter2")
    assert [path.name for path in tmp_path.glob("**/result.json")]


@pytest.mark.faults
@settings(
    max_examples=15,
    phases=(Phase.explicit, Phase.generate),  # each is a run of seconds
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    secret=st.text(st.characters(min_codepoint=32, exclude_categories=["C", "Zl", "Zp"]), min_size=4, max_size=16),
    place=st.sampled_from(sorted(PLACES)),
    verbose=st.booleans(),
)
def test_any_secret(
    commands: Commands,
    quick: list[str],
    tmp_path_factory: pytest.TempPathFactory,
    secret: str,
    place: str,
    verbose: bool,
) -> None:
    # Marks without which nothing can be distinguished from the text of any run: see the module `redaction`.
    assume(len(bare(secret)) >= 4 and not re.fullmatch(r"[0-9a-f.,:+_ -]*", secret, re.I) and "${" not in secret)
    # Ordinary words, such as JSON's null, stand in any record: see the test below.
    assume(bare(secret).lower() not in _ordinary())
    check(commands, quick, tmp_path_factory.mktemp("any"), place, secret, verbose)


@pytest.mark.faults
@pytest.mark.parametrize("secret", ["x", "1", "abc", "1234", "mean", "mlflow", "layer"])
def test_what_is_part_of_other_text_goes_from_uris_and_leaves_the_rest(
    commands: Commands, quick: list[str], tmp_path: Path, secret: str
) -> None:
    uri = f"postgresql://me:{secret}@127.0.0.1:1/x?what={secret}"
    ended = commands.run([*quick, f'tracking.uri="{uri}"', "hydra.run.dir=run"], tmp_path)
    assert ended.code == 0, ended.output
    texts = [path.read_text(errors="replace") for path in tmp_path.rglob("*") if path.is_file()]
    assert not any(f"//me:{secret}" in text or f"what={secret}" in unquote(text) for text in texts)
    (record,) = [record for record in records(tmp_path).values() if record["kind"] == "model"]
    assert (record["params"]["pooling"], record["params"]["layer"], record["name"]) == (
        "mean",
        "0",
        "model=local,layer=0,precision=fp32",
    )
