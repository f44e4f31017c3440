"""Frozen parts are kept in one form, whatever file they came in."""

from pathlib import Path

import huggingface_hub
import pytest
import safetensors.torch
import torch

import sr_models
from sr_models.checkpoints.folder import save_checkpoint
from sr_models.checkpoints.parts import check_parts, packed, packed_file
from sr_models.errors import InputError
from sr_models.images.files import sha256_file


def test_a_part_has_one_hash_in_every_file(stand_in: Path, tmp_path: Path) -> None:
    """A released .pth, a training's .ckpt with its discriminator, safetensors with a note, what was kept of them."""
    state = safetensors.torch.load_file(stand_in)
    torch.save(state, tmp_path / "autoencoder_vq_f4.pth")
    torch.save({"epoch": 3, "state_dict": state | {"loss.discriminator.w": torch.ones(1)}}, tmp_path / "model.ckpt")
    safetensors.torch.save_file(state, tmp_path / "noted.safetensors", {"format": "pt"})
    sha256, payload = packed(stand_in)
    for name in ("autoencoder_vq_f4.pth", "model.ckpt", "noted.safetensors"):
        assert packed(tmp_path / name) == (sha256, payload), name
    found, file = packed_file(tmp_path / "model.ckpt")
    assert found == sha256 == sha256_file(file) and packed(file)[0] == sha256


def test_a_part_may_be_a_checkpoint_of_ours(tmp_path: Path) -> None:
    net = sr_models.build("imdn", 2, channels=16, blocks=1)
    hyper = {"channels": 16, "blocks": 1}
    save_checkpoint(tmp_path, net, model="imdn", scale=2, hyper=hyper, sigma=None, ema=False, fingerprint=None)
    assert safetensors.torch.load(packed(tmp_path)[1]).keys() == net.state_dict().keys()
    with pytest.raises(InputError, match=r"is no checkpoint of ours \(it has no model\.json\)$"):
        packed(tmp_path.parent)


def test_a_part_of_a_whole_checkpoint_or_of_a_folder_of_diffusers_is_the_same(
    stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also at the hub: fetched, or out of its cache; no code and no pickle is looked at."""
    state = safetensors.torch.load_file(stand_in)
    whole = {f"first_stage_model.{key}": value for key, value in state.items()}
    torch.save({"state_dict": whole | {"model.diffusion_model.w": torch.ones(2)}}, tmp_path / "sd.ckpt")
    (tmp_path / "sd" / "vae").mkdir(parents=True)
    file = tmp_path / "sd" / "vae" / "diffusion_pytorch_model.safetensors"
    safetensors.torch.save_file(state, file)
    for given in (tmp_path / "sd.ckpt", tmp_path / "sd", tmp_path / "sd" / "vae"):
        assert packed(given, "autoencoder") == packed(stand_in), given
    assert safetensors.torch.load(packed(tmp_path / "sd.ckpt", "unet")[1]).keys() == {"w"}
    with pytest.raises(InputError, match=r"as one of diffusers' it lacks unet/diffusion_pytorch_model\.safetensors"):
        packed(tmp_path / "sd", "unet")

    def fetch(repository: str, name: str, *, local_files_only: bool) -> str:
        if repository == "someone/else":
            raise FileNotFoundError("not in the cache,\nand no network")
        return str(tmp_path / "sd" / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", fetch)
    assert packed("some/model", "autoencoder") == packed(stand_in)
    with pytest.raises(
        InputError, match=r"'someone/else' is no file or folder here, .* not in the cache, and no network"
    ):
        packed("someone/else", "autoencoder")


def test_a_part_that_a_network_was_trained_without_is_refused() -> None:
    hyper = sr_models.check("ccsr", 4, {"autoencoder_sha256": "a" * 64, "unet_sha256": "b" * 64}).model_dump()
    given = {"autoencoder": "a" * 64, "unet": "b" * 64}
    check_parts("ccsr", hyper, given)
    said = rf"^--part prompt: its sha256 is {'c' * 64}; the network was trained without it \(its prompt_sha256 is null"
    with pytest.raises(InputError, match=said):
        check_parts("ccsr", hyper, given | {"prompt": "c" * 64})
