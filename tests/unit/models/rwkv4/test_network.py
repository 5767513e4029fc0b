"""RWKV-4: against the author's own inference code (the `rwkv` package), transformers and the published equations,
packed against single, stopping early."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.checkpoint_tensors import named
from rwkv_sweep.models.rwkv4.checkpoint import fitted
from rwkv_sweep.models.rwkv4.configuration import Rwkv4Config
from rwkv_sweep.models.rwkv4.initialization import initialize
from rwkv_sweep.models.rwkv4.network import Rwkv4Model
from tests.author_code import author
from tests.generation_checks import SENTENCES, NetworkChecks, check_random_weights, distance, outputs
from tests.rwkv4_checkpoints import Sizes, author_checkpoint, folder_names, numpy_layers

pytestmark = pytest.mark.usefixtures("one_thread")

SHAPES = {
    "16 channels": Sizes(),
    "72 channels": Sizes(blocks=2, hidden=72, wide=288),
    "one block": Sizes(blocks=1),
    "narrow": Sizes(blocks=5, hidden=4, wide=8),
}
WIDER = Sizes(inner=24)
"""Keys and values wider than the stream, which no published file has."""


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs the Numba kernels between the matrix products, and plain PyTorch."""
    if request.param == "plain":
        monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    return str(request.param)


def model_of(checkpoint: dict[str, Tensor]) -> Rwkv4Model:
    """The network with the tensors of a checkpoint in the author's layout."""
    config, weights = fitted(named(Path("random.pth"), checkpoint, {}))
    model = Rwkv4Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    return model


def logits_of(model: Rwkv4Model, head: Tensor, ids: list[int]) -> Tensor:
    """[T, V]."""
    last = len(model.blocks)
    return outputs(model, [bytes(ids)], [last])[last] @ head.float().T


def test_logits_equal_the_authors_code_on_random_weights(tmp_path: Path) -> None:
    ids = list(SENTENCES[2].encode())
    checkpoints = {tmp_path / f"{i}.pth": author_checkpoint(sizes) for i, sizes in enumerate(SHAPES.values())}
    for file, checkpoint in checkpoints.items():
        torch.save(checkpoint, file)
    expected = author(tmp_path, list(checkpoints), ids)
    for file, checkpoint in checkpoints.items():
        expected_logits, _ = expected[str(file)]
        assert expected_logits.abs().max() > 1
        assert distance(logits_of(model_of(checkpoint), checkpoint["head.weight"], ids), expected_logits) < 1e-4


@pytest.mark.parametrize("sizes", [SHAPES["16 channels"], SHAPES["72 channels"], SHAPES["narrow"], WIDER])
def test_every_layer_equals_transformers(sizes: Sizes) -> None:
    from transformers import RwkvConfig, RwkvModel

    checkpoint, ids = author_checkpoint(sizes), list(SENTENCES[2].encode())
    config = RwkvConfig(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        num_hidden_layers=sizes.blocks,
        attention_hidden_size=sizes.inner or sizes.hidden,
        intermediate_size=sizes.wide,
        rescale_every=0,
    )
    theirs = RwkvModel(config).eval()
    tensors = {name.removeprefix("rwkv."): tensor for name, tensor in folder_names(checkpoint).items()}
    theirs.load_state_dict({name: tensor for name, tensor in tensors.items() if name != "head.weight"}, strict=True)
    with torch.inference_mode():
        expected = theirs(torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    # Their list begins with the output of block 0 and may end with that of the final norm.
    theirs_by_layer = [*expected.hidden_states[: sizes.blocks], expected.last_hidden_state]
    layers = list(range(sizes.blocks + 1))
    by_layer = outputs(model_of(checkpoint), [bytes(ids)], layers)
    for layer, hidden_1TD in zip(layers, theirs_by_layer, strict=True):
        assert distance(by_layer[layer], hidden_1TD[0]) < 1e-4


@pytest.mark.parametrize("sizes", [*SHAPES.values(), WIDER], ids=[*SHAPES, "wider"])
def test_every_layer_equals_the_published_equations(sizes: Sizes) -> None:
    checkpoint = author_checkpoint(sizes)
    layers = [EMBEDDING, *range(sizes.blocks + 1)]
    by_layer = outputs(model_of(checkpoint), [SENTENCES[2].encode()], layers)
    expected = numpy_layers(checkpoint, list(SENTENCES[2].encode()))
    assert list(by_layer) == layers and len(expected) == len(layers)
    for layer, rows in zip(layers, expected, strict=True):
        assert distance(by_layer[layer], torch.from_numpy(rows)) < 1e-5


@pytest.mark.parametrize(
    ("fault", "least"),
    [("swapped_share", 1e-2), ("early_decay", 1e-3), ("bonus_without_key", 1e-2)],
)
def test_an_error_that_a_port_could_make_would_be_seen(fault: str, least: float) -> None:
    """Each of them moves every layer at least a hundred times as far as the bound above allows."""
    sizes = SHAPES["16 channels"]
    checkpoint = author_checkpoint(sizes)
    by_layer = outputs(model_of(checkpoint), [SENTENCES[0].encode()], list(range(sizes.blocks + 1)))
    wrong = numpy_layers(checkpoint, list(SENTENCES[0].encode()), fault)[1:]
    for layer, rows in enumerate(wrong):
        assert distance(by_layer[layer], torch.from_numpy(rows)) > least


class TestNetwork(NetworkChecks):
    def model(self) -> Rwkv4Model:
        return model_of(author_checkpoint(SHAPES["16 channels"]))


def test_random_weights_are_seeded_finite_and_change_every_block() -> None:
    models = [Rwkv4Model(Rwkv4Config(256, 128, 3, 128, 512)) for _ in range(3)]
    check_random_weights(models, initialize)
