"""Weights are looked for in order, checked by hash, fetched whole or not at all, and never replaced."""

import hashlib
import io
import pickle
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import torchvision

from eval.metrics import backbones
from eval.metrics.backbones import BACKBONES, VARIABLE, Corrupt, Unavailable, WeightFiles
from eval.protocol import METRICS
from sr_models.errors import InputError

ALEX = "alexnet-owt-7be5be79.pth"
CONTENT = b"the right file" * 1000


@pytest.fixture
def right(monkeypatch: pytest.MonkeyPatch) -> str:
    """Makes `CONTENT` the right AlexNet; returns its hash."""
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    monkeypatch.setitem(BACKBONES, ALEX, replace(BACKBONES[ALEX], sha256=sha256))
    return sha256


def hub() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def put(folder: Path, content: bytes = CONTENT) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ALEX).write_bytes(content)
    return folder / ALEX


@contextmanager
def server(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """An HTTP server on loopback whose every GET is answered by `answer`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_: object) -> None:
            return

    served = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=served.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{served.server_port}/file"
    finally:
        served.shutdown()
        served.server_close()
        thread.join(timeout=10)


def sends(content: bytes, *, claimed: int | None = None) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) if claimed is None else claimed))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Gives the network back, with AlexNet's source at the given address."""

    def go(url: str) -> None:
        monkeypatch.setattr(backbones, "urlopen", urllib.request.urlopen)
        monkeypatch.setitem(BACKBONES, ALEX, replace(BACKBONES[ALEX], url=url))

    return go


def test_the_table_agrees_with_the_libraries_and_the_files_they_ship() -> None:
    from torch_fidelity.feature_extractor_inceptionv3 import URL_INCEPTION_V3

    urls = {
        ALEX: torchvision.models.AlexNet_Weights.IMAGENET1K_V1.url,
        "vgg16-397923af.pth": torchvision.models.VGG16_Weights.IMAGENET1K_V1.url,
        "weights-inception-2015-12-05-6726825d.pth": URL_INCEPTION_V3,
    }
    for name, url in urls.items():
        assert BACKBONES[name].url == url
        assert name.endswith(f"-{BACKBONES[name].sha256[:8]}.pth")
        assert len(BACKBONES[name].sha256) == 64
    shipped = [name for name, backbone in BACKBONES.items() if backbone.package]
    assert len(shipped) == 3
    for name in shipped:
        found = WeightFiles().path(name)
        assert found.is_file() and WeightFiles().locate(name) == found


def test_every_metric_with_a_network_has_its_files() -> None:
    served = {metric for backbone in BACKBONES.values() for metric in backbone.serves}
    assert served == {name for name, metric in METRICS.items() if metric.cost != "light"}


def test_the_given_folder_comes_before_the_variable_and_that_before_the_cache(
    right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = put(hub())
    assert WeightFiles().path(ALEX) == cached
    named = put(tmp_path / "named")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "named"))
    assert WeightFiles().path(ALEX) == named
    given = put(tmp_path / "given")
    assert WeightFiles(tmp_path / "given").path(ALEX) == given
    given.unlink()
    assert WeightFiles(tmp_path / "given").path(ALEX) == cached  # what the option says replaces the variable


def test_a_folder_that_does_not_exist_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"--weights-dir: folder '.*nowhere' does not exist"):
        WeightFiles(tmp_path / "nowhere")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(InputError, match=r"SR_WEIGHTS_DIR: folder '.*gone' does not exist"):
        WeightFiles()


def test_a_wrong_file_is_named_and_nothing_else_is_taken_for_it(right: str, tmp_path: Path) -> None:
    put(hub())
    wrong = put(tmp_path, b"something else")
    expected = f"{str(wrong)!r} is corrupt: its sha256 is {hashlib.sha256(b'something else').hexdigest()}, not {right}"
    with pytest.raises(Corrupt) as caught:
        WeightFiles(tmp_path).path(ALEX)
    assert str(caught.value) == expected


def test_a_public_prefix_of_a_hash_is_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, right: str) -> None:
    put(tmp_path)
    monkeypatch.setitem(BACKBONES, ALEX, replace(BACKBONES[ALEX], sha256=right[:8]))
    assert WeightFiles(tmp_path).locate(ALEX) == tmp_path / ALEX
    monkeypatch.setitem(BACKBONES, ALEX, replace(BACKBONES[ALEX], sha256="0" * 8))
    with pytest.raises(Corrupt, match="not 00000000"):
        WeightFiles(tmp_path).locate(ALEX)


