"""What the benchmarks share: encoders of any shape, the embedded pairs, timing, and the author's names of weights."""

from __future__ import annotations

import argparse
import contextlib
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date
from pathlib import Path
from unittest.mock import patch

import torch

from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig, PromptConfig
from rwkv_sweep.data.readers import read_records
from rwkv_sweep.data.splits import PACKAGED
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.profiling.timing import frozen_heap, synchronize

ROOT = Path(__file__).parent.parent
BASES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
TINY = ModelConfig(name="tiny", source="assets")

_HUB_TO_ORIGINAL = (
    ("rwkv.embeddings.", "emb."),
    ("rwkv.", ""),
    (".pre_ln.", ".ln0."),
    (".attention.", ".att."),
    (".feed_forward.", ".ffn."),
)


def benchmark_parser(description: str | None) -> argparse.ArgumentParser:
    """A parser whose help is the module's docstring, and that takes `--out`."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    return parser


def add_shape(parser: argparse.ArgumentParser) -> None:
    """The options of a random model's shape; by default that of Finch 1.6B."""
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--blocks", type=int, default=24)
    parser.add_argument("--intermediate", type=int, default=7168)
    parser.add_argument("--vocabulary", type=int, default=65536)


def random_model(args: argparse.Namespace, tokenizer: str | None = None) -> ModelConfig:
    """Random weights in the shape of `add_shape`'s options, heads of 64."""
    return ModelConfig(
        name="random",
        source="random",
        tokenizer=tokenizer,
        hidden_size=args.hidden,
        num_blocks=args.blocks,
        head_size=64,
        intermediate_size=args.intermediate,
        vocab_size=args.vocabulary,
    )


def load_encoder(
    model: ModelConfig, precision: str, device: torch.device, max_tokens: int, batch_tokens: int
) -> RwkvEncoder:
    """The model in one of `BASES`, without a prompt."""
    loaded = load_model(model, PrecisionConfig(name=precision, base=BASES[precision]), device)
    return RwkvEncoder(loaded, PromptConfig(name="none"), device, max_tokens=max_tokens, batch_tokens=batch_tokens)


def embedded_pairs() -> list[tuple[str, str]]:
    """The longer ones of the pairs that come with the package, `dataset=embedded_hard`."""
    records = read_records(PACKAGED["embedded_hard"], ("sentence1", "sentence2"))
    return [(record["sentence1"], record["sentence2"]) for _, record in records]


def samples_s(work: Callable[[], object], rounds: int, device: torch.device) -> list[float]:
    """Seconds of each round, after one to warm up."""
    work()
    taken = []
    with frozen_heap():
        for _ in range(rounds):
            synchronize(device)
            start = time.perf_counter()
            work()
            synchronize(device)
            taken.append(time.perf_counter() - start)
    return taken


@contextlib.contextmanager
def plain_blocks() -> Iterator[None]:
    """Within it the plain blocks run, which are the reference of the fused ones."""
    with patch.object(forward_choice, "why_not", lambda *_: "the benchmark compares"):
        yield


def original_name(name: str) -> str:
    """The name that a weight of the hub's layout has in the author's checkpoints."""
    for here, there in _HUB_TO_ORIGINAL:
        name = name.replace(here, there)
    return name


def write_record(path: Path | None, args: argparse.Namespace, record: Mapping[str, object]) -> None:
    """Which benchmark, date, version of PyTorch, arguments and figures as JSON, where a path is given."""
    if path is not None:
        spec = sys.modules["__main__"].__spec__
        benchmark = spec.name.removeprefix("benchmarks.") if spec else Path(sys.argv[0]).stem
        whole = {
            "benchmark": benchmark,
            "command": shlex.join(["python", "-m", f"benchmarks.{benchmark}", *without_out(sys.argv[1:])]),
            "date": str(date.today()),
            "torch": torch.__version__,
            "arguments": {key: without_root(value) for key, value in vars(args).items() if key != "out"},
            **record,
        }
        path.write_text(json.dumps(whole, indent=1, default=str) + "\n")


def without_out(arguments: Sequence[str]) -> list[str]:
    """Arguments of a command line less `--out` and its value."""
    kept, skip = [], False
    for argument in arguments:
        if not (skip or argument == "--out" or argument.startswith("--out=")):
            kept.append(argument)
        skip = argument == "--out"
    return kept


def without_root(value: object) -> object:
    """A path within the repository relative to it; anything else as it is."""
    within = isinstance(value, Path) and value.is_relative_to(ROOT)
    return str(value.relative_to(ROOT)) if within and isinstance(value, Path) else value
