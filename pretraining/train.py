"""Train the embedded RWKV-6 language model.

What: tokenizes the corpus, trains the project's own network (`rwkv_sweep.models.rwkv6`) on windows that begin at a
sentence, and writes a folder in the Hugging Face layout of Finch (half precision, safetensors) with its tokenizer,
the loss curve and the final validation loss.

Why windows begin at sentences: the model is used on single sentences from a zero state, so it should be at home there.

Command (one GPU): see pretraining/README.md; all choices are arguments with the final run's values as defaults.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.muon import Muon
from pretraining.tokens import TokenSet, load_or_make
from pretraining.windows import EqualWindows, WindowSampler
from rwkv_sweep.models.initialize import initialize
from rwkv_sweep.models.packed import Packed
from rwkv_sweep.models.rwkv6 import Rwkv6Config, Rwkv6ForCausalLM


def arguments(given: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of *.txt.xz")
    parser.add_argument("--tokenizer", type=Path, required=True, help="tokenizer.json")
    parser.add_argument("--cache", type=Path, required=True, help="folder for token files")
    parser.add_argument("--out", type=Path, required=True, help="folder for model, tokenizer and curve")
    parser.add_argument("--sources", nargs="*", default=[""], help="only corpus files that start so")
    parser.add_argument("--tokens", type=float, default=300e6, help="tokens to train on")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--intermediate", type=int, default=None)
    parser.add_argument("--context", type=int, default=256, help="tokens per window")
    parser.add_argument("--batch", type=int, default=256, help="windows per step")
    parser.add_argument("--chunk", type=int, default=32, help="chunk of the WKV operator while training")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--muon-lr", type=float, default=0.0, help="Muon for the blocks' matrices; 0: AdamW for all")
    parser.add_argument("--weight-decay", type=float, default=0.1)
    parser.add_argument("--warmup", type=float, default=0.02, help="share of steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    return parser.parse_args(given)


def optimizers(model: Rwkv6ForCausalLM, args: argparse.Namespace) -> list[torch.optim.Optimizer]:
    """AdamW with decay on matrices only; with --muon-lr the blocks' Linear matrices go to Muon."""
    muon = [p for name, p in model.named_parameters() if args.muon_lr and ".blocks." in name and _linear(name, p)]
    taken = {id(parameter) for parameter in muon}
    rest = [(name, p) for name, p in model.named_parameters() if id(p) not in taken]
    decayed = [p for name, p in rest if _linear(name, p) or name == "head.weight"]
    plain = [p for name, p in rest if not (_linear(name, p) or name == "head.weight")]
    groups = [{"params": decayed, "weight_decay": args.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.98), eps=1e-10, fused=True)
    ]
    if muon:
        found.append(Muon(muon, lr=args.muon_lr, weight_decay=args.weight_decay))
    return found


def _linear(name: str, parameter: Tensor) -> bool:
    return parameter.ndim == 2 and name.endswith(".weight") and "embeddings" not in name and "head" not in name


def schedule(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then cosine down to 2 % of the peak."""
    begin = max(1, int(steps * warmup))
    if step < begin:
        return (step + 1) / begin
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - begin) / max(1, steps - begin)))


LossOf = Callable[[Rwkv6ForCausalLM, Tensor, Packed], Tensor]


def language_loss(model: Rwkv6ForCausalLM, ids: Tensor, packed: Packed) -> Tensor:
    """Mean cross-entropy of the next token over windows [B, L + 1]."""
    with torch.autocast(ids.device.type, torch.bfloat16):
        logits = model(ids[:, :-1].flatten(), packed)
    return F.cross_entropy(logits, ids[:, 1:].flatten())


def train(
    model: Rwkv6ForCausalLM,
    tokens: TokenSet,
    args: argparse.Namespace,
    device: torch.device,
    loss_of: LossOf = language_loss,
) -> list[dict]:
    """Train in place; returns the loss curve."""
    packed = EqualWindows.of_size(args.batch, args.context, args.chunk, device)
    for block in model.rwkv.blocks:
        block.attention.chunk = args.chunk
        if args.compile:
            block.compile(fullgraph=True, dynamic=False)
    steps = int(args.tokens) // (args.context * args.batch)
    chosen = optimizers(model, args)
    peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in chosen]
    curve, start, running = [], time.time(), torch.zeros((), device=device)
    for step, ids in zip(
        range(steps), WindowSampler(tokens, args.context, args.batch, args.seed, device), strict=False
    ):
        factor = schedule(step, steps, args.warmup)
        loss = loss_of(model, ids, packed)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, lrs in zip(chosen, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * factor
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        running += loss.detach()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            count = 50 if (step + 1) % 50 == 0 else (step + 1) % 50
            seen = (step + 1) * args.context * args.batch
            point = {"step": step + 1, "tokens": seen, "loss": float(running) / count, "s": time.time() - start}
            running.zero_()
            curve.append(point)
            print(f"step {step + 1}/{steps} loss {point['loss']:.4f} {seen / point['s']:,.0f} tokens/s", flush=True)
    for block in model.rwkv.blocks:
        block.attention.chunk = None
    return curve


@torch.no_grad()
def validation_loss(model: Rwkv6ForCausalLM, tokens: TokenSet, context: int, device: torch.device) -> float:
    """Mean cross-entropy in nats per token over consecutive windows of held-out text, without compiled blocks."""
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
    config = Rwkv6Config(
        vocab_size=train_set.vocab_size,
        hidden_size=args.hidden,
        num_hidden_layers=args.blocks,
        intermediate_size=args.intermediate,
    )
    model = Rwkv6ForCausalLM(config)
    initialize(model, args.seed, zero_outputs=True)
    model.to(device)
    curve = train(model, train_set, args, device)
    model.to(torch.float16).to(torch.float32)
    loss = validation_loss(model, held_out, args.context, device)
    print(
        f"validation loss {loss:.4f} nats per token, {loss / held_out.bytes_per_token / math.log(2):.4f} bits per byte"
    )
    args.out.mkdir(parents=True, exist_ok=True)
    model.to("cpu", torch.float16).save_pretrained(args.out)
    shutil.copyfile(args.tokenizer, args.out / "tokenizer.json")
    record = {"arguments": {key: str(value) for key, value in vars(args).items()}, "validation_loss": loss}
    record |= {"validation_bits_per_byte": loss / held_out.bytes_per_token / math.log(2), "curve": curve}
    (args.out / "training.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
