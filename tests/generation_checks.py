"""What holds for every generation of RWKV, for the tests of each: how outputs are read and compared, and what its
network, its checkpoints and its loading have in common with the others'.

A class here is a base: the tests of a generation derive one that gives what is its own.

Shapes: T packed tokens, D hidden size.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.config.schema import ModelConfig, PrecisionConfig
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.common.rwkv_network import RwkvModel
from rwkv_sweep.models.generations import generation_of
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.quantization import audit
from rwkv_sweep.ops.common.packing import Packed
from tests.small_models import CPU, FP32, encoder_of

SENTENCES = ["The cat sat on the mat.", "A", "Ünïcödé, 1234 and a rather longer sentence than the first one was."]
LAYERS = [EMBEDDING, 0, 1, 2, 3]
"""Of a network of three blocks."""

Checkpoint = dict[str, Tensor]


@torch.inference_mode()
def outputs(model: RwkvModel, sentences: list[bytes], layers: list[int]) -> dict[int, Tensor]:
    """[T, D] of each layer."""
    by_layer: dict[int, Tensor] = {}
    ids_T = torch.tensor([token for sentence in sentences for token in sentence])
    model(ids_T, Packed.of([len(sentence) for sentence in sentences]), layers, by_layer.__setitem__)
    return by_layer


def distance(ours: Tensor, expected: Tensor) -> float:
    """Largest difference, relative to the largest number expected."""
    return float((ours.double() - expected.double()).abs().max() / expected.double().abs().max())


def check_random_weights(models: list[Any], initialize: Callable[[Any, int], object]) -> None:
    """Three networks of three blocks: seeded, finite, and every block changes the stream."""
    for model, seed in zip(models, (0, 0, 1), strict=True):
        initialize(model.requires_grad_(False), seed)
    one, same, other = (outputs(model, [SENTENCES[2].encode()], LAYERS) for model in models)
    for layer, h_TD in one.items():
        assert torch.isfinite(h_TD).all() and torch.equal(h_TD, same[layer]) and not torch.equal(h_TD, other[layer])
    for layer in range(3):
        assert distance(one[layer], one[layer - 1]) > 1e-2


class NetworkChecks:
    """Of a network over packed batches."""

    sentences: ClassVar = [sentence.encode() for sentence in SENTENCES]

    def model(self) -> RwkvModel:
        """Three blocks of random weights whose every number matters."""
        raise NotImplementedError

    def test_packed_batch_equals_sentences_one_by_one(self) -> None:
        model = self.model()
        together = outputs(model, self.sentences, LAYERS)
        alone = [outputs(model, [sentence], LAYERS) for sentence in self.sentences]
        for layer, h_TD in together.items():
            assert distance(h_TD, torch.cat([one[layer] for one in alone])) < 1e-5

    def test_stopping_early_gives_the_same_layers_and_skips_the_rest(self) -> None:
        model = self.model()
        full = outputs(model, self.sentences, LAYERS)
        ran: list[int] = []
        blocks: Any = model.blocks
        for index, block in enumerate(blocks):
            block.attention.output.register_forward_hook(lambda *_, index=index: ran.append(index))
        early = outputs(model, self.sentences, [1])
        assert ran == [0, 1] and list(early) == [1] and model.depth([1]) == 2
        torch.testing.assert_close(early[1], full[1], rtol=0, atol=0)

    def test_means_are_those_of_the_layers(self) -> None:
        model = self.model()
        packed = Packed.of([len(sentence) for sentence in self.sentences])
        means: dict[int, Tensor] = {}
        ids_T = torch.tensor([token for sentence in self.sentences for token in sentence])
        with torch.inference_mode():
            model(ids_T, packed, LAYERS, lambda *_: None, on_mean=means.__setitem__)
        for layer, h_TD in outputs(model, self.sentences, LAYERS).items():
            expected = torch.stack([part.mean(0) for part in h_TD.split(packed.lengths)])
            assert distance(means[layer], expected) < 1e-6


def save_pth(folder: Path, checkpoint: Checkpoint) -> Path:
    path = folder / "model.pth"
    torch.save(checkpoint, path)
    return path


def saved_folder(folder: Path, tensors: Checkpoint, weights: bool = True, **settings: Any) -> Path:
    """A folder of its own with config.json and model.safetensors."""
    path = folder / f"model{len(list(folder.iterdir()))}"
    path.mkdir()
    (path / "config.json").write_text(json.dumps(settings))
    if weights:
        save_file(tensors, path / "model.safetensors")
    return path


def without(checkpoint: Checkpoint, *parts: str) -> Checkpoint:
    return {name: tensor for name, tensor in checkpoint.items() if not any(part in name for part in parts)}


@torch.inference_mode()
def layers_of(path: Path) -> Tensor:
    """The embedding, all blocks and the final norm over some ids, [L + 2, T, D]."""
    model = generation_of(path).load(path).eval().requires_grad_(False)
    layers: list[Tensor] = []
    ids = torch.arange(40) * 7 % 99
    model(ids, Packed.of([3, 37]), range(EMBEDDING, len(model.blocks) + 1), lambda _, h_TD: layers.append(h_TD))
    return torch.stack(layers)


def refused(read: Callable[[Path], object], path: Path, message: str) -> str:
    """The message, of one line, with which a file is refused."""
    with pytest.raises(UserError, match=message) as raised:
        read(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


Change = Callable[[Checkpoint], Checkpoint]
REFUSED: dict[str, tuple[Change, str]] = {
    "unknown tensor": (lambda c: {**c, "blocks.1.att.z9": torch.ones(4)}, "unexpected: blocks.1.att.z9"),
    "missing matrix": (lambda c: without(c, "blocks.1.att.key"), "missing: blocks.1.att.key.weight"),
    "missing ln0": (lambda c: without(c, "ln0"), "missing: blocks.0.ln0.weight"),
    "missing block": (
        lambda c: {n.replace("blocks.1.", "blocks.2."): t for n, t in c.items()},
        "tensors of blocks.2, but none of blocks.1",
    ),
    "wrong shape": (
        lambda c: {**c, "blocks.1.att.time_mix_k": torch.ones(1, 1, 23)},
        r"time_mix_k \[1, 1, 23\] \(expected \[1, 1, 24\]\)",
    ),
    "another head": (lambda c: {**c, "head.weight": torch.ones(9, 24)}, r"head.weight \[9, 24\]"),
    "another dtype": (
        lambda c: {**c, "blocks.0.att.time_mix_k": torch.ones(1, 1, 24, dtype=torch.int8)},
        "dtype: blocks.0.att.time_mix_k",
    ),
    "nothing in a table": (lambda c: {**c, "emb.weight": torch.ones(0, 24)}, "emb.weight is empty"),
    "twice": (lambda c: {**c, "rwkv.embeddings.weight": c["emb.weight"]}, "holds a tensor twice"),
    "NaN": (
        lambda c: {**c, "blocks.1.ffn.time_mix_r": torch.full((24,), torch.nan)},
        "blocks.1.ffn.time_mix_r holds NaN",
    ),
}
"""Of two blocks with 24 channels, as RWKV-4 and 5 name their tensors: what is wrong, and how that is reported."""

CONTRADICTIONS: list[tuple[dict[str, object], str]] = [
    ({"hidden_size": 32}, "hidden_size=32, but the tensors beside it have 24"),
    ({"num_hidden_layers": 12}, "num_hidden_layers=12, but the tensors beside it have 2"),
    ({"vocab_size": 65536}, "vocab_size=65536"),
    ({"intermediate_size": 7}, "intermediate_size=7"),
    ({"layer_norm_epsilon": 0}, "layer_norm_epsilon=0"),
    ({"layer_norm_epsilon": "small"}, "layer_norm_epsilon=small"),
]
"""Settings of a config.json that the tensors beside it contradict, or that are no numbers."""

NO_NETWORKS: list[tuple[dict[str, object], str]] = [
    ({}, "vocab_size=None"),
    ({"vocab_size": 9, "hidden_size": -4, "num_hidden_layers": 2}, "hidden_size=-4"),
    ({"vocab_size": 9, "hidden_size": 2**40, "num_hidden_layers": 2}, "hidden_size=1099511627776: valid is at most"),
]
"""Settings of a config.json without weights that describe no network."""


class LoadingChecks:
    """Of a generation as a run meets it: named by a config, in every precision, with its audit, and at random.

    A module that derives this has a fixture `config`: three blocks of 128 channels in a file of the author's layout.

    Attributes:
        generation: its number.
        kinds: of its linear layers. others: of what it has beside them.
        chosen: one linear layer of the time mix.
        least: cosine with fp32 that each precision (base, quantization) keeps.
    """

    generation: ClassVar[int]
    kinds: ClassVar[set[str]]
    others: ClassVar[set[str]] = {"embedding", "vector"}
    chosen: ClassVar[str]
    least: ClassVar[dict[tuple[str, str], float]] = {
        ("bfloat16", "none"): 0.999,
        ("float16", "none"): 0.9999,
        ("float32", "int8"): 0.99,
        ("float32", "int8_dynamic"): 0.99,
        ("float32", "nf4"): 0.9,
        ("float16", "fp4"): 0.85,
    }

    sentences: ClassVar = ["The cat sat on the mat.", "A", "A longer sentence than the first one was, with a comma."]

    def numpy_layers(self, ids: list[int]) -> Any:
        """What the published equations give for the weights of `config`: [layers, T, D]."""
        raise NotImplementedError

    def test_vectors_are_means_of_the_published_equations(self, config: ModelConfig) -> None:
        source = model_source(config)
        assert source.check() == source.shape() and len(source.fingerprints()[0]) == 16
        vectors = encoder_of(config).encode(self.sentences, LAYERS, ["mean"])["mean"]
        expected = self.numpy_layers(list(self.sentences[0].encode())).mean(1)
        torch.testing.assert_close(vectors[:, 0].double(), torch.from_numpy(expected), rtol=1e-4, atol=1e-4)

    def test_precisions_stay_near_fp32_and_their_audit_sees_all_linear_layers(self, config: ModelConfig) -> None:
        exact = encoder_of(config).encode(self.sentences, [0, 1, 2], ["mean"])["mean"]
        for (base, quantization), least in self.least.items():
            precision = PrecisionConfig(quantization, base, quantization)
            encoder = encoder_of(config, precision)
            vectors = encoder.encode(self.sentences, [0, 1, 2], ["mean"])["mean"]
            assert torch.cosine_similarity(vectors, exact, dim=-1).min() > least, (base, quantization)
            assert not torch.equal(vectors, exact)
            entries = audit(encoder.loaded.model, precision, CPU).entries
            linear = [entry for entry in entries if "." in entry.kind]
            assert {entry.kind for entry in linear} == self.kinds and len(linear) == 3 * len(self.kinds)
            assert all(entry.quantized == (quantization != "none") for entry in linear)
            assert {entry.kind for entry in entries} - self.kinds == self.others
            assert {entry.stored for entry in entries if entry.kind == "vector"} == {"float32"}

    def test_blocks_and_modules_can_be_chosen(self, config: ModelConfig) -> None:
        modules = ["channel_mix", self.chosen]
        precision = PrecisionConfig("some", "float32", "int8_dynamic", blocks=[0, 2], modules=modules)
        model = load_model(config, precision, CPU).model
        quantized = {(e.block, e.kind) for e in audit(model, precision, CPU).entries if e.quantized}
        kinds = {kind for kind in self.kinds if kind.startswith("channel_mix.")} | {f"time_mix.{self.chosen}"}
        assert quantized == {(block, kind) for block in (0, 2) for kind in kinds}

    def test_random_weights_of_this_generation(self) -> None:
        sizes: dict[str, Any] = {"hidden_size": 64, "num_blocks": 2, "head_size": 16, "intermediate_size": 96}
        config = ModelConfig(name="r", source="random", vocab_size=256, generation=self.generation, **sizes)
        one, two = load_model(config, FP32, CPU), load_model(config, FP32, CPU)
        assert getattr(one.model, "generation", None) == self.generation
        assert not one.trained and one.fingerprint == two.fingerprint
        source = model_source(config)
        assert source.fingerprints()[0] == one.fingerprint and source.shape() == one.model.config
        assert getattr(one.model.config, "intermediate_size", None) == 96
        pairs = zip(one.model.parameters(), two.model.parameters(), strict=True)
        assert all(torch.equal(a, b) and torch.isfinite(a).all() for a, b in pairs)
        other = load_model(ModelConfig(**{**vars(config), "generation": 6}), FP32, CPU)
        assert other.fingerprint != one.fingerprint

    def test_tags_say_what_runs(self, config: ModelConfig) -> None:
        tags = load_model(config, FP32, CPU).kernel_tags
        assert tags["wkv"] == "fused" and tags["blocks"].startswith("fused (numba")
