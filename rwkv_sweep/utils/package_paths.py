"""Where this package and what is shipped with it are."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).parents[1]
ASSETS = PACKAGE / "assets"
