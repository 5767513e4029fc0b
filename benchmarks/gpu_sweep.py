"""The real job on real cards, at Finch 1B6's size: the headline sweep, the presets, loading, many pairs, several cards.

Each part is the command as a user types it, in a process and a folder of its own, timed from start to end. `headline`
runs with an empty Triton cache and again with a full one. `cards` runs 24 jobs on one card and on all of them.

Command: make bench-sweep-gpu
         python -m benchmarks.gpu_sweep --parts headline cards --mrpc FOLDER --out sweep.json
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import benchmark_parser, original_name, write_record
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.hardware.environment import environment_tags
from rwkv_sweep.models.generations import GENERATIONS
from rwkv_sweep.models.loading import load_model
from rwkv_sweep.utils.stage_timer import STAGES

ROOT = Path(__file__).parent.parent
CARD = torch.device("cuda", 0)
SHAPE = {"hidden_size": 2048, "num_hidden_layers": 24, "head_size": 64, "intermediate_size": 7168, "vocab_size": 65536}
LAYERS = "layer=1,3,5,7,9,11"
Part = Callable[[argparse.Namespace, Path], dict[str, Any]]


def arguments() -> argparse.Namespace:
    parser = benchmark_parser(__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--mrpc", type=Path, help="folder of MRPC's files; by default the embedded pairs are read")
    parser.add_argument("--pairs", type=int, default=1_000_000, help="of `pairs`, of two times 13 tokens")
    parser.add_argument("overrides", nargs="*", help="for every sweep, as in `measure.latency_pairs=5`")
    return parser.parse_args()


def run(folder: Path, args: argparse.Namespace, overrides: list[str], **variables: str) -> dict[str, Any]:
    """Seconds of one command in a new folder, those of each stage over all jobs, and of each job its name, figures and
    card.

    Raises:
        RuntimeError: it failed.
    """
    folder.mkdir(parents=True)
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    command = [sys.executable, "-m", "rwkv_sweep", *overrides, *args.overrides, "hydra.sweep.dir=sweep"]
    start = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": path} | variables,
        capture_output=True,
        text=True,
        check=False,
    )
    seconds = time.perf_counter() - start
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr[-2000:]}")
    records = [json.loads(path.read_text()) for path in (folder / "sweep").rglob("result.json")]
    jobs = [
        {
            "name": record["name"],
            "card": record["tags"].get("device"),
            "seconds": record["ended"] - record["started"],
            "metrics": record["metrics"],
        }
        for record in sorted(records, key=lambda record: record["started"])
        if record["kind"] == "model"
    ]
    stages = {stage: sum(job["metrics"].get(f"time/{stage}_s", 0.0) for job in jobs) for stage in STAGES}
    print(f"{folder.name:24}{seconds:8.1f} s  {len(jobs)} jobs  {_shown(stages)}", flush=True)
    return {"seconds": seconds, "stages_s": stages, "jobs": jobs}


def headline(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Two precisions at six layers, from an empty and from a full Triton cache."""
    sweep = ["-m", "model=random", LAYERS, "precision=fp16,int8", *_pairs_of(args)]
    cache = {"TRITON_CACHE_DIR": str(root / "triton")}
    return {name: run(root / f"headline {name}", args, sweep, **cache) for name in ("empty cache", "full cache")}


