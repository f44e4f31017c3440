"""Networks as ONNX graphs: the same pixels at sizes that were not traced, and what is refused."""

import numpy as np
import pytest
import torch

import sr_models
from orchestrator import onnx_graph
from orchestrator.onnx_graph import MOST_DELTA, check_exportable, check_extra, write_graph
from sr_models.errors import InputError
from sr_models.networks.sigma import SigmaHead, WithSigma

TINY = {"channels": 12, "blocks": 1, "layers": 2, "heads": 2}
NETWORKS = [name for name, row in sr_models.MODELS.items() if row.family == "regression" and row.trainable]


def tiny(name, scale=2):
    hyper = {key: value for key, value in TINY.items() if key in sr_models.spec(name).hyper.model_fields}
    torch.manual_seed(0)
    return sr_models.build(name, scale, **hyper | ({"channels": 16} if name.startswith(("imdn", "rcan")) else {}))


def assert_the_same_pixels(name, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    net, path = tiny(name), tmp_path / "net.onnx"
    assert write_graph(net, path, {"model": name}) <= MOST_DELTA and net.training
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    meta = session.get_modelmeta().custom_metadata_map
    assert meta["model"] == name and meta["scale"] == "2" and str(net.window) in meta["window"]
    net.eval()
    for height, width in ((37, 29), (16, 50)):
        height, width = (-(-side // net.window) * net.window for side in (height, width))
        lr = torch.rand(1, 3 + net.noise_channels, height, width)
        with torch.no_grad():
            expected = net(lr).numpy()
        [found] = session.run(["sr"], {"lr": lr.numpy()})
        assert found.shape == expected.shape and np.abs(found - expected).max() <= MOST_DELTA


@pytest.mark.parametrize("name", ["edsr_baseline", "vdsr"])
def test_a_graph_computes_what_the_network_does_at_any_size(name, tmp_path):
    assert_the_same_pixels(name, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in NETWORKS if name not in ("edsr_baseline", "vdsr")])
def test_so_does_that_of_every_network(name, tmp_path):
    assert_the_same_pixels(name, tmp_path)


def test_what_is_no_graph_is_refused_by_name():
    net = tiny("edsr_baseline")
    with pytest.raises(InputError, match="this edsr_baseline has a σ head"):
        check_exportable(WithSigma(net, SigmaHead(12, 2, width=4)), "edsr_baseline")
    with pytest.raises(InputError, match="sr3 draws a picture in many passes from noise"):
        check_exportable(sr_models.build("sr3", 2, channels=32, mults=[1], attention=[]), "sr3")


def test_a_lacking_extra_is_one_line(monkeypatch):
    monkeypatch.setattr(onnx_graph, "find_spec", lambda name: None if name == "onnxruntime" else object())
    with pytest.raises(InputError, match=r"needs onnxruntime: pip install 'sr-sweep\[onnx\]'"):
        check_extra()


def test_a_graph_of_other_pixels_is_an_error(tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(onnx_graph, "MOST_DELTA", -1.0)
    with pytest.raises(InputError, match="differ from the network's by up to"):
        write_graph(tiny("edsr_baseline"), tmp_path / "net.onnx", {})
