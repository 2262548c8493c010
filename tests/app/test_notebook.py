"""``naspix.explore`` and ``naspix app`` without the extra, and with it."""

import importlib.util
import subprocess
import sys
import urllib.request

import pytest
import torch
from matplotlib.figure import Figure

import naspix
from naspix.app.photos import sample_image
from naspix.cli import main
from naspix.errors import InputError, MissingExtraError, NaspixWarning


@pytest.fixture
def without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "fastapi", None)
    monkeypatch.delitem(sys.modules, "naspix.app.server", raising=False)


def test_without_the_extra_there_is_a_figure_and_a_hint(without_the_extra, model):
    with pytest.warns(NaspixWarning, match=r"pip install '.\[app\]'"):
        figure = naspix.explore(model, sample_image("chelsea"))
    assert isinstance(figure, Figure)
    assert len(figure.axes) > 2
    with pytest.raises(MissingExtraError, match="pip install"):
        naspix.explore(model)
    assert not model._forward_pre_hooks  # and the classifier is as it was


def test_without_the_extra_the_command_says_how_to_get_it(without_the_extra, capsys):
    assert main(["app", "--port", "0"]) == 1
    assert "pip install '.[app]'" in capsys.readouterr().err


def test_the_rest_needs_no_extra():
    code = "import naspix.app, sys; print({'fastapi', 'pydantic', 'uvicorn'} & {*sys.modules})"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "set()"


def test_more_than_one_photo_is_refused(model):
    with pytest.raises(InputError, match="one image"):
        naspix.explore(model, torch.rand(2, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "--auth user:password, or --no-auth"),
        (["--host", "0.0.0.0", "--auth", "ada"], "neither of them empty"),
        (["--auth", ":x"], "neither of them empty"),
        (["--auth", "a:b", "--no-auth"], "exclude each other"),
        (["--models", "/no/such/folder"], "not a folder"),
    ],
)
def test_who_is_let_in_has_to_be_said(options, words, capsys, monkeypatch):
    monkeypatch.delenv("NASPIX_AUTH", raising=False)
    assert main(["app", *options]) == 2
    assert words in capsys.readouterr().err


_SCRIPT = """
import json, naspix, skimage.data, sys, urllib.request
from PIL import Image
Image.fromarray(skimage.data.chelsea()).save(sys.argv[1])
model = naspix.load_model("efficientnet_lite0")
with naspix.explore(model, sys.argv[1]) as explorer:
    print(explorer.url)
    print(urllib.request.urlopen(explorer.url, timeout=30).status)
    print("<iframe" in explorer._repr_html_(), "127.0.0.1" in explorer._repr_html_())
    asked = urllib.request.Request(
        explorer.url.split("?")[0] + "api/hello", b"{}",
        {"X-Naspix-Visitor": explorer.url.split("visitor=")[1], "Content-Type": "application/json"},
    )
    answer = json.load(urllib.request.urlopen(asked, timeout=60))
    print(answer["photo"]["name"], answer["photo"]["predicted"]["name"])
print(len(model._forward_pre_hooks))
"""


@pytest.mark.skipif(importlib.util.find_spec("fastapi") is None, reason="needs the extra app")
def test_with_it_the_page_opens_on_the_photo(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", _SCRIPT, str(tmp_path / "cat.png")]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    url, *rest = found.stdout.split("\n")
    assert url.startswith("http://127.0.0.1:")
    assert rest[:4] == ["200", "True True", "cat.png tiger cat", "0"]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(url, timeout=5)
