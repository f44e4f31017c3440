"""The empty prompt's embedding: by a text encoder's folder, once; a stub stands in for transformers."""

import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch

from sr_models import prompt
from sr_models.__main__ import main
from sr_models.diffusion import frozen
from sr_models.images.files import sha256_file


class Tokenizer:
    model_max_length = 5

    @classmethod
    def from_pretrained(cls, folder: str, *, local_files_only: bool) -> "Tokenizer":
        assert Path(folder).name == "tokenizer" and local_files_only
        return cls()

    def __call__(self, text: str, *, padding: str, max_length: int, truncation: bool, return_tensors: str) -> Any:
        assert (text, padding, max_length, truncation, return_tensors) == ("", "max_length", 5, True, "pt")
        return SimpleNamespace(input_ids=torch.tensor([[7, 8, 0, 0, 0]]))


class Encoder(torch.nn.Module):
    @classmethod
    def from_pretrained(cls, folder: str, *, local_files_only: bool, use_safetensors: bool) -> "Encoder":
        if not (Path(folder) / "model.safetensors").exists():
            raise OSError(f"no file named model.safetensors found in directory {folder}.")
        assert local_files_only and use_safetensors
        return cls()

    def forward(self, tokens: torch.Tensor) -> Any:
        return SimpleNamespace(last_hidden_state=tokens[..., None].half() * torch.ones(12).half())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of diffusers' beside a stub of transformers."""
    stub = ModuleType("transformers")
    stub.__spec__ = ModuleSpec("transformers", None)
    stub.CLIPTokenizer, stub.CLIPTextModel = Tokenizer, Encoder  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "transformers", stub)
    for inside in ("tokenizer", "text_encoder"):
        (tmp_path / "sd" / inside).mkdir(parents=True)
    (tmp_path / "sd" / "text_encoder" / "model.safetensors").touch()
    return tmp_path / "sd"


def test_the_embedding_is_a_part_and_its_hash_is_printed(folder, tmp_path, capsys):
    out = tmp_path / "prompt.safetensors"
    assert main(["prompt", str(folder), str(out)]) == 0
    assert capsys.readouterr().out == f"{out}: (1, 5, 12), sha256 {sha256_file(out)}\n"
    found = frozen.prompt(str(out), sha256_file(out), 12, "cpu")
    assert found.dtype == torch.float32 and found[0, :, 0].tolist() == [7, 8, 0, 0, 0]


def test_what_is_missing_is_one_line(folder, tmp_path, monkeypatch, capsys):
    out = str(tmp_path / "prompt.safetensors")
    (folder / "text_encoder" / "model.safetensors").unlink()
    assert main(["prompt", str(folder), out]) == 2
    assert "no file named model.safetensors" in capsys.readouterr().err
    assert main(["prompt", str(tmp_path), out]) == 2
    assert "has no folder tokenizer: it is to be one of diffusers'" in capsys.readouterr().err
    monkeypatch.setattr(prompt, "find_spec", lambda name: None)
    assert main(["prompt", str(folder), out]) == 2
    said = capsys.readouterr().err
    assert (
        said.count("\n") == 1 and "needs transformers, which is not installed: pip install 'sr-sweep[latent]'" in said
    )
    assert not Path(out).exists()
