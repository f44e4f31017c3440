"""A batch is cut into parts that know which samples they hold."""

import numpy as np
import torch

from objectives.batch import IMAGES, Batch


def batch(**over: object) -> Batch:
    lr, hr = torch.rand(5, 3, 4, 4), torch.rand(5, 3, 8, 8)
    values = {"lr": lr, "hr": hr, "mu": torch.rand_like(hr), "mu_lr": torch.rand_like(lr),
              "partner_lr": torch.rand_like(lr), "partner_hr": torch.rand_like(hr),
              "latent": torch.rand(5, 4, 1, 1), "latent_lr": torch.rand(5, 4, 1, 1),
              "sample_ids": np.arange(40, 45), "step": 8, "seed": 3}  # fmt: skip
    return Batch(**values | over)


def test_parts_make_up_the_batch() -> None:
    whole = batch()
    parts = [whole.part(0, 2), whole.part(2, 5)]
    assert [len(part) for part in parts] == [2, 3] and len(whole) == 5
    for name in IMAGES:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(whole, name))
    assert [part.sample_ids.tolist() for part in parts] == [[40, 41], [42, 43, 44]]
    assert {(part.step, part.seed) for part in parts} == {(8, 3)}


def test_a_part_is_a_view() -> None:
    whole = batch()
    assert whole.part(1, 3).hr.data_ptr() == whole.hr[1].data_ptr()


def test_what_a_batch_does_not_hold_its_parts_do_not() -> None:
    part = batch(mu=None, mu_lr=None).part(0, 2)
    assert part.mu is None and part.mu_lr is None and len(part.hr) == 2