def quantization(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """The preset of all precisions."""
    return run(root / "quantization", args, ["+experiment=quantization", "model=random"])


def aggregation(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """The preset of all configurations."""
    return run(root / "aggregation", args, ["+experiment=aggregation_overhead", "model=random", "device=cuda"])


def loading(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Seconds to load 3.2 GB in bf16 in both layouts, with and without the digest of the file known, from a warm file
    cache."""
    device, precision = CARD, PrecisionConfig(name="bf16", base="bfloat16")
    torch.zeros(1, device=device)
    seconds: dict[str, float] = {}
    for name, path in checkpoints(root).items():
        model = ModelConfig(name="local", source="local", path=str(path), tokenizer="world")
        for digest in ("hashed", "digest known"):
            torch.cuda.synchronize()
            start = time.perf_counter()
            loaded = load_model(model, precision, device)
            torch.cuda.synchronize()
            seconds[f"{name}, {digest}"] = time.perf_counter() - start
            print(f"load {name}, {digest}: {time.perf_counter() - start:.2f} s", flush=True)
            del loaded
    return seconds


def pairs(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """Many short pairs through the last layer of a checkpoint: tokens/s of all that quality needs against those of the
    forward alone."""
    path, random = checkpoints(root)["hub"], np.random.default_rng(0)
    words = np.array(["cat", "house", "river", "stone", "green", "walks", "under", "light", "seven", "paper", "music"])
    lines = [
        " ".join(first) + "\t" + " ".join(second) + f"\t{number % 2}"
        for number, (first, second) in enumerate(words[random.integers(0, len(words), (args.pairs, 2, 13))])
    ]
    file = root / "pairs.tsv"
    file.write_text("sentence1\tsentence2\tlabel\n" + "\n".join(lines) + "\n")
    model = ["model=local", f"model.path={path}", "model.tokenizer=world", "precision=bf16"]
    quick = ["bootstrap=100", "baselines=[]", "measure.latency_pairs=0", "measure.energy_seconds=0"]
    done = run(root / "pairs", args, ["-m", *model, "layer=final", "dataset=pairs", f"dataset.path={file}", *quick])
    metrics = done["jobs"][0]["metrics"]
    whole = metrics["data/tokens"] / (metrics["time/forward_s"] + metrics["time/scoring_s"])
    share = whole / metrics["throughput/tokens_per_s"]
    print(f"{args.pairs:,} pairs: {whole:,.0f} tokens/s, {share:.0%} of the forward alone", flush=True)
    return {**done, "tokens_per_s": whole, "share_of_forward": share}


def cards(args: argparse.Namespace, root: Path) -> dict[str, Any]:
    """24 jobs of two models on one card, and by the parallel launcher on all cards that are there."""
    sweep = ["-m", "model=random", "layer=0,1,2,3,5,7,9,11,13,15,17,19", "precision=fp16,int8", *_pairs_of(args)]
    cache = {"TRITON_CACHE_DIR": str(root / "triton-cards")}
    run(root / "cards, to fill the cache", args, ["-m", "model=random", "layer=0,1", "precision=fp16,int8"], **cache)
    count = torch.cuda.device_count()
    one = run(root / "cards, one", args, [*sweep, "device.index=0"], **cache)
    everyone = run(root / f"cards, {count}", args, [*sweep, "hydra/launcher=parallel"], **cache)
    print(f"{count} cards: {one['seconds'] / everyone['seconds']:.2f} times as fast as one", flush=True)
    return {"cards": count, "one": one, "all": everyone, "times_as_fast": one["seconds"] / everyone["seconds"]}


PARTS: dict[str, Part] = {
    "headline": headline,
    "quantization": quantization,
    "aggregation": aggregation,
    "loading": loading,
    "pairs": pairs,
    "cards": cards,
}


def checkpoints(root: Path) -> dict[str, Path]:
    """Random weights in bf16, written in the hub's layout and in the author's, where they are not there yet."""
    from safetensors.torch import save_file

    hub, author = root / "hub", root / "author.pth"
    if not author.exists():
        hub.mkdir()
        generation = GENERATIONS[6]
        model = generation.draw(generation.random_config(dict(SHAPE)), 0, CARD)
        weights = {
            f"rwkv.{name}": weight.detach().to("cpu", torch.bfloat16) for name, weight in model.named_parameters()
        }
        weights["head.weight"] = weights["rwkv.embeddings.weight"].clone()
        sizes = {"model_type": "rwkv6", "attention_hidden_size": SHAPE["hidden_size"], "layer_norm_epsilon": 1e-5}
        (hub / "config.json").write_text(json.dumps(SHAPE | sizes))
        save_file(weights, hub / "model.safetensors")
        torch.save({original_name(name): weight for name, weight in weights.items()}, author)
    return {"hub": hub, "author": author}


def _pairs_of(args: argparse.Namespace) -> list[str]:
    if args.mrpc is None:
        return []
    return ["dataset=mrpc", f"dataset.path={args.mrpc.absolute()}", 'dataset.splits=["train[:1000]",validation]']


def _shown(stages: Mapping[str, float]) -> str:
    return ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())


def main() -> None:
    args = arguments()
    device = environment_tags(CARD)
    print(f"{torch.cuda.device_count()} x {device['device_name']}", flush=True)
    figures: dict[str, Any] = {}
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as temporary:
        for part in args.parts:
            try:
                figures[part] = PARTS[part](args, Path(temporary))
            except RuntimeError as error:
                failed.append(part)
                print(f"{part} failed: {error}", file=sys.stderr, flush=True)
    write_record(args.out, args, {"device": device, "cards": torch.cuda.device_count(), "parts": figures})
    sys.exit(f"failed: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
