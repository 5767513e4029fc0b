"""Where a model's files lie: shipped with the package, in a folder, or in the hub's local cache."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rwkv_sweep.config.path_values import existing
from rwkv_sweep.config.schema import ModelConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.pretrained.weight_files import CONFIG_FILE, weight_files
from rwkv_sweep.utils.package_paths import ASSETS

MODEL = ASSETS / "model"
RWKV_FILES = (CONFIG_FILE, "tokenizer.json")
RWKV_WITHOUT_HUB = (
    f"copy its {CONFIG_FILE} and pytorch_model.bin (or model.safetensors) into a folder and run with "
    "model=local model.path=<that folder> model.tokenizer=world"
)
"""What to do with an RWKV where the hub cannot be reached."""
HUB_TIMEOUT_S = 10
"""For the hub's first answer."""
_CHECKPOINT = f"a folder with {CONFIG_FILE} and weights, or a .pth file"


def packaged_folder() -> Path:
    """Of the model that ships with the package.

    Raises:
        UserError: this installation has none.
    """
    if not MODEL.is_dir():
        raise UserError(
            f"model.source=assets, but no model lies in {MODEL}: take another, such as model=local model.path=<folder "
            "or .pth file>, or model=random"
        )
    return MODEL


def local_path(cfg: ModelConfig) -> Path:
    """`model.path`, a folder or .pth file.

    Raises:
        UserError: it is not given, or not there.
    """
    if cfg.path is None:
        raise UserError(f"model.path=null must be given with model.source={cfg.source}: {_CHECKPOINT}")
    return existing("model.path", cfg.path, _CHECKPOINT)


def hub_folder(cfg: ModelConfig, wanted: Sequence[str], need_weights: bool, without_hub: str) -> Path:
    """The model's folder in the hub's local cache: what is there is used, the rest is fetched.

    Args:
        wanted: patterns of the files other than weights.
        need_weights: False fetches no weights.
        without_hub: what to do where the hub cannot be reached; ends the message.

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
                if not offline:
                    _require_hub(cfg)
                folder = Path(
                    snapshot_download(cfg.id, revision=cfg.revision, allow_patterns=patterns, local_files_only=offline)
                )
            except Exception as error:  # the HTTP libraries below have errors of their own, others in each version
                reason = error
                break
            reason = None
            if _complete(folder, need_weights):
                return folder
    raise UserError(_unreachable(cfg, reason, without_hub))


def hub_file(cfg: ModelConfig) -> Path:
    """The file `model.file` of the repository `model.id`, from the hub's local cache, else fetched.

    Raises:
        UserError: one of both is not given, or neither cache nor hub has it.
    """
    from huggingface_hub import hf_hub_download

    if not cfg.id or not cfg.file:
        raise UserError(
            f"model.id={cfg.id} model.file={cfg.file} with model={cfg.name}: valid is a repository on the hub and a "
            "file in it, or model.path=<.pth file>"
        )
    for offline in (True, False):
        try:
            return Path(hf_hub_download(cfg.id, cfg.file, revision=cfg.revision, local_files_only=offline))
        except Exception as error:  # as in `hub_folder`
            reason = error
    raise UserError(
        f"model.file={cfg.file} of {_not_fetched(cfg, reason)}. Without the hub, copy that file anywhere and set "
        f"{'' if cfg.source == 'embedding_rwkv' else 'model=local '}model.path=<that file>"
    ) from reason


def _require_hub(cfg: ModelConfig) -> None:
    """Raises what huggingface_hub raises where the hub does not answer or has no such repository.

    Listing the files of a pinned revision, the first that `snapshot_download` does, is tried again for half a minute.
    """
    from huggingface_hub import HfApi

    assert cfg.id
    HfApi().model_info(cfg.id, revision=cfg.revision, timeout=HUB_TIMEOUT_S)


def _complete(folder: Path, need_weights: bool) -> bool:
    """Whether a cached folder holds what is needed: an earlier run may have fetched config.json alone."""
    if not (folder / CONFIG_FILE).is_file():
        return False
    try:
        return not need_weights or bool(weight_files(folder))
    except UserError:
        return False


def _unreachable(cfg: ModelConfig, reason: Exception | None, without_hub: str) -> str:
    return f"{_not_fetched(cfg, reason)}. Without the hub, {without_hub}"


def _not_fetched(cfg: ModelConfig, reason: Exception | None) -> str:
    lines = str(reason).strip().splitlines() if reason else []
    why = f"{type(reason).__name__}: {lines[0]}" if lines else "it holds no weights that can be read"
    return (
        f"model.id={cfg.id} at revision {cfg.revision or 'main'} is not in the local cache and could not be fetched "
        f"from the Hugging Face hub ({why})"
    )
