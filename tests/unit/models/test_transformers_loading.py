"""Which other networks are taken: their tokenizers and weights, and one clear line for what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from rwkv_sweep.config.schema import ModelConfig, PromptConfig
from rwkv_sweep.embedding.layer_encoder import RwkvEncoder
from rwkv_sweep.errors import UserError
from rwkv_sweep.models.loading import load_model, model_source
from rwkv_sweep.models.transformers.network import HfNetwork
from tests.small_models import BARE, CPU, FP32
from tests.small_networks import SENTENCES, SPECIAL, WORDS, D, L, save_networks


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return save_networks(tmp_path_factory.mktemp("hf"))


def test_special_tokens_stand_around_each_text_and_survive_truncation(folders: dict[str, Path]) -> None:
    loaded = load_model(ModelConfig("hf", "hf", str(folders["bert"])), FP32, CPU)
    short = RwkvEncoder(loaded, BARE, CPU, 5, 4096).tokenize(SENTENCES)
    assert short.ids[1][0] == 2 and short.ids[1][-1] == 3 and len(short.ids[1]) == 5 and short.truncated == 2
    assert short.spans == [(0, len(ids)) for ids in short.ids]
    echo = PromptConfig("echo", "no {sentence} one {sentence}", "second")
    tokenized = RwkvEncoder(loaded, echo, CPU, 64, 4096).tokenize(["a cat"])
    (start, end), ids = tokenized.spans[0], tokenized.ids[0]
    words = SPECIAL + WORDS
    assert [words[token] for token in ids] == ["[CLS]", "no", "a", "cat", "one", "a", "cat", "[SEP]"]
    assert [words[token] for token in ids[start:end]] == ["a", "cat"]
    with pytest.raises(UserError, match="max_tokens=2 leaves no room for a sentence beside the 2 special tokens"):
        RwkvEncoder(loaded, BARE, CPU, 2, 4096).tokenize(SENTENCES)


def test_what_cannot_be_is_refused_before_a_run(folders: dict[str, Path], tmp_path: Path) -> None:
    good = ModelConfig("hf", "hf", str(folders["bert"]))
    shape = model_source(good).check()
    assert (shape.num_hidden_layers, shape.hidden_size, shape.longest) == (L, D, 64)
    with pytest.raises(UserError, match=r"max_tokens=512 is more than .* reads: valid is 64 or less"):
        model_source(good).check_use("mean", 512, FP32, shape)
    with pytest.raises(UserError, match=r"pooling=state with model\.source=hf"):
        model_source(good).check_use("state", 64, FP32, shape)
    with pytest.raises(UserError, match=r"pooling=eos with model\.source=hf"):
        model_source(good).check_use("eos", 64, FP32, shape)
    for wrong, message in (
        (ModelConfig("hf", "hf"), "needs model.id=.* or model.path="),
        (ModelConfig("hf", "hf", str(tmp_path)), "holds no config.json"),
        (ModelConfig("hf", "hf", str(folders["bert"]), tokenizer="world"), "model.tokenizer=world .* brings its own"),
        (ModelConfig("hf", "hf", str(folders["bert"]), full_depth=True), "model.full_depth=true .* RWKV alone"),
        (ModelConfig("hf", "hf", str(folders["bert"]), rescale_every=6), "model.rescale_every=6"),
        (ModelConfig("hf", "hf", str(folders["bert"]), eos_id=3), "model.eos_id=3 .* RWKV alone"),
        (ModelConfig("hf", "hf", str(folders["bert"] / "config.json")), "a file.* is read by model=local"),
    ):
        with pytest.raises(UserError, match=message):
            model_source(wrong).check()


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_shards_of_which_transformers_would_take_the_wrong_one(
    folders: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    """It loads all of every shard, so that the last one wins."""
    folder = tmp_path / "twice"
    shutil.copytree(folders["bert"], folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    stem = "model" if kind == "safetensors" else "pytorch_model"
    files = [f"{stem}-0000{number}-of-00002.{kind}" for number in (1, 2)]
    zeros = {name: torch.zeros_like(tensor) for name, tensor in tensors.items()}
    last = sorted(tensors)[-1]
    for file, content in zip(files, (tensors, {**zeros, last: tensors[last]}), strict=True):
        save_file(content, folder / file, {"format": "pt"}) if kind == "safetensors" else torch.save(
            content, folder / file
        )
    shard_of = {**dict.fromkeys(tensors, files[0]), last: files[1]}
    (folder / f"{stem}.{kind}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": shard_of}))
    model = ModelConfig("hf", "hf", str(folder))
    for load in (lambda: model_source(model).check(), lambda: load_model(model, FP32, CPU)):
        with pytest.raises(UserError, match="which the index places in another shard: copy all files"):
            load()


def test_an_unreachable_repository_says_what_to_put_where(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> str:
        raise OSError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.snapshot_download", unreachable)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", unreachable)
    message = r"model\.id=a/b at revision main .*config\.json, model\.safetensors .*tokenizer into .*set model\.path"
    with pytest.raises(UserError, match=message):
        model_source(ModelConfig("hf", "hf", id="a/b")).check()


def test_code_in_a_repository_never_runs(folders: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "custom"
    folder.mkdir()
    for file in folders["bert"].iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    with pytest.raises(UserError, match=r"config.json is of no text model transformers knows"):
        model_source(ModelConfig("hf", "hf", str(folder))).check()
    assert not (tmp_path / "ran").exists()


def test_other_weights_or_another_tokenizer_are_another_model(folders: dict[str, Path], tmp_path: Path) -> None:
    assert (
        model_source(ModelConfig("hf", "hf", str(folders["bert"]))).fingerprints()
        == model_source(ModelConfig("other name", "hf", str(folders["bert"]))).fingerprints()
    )
    bert, gpt2 = (model_source(ModelConfig("hf", "hf", str(folders[name]))).fingerprints() for name in ("bert", "gpt2"))
    assert bert[0] != gpt2[0] and bert[1] != gpt2[1], "the one adds [CLS] and [SEP]"
    loaded = load_model(ModelConfig("hf", "hf", str(folders["bert"])), FP32, CPU)
    assert (loaded.fingerprint, loaded.tokenizer.fingerprint) == bert and isinstance(loaded.model, HfNetwork)
