"""Spearman by layer of a trained folder on files of sentence pairs: the quick look that training trials are judged by.

The figures of the model card come from the program itself (`python -m rwkv_sweep -m layer=...`); this script needs
neither Hydra nor MLflow, so it also runs where the training runs.

Command: python -m pretraining.layers --model FOLDER --pairs mrpc/train.tsv mrpc/validation.tsv
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import torch
from scipy.stats import spearmanr
from tokenizers import Tokenizer

from rwkv_sweep.config.layer_spec import EMBEDDING, layer_name
from rwkv_sweep.embedding.pooling import POOLS, PooledTokens
from rwkv_sweep.models.rwkv6.export import Rwkv6ForCausalLM
from rwkv_sweep.models.rwkv6.network import Rwkv6Model
from rwkv_sweep.ops.common.packing import Packed


def read_pairs(path: Path) -> tuple[list[str], list[float]]:
    """All first sentences followed by all second ones, and the labels."""
    with path.open(encoding="utf-8", newline="\n") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    sentences = [row["sentence1"] for row in rows] + [row["sentence2"] for row in rows]
    return sentences, [float(row["label"]) for row in rows]


@torch.inference_mode()
def by_layer(model: Rwkv6Model, ids: list[list[int]], labels: list[float], pooling: str) -> dict[int, float]:
    """Spearman of the cosine of pooled vectors against the labels, for every layer."""
    layers = [EMBEDDING, *range(len(model.blocks) + 1)]
    pooled: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    for first in range(0, len(ids), 256):
        batch = ids[first : first + 256]
        device = model.embeddings.weight.device
        packed = Packed.of([len(tokens) for tokens in batch], device)
        flat_T = torch.tensor([token for tokens in batch for token in tokens], device=device)
        tokens = PooledTokens(packed)
        model(flat_T, packed, layers, lambda k, h, t=tokens: pooled[k].append(POOLS[pooling](h, t)))
    spearman = {}
    for layer in layers:
        vectors = torch.cat(pooled[layer]).double()
        cosines = torch.cosine_similarity(vectors[: len(labels)], vectors[len(labels) :])
        spearman[layer] = float(spearmanr(cosines.cpu(), labels).statistic)
    return spearman


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--pairs", type=Path, nargs="+", required=True)
    parser.add_argument("--pooling", default="mean", choices=("mean", "last", "max", "first_last", "position"))
    args = parser.parse_args()
    model = Rwkv6ForCausalLM.from_pretrained(args.model, dtype=torch.float32).rwkv.eval()
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    encoder = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    for path in args.pairs:
        sentences, labels = read_pairs(path)
        ids = [encoding.ids for encoding in encoder.encode_batch(sentences, add_special_tokens=False)]
        spearman = by_layer(model, ids, labels, args.pooling)
        row = " ".join(f"{layer_name(k, len(model.blocks))[:3]}:{value:.3f}" for k, value in spearman.items())
        print(f"{path.stem:>10} best {max(spearman.values()):.4f}  {row}")


if __name__ == "__main__":
    main()
