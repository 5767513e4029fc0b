"""RWKV-5: against the author's own inference code (the `rwkv` package), against the published equations, packed against
single, stopping early."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.common.checkpoint_tensors import named
from rwkv_sweep.models.rwkv5.checkpoint import fitted, read_weights
from rwkv_sweep.models.rwkv5.configuration import Rwkv5Config
from rwkv_sweep.models.rwkv5.initialization import initialize
from rwkv_sweep.models.rwkv5.network import Rwkv5Model
from rwkv_sweep.ops.common.packing import Packed
from tests.author_code import author
from tests.generation_checks import SENTENCES, NetworkChecks, check_random_weights, distance, outputs
from tests.rwkv5_checkpoints import Sizes, author_checkpoint, numpy_layers

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKPOINT = Path(__file__).parents[5] / "shared" / "models" / "rwkv5-tiny-bytes.pth"
SHAPES = {
    "heads of 8": Sizes(),
    "heads of 64": Sizes(blocks=2, hidden=128, head_size=64, wide=448),
    "one head": Sizes(hidden=32, head_size=32),
    "one block": Sizes(blocks=1, head_size=16),
    "narrow": Sizes(blocks=5, head_size=4, wide=8),
}
WIDER = Sizes(inner=24)
"""Keys and values wider than the stream, which the `rwkv` package reads in one generation only."""

needs_checkpoint = pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"the trained checkpoint {CHECKPOINT} is absent")


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs the Numba kernels between the matrix products, and plain PyTorch."""
    if request.param == "plain":
        monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    return str(request.param)


def model_of(checkpoint: dict[str, Tensor]) -> Rwkv5Model:
    """The network with the tensors of a checkpoint in the author's layout."""
    config, weights = fitted(named(Path("random.pth"), checkpoint, {}))
    model = Rwkv5Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    return model


@torch.inference_mode()
def logits_and_states(model: Rwkv5Model, head: Tensor, ids: list[int]) -> tuple[Tensor, list[Tensor]]:
    """Logits [T, V], and of each block the last token's ln1, the state [H, K, V] and the last token's ln2."""
    final: list[Tensor] = []
    states: list[Tensor] = []

    def on_state(_: int, wkv_BHKV: Tensor, shift_B2D: Tensor) -> None:
        states.extend((shift_B2D[0, 0], wkv_BHKV[0], shift_B2D[0, 1]))

    layers = range(len(model.blocks) + 1)
    model(torch.tensor(ids), Packed.of([len(ids)]), layers, lambda _, h_TD: final.append(h_TD), on_state)
    return final[-1] @ head.float().T, states


@pytest.mark.parametrize("version", ["5.2", "5.1", "5.1 first"])
def test_logits_and_states_equal_the_authors_code_on_random_weights(tmp_path: Path, version: str) -> None:
    ids = list(SENTENCES[2].encode())
    # The package cannot read a single head of version 5.1.
    shapes = [sizes for sizes in SHAPES.values() if version == "5.2" or sizes.heads > 1]
    checkpoints = {tmp_path / f"{i}.pth": author_checkpoint(sizes, version) for i, sizes in enumerate(shapes)}
    for file, checkpoint in checkpoints.items():
        torch.save(checkpoint, file)
    expected = author(tmp_path, list(checkpoints), ids)
    for file, checkpoint in checkpoints.items():
        logits, states = logits_and_states(model_of(checkpoint), checkpoint["head.weight"], ids)
        expected_logits, expected_states = expected[str(file)]
        assert expected_logits.abs().max() > 1
        assert distance(logits, expected_logits) < 1e-4
        assert len(states) == len(expected_states) == 3 * len({n.split(".")[1] for n in checkpoint if "blocks" in n})
        for state, expected_state in zip(states, expected_states, strict=True):
            assert distance(state, expected_state.reshape(state.shape)) < 1e-4


@needs_checkpoint
def test_logits_and_states_equal_the_authors_code_on_a_trained_checkpoint(tmp_path: Path) -> None:
    ids = list(SENTENCES[2].encode())
    config, weights = read_weights(CHECKPOINT)
    model = Rwkv5Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    logits, states = logits_and_states(model, torch.load(CHECKPOINT)["head.weight"], ids)
    expected_logits, expected_states = author(tmp_path, [CHECKPOINT], ids)[str(CHECKPOINT)]
    assert distance(logits, expected_logits) < 1e-5
    assert (logits.argmax(1) == expected_logits.argmax(1)).all()
    for state, expected_state in zip(states, expected_states, strict=True):
        assert distance(state, expected_state.reshape(state.shape)) < 1e-4


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
    [("swapped_share", 1e-2), ("late_read", 1e-2), ("exponential_bonus", 1e-2), ("undivided_norm", 1e-4)],
)
def test_an_error_that_a_port_could_make_would_be_seen(fault: str, least: float) -> None:
    """Each of them moves every layer at least ten times as far as the bound above allows."""
    sizes = SHAPES["heads of 8"]
    checkpoint = author_checkpoint(sizes)
    by_layer = outputs(model_of(checkpoint), [SENTENCES[0].encode()], list(range(sizes.blocks + 1)))
    wrong = numpy_layers(checkpoint, list(SENTENCES[0].encode()), fault)[1:]
    for layer, rows in enumerate(wrong):
        assert distance(by_layer[layer], torch.from_numpy(rows)) > least


class TestNetwork(NetworkChecks):
    def model(self) -> Rwkv5Model:
        return model_of(author_checkpoint(SHAPES["heads of 8"]))


@pytest.mark.parametrize("head_size", [8, 64])
def test_random_weights_are_seeded_finite_and_change_every_block(head_size: int) -> None:
    models = [Rwkv5Model(Rwkv5Config(256, 128, 3, 128, head_size, 448)) for _ in range(3)]
    check_random_weights(models, initialize)
