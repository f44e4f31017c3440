"""A front's picture: where its steps go, in each direction of the metrics, and that it is drawn."""

from dataclasses import replace

import pytest
from PIL import Image

from eval.pictures.front import Plane, Trial, planes, steps
from sr_models.errors import InputError

PLANE = Plane(
    title="sr3/dream", x_metric="psnr_y", y_metric="l_std", chosen=2, reference=(19.0, 0.5),
    trials=[
        Trial(number=0, x=20.0, y=0.1, on_front=True), Trial(number=1, x=19.0, y=0.5, on_front=False),
        Trial(number=2, x=22.0, y=0.3, on_front=True), Trial(number=3, x=21.0, y=0.2, on_front=True),
    ],
)  # fmt: skip


def test_steps_bound_what_the_front_dominates():
    """More of x is better and less of y: what is left of a point and above it is worse."""
    assert steps(PLANE) == [
        (19.0, 0.1), (20.0, 0.1), (20.0, 0.2), (21.0, 0.2), (21.0, 0.3), (22.0, 0.3), (22.0, 0.5),
    ]  # fmt: skip
    turned = [Trial(number=t.number, x=t.y, y=t.x, on_front=t.on_front) for t in PLANE.trials]
    plane = replace(PLANE, x_metric="l_std", y_metric="ema.psnr_y", trials=turned, reference=(0.5, 19.0))
    assert steps(plane) == [
        (0.1, 19.0), (0.1, 20.0), (0.2, 20.0), (0.2, 21.0), (0.3, 21.0), (0.3, 22.0), (0.5, 22.0),
    ]  # fmt: skip


def test_planes_are_drawn(tmp_path):
    planes(tmp_path / "front.png", [PLANE, replace(PLANE, reference=None), PLANE], title="t", caption="c")
    with Image.open(tmp_path / "front.png") as drawn:
        assert drawn.size[0] == 1500 and drawn.convert("L").getextrema()[0] < 100
    with pytest.raises(InputError, match="at least one search"):
        planes(tmp_path / "none.png", [], title="t")
