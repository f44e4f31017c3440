"""The resize is MATLAB's to the last bit; luma, rounding and shape checks hold at their limits."""

from pathlib import Path

import numpy as np
import pytest
import torch

from sr_models.errors import InputError
from sr_models.images import matlab
from sr_models.images.files import find_images, read_image
from sr_models.images.matlab import KERNEL, KERNELS, Border, downscale, modcrop, resize, sides_of
from sr_models.images.operators import check_images, pad_to_window, quantize, resize_float, rgb_to_y, to_float, to_uint8
from sr_models.images.pairs import pair_images

DATA = Path(__file__).resolve().parents[4] / "shared" / "data"


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_every_published_lr_file_is_reproduced_exactly(name: str, scale: int) -> None:
    folder = DATA / name / f"X{scale}"
    if not folder.is_dir():
        pytest.skip(f"needs the research data in ../shared/data/{name}")
    pairs, _ = pair_images(find_images(folder / "HR"), find_images(folder / "LR"), scale)
    assert len(pairs) == {"Set5": 5, "Set14": 14}[name]
    for hr, lr in pairs:
        np.testing.assert_array_equal(downscale(read_image(hr), scale), read_image(lr), err_msg=str(lr))


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 0.7, 1.9, 3])
@pytest.mark.parametrize("border", ["replicate", "symmetric"])
@pytest.mark.parametrize("round_between", [True, False])
def test_strips_are_bit_for_bit_the_whole(
    scale: float, border: Border, round_between: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = noise(61, 37)
    monkeypatch.setattr(matlab, "_STRIP", 2**30)
    whole = resize(image, scale, border=border, round_between=round_between)
    turned = resize(image, 1, out_shape=(20, 90), border=border, round_between=round_between)
    for strip in (1, 500, 2000):
        monkeypatch.setattr(matlab, "_STRIP", strip)
        np.testing.assert_array_equal(resize(image, scale, border=border, round_between=round_between), whole)
        found = resize(image, 1, out_shape=(20, 90), border=border, round_between=round_between)
        np.testing.assert_array_equal(found, turned)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (KERNEL, {2: 33.674, 3: 30.405, 4: 28.430}),
        ("matlab-bicubic-symmetric-float", {2: 33.682, 3: 30.405, 4: 28.431}),  # the fact sheet's bicubic row
    ],
)
def test_bicubic_psnr_of_set5(kernel: str, expected: dict[int, float]) -> None:
    if not (DATA / "Set5").is_dir():
        pytest.skip("needs the research data in ../shared/data/Set5")
    border, round_between = KERNELS[kernel]
    for scale, wanted in expected.items():
        psnr = []
        for path in find_images(DATA / "Set5" / f"X{scale}" / "HR"):
            hr = read_image(path)
            lr = downscale(hr, scale, kernel)
            sr = resize(lr, scale, border=border, round_between=round_between)
            y_hr, y_sr = (rgb_to_y(to_float(x).double()) for x in (hr, sr))
            psnr.append(-10 * np.log10((y_sr - y_hr)[..., scale:-scale, scale:-scale].square().mean().item()))
        assert np.mean(psnr) == pytest.approx(wanted, abs=6e-4)


def test_a_fifth_is_the_cubic_five_times_as_wide_on_what_modcrop_leaves() -> None:
    """No LR files of x5 are published, so the widened kernel is written out here."""
    hr = noise(44, 37)
    distance = np.abs(np.arange(-9, 10)) / 5  # of source pixels from the middle of five, in pixels of the result
    near, far = 1.5 * distance**3 - 2.5 * distance**2 + 1, -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    weight = np.where(distance <= 1, near, far)
    values = hr[:40, :35].astype(float)
    for axis in (0, 1):
        padded = np.moveaxis(np.pad(values, [(9, 9) if a == axis else (0, 0) for a in range(3)], mode="edge"), axis, 0)
        middles = range(2, len(padded) - 18, 5)
        rows = [np.tensordot(weight / weight.sum(), padded[middle : middle + 19], 1) for middle in middles]
        values = np.floor(np.clip(np.moveaxis(np.stack(rows), 0, axis), 0, 255) + 0.5)
    np.testing.assert_array_equal(downscale(hr, 5), values)


def test_kernels_differ_where_they_should() -> None:
    image = noise(40, 36)
    made = {kernel: downscale(image, 2, kernel).astype(int) for kernel in KERNELS}
    exact = made[KERNEL]
    mirrored = np.abs(made["matlab-bicubic-symmetric-u8"] - exact)
    assert mirrored.max() > 0
    assert mirrored[2:-2, 2:-2].max() == 0  # the border is the only difference
    unrounded = np.abs(made["matlab-bicubic-replicate-float"] - exact)
    assert unrounded[2:-2, 2:-2].max() > 0
    with pytest.raises(InputError, match=r"unknown kernel 'bicubic'.*matlab-bicubic-replicate-u8"):
        downscale(image, 2, "bicubic")


@pytest.mark.parametrize("scale", [1 / 4, 1 / 3, 1 / 2, 2, 3, 4])
def test_float_resize_is_the_unrounded_uint8_resize(scale: float) -> None:
    image = noise(24, 36)
    exact = resize_float(torch.from_numpy(image).permute(2, 0, 1)[None].double(), scale)[0].permute(1, 2, 0)
    rounded = resize(image, scale, round_between=False)
    assert rounded.shape == (24 * scale, 36 * scale, 3)
    np.testing.assert_allclose(rounded, exact.clamp(0, 255), atol=0.5 + 1e-9)


