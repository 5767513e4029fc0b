"""What processes that tests start are given: PYTHONPATH and time."""

from __future__ import annotations

import os
from pathlib import Path

from tests.jitter import sitecustomize

LIMIT_S = 900
"""After which a process counts as hanging: a hundred times what most take, as machines may be slow and busy."""


def search_path(*folders: Path) -> str:
    """These folders and no others, but for that of the made-up clock where `--jitter-clock` asks for it."""
    clock = [Path(sitecustomize.__file__).parent] if sitecustomize.VARIABLE in os.environ else []
    return os.pathsep.join(map(str, [*folders, *clock]))
