"""RWKV-7: against the author's own inference code (the `rwkv` package), against the published equations, packed against
single, stopping early."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rwkv_sweep.config.layer_spec import EMBEDDING
from rwkv_sweep.models.common import forward_choice
from rwkv_sweep.models.rwkv7.checkpoint import fitted, read_weights
from rwkv_sweep.models.rwkv7.configuration import Rwkv7Config
from rwkv_sweep.models.rwkv7.initialization import initialize
from rwkv_sweep.models.rwkv7.network import Rwkv7Model
from rwkv_sweep.ops.common.packing import Packed
from tests.generation_checks import SENTENCES, NetworkChecks, check_random_weights, distance, outputs
from tests.rwkv7_checkpoints import Sizes, author_checkpoint, numpy_layers

pytestmark = pytest.mark.usefixtures("one_thread")

CHECKPOINT = Path(__file__).parents[5] / "shared" / "models" / "rwkv7-tiny-bytes.pth"
SHAPES = {
    "heads of 8": Sizes(),
    "heads of 64": Sizes(blocks=2, heads=2, head_size=64, wide=512, ranks=(64, 64, 32, 128)),
    "one head": Sizes(heads=1, head_size=32, ranks=(32, 32, 32, 32)),
    "one block": Sizes(blocks=1, head_size=16),
    "narrow": Sizes(blocks=5, heads=4, head_size=4, wide=8, ranks=(2, 2, 2, 2)),
}

needs_checkpoint = pytest.mark.skipif(not CHECKPOINT.is_file(), reason=f"the trained checkpoint {CHECKPOINT} is absent")

AUTHOR = """
import sys, torch
from rwkv.model import RWKV
out, *files = sys.argv[1:]
ids = list(open(__file__.replace("author.py", "ids.txt"), "rb").read())
found = {}
for file in files:
    logits, state = RWKV(model=file.removesuffix(".pth"), strategy="cpu fp32").forward(ids, None, full_output=True)
    found[file] = (logits, state)
torch.save(found, out)
"""


def author(folder: Path, files: list[Path], ids: list[int]) -> dict[str, tuple[Tensor, list[Tensor]]]:
    """What the `rwkv` package gives: logits [T, V], and of each block the last token's ln1, the state [H, V, K] and the
    last token's ln2. In a process of its own, since the package decides for one generation when it is imported."""
    script, out = folder / "author.py", folder / "author.pt"
    script.write_text(AUTHOR)
    (folder / "ids.txt").write_bytes(bytes(ids))
    environment = {**os.environ, "RWKV_V7_ON": "1", "RWKV_CUDA_ON": "0", "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(
        [sys.executable, str(script), str(out), *map(str, files)], env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    actual: dict[str, tuple[Tensor, list[Tensor]]] = torch.load(out)
    return actual


@pytest.fixture(params=["compiled", "plain"], autouse=True)
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test runs the Numba kernels between the matrix products, and plain PyTorch."""
    if request.param == "plain":
        monkeypatch.setattr(forward_choice, "why_not", lambda *_: "compared")
    return str(request.param)


def model_of(checkpoint: dict[str, Tensor]) -> Rwkv7Model:
    """The network with the tensors of a checkpoint in the author's layout."""
    config, weights = fitted(Path("random.pth"), checkpoint, {})
    model = Rwkv7Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    return model


@torch.inference_mode()
def logits_and_states(model: Rwkv7Model, head: Tensor, ids: list[int]) -> tuple[Tensor, list[Tensor]]:
    """As `author`."""
    final: list[Tensor] = []
    states: list[Tensor] = []
    blocks = len(model.blocks)

    def on_state(_: int, wkv_BHKV: Tensor, shift_B2D: Tensor) -> None:
        states.extend((shift_B2D[0, 0], wkv_BHKV[0].mT, shift_B2D[0, 1]))

    model(torch.tensor(ids), Packed.of([len(ids)]), range(blocks + 1), lambda _, h_TD: final.append(h_TD), on_state)
    return final[-1] @ head.float().T, states


def test_logits_and_states_equal_the_authors_code_on_random_weights(tmp_path: Path) -> None:
    ids = list(SENTENCES[2].encode())
    checkpoints = {tmp_path / f"{number}.pth": author_checkpoint(sizes) for number, sizes in enumerate(SHAPES.values())}
    for file, checkpoint in checkpoints.items():
        torch.save(checkpoint, file)
    expected = author(tmp_path, list(checkpoints), ids)
    for file, checkpoint in checkpoints.items():
        logits, states = logits_and_states(model_of(checkpoint), checkpoint["head.weight"], ids)
        expected_logits, expected_states = expected[str(file)]
        assert expected_logits.abs().max() > 1
        assert distance(logits, expected_logits) < 1e-4
        assert len(states) == len(expected_states) == 3 * len({n.split(".")[1] for n in checkpoint if "blocks" in n})
        for actual, state in zip(states, expected_states, strict=True):
            assert distance(actual, state) < 1e-4


@needs_checkpoint
def test_logits_and_states_equal_the_authors_code_on_a_trained_checkpoint(tmp_path: Path) -> None:
    ids = list(SENTENCES[2].encode())
    config, weights = read_weights(CHECKPOINT)
    model = Rwkv7Model(config).eval().requires_grad_(False)
    model.load_state_dict(weights)
    logits, states = logits_and_states(model, torch.load(CHECKPOINT)["head.weight"], ids)
    expected_logits, expected_states = author(tmp_path, [CHECKPOINT], ids)[str(CHECKPOINT)]
    assert distance(logits, expected_logits) < 1e-5
    assert (logits.argmax(1) == expected_logits.argmax(1)).all()
    assert max(distance(actual, state) for actual, state in zip(states, expected_states, strict=True)) < 1e-4


@pytest.mark.parametrize("sizes", SHAPES.values(), ids=SHAPES)
def test_every_layer_equals_the_published_equations(sizes: Sizes) -> None:
    checkpoint = author_checkpoint(sizes)
    layers = [EMBEDDING, *range(sizes.blocks + 1)]
    actual = outputs(model_of(checkpoint), [SENTENCES[2].encode()], layers)
    expected = numpy_layers(checkpoint, list(SENTENCES[2].encode()))
    assert list(actual) == layers and len(expected) == len(layers)
    for layer, rows in zip(layers, expected, strict=True):
        assert distance(actual[layer], torch.from_numpy(rows)) < 1e-5


@pytest.mark.parametrize("fault", ["late_projection", "logistic_decay", "late_removal_key"])
def test_an_error_that_others_made_would_be_seen(fault: str) -> None:
    """Each of them moves every layer a thousand times as far as the bound above allows."""
    sizes = SHAPES["heads of 8"]
    checkpoint = author_checkpoint(sizes)
    actual = outputs(model_of(checkpoint), [SENTENCES[0].encode()], list(range(sizes.blocks + 1)))
    wrong = numpy_layers(checkpoint, list(SENTENCES[0].encode()), fault)[1:]
    for layer, rows in enumerate(wrong):
        assert distance(actual[layer], torch.from_numpy(rows)) > 1e-2


class TestNetwork(NetworkChecks):
    def model(self) -> Rwkv7Model:
        return model_of(author_checkpoint(SHAPES["heads of 8"]))


@pytest.mark.parametrize("head_size", [8, 64])
def test_random_weights_are_seeded_finite_and_change_every_block(head_size: int) -> None:
    config = Rwkv7Config(256, 128, 3, head_size, 512, 16, 16, 8, 24)
    models = [Rwkv7Model(config) for _ in range(3)]
    check_random_weights(models, initialize)