@pytest.mark.parametrize("border", ["replicate", "symmetric"])
@pytest.mark.parametrize("shape", [(1, 1), (2, 5), (17, 3)])
def test_constant_images_stay_constant_down_to_one_pixel(shape: tuple[int, int], border: Border) -> None:
    for scale in (1 / 4, 1 / 2, 3):
        assert set(resize(np.full((*shape, 3), 77, np.uint8), scale, border=border).flat) == {77}


def test_upscaling_reproduces_a_straight_line() -> None:
    line = torch.arange(20, dtype=torch.float64).expand(1, 1, 20, 20)
    out = resize_float(line, 2)[0, 0, 10]
    expected = torch.arange(40, dtype=torch.float64) / 2 - 0.25  # pixel centres of a grid twice as fine
    torch.testing.assert_close(out[4:-4], expected[4:-4])


def test_float_resize_is_differentiable_with_unit_mass() -> None:
    x = torch.rand(1, 3, 12, 12, dtype=torch.float64, requires_grad=True)
    resize_float(x, 1 / 2).sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad.sum(), torch.tensor(3 * 36.0, dtype=torch.float64))  # each output weighs 1


def test_out_shape_uses_each_sides_own_ratio() -> None:
    image = noise(20, 30)
    assert resize(image, 1.0, out_shape=(10, 45)).shape == (10, 45, 3)
    np.testing.assert_array_equal(resize(image, 9.0, out_shape=(10, 15)), resize(image, 1 / 2))
    np.testing.assert_array_equal(resize(image, 1.0), image)


def test_size_of_a_third_is_not_rounded_up() -> None:
    for size in range(3, 1000, 3):
        assert sides_of((size, size), 1 / 3, None)[0][1] == size // 3


@pytest.mark.parametrize("bad", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_resize_refuses_what_is_no_8_bit_image(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="uint8 array"):
        resize(bad, 2)
    with pytest.raises(ValueError, match="float BCHW"):
        resize_float(torch.from_numpy(bad), 2)
    with pytest.raises(ValueError, match="positive"):
        resize(noise(4, 4), -1)


def test_padding_mirrors_with_the_edge_repeated() -> None:
    x = torch.arange(5.0).expand(1, 1, 8, 5)
    assert pad_to_window(x, 8)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2]
    assert pad_to_window(x[..., :2], 8)[0, 0, 0].tolist() == [0, 1, 1, 0, 0, 1, 1, 0]
    assert pad_to_window(x, 1) is x
    assert pad_to_window(x, 5, always=True)[0, 0, 0].tolist() == [0, 1, 2, 3, 4, 4, 3, 2, 1, 0]
    assert pad_to_window(x[..., :4], 5, always=True).shape == (1, 1, 10, 5)


def test_modcrop_keeps_the_top_left() -> None:
    image = noise(11, 9)
    np.testing.assert_array_equal(modcrop(image, 4), image[:8, :8])
    with pytest.raises(InputError, match=r"11x9 pixels .* smaller than the scale 10"):
        modcrop(image, 10)


def test_luma_is_matlabs() -> None:
    colours = torch.tensor([[0, 0, 0], [1, 1, 1], [1, 0, 0], [0, 1, 0], [0, 0, 1]]).float().T[None, :, :, None]
    expected = torch.tensor([16, 235, 16 + 65.481, 16 + 128.553, 16 + 24.966])
    y = rgb_to_y(colours)
    assert y.shape == (1, 1, 5, 1)
    torch.testing.assert_close(y.flatten() * 255, expected)


def test_rounding_is_half_up_and_clamped() -> None:
    x = torch.tensor([-1.0, 0.5 / 255, 1.5 / 255, 2.4999 / 255, 254.5 / 255, 2.0]).view(1, 1, 6, 1)
    np.testing.assert_array_equal(to_uint8(x).flat, [0, 1, 2, 2, 255, 255])
    torch.testing.assert_close(quantize(x).flatten() * 255, torch.tensor([0.0, 1, 2, 2, 255, 255]))
    with pytest.raises(ValueError, match="NaN"):
        to_uint8(torch.full((1, 3, 2, 2), torch.nan))


def test_all_256_levels_survive_the_round_trip() -> None:
    image = np.arange(256 * 3, dtype=np.uint32).astype(np.uint8).reshape(16, 16, 3)
    x = to_float(image)
    assert x.shape == (1, 3, 16, 16)
    assert x.dtype == torch.float32
    assert x[0, 1, 2, 5] == torch.tensor(image[2, 5, 1]) / 255
    np.testing.assert_array_equal(to_uint8(x)[0], image)
    batch = np.stack([image, image[::-1]])
    np.testing.assert_array_equal(to_uint8(to_float(torch.from_numpy(batch))), batch)


@pytest.mark.parametrize(
    "bad", [torch.zeros(3, 4, 4), torch.zeros(1, 1, 4, 4), torch.zeros(1, 3, 0, 4), torch.zeros(1, 3, 4, 4).byte()]
)
def test_the_public_boundary_is_float_rgb_bchw(bad: torch.Tensor) -> None:
    check_images(torch.zeros(1, 3, 1, 1), "x")
    with pytest.raises(ValueError, match=r"hr must be float RGB of shape \(B, 3, H, W\)"):
        check_images(bad, "hr")
