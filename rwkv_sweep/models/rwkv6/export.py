"""The language model as `transformers` knows models: saved to a folder, loaded from one, registered by its type.

Apart from `rwkv6`, since importing `transformers`' base classes takes seconds that no run needs.
"""

from __future__ import annotations

from dataclasses import asdict, fields
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.checkpoint_tensors import HEAD
from rwkv_sweep.models.rwkv6.checkpoint import read_weights
from rwkv_sweep.models.rwkv6.configuration import Rwkv6Config
from rwkv_sweep.models.rwkv6.network import Rwkv6Lm, Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed


class Rwkv6HfConfig(PretrainedConfig):
    """The keys of `Rwkv6Config`, beside those that `transformers` keeps in every config.json."""

    model_type = "rwkv6"

    def __init__(self, **kwargs: object) -> None:
        names = [field.name for field in fields(Rwkv6Config)]
        sizes = Rwkv6Config(**{name: kwargs.pop(name) for name in names if kwargs.get(name) is not None})  # type: ignore[arg-type]
        for name, size in asdict(sizes).items():
            setattr(self, name, size)
        kwargs.setdefault("tie_word_embeddings", False)
        super().__init__(**kwargs)

    @property
    def sizes(self) -> Rwkv6Config:
        return Rwkv6Config(**{field.name: getattr(self, field.name) for field in fields(Rwkv6Config)})


class Rwkv6ForCausalLM(PreTrainedModel):
    """`Rwkv6Lm` with `save_pretrained` and `from_pretrained`; parameters have the same names."""

    config_class = Rwkv6HfConfig
    base_model_prefix = "rwkv"

    def __init__(self, config: Rwkv6HfConfig | Rwkv6Config) -> None:
        if isinstance(config, Rwkv6Config):
            config = Rwkv6HfConfig(**asdict(config))
        super().__init__(config)
        self.rwkv = Rwkv6Model(config.sizes)
        self.head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: `models.initialize` fills a new model, checkpoints fill a loaded one."""

    def forward(self, input_ids: Tensor, packed: Packed) -> Tensor:
        """See `Rwkv6Lm.forward`."""
        return Rwkv6Lm.forward(self, input_ids, packed)


def load_causal_lm(path: Path) -> Rwkv6ForCausalLM:
    """The language model at `path` (folder or .pth), in fp32 on the CPU, in eval mode, its parameters trainable.

    Raises:
        UserError: see `read_weights`; or there is no head.weight.
    """
    shape, tensors = read_weights(path)
    if HEAD not in tensors:
        raise UserError(f"{path} has no {HEAD}, which a language model needs")
    with torch.device("meta"):
        model = Rwkv6ForCausalLM(shape)
    copies = {name: tensor.to(torch.float32, copy=True) for name, tensor in tensors.items()}
    model.load_state_dict(copies, strict=True, assign=True)
    return cast(Rwkv6ForCausalLM, model.eval())


AutoConfig.register("rwkv6", Rwkv6HfConfig, exist_ok=True)
AutoModelForCausalLM.register(Rwkv6HfConfig, Rwkv6ForCausalLM, exist_ok=True)
