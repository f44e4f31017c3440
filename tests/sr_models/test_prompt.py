"""The empty prompt's embedding, by an encoder with drawn weights in the layout of Stable Diffusion 2.1's folder."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch

from sr_models import prompt
from sr_models.__main__ import main
from sr_models.diffusion import frozen
from sr_models.images.files import sha256_file

ROOT = Path(__file__).resolve().parents[2]
START, END = "<|startoftext|>", "<|endoftext|>"
WORDS = {word: i for i, word in enumerate(["!", '"', "!</w>", '"</w>', START, END])}
IDS = torch.tensor([[4, 5, *[0] * 75]])
"""The empty prompt: start, end, and "!" as padding."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor]:
    """The folder, as transformers 4 wrote that of Stable Diffusion 2.1, and what its encoder makes of `IDS`.

    Tensors are named `text_model.`, position_ids among them. Of the tokenizer's padding its two files say different
    things; special_tokens_map.json is the one that counts.
    """
    transformers = pytest.importorskip("transformers", reason="needs transformers (the extra [latent])")
    sd = tmp_path_factory.mktemp("made") / "sd"
    for inside in ("tokenizer", "text_encoder"):
        (sd / inside).mkdir(parents=True)
    special = {"bos_token": START, "eos_token": END, "unk_token": END}
    written = {
        "vocab.json": json.dumps(WORDS), "merges.txt": "#version: 0.2\n",
        "special_tokens_map.json": json.dumps(special | {"pad_token": "!"}),
        "tokenizer_config.json": json.dumps(
            special | {"pad_token": END, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
        ),
    }  # fmt: skip
    for name, text in written.items():
        (sd / "tokenizer" / name).write_text(text)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.CLIPTextConfig(vocab_size=len(WORDS), hidden_act="gelu", **sizes)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = transformers.CLIPTextModel(config).eval()
    kept = {"architectures": ["CLIPTextModel"], "torch_dtype": "float32", "transformers_version": "4.25.0.dev0"}
    (sd / "text_encoder" / "config.json").write_text(json.dumps(config.to_dict() | kept))
    named = {f"text_model.{key.removeprefix('text_model.')}": value for key, value in encoder.state_dict().items()}
    named["text_model.embeddings.position_ids"] = torch.arange(77)[None]
    safetensors.torch.save_file(named, sd / "text_encoder" / "model.safetensors", {"format": "pt"})
    with torch.no_grad():
        return sd, encoder(IDS).last_hidden_state


@pytest.fixture
def folder(made: tuple[Path, torch.Tensor], tmp_path: Path) -> Path:
    """A copy of that folder, to be changed."""
    return shutil.copytree(made[0], tmp_path / "sd")


def test_the_embedding_is_a_part_and_its_hash_is_printed(made, tmp_path):
    folder, want = made
    out = tmp_path / "prompt.safetensors"
    done = subprocess.run(
        [sys.executable, "-m", "sr_models", "prompt", str(folder), str(out)],
        cwd=ROOT, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{out}: (1, 77, 16), sha256 {sha256_file(out)}\n"
    written = safetensors.torch.load_file(out)
    assert [*written] == ["prompt"] and written["prompt"].dtype == torch.float32
    assert torch.equal(written["prompt"], want)
    assert torch.equal(frozen.prompt(str(out), sha256_file(out), 16, "cpu"), want)


def test_a_folder_in_half_precision_is_computed_in_float32(made, folder, tmp_path):
    weights, config = (folder / "text_encoder" / name for name in ("model.safetensors", "config.json"))
    half = {k: v.half() if v.is_floating_point() else v for k, v in safetensors.torch.load_file(weights).items()}
    safetensors.torch.save_file(half, weights, {"format": "pt"})
    config.write_text(config.read_text().replace("float32", "float16"))
    out = tmp_path / "prompt.safetensors"
    assert prompt.write_prompt(folder, out)[0] == (1, 77, 16)
    found = safetensors.torch.load_file(out)["prompt"]
    assert found.dtype == torch.float32 and not torch.equal(found, found.half().float())
    torch.testing.assert_close(found, made[1], atol=0.01, rtol=0)


def _without(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def _written(name: str, payload: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(payload)


def _with_weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / "text_encoder" / "model.safetensors"
        weights = safetensors.torch.load_file(path)
        change(weights)
        safetensors.torch.save_file(weights, path, {"format": "pt"})

    return edit


def _pickled(folder: Path) -> None:
    class Executes:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return os.mkdir, (str(folder / "executed"),)

    _without("text_encoder/model.safetensors")(folder)
    (folder / "text_encoder" / "pytorch_model.bin").write_bytes(pickle.dumps(Executes()))


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (shutil.rmtree, "sd' has no tokenizer/tokenizer_config.json: it is to be one of diffusers'"),
        (lambda folder: shutil.rmtree(folder / "tokenizer"), "sd' has no tokenizer/tokenizer_config.json"),
        (_without("text_encoder/config.json"), "sd' has no text_encoder/config.json"),
        (_without("tokenizer/vocab.json"), "sd': "),
        (_written("tokenizer/vocab.json", b"{"), "sd': Error while initializing BPE"),
        (
            lambda folder: [_without(f"tokenizer/{name}")(folder) for name in ("vocab.json", "merges.txt")],
            "(tokens, length) are (3, 77) of the tokenizer and (6, 77) of the text encoder",
        ),
        (_pickled, "no file named model.safetensors"),
        (_written("text_encoder/model.safetensors", b"damaged" * 9), "sd': Error while deserializing header"),
        (
            _with_weights(lambda weights: weights.pop("text_model.encoder.layers.1.mlp.fc1.bias")),
            "or has them in another shape: encoder.layers.1.mlp.fc1.bias\n",
        ),
        (
            _with_weights(lambda weights: weights.update({"text_model.final_layer_norm.bias": torch.zeros(5)})),
            "or has them in another shape: final_layer_norm.bias\n",
        ),
    ],
)  # fmt: skip
def test_a_folder_that_cannot_be_used_is_one_line(folder, tmp_path, capsys, edit, said):
    edit(folder)
    out = tmp_path / "prompt.safetensors"
    assert main(["prompt", str(folder), str(out)]) == 2
    line = capsys.readouterr().err
    assert said in line and line.count("\n") == 1
    assert not out.exists() and not (folder / "executed").exists()


def test_a_file_that_is_there_stays(tmp_path, capsys):
    out = tmp_path / "prompt.safetensors"
    out.write_text("mine")
    assert main(["prompt", str(tmp_path), str(out)]) == 2
    assert capsys.readouterr().err.endswith("prompt.safetensors is there already; give another name, or remove it\n")
    assert out.read_text() == "mine"


def test_without_transformers_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(prompt, "find_spec", lambda name: None)
    assert main(["prompt", str(tmp_path), str(tmp_path / "prompt.safetensors")]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1 and "needs transformers, which is not installed: pip install 'sr-sweep[latent]'" in said
    )
