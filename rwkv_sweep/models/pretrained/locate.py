"""Where a model's files lie: shipped with the package, in a folder, or in the hub's local cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.config.schema import ModelConfig, require_one_of
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, weight_files
from rwkv_sweep.utils.package_paths import ASSETS
from rwkv_sweep.utils.path_values import existing

MODEL = ASSETS / "model"
SOURCES = ("assets", "hub", "local", "random", "hf")
"""`model.source`; of `random` there are no files, and `hf` is any encoder or decoder of `transformers`."""
RWKV_FILES = (CONFIG_FILE, "tokenizer.json")


def located(cfg: ModelConfig, need_weights: bool) -> Path:
    """The folder (or .pth file) of an RWKV-6; of a hub model, without `need_weights`, its config.json alone is fetched.

    Raises:
        UserError: `model.source` is unknown, or the files are not there and cannot be had.
    """
    require_one_of("model.source", cfg.source, SOURCES)
    if cfg.source == "hub":
        return hub_folder(cfg, RWKV_FILES, need_weights)
    if cfg.source == "local":
        if cfg.path is None:
            raise UserError(
                "model.path=null must be given with model.source=local: "
                f"a folder with {CONFIG_FILE} and weights, or a .pth file"
            )
        return existing("model.path", cfg.path, f"a folder with {CONFIG_FILE} and weights, or a .pth file")
    if not MODEL.is_dir():
        raise UserError(
            f"model.source=assets, but no model lies in {MODEL}: take another, such as model=local model.path=<folder "
            "or .pth file>, or model=random"
        )
    return MODEL


def hub_folder(cfg: ModelConfig, wanted: Sequence[str], need_weights: bool) -> Path:
    """The model's folder in the hub's local cache: what is there is used, the rest is fetched.

    Args:
        wanted: patterns of the files other than weights.

    Raises:
        UserError: `model.id` is not given, or neither cache nor hub has it; it says which files to put where.
    """
    from huggingface_hub import snapshot_download

    if not cfg.id:
        raise UserError("model.id must be given with model.source=hub, such as RWKV/v6-Finch-1B6-HF")
    steps = [["model*.safetensors*"], ["pytorch_model*.bin*"]] if need_weights else [[]]
    reason: Exception | None = None
    for offline in (True, False):
        for weights in steps:
            patterns = [*wanted, *weights]
            try:
                folder = Path(
                    snapshot_download(cfg.id, revision=cfg.revision, allow_patterns=patterns, local_files_only=offline)
                )
            except Exception as error:  # the HTTP libraries below have errors of their own, others in each version
                reason = error
                break
            reason = None
            if _complete(folder, need_weights):
                return folder
    raise UserError(_unreachable(cfg, reason))


def _complete(folder: Path, need_weights: bool) -> bool:
    """Whether a cached folder holds what is needed: an earlier run may have fetched config.json alone."""
    if not (folder / CONFIG_FILE).is_file():
        return False
    try:
        return not need_weights or bool(weight_files(folder))
    except UserError:
        return False


def _unreachable(cfg: ModelConfig, reason: Exception | None) -> str:
    lines = str(reason).strip().splitlines() if reason else []
    why = f"{type(reason).__name__}: {lines[0]}" if lines else "it holds no weights that can be read"
    what = f"copy its {CONFIG_FILE} and pytorch_model.bin (or model.safetensors) into a folder and run with"
    how = "model=local model.path=<that folder> model.tokenizer=world"
    if cfg.source == "hf":
        what = f"copy its {CONFIG_FILE}, model.safetensors (or pytorch_model.bin) and tokenizer into a folder and set"
        how = "model.path=<that folder>"
    return (
        f"model.id={cfg.id} at revision {cfg.revision or 'main'} is not in the local cache and could not be fetched "
        f"from the Hugging Face hub ({why}). Without the hub, {what} {how}"
    )
