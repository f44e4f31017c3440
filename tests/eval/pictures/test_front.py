"""A front's picture: where its steps go, in each direction of the metrics, and that it is drawn."""

from dataclasses import replace

import pytest
from matplotlib.figure import Figure
from PIL import Image

from eval.pictures.front import Plane, Trial, area, methods, plane_of, planes, steps
from eval.pictures.style import method_styles
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


def test_the_front_of_methods_and_what_it_leaves_behind():
    """Two methods that beat each other by one metric each, one that neither beats in all, one that both do."""
    places = [(20.0, 0.1), (22.0, 0.3), (21.0, 0.2), (19.0, 0.5)]
    plane = plane_of("Set5", places, ("psnr_y", "lpips_alex"))
    assert [trial.on_front for trial in plane.trials] == [True, True, True, False]
    assert plane.reference == (19.0, 0.5) and plane.title == "Set5: hypervolume 0.9"
    assert area(plane) == pytest.approx(0.4 + 0.3 + 0.2), "slices of 1 dB, by how far LPIPS stays below the worst"
    assert area(plane_of("one", places[:1], ("psnr_y", "lpips_alex"))) == 0


def test_methods_have_their_colours_and_are_filled_on_the_front(tmp_path, drawn: list[Figure], check_readable):
    styled = method_styles(["edsr × l1", "edsr × eco"])
    sets = {
        name: {"bicubic": (20.0, 0.5), "edsr × l1": (22.0, 0.4), "edsr × eco": (21.0, 0.3)} for name in ("Set5", "B100")
    }
    methods(tmp_path / "x.png", sets, ("psnr_y", "lpips_alex"), title="t", caption="c", styled=styled)
    axes = drawn[0].axes[0]
    marks = {line.get_label(): line for line in axes.lines if len(line.get_xdata()) == 1}
    assert {name: mark.get_color() for name, mark in marks.items()} == {name: styled[name][1] for name in sets["Set5"]}
    hollow = {name for name, mark in marks.items() if mark.get_markerfacecolor() == "none"}
    assert hollow == {"bicubic"} and axes.get_ylabel() == "lpips_alex (less is better)"
    check_readable(drawn[0])
    with pytest.raises(InputError, match="at least one method"):
        methods(tmp_path / "none.png", {"Set5": {}}, ("psnr_y", "lpips_alex"), title="t", styled=styled)
