"""Bicubic as a model is `imresize` on 8-bit input and the float resize on anything else."""

import numpy as np
import pytest
import torch

import sr_models
from sr_models.images.matlab import resize
from sr_models.images.operators import resize_float, to_float, to_uint8
from sr_models.inference.super_resolve import super_resolve
from sr_models.networks.base import parameters


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 8])
def test_8_bit_input_takes_the_exact_path(scale: int) -> None:
    batch = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    net = sr_models.build("bicubic", scale)
    assert parameters(net) == 0
    out = to_uint8(super_resolve(net, to_float(torch.from_numpy(batch))).sr)
    np.testing.assert_array_equal(out, np.stack([resize(image, scale) for image in batch]))
    assert scale > 1 or np.array_equal(out, batch)


def test_an_image_does_not_depend_on_its_batch() -> None:
    grey_levels = to_float(torch.from_numpy(np.random.default_rng(0).integers(0, 256, (1, 8, 8, 3), dtype=np.uint8)))
    mixed, net = torch.cat([grey_levels, torch.rand(1, 3, 8, 8)]), sr_models.build("bicubic", 2)
    alone = torch.cat([net(image) for image in mixed.split(1)])
    torch.testing.assert_close(net(mixed), alone, rtol=0, atol=0)


def test_float_input_is_not_rounded() -> None:
    lr = torch.rand(1, 3, 8, 8)
    torch.testing.assert_close(sr_models.build("bicubic", 2)(lr), resize_float(lr, 2), rtol=0, atol=0)
    assert torch.equal(sr_models.build("bicubic", 1)(lr), lr)
