"""What a run ran on: versions, code, device."""

from __future__ import annotations

import functools
import platform
import subprocess
from importlib import metadata

import torch

from rwkv_sweep.hardware.devices import device_tags
from rwkv_sweep.utils.package_paths import PACKAGE
from rwkv_sweep.version import __version__

PACKAGES = ("torch", "transformers", "bitsandbytes", "mlflow", "datasets", "scipy", "gensim", "hydra-core")


def environment_tags(device: torch.device) -> dict[str, str]:
    """Versions of this program and what it stands on, the commit, and the device."""
    return {**_software(), **device_tags(device)}


@functools.cache
def _software() -> dict[str, str]:
    versions = {
        "version.rwkv_sweep": __version__,
        "version.python": platform.python_version(),
        "os": platform.platform(),
    }
    for package in PACKAGES:
        try:
            versions[f"version.{package}"] = metadata.version(package)
        except metadata.PackageNotFoundError:
            versions[f"version.{package}"] = "absent"
    commit = _commit()
    return {**versions, "commit": commit} if commit else versions


def _commit() -> str | None:
    """The checkout's commit, `+changes` behind it where files differ; None outside a checkout of this program."""
    root = PACKAGE.parent
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = [*git, "status", "--porcelain", "--untracked-files=no"]
        changed = subprocess.run(status, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+changes" if changed else "")
