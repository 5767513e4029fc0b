"""Random EmbeddingRWKV checkpoints, written without the package's code, and the numbers of the authors' code for one.

`embedding_rwkv_reference.json` was written by this file, on a CPU in fp32:

    PYTORCH_JIT=0 python tests/embedding_rwkv_checkpoints.py FOLDER EVALUATION

FOLDER holds the unpacked wheel of `rwkv-emb` 0.2.6 (with `rwkv_emb/` in it), EVALUATION is
`embedding/eval/custom_embedding_model.py` of howard-hou/EmbeddingRWKV at 0880349. The package wants an NVIDIA GPU and
fp16: a copy of its text says `cpu` and `float32` in place of these, and its CUDA operator is replaced by the PyTorch
form that the package has for its reranker.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path
from types import FunctionType, ModuleType, SimpleNamespace
from typing import Any

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.rwkv7_checkpoints import Sizes, author_checkpoint

REFERENCE = Path(__file__).with_name("embedding_rwkv_reference.json")
EOS = 65535
SIZES = Sizes(blocks=2, heads=2, head_size=64, wide=160, ranks=(16, 16, 8, 24), vocab=65536)
TASKS = ("[CLS]", "[STS]", "[RETR]")
TEXTS = ("The cat sat on the mat.", "A", "Prices rose by 3 percent in May, they said, and the bank kept its rates.")
LAYOUTS = {
    (2, 8): range(1, 60),
    (4, 4): range(1, 60),
    (3, 5): range(1, 60),
    (4, 512): (1, 511, 512, 513, 600, 2043, 2044, 2045, 2048, 2049, 5000),
}
"""Number of end-of-text tokens and chunk: lengths of texts in tokens."""


def embedding_checkpoint(sizes: Sizes = SIZES, seed: int = 0, inner: int | None = None) -> dict[str, Tensor]:
    """Names and shapes as published files have them, without an output head; every number is random.

    inner: width inside the heads; that of the published files, the hidden size, where it is None.
    """
    random = torch.Generator().manual_seed(seed + 1)
    hidden, inner = sizes.hidden, inner or sizes.hidden
    network = author_checkpoint(sizes, seed)
    tensors = {f"rwkv.{name}": tensor for name, tensor in network.items() if name != "head.weight"}
    for head in ("cls_head", "sts_head", "retr_head"):
        tensors[f"head.{head}.fc1.weight"] = torch.randn(inner, hidden, generator=random) * hidden**-0.5
        tensors[f"head.{head}.fc2.weight"] = torch.randn(hidden, inner, generator=random) * inner**-0.5
        tensors[f"head.{head}.norm.weight"] = torch.randn(hidden, generator=random) * 0.3 + 1
        tensors[f"head.{head}.norm.bias"] = torch.randn(hidden, generator=random) * 0.2
    return tensors


def digest(ids: list[int]) -> str:
    return hashlib.sha256(repr(ids).encode()).hexdigest()[:12]


def _package(folder: Path, work: Path) -> ModuleType:
    """The package's `model` module, from a copy that needs no GPU."""
    import torch.utils.cpp_extension

    shutil.copytree(folder / "rwkv_emb", work / "rwkv_emb")
    source = work / "rwkv_emb" / "reference" / "rwkv7.py"
    text = source.read_text().replace('"cuda"', '"cpu"').replace("DTYPE = torch.half", "DTYPE = torch.float32")
    source.write_text(text)
    torch.utils.cpp_extension.load = lambda *_, **__: None
    sys.path.insert(0, str(work))
    import rwkv_emb.model as package  # type: ignore[import-not-found]

    schema = "int B, int T, int C, int H, Tensor(a!) state, " + ", ".join(f"Tensor {name}" for name in "rwkv")
    torch.library.define("rwkv7_state_fwd_fp16::forward", f"({schema}, Tensor a, Tensor b, Tensor(b!) y) -> ()")

    @torch.library.impl("rwkv7_state_fwd_fp16::forward", "cpu")
    def forward(B: int, T: int, C: int, H: int, state: Tensor, *inputs: Tensor) -> None:
        r, w, k, v, a, b, y = inputs
        # The operator takes sigma(z) and decays by exp(-exp(-1/2) sigma(z)), the PyTorch form by exp(-exp(w)).
        logs = torch.log(0.6065306597 * w)
        out, new = package.RWKV7_OP(*(x.view(B, T, C) for x in (r, logs, k, v, a, b)), state.view(B, H, C // H, C // H))
        y.copy_(out.view_as(y))
        state.copy_(new.view_as(state))

    return package  # type: ignore[no-any-return]


def _vectors(package: ModuleType, work: Path, sequences: dict[str, list[int]]) -> dict[str, Any]:
    """Of each sequence of ids the mean over its end-of-text tokens, and what each head makes of it."""
    path = work / "random.pth"
    torch.save(embedding_checkpoint(), path)
    model = package.EmbeddingRWKV(str(path))
    results: dict[str, Any] = {}
    for name, ids in sequences.items():
        with torch.inference_mode():
            tokens = model.rwkv.forward(ids, model.generate_zero_state(0), True)
            pooled = model.eos_pool(tokens, package.generate_eos_mask(ids, EOS))
        vectors = {"pooled": pooled[0]}
        vectors |= {task: model.forward(ids, None, task_type=task)[0][0] for task in TASKS}
        rounded = {key: [float(f"{number:.7g}") for number in vector.tolist()] for key, vector in vectors.items()}
        results[name] = {"ids": ids, **rounded}
    return results


def _layout(evaluation: ModuleType, count: int, chunk: int, ids: list[int]) -> list[int]:
    """What the published evaluation reads of a text of these ids."""
    model = object.__new__(evaluation.VisualRWKVMTEBModel)
    model.tokenizer = SimpleNamespace(encode=lambda text: ids)
    model.cfg = SimpleNamespace(ctx_len=count * chunk, eos_chunk_size=chunk)
    model.device = torch.device("cpu")
    return [int(token) for token in model._build_batch([""])["query_ids"][0]]


def main(folder: Path, evaluation_file: Path, work: Path) -> None:
    import ast

    tree = ast.parse(evaluation_file.read_text())
    (cls,) = (node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "VisualRWKVMTEBModel")
    cls.body = [node for node in cls.body if getattr(node, "name", "").endswith(("_process", "_build_batch"))]
    evaluation = ModuleType("evaluation")
    vars(evaluation).update(torch=torch, List=list, EOS_INDEX=EOS, PAD_INDEX=0, math=__import__("math"))
    exec(compile(ast.Module([cls], []), "evaluation", "exec"), vars(evaluation))
    assert isinstance(evaluation.VisualRWKVMTEBModel._build_batch, FunctionType)
    layouts = []
    for (count, chunk), lengths in LAYOUTS.items():
        for length in lengths:
            ids = _layout(evaluation, count, chunk, list(range(1, length + 1)))
            ends = [place for place, token in enumerate(ids) if token == EOS]
            layouts.append([count, chunk, length, ends, digest(ids)])
    package = _package(folder, work)
    from rwkv_emb.tokenizer import RWKVTokenizer  # type: ignore[import-not-found]

    tokenizer = RWKVTokenizer()
    sequences = {f"1 {text}": tokenizer.encode(text, add_eos=True) for text in TEXTS}
    for text in TEXTS:
        sequences[f"2 {text}"] = _layout(evaluation, 2, 8, tokenizer.encode(text, add_eos=False))
    content = {
        "checkpoint": float(sum(tensor.double().abs().sum() for tensor in embedding_checkpoint().values())),
        "layouts": layouts,
        "vectors": _vectors(package, work, sequences),
    }
    REFERENCE.write_text(json.dumps(content, separators=(",", ":")).replace('"ids"', '\n"ids"') + "\n")


if __name__ == "__main__":
    import tempfile

    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(temporary))