def test_a_missing_file_says_where_it_belongs_and_is_tried_once(
    right: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail(*_: object, **__: object) -> None:
        calls.append(1)
        raise OSError("no route")

    monkeypatch.setattr(backbones, "urlopen", fail)
    files = WeightFiles(tmp_path)
    for _ in range(2):
        with pytest.raises(Unavailable) as caught:
            files.path(ALEX)
    assert str(caught.value) == (
        f"{ALEX} is not there and https://download.pytorch.org/models/{ALEX} could not be fetched (no route); put the "
        f"file (sha256 {right}) into {str(tmp_path)!r}, or into a folder named by --weights-dir or SR_WEIGHTS_DIR"
    )
    assert len(calls) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_fetched_to_where_it_will_be_looked_for(
    right: str, tmp_path: Path, online: Callable[[str], None]
) -> None:
    with server(sends(CONTENT)) as url:
        online(url)
        assert WeightFiles(tmp_path).path(ALEX) == tmp_path / ALEX
        assert WeightFiles().path(ALEX) == hub() / ALEX
    assert (tmp_path / ALEX).read_bytes() == CONTENT
    assert [file.name for file in tmp_path.iterdir()] == [ALEX]
    assert WeightFiles(tmp_path).path(ALEX) == tmp_path / ALEX  # the server is gone


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (sends(b"an error page"), f"what came has sha256 {hashlib.sha256(b'an error page').hexdigest()}"),
        (sends(CONTENT[:100], claimed=len(CONTENT)), "what came has sha256|IncompleteRead"),
        (lambda handler: handler.send_error(404), "HTTP Error 404"),
    ],
)
def test_a_download_that_went_wrong_leaves_nothing(
    answer: Callable, said: str, right: str, tmp_path: Path, online: Callable[[str], None]
) -> None:
    with server(answer) as url:
        online(url)
        with pytest.raises(Unavailable, match=said):
            WeightFiles(tmp_path).path(ALEX)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.timeout(60)
def test_a_download_neither_stands_still_nor_trickles_for_ever(
    right: str, tmp_path: Path, online: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop = threading.Event()

    def trickle(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not stop.wait(0.05):
            try:
                handler.wfile.write(b"x" * (1 << 20))
            except OSError:  # the other side has given up
                return

    def stand_still(handler: BaseHTTPRequestHandler) -> None:
        stop.wait(20)

    monkeypatch.setattr(backbones, "_LIMIT_S", 0.3)
    monkeypatch.setattr(backbones, "_STALL_S", 0.5)
    try:
        for answer, said in ((trickle, "not done after 0 s"), (stand_still, "timed out")):
            with server(answer) as url:
                online(url)
                start = time.monotonic()
                with pytest.raises(Unavailable, match=said):
                    WeightFiles(tmp_path).path(ALEX)
                assert time.monotonic() - start < 10
                stop.set()
            stop.clear()
    finally:
        stop.set()
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_lacks_or_a_file_it_lacks_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(BACKBONES, "weights.pt", replace(BACKBONES["weights.pt"], package="no_such_package"))
    with pytest.raises(Unavailable, match="package no_such_package is not installed"):
        WeightFiles().path("weights.pt")
    monkeypatch.setitem(BACKBONES, "gone.pth", replace(BACKBONES["weights.pt"], package="lpips"))
    with pytest.raises(Unavailable, match=r"package lpips lacks its file gone\.pth; install it again"):
        WeightFiles().path("gone.pth")


class Bomb:
    def __reduce__(self) -> tuple:
        return print, ("executed",)


def test_nothing_in_a_file_is_executed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    torch.save({"features.0.weight": Bomb()}, tmp_path / ALEX)
    sha256 = hashlib.sha256((tmp_path / ALEX).read_bytes()).hexdigest()
    monkeypatch.setitem(BACKBONES, ALEX, replace(BACKBONES[ALEX], sha256=sha256))
    with pytest.raises(pickle.UnpicklingError):
        WeightFiles(tmp_path).tensors(ALEX)
    assert "executed" not in capsys.readouterr().out


def test_what_inception_unpickles_is_our_copy(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch_fidelity import feature_extractor_inceptionv3

    from eval.metrics.distribution import Inception

    read = torch.load
    given = []

    def spy(source: object, **how: object) -> object:
        given.append((type(source), how["weights_only"]))
        return read(source, **how)

    monkeypatch.setattr(feature_extractor_inceptionv3.torch, "load", spy)
    Inception(files=WeightFiles(weights), device="cpu")
    assert [is_safe for kind, is_safe in given if kind is not io.BytesIO] == [True]
    assert len(given) == 2
