"""Where weights lie, by their names alone."""

from pathlib import Path

import pytest

from sr_models.checkpoints.located import IN_FOLDER, located
from sr_models.errors import InputError


def made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_a_file_a_checkpoint_of_ours_and_a_folder_of_diffusers_are_found(tmp_path: Path) -> None:
    file, ours = made(tmp_path / "a.pth"), made(tmp_path / "ours" / "model.json").parent
    vae, unet = (made(tmp_path / "sd" / name / IN_FOLDER) for name in ("vae", "unet"))
    for part in ("", "prompt", "autoencoder"):
        assert located(file, part) == file and located(ours, part) == ours / "model.safetensors"
    assert (located(tmp_path / "sd", "autoencoder"), located(tmp_path / "sd", "unet")) == (vae, unet)
    assert located(vae.parent, "autoencoder") == vae
    with pytest.raises(InputError, match=r"sd' is no checkpoint of ours \(it has no model\.json\)$"):
        located(tmp_path / "sd", "prompt")


@pytest.mark.parametrize("name", ["some/model", "some/model-2.1"])
def test_what_the_hub_may_have_is_none(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of parts that it has alone."""
    monkeypatch.chdir(tmp_path)
    assert located(name, "unet") is None
    with pytest.raises(InputError, match=rf"^weights '{name}': no such file, or a link to none$"):
        located(name, "prompt")


@pytest.mark.parametrize(
    "name", ["some/vae.safetensors", "some/vae.pth", "model", "a/b/c", "/a/b", "a\0b/c", "x" * 5000]
)
def test_what_is_nowhere_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"^weights '"):
        located(name, "autoencoder")
