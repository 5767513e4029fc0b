"""A tracking server for a team: PostgreSQL for the runs, a folder for their artifacts, MLflow's server in front.

    rwkv-sweep server [--folder mlruns/server] [--host 127.0.0.1] [--port 5000] [--workers 4]

PostgreSQL comes from the system's packages (Debian: apt-get install postgresql) and listens on a socket in a folder of
this user's alone, on no network. MLflow's server has no passwords of its own: on another host than 127.0.0.1 everyone
who reaches the port can read and delete runs. Ctrl-C ends both.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from rwkv_sweep.errors import SOME_FAILED, UserError
from rwkv_sweep.utils.console import quiet_dependencies

DATABASE = "mlflow"
SYSTEM_USER = "postgres"
"""PostgreSQL refuses to run as root; its packages bring this user, whom root lets run it."""


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[str]:
    """Run a PostgreSQL that keeps its data in `folder`, created if need be; yields the URI of its database for MLflow.

    Raises:
        UserError: PostgreSQL is not installed, or cannot use the folder.
    """
    programs, data = _programs(), folder.absolute() / "postgres"
    # In the temporary folder: a socket's path may have 107 characters at most.
    with tempfile.TemporaryDirectory(prefix="rwkv_sweep-") as sockets:
        _give(Path(sockets))
        if not (data / "PG_VERSION").exists():
            data.mkdir(parents=True, exist_ok=True, mode=0o700)
            _give(data)
            # Who may connect is decided by who may enter the socket's folder.
            _run(programs / "initdb", "-D", data, "-U", DATABASE, "-A", "trust", "-E", "UTF8", "--no-locale")
        options = f"-c listen_addresses='' -c unix_socket_directories='{sockets}'"
        _run(programs / "pg_ctl", "-D", data, "-l", data / "server.log", "-w", "-o", options, "start")
        try:
            known = _run(programs / "psql", "-h", sockets, "-U", DATABASE, "-d", "template1", "-Atl")
            if not any(line.startswith(f"{DATABASE}|") for line in known.splitlines()):
                _run(programs / "createdb", "-h", sockets, "-U", DATABASE, DATABASE)
            yield f"postgresql+psycopg2://{DATABASE}@/{DATABASE}?host={sockets}"
        finally:
            _run(programs / "pg_ctl", "-D", data, "-m", "fast", "-w", "stop")


@contextlib.contextmanager
def mlflow_server(uri: str, artifacts: Path, host: str, port: int, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run MLflow's server before a database, which is created first: its workers would do so all at once."""
    from rwkv_sweep.tracking import MlflowClient

    MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    options = {
        "--host": host,
        "--port": str(port),
        "--workers": str(workers),
        "--backend-store-uri": uri,
        "--artifacts-destination": str(artifacts.absolute()),
    }
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command = [sys.executable, "-m", "mlflow", "server", *(part for option in options.items() for part in option)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _programs() -> Path:
    """The folder of PostgreSQL's programs; Debian keeps them off the search path, one folder a version."""
    if initdb := shutil.which("initdb"):
        return Path(initdb).resolve().parent
    versions = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if not versions:
        raise UserError("PostgreSQL is not installed: apt-get install postgresql, or dnf install postgresql-server")
    return max(versions, key=lambda path: int(path.parent.name) if path.parent.name.isdigit() else 0)


def _run(program: Path, *arguments: object) -> str:
    command = [str(program), *map(str, arguments)]
    if os.getuid() == 0:
        command = ["runuser", "-u", SYSTEM_USER, "--", *command]
    # The server that pg_ctl leaves behind keeps its output open, so that goes to a file, not to a pipe.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd="/")
        output.seek(0)
        printed = output.read().decode(errors="replace")
    if done.returncode:
        lines = [line for line in printed.splitlines() if line.strip()] or ["no reason given"]
        raise UserError(f"{program.name} failed: {lines[-1]}")
    return printed


def _give(folder: Path) -> None:
    """Hand a folder to the user that PostgreSQL runs as."""
    if os.getuid() != 0:
        return
    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError as error:
        raise UserError(f"PostgreSQL does not run as root, and there is no user {SYSTEM_USER}") from error
    os.chown(folder, user.pw_uid, user.pw_gid)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Where the server keeps its data and listens."""
    parser.add_argument("--folder", type=Path, default=Path("mlruns/server"), help="database and artifacts")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=4)


def run(args: argparse.Namespace) -> int:
    """Serve until Ctrl-C, which is the way to end it."""
    quiet_dependencies()
    try:
        with (
            postgres(args.folder) as uri,
            mlflow_server(uri, args.folder / "artifacts", args.host, args.port, args.workers) as server,
        ):
            print(f"tracking.uri=http://{args.host}:{args.port}  (Ctrl-C ends it)", flush=True)
            return SOME_FAILED if server.wait() else 0
    except KeyboardInterrupt:
        return 0
