"""Small RWKV-6 networks with random weights, encoders of them, and the files they are kept in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.models.rwkv6.checkpoint import _to_original_name
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config, Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed

CPU = torch.device("cpu")
FP32 = PrecisionConfig("fp32", "float32")
BARE = PromptConfig("none")
TINY = ModelConfig(name="tiny", source="assets")
"""The trained model of the package."""

Network = TypeVar("Network", Rwkv6Model, Rwkv6ForCausalLM)

SIZES = {
    "vocab_size": 256,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "attention_hidden_size": 32,
    "head_size": 16,
    "intermediate_size": 96,
    "time_mix_extra_dim": 4,
    "time_decay_extra_dim": 8,
}
"""Of a checkpoint, every one spelt out."""


def small_lm(hidden_size: int = 64, num_blocks: int = 3, head_size: int = 16, **sizes: int) -> Rwkv6ForCausalLM:
    """A language model over bytes, on the CPU in fp32; every block changes its input."""
    return _initialized(Rwkv6ForCausalLM(_shape(hidden_size, num_blocks, head_size, **sizes)))


def small_model(hidden_size: int = 64, num_blocks: int = 3, head_size: int = 16, **sizes: int) -> Rwkv6Model:
    """As `small_lm`, without its head."""
    return _initialized(Rwkv6Model(_shape(hidden_size, num_blocks, head_size, **sizes)))


def checkpoint_lm() -> Rwkv6ForCausalLM:
    """A language model of `SIZES`."""
    return _initialized(Rwkv6ForCausalLM(Rwkv6Config(**SIZES)))


def _shape(hidden_size: int, num_blocks: int, head_size: int, **sizes: int) -> Rwkv6Config:
    return Rwkv6Config(
        vocab_size=256, hidden_size=hidden_size, num_hidden_layers=num_blocks, head_size=head_size, **sizes
    )


def _initialized(model: Network) -> Network:
    initialize(model, seed=0, zero_outputs=False)
    return model.eval()


@torch.no_grad()
def shake(model: torch.nn.Module, by: float) -> None:
    """Move every parameter, so that vectors and norms leave their tidy first values and each of them matters."""
    random = torch.Generator().manual_seed(1)
    for parameter in model.parameters():
        parameter.requires_grad_(False).add_(by * torch.randn(parameter.shape, generator=random))


@torch.inference_mode()
def all_outputs(model: Rwkv6Model, lengths: Sequence[int] = (1, 9, 40), device: torch.device = CPU) -> Tensor:
    """All blocks' outputs and the final norm's over random ids, [L + 1, T, D]."""
    ids_T = torch.randint(0, 256, (sum(lengths),), generator=torch.Generator().manual_seed(0)).to(device)
    actual: list[Tensor] = []
    layers = list(range(model.config.num_hidden_layers + 1))
    model(ids_T, Packed.of(lengths, device), layers, lambda _, h_TD: actual.append(h_TD))
    return torch.stack(actual)


def random_config(
    hidden_size: int = 32, num_blocks: int = 3, head_size: int = 8, intermediate_size: int = 64
) -> ModelConfig:
    """A model over bytes with random weights, as a config names it."""
    return ModelConfig(
        name="small",
        source="random",
        tokenizer="bytes",
        hidden_size=hidden_size,
        num_blocks=num_blocks,
        head_size=head_size,
        intermediate_size=intermediate_size,
        vocab_size=256,
    )


def encoder_of(
    model: ModelConfig,
    precision: PrecisionConfig = FP32,
    device: torch.device = CPU,
    prompt: PromptConfig = BARE,
    max_tokens: int = 512,
    batch_tokens: int = 4096,
    idf_V: Tensor | None = None,
) -> RwkvEncoder:
    """The model that a config names, loaded."""
    return RwkvEncoder(load_model(model, precision, device), prompt, device, max_tokens, batch_tokens, idf_V)


def save_original(path: Path, weights: dict[str, Tensor], flat: bool = False) -> Path:
    """A .pth under the original names; `flat` writes the vectors as [D] instead of [1, 1, D]."""
    torch.save({_to_original_name(n): w.squeeze() if flat and w.shape[0] == 1 else w for n, w in weights.items()}, path)
    return path


def save_folder(folder: Path, weights: dict[str, Tensor], layout: str) -> Path:
    """A folder with config.json and weights of `SIZES`: `safetensors` or `bin`, or `sharded` before it."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "rwkv6", **SIZES}))
    names, ending = list(weights), "safetensors" if layout.endswith("safetensors") else "bin"
    stem = "model" if ending == "safetensors" else "pytorch_model"
    write = save_file if ending == "safetensors" else torch.save
    if not layout.startswith("sharded"):
        write(weights, folder / f"{stem}.{ending}")
        return folder
    parts = [names[:5], names[5:]]
    index = {}
    for number, part in enumerate(parts, 1):
        file = f"{stem}-0000{number}-of-00002.{ending}"
        write({name: weights[name] for name in part}, folder / file)
        index.update(dict.fromkeys(part, file))
    (folder / f"{stem}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder
