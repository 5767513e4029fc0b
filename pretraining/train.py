"""Train the embedded RWKV-6 language model.

What: tokenizes the corpus, trains the project's own network (`rwkv_sweep.models.rwkv6`) on windows that begin at a
sentence, for the next token and for `pretraining.objective`, and writes a folder in the Hugging Face layout of Finch
(half precision, safetensors) with its tokenizer, the loss curve and the final validation loss.

Why windows begin at sentences: the model is used on single sentences from a zero state, so it should be at home there.

Command (one GPU): see pretraining/README.md; the defaults are those of the model that comes with the project.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pretraining.muon import Muon
from pretraining.objective import SpanObjective
from pretraining.tokens import TokenSet, load_or_make
from pretraining.windows import EqualWindows, WindowSampler
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM
from rwkv_sweep.models.rwkv6.initialization import initialize
from rwkv_sweep.models.rwkv6.network import Rwkv6Config
from rwkv_sweep.ops.common.packing import Packed

PARTS = ("loss", *SpanObjective.NAMES)
WEIGHTS = (1.0, *SpanObjective.WEIGHTS)
REPORT_STEPS = 50


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt.xz")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--cache", type=Path, required=True, help="folder for token files")
    parser.add_argument("--out", type=Path, required=True, help="folder for model, tokenizer and curve")
    parser.add_argument("--sources", nargs="*", default=["digitalgov", "wikinews", "wikipedia"], help="starts of names")
    parser.add_argument("--tokens", type=float, default=200e6, help="tokens to train on")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--context", type=int, default=256, help="tokens per window")
    parser.add_argument("--batch", type=int, default=128, help="windows per step")
    parser.add_argument("--chunk", type=int, default=32, help="chunk of the WKV operator while training")
    parser.add_argument("--lr", type=float, default=3e-3, help="AdamW, for all that Muon does not train")
    parser.add_argument("--muon-lr", type=float, default=0.02, help="Muon, for the blocks' matrices")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=float, default=0.02, help="share of steps")
    parser.add_argument("--span-layer", type=int, default=5, help="block whose output the span objective is for")
    parser.add_argument("--span", type=int, default=32, help="tokens per span")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def optimizers(model: Rwkv6ForCausalLM, objective: nn.Module, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for the rest; decay on matrices only."""
    named = dict(model.named_parameters())
    matrices = [p for name, p in named.items() if ".blocks." in name and name.endswith(".weight") and p.ndim == 2]
    taken = {id(parameter) for parameter in [*matrices, model.head.weight]}
    plain = [p for p in [*named.values(), *objective.parameters()] if id(p) not in taken]
    groups = [
        {"params": [model.head.weight], "weight_decay": args.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    device = model.head.weight.device
    # Learning rates as tensors and `capturable` let one captured CUDA graph follow the schedule.
    adam = {"betas": (0.9, 0.98), "eps": 1e-10, "fused": True, "capturable": device.type == "cuda"}
    return [
        torch.optim.AdamW(groups, lr=torch.tensor(args.lr, device=device), **adam),
        Muon(matrices, torch.tensor(args.muon_lr, device=device), args.weight_decay),
    ]


def schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then cosine down to 2 % of the peak."""
    begin = max(1, int(steps * warmup))
    if step < begin:
        return (step + 1) / begin
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, steps - begin)))


class Losses(nn.Module):
    """The network with all that it is trained for."""

    def __init__(self, model: Rwkv6ForCausalLM, objective: SpanObjective, layer: int, packed: Packed) -> None:
        super().__init__()
        self.model, self.objective, self._layer, self._packed = model, objective, layer, packed
        self.register_buffer("weights", torch.tensor(WEIGHTS))

    def forward(self, ids: Tensor) -> Tensor:
        """Windows [B, L + 1] to the losses named `PARTS`."""
        outputs: dict[int, Tensor] = {}
        final = len(self.model.rwkv.blocks)
        with torch.autocast(ids.device.type, torch.bfloat16):
            self.model.rwkv(ids[:, :-1].flatten(), self._packed, (self._layer, final), outputs.__setitem__)
            logits = self.model.head(outputs[final])
        next_token = F.cross_entropy(logits.float(), ids[:, 1:].flatten())
        return torch.stack((next_token, *self.objective(outputs[self._layer], ids[:, :-1])))


class Stepper:
    """Training steps. On a GPU, steps after the first few replay a CUDA graph: their kernels are short, and launching
    them one by one takes twice as long as running them."""

    EAGER_STEPS = 5

    def __init__(self, losses: Losses, chosen: list[torch.optim.Optimizer]) -> None:
        self._losses, self._optimizers = losses, chosen
        lrs = {id(group["lr"]): group["lr"] for optimizer in chosen for group in optimizer.param_groups}
        self._rates = [(lr, float(lr)) for lr in lrs.values()]
        self._total = torch.zeros_like(losses.weights)
        self._count = self._done = 0
        self._ids = torch.empty(0)
        self._graph: torch.cuda.CUDAGraph | None = None

    def __call__(self, ids: Tensor, factor: float) -> None:
        for lr, peak in self._rates:
            lr.fill_(peak * factor)
        if self._done < self.EAGER_STEPS or not ids.is_cuda:
            self._ids = ids
            self._on_side_stream() if ids.is_cuda else self._step()
        else:
            self._ids.copy_(ids)
            if self._graph is None:
                self._graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(self._graph):
                    self._step()
            self._graph.replay()
        self._count += 1
        self._done += 1

    def _on_side_stream(self) -> None:
        """Capture asks for earlier runs to have been on another stream than the default one."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self._step()
        torch.cuda.current_stream().wait_stream(stream)

    def _step(self) -> None:
        parts = self._losses(self._ids)
        (parts * self._losses.weights).sum().backward()
        torch.nn.utils.clip_grad_norm_(self._losses.parameters(), 1.0)
        for optimizer in self._optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self._total += parts.detach()

    def means(self) -> dict[str, float]:
        """Mean of each loss since the last call."""
        means = (self._total / self._count).tolist()
        self._total.zero_()
        self._count = 0
        return dict(zip(PARTS, means, strict=True))


def train(model: Rwkv6ForCausalLM, objective: SpanObjective, tokens: TokenSet, args: argparse.Namespace) -> list[dict]:
    """Train in place; returns the loss curve. The blocks stay compiled and at a fixed chunk."""
    device = model.head.weight.device
    packed = EqualWindows.of_size(args.batch, args.context, args.chunk, device)
    for block in model.rwkv.blocks:
        block.attention.chunk = args.chunk
        if device.type == "cuda":
            block.compile(fullgraph=True, dynamic=False)
    losses = Losses(model, objective, args.span_layer, packed).to(device)
    stepper = Stepper(losses, optimizers(model, objective, args))
    steps = int(args.tokens) // (args.context * args.batch)
    curve, start = [], time.time()
    for step, ids in zip(
        range(steps), WindowSampler(tokens, args.context, args.batch, args.seed, device), strict=False
    ):
        stepper(ids, schedule(step, steps, args.warmup))
        if (step + 1) % REPORT_STEPS == 0 or step + 1 == steps:
            point = {"step": step + 1, "tokens": (step + 1) * args.context * args.batch, **stepper.means()}
            point = {key: round(value, 4) for key, value in (point | {"seconds": time.time() - start}).items()}
            curve.append(point)
            print(json.dumps(point), flush=True)
    return curve


@torch.no_grad()
def validation_loss(model: Rwkv6ForCausalLM, tokens: TokenSet, context: int) -> float:
    """Mean cross-entropy in nats per token over consecutive windows of held-out text."""
    device = model.head.weight.device
    ids = torch.from_numpy(tokens.ids.astype(np.int64)).to(device)
    windows = ids[: (len(ids) - 1) // context * context + 1]
    inputs, targets = windows[:-1].view(-1, context), windows[1:].view(-1, context)
    total = 0.0
    for first in range(0, len(inputs), 64):
        batch = inputs[first : first + 64]
        logits = model(batch.flatten(), Packed.of([context] * len(batch), device))
        total += float(F.cross_entropy(logits, targets[first : first + 64].flatten(), reduction="sum"))
    return total / targets.numel()


def main() -> None:
    args = arguments()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high")
    train_set, held_out = load_or_make(args.corpus, args.tokenizer, args.cache, args.sources)
    print(f"tokens: train {len(train_set.ids):,}, validation {len(held_out.ids):,}", flush=True)
    torch.manual_seed(args.seed)
    config = Rwkv6Config(train_set.vocab_size, args.hidden, args.blocks)
    model = Rwkv6ForCausalLM(config)
    initialize(model, args.seed, zero_outputs=True)
    objective = SpanObjective(args.hidden, args.span, train_set, args.tokenizer)
    curve = train(model.to(device), objective.to(device), train_set, args)
    args.out.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.float16).save_pretrained(args.out)
    shutil.copyfile(args.tokenizer, args.out / "tokenizer.json")
    # What was saved, on the path that inference takes.
    saved = Rwkv6ForCausalLM.from_pretrained(args.out, dtype=torch.float32).to(device)
    loss = validation_loss(saved, held_out, args.context)
    bits = loss / held_out.bytes_per_token / math.log(2)
    print(f"validation loss {loss:.4f} nats per token, {bits:.4f} bits per byte")
    chosen = {key: value for key, value in vars(args).items() if not isinstance(value, Path)}
    record = {"arguments": chosen, "train_tokens": len(train_set.ids), "validation_tokens": len(held_out.ids)}
    record |= {"validation_loss": loss, "validation_bits_per_byte": bits, "curve": curve}
    (args.out / "training.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
