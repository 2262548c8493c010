"""Actions: what visitors are answered is what the Python interface finds."""

import base64
import io
import secrets
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import ValidationError
from visitors import lined_up, visitor_of

import naspix
from naspix.app import Backend, Networks
from naspix.app.actions import ACTIONS
from naspix.app.photos import sample_image
from naspix.app.queue import Job


def _hidden_by_hand(model, name, numbers):
    """The probabilities by the Python interface alone."""
    images = model.load_images([sample_image(name)])
    superpixels = naspix.NAS(model)(images).superpixels
    covered = torch.isin(superpixels, torch.tensor(numbers))[:, None]
    with torch.no_grad():
        return model.probabilities(torch.where(covered, model.mean, images))[0]


def test_a_photo_has_its_five_likeliest_classes(model, cat):
    assert cat["ok"]
    expected = model.probabilities(model.load_images([sample_image("chelsea")]))[0].topk(5)
    bars = cat["scores"]["bars"]
    assert [bar["index"] for bar in bars] == expected.indices.tolist()
    assert [bar["before"] for bar in bars] == pytest.approx(expected.values.tolist(), abs=1e-6)
    assert cat["photo"]["predicted"]["name"] == "tiger cat"
    assert cat["photo"]["mean"] == [128, 128, 128]


def test_clicks_change_the_bars_to_the_python_interfaces_numbers(model, ask, cat):
    ask("toggle", number=2)
    scores = ask("toggle", number=5)["scores"]
    assert scores["hidden"] == [2, 5]
    expected = _hidden_by_hand(model, "chelsea", [2, 5])
    for bar in scores["bars"]:
        assert bar["after"] == pytest.approx(float(expected[bar["index"]]), abs=1e-6)
    assert ask("undo")["scores"]["hidden"] == [2]
    n = cat["regions"]["n"]
    assert ask("invert")["scores"]["hidden"] == [i for i in range(n) if i != 2]
    assert ask("hide_all")["scores"]["share"] == pytest.approx(1)
    assert ask("show_all")["scores"]["hidden"] == []


def test_an_uploaded_photo(ask, model):
    buffer = io.BytesIO()
    Image.fromarray(sample_image("rocket")).save(buffer, "png")
    content = buffer.getvalue()
    state = ask("photo", content=content, name="<b>my</b>/rocket.png")
    assert state["photo"]["name"] == "rocket.png"
    assert state["photo"]["predicted"]["index"] == 657  # missile
    assert state["photo"]["token"] != ask("photo", content=content)["photo"]["token"]


def test_another_network_is_asked_when_it_is_chosen(model):
    small = naspix.wrap_model(
        torch.nn.Sequential(
            torch.nn.Conv2d(3, 6, 5, stride=4),
            torch.nn.ReLU(),
            torch.nn.AdaptiveAvgPool2d(1),
            torch.nn.Flatten(),
            torch.nn.Linear(6, 3),
        ),
        mean=[0.2, 0.4, 0.6],
        input_size=(64, 48),
        categories=["<b>a</b>", "b", "c"],
        levels=["0", "1"],
        name="small",
    )
    backend = Backend(Networks({"large": lambda: model, "small": lambda: small}))
    ask = visitor_of(backend)
    assert ask("hello")["networks"] == ["large", "small"]
    assert ask("sample", name="coffee")["photo"]["network"] == "large"
    state = ask("sample", name="coffee", network="small")
    assert (state["photo"]["width"], state["photo"]["height"]) == (48, 64)
    assert state["photo"]["mean"] == [51, 102, 153]
    assert len(state["scores"]["bars"]) == 3  # of three classes there are no five
    images = small.load_images([sample_image("coffee")])
    scores = ask("hide_all")["scores"]
    with torch.no_grad():
        expected = small.probabilities(small.mean.expand_as(images))[0]
    for bar in scores["bars"]:
        assert bar["after"] == pytest.approx(float(expected[bar["index"]]), abs=1e-6)
    backend.close()


def test_play_step_by_step_is_lerf_and_equals_all_at_once(model, ask, cat):
    ask("start_curve")
    scores = ask("step", n_steps=1)["scores"]
    means = cat["regions"]["saliency"]
    least = means.index(min(means))
    assert scores["hidden"] == [least]
    while not scores["curve"]["done"]:
        scores = ask("step", n_steps=1)["scores"]
    images = model.load_images([sample_image("chelsea")])
    superpixels = naspix.NAS(model)(images).superpixels
    heat = naspix.saliency.GradCAMPlusPlus(model)(images)
    with torch.no_grad():
        expected = naspix.metrics.lerf(model, images, heat, superpixels=superpixels)
    assert scores["curve"]["area"] == pytest.approx(float(expected.auc[0]), abs=1e-4)
    ask("start_curve")
    at_once = ask("step", n_steps=10**6)["scores"]
    assert at_once["curve"]["score"] == pytest.approx(scores["curve"]["score"], abs=1e-4)
    assert at_once["curve"]["area"] == pytest.approx(scores["curve"]["area"], abs=1e-4)


def test_another_cut_another_class_another_ranking(ask, cat):
    regions = ask("segment", n_clusters=3, levels=[4])["regions"]
    assert regions["n_clusters"] == 3
    assert regions["levels"] == [4]
    ask("toggle", number=0)
    answer = ask("target", index=285)
    assert answer["regions"]["target"]["index"] == answer["scores"]["target"] == 285
    assert answer["scores"]["hidden"] == [0]
    answer = ask("rank", method="vanilla_gradient")
    assert answer["regions"]["method"] == "vanilla_gradient"
    assert answer["regions"]["saliency"] != regions["saliency"]


def test_comparison_has_a_map_for_each_pair(ask, cat):
    methods = ["grad_cam", "vanilla_gradient"]
    found = ask("compare", methods=methods, segmenters=["slic"])["comparison"]
    assert [row["method"] for row in found["rows"]] == methods
    assert [one["title"] for one in found["segmenters"]] == ["NAS", "SLIC"]
    counts = [one["n"] for one in found["segmenters"]]
    assert counts[0] == cat["regions"]["n"]
    assert abs(counts[1] - counts[0]) <= 0.4 * counts[0]
    for row in found["rows"]:
        assert len(row["maps"]) == 3
        for one in row["maps"]:
            assert one["picture"].startswith("data:image/png;base64,")
            assert one["low"] < one["high"]


def test_a_map_has_the_same_colours_on_the_page_in_a_comparison_and_in_the_pictures(ask, cat):
    regions = ask("rank", method="vanilla_gradient")["regions"]
    scale = regions["scale"]
    compared = ask("compare", methods=["vanilla_gradient"])["comparison"]["rows"][0]["maps"][1]
    assert compared["colours"] == scale["colours"]
    for end in ("low", "high"):
        assert compared[end] == pytest.approx(scale[end], abs=1e-6)
    pixels = _pixels(compared["picture"])
    content = base64.b64decode(ask("save", what="pictures")["file"]["data"])
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        saved = _pixels(archive.read("pooled-vanilla_gradient-nas.png"))
    for number, (x, y) in enumerate(regions["middle"]):
        colour = [int(regions["heat"][number][i : i + 2], 16) for i in (1, 3, 5)]
        assert pixels[2 * y, 2 * x].tolist() == colour
        zoom = saved.shape[0] // 224
        assert saved[zoom * y, zoom * x].tolist() == colour


def _pixels(picture: str | bytes) -> np.ndarray:
    content = base64.b64decode(picture.split(",")[1]) if isinstance(picture, str) else picture
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def test_what_was_compared_before_another_cut_is_refused(backend, monkeypatch):
    key = secrets.token_hex(16)
    ask = visitor_of(backend, key)
    ask("sample", name="chelsea")

    def interrupted(*_: object) -> None:
        lined_up(backend, key, "segment", n_clusters=12)  # done while the network is asked

    monkeypatch.setattr(Job, "expect", interrupted)
    answer = ask("compare", methods=["grad_cam"], segmenters=["slic"])
    assert "cut anew" in answer["sentence"]
    assert ask("hello")["regions"]["n_asked"] == 12
    report = base64.b64decode(ask("save", what="report")["file"]["data"]).decode()
    assert "SLIC" not in report


def test_contrast_tells_what_speaks_against(ask, cat):
    found = ask("contrast", positive=282, negative=285)["contrast"]
    assert not found["says_against"]  # Grad-CAM++ keeps what is above zero
    measured, _ = found["maps"]
    assert measured["low"] == -measured["high"] < 0
    assert min(found["fall"]) < 0 < max(found["fall"])
    pixels = _pixels(measured["picture"])
    for number, (x, y) in enumerate(cat["regions"]["middle"]):
        red, _, blue = pixels[2 * y, 2 * x].astype(int)
        if abs(found["fall"][number]) > 0.1 * measured["high"]:
            assert (red > blue) == (found["fall"][number] > 0)
    fields = {"positive": 282, "negative": 285, "method": "integrated_gradients"}
    assert ask("contrast", **fields)["contrast"]["says_against"]


def test_what_hiding_each_alone_does_is_looked_up_ahead(model, ask, cat):
    found = ask("alone")["alone"]
    assert found["target"] == 282
    assert found["before"] == pytest.approx(cat["scores"]["bars"][0]["before"], abs=1e-6)
    large = [n for n, area in enumerate(cat["regions"]["area"]) if area >= 0.001]
    assert sorted(found["of"]) == large
    for number in large[:3]:
        expected = float(_hidden_by_hand(model, "chelsea", [number])[282])
        assert found["of"][number]["after"] == pytest.approx(expected, abs=1e-5)
    ask("segment", n_clusters=40, levels=[0, 1, 2])
    assert len(ask("alone")["alone"]["of"]) <= 60


def test_contrast_is_the_difference_of_both_scores(model, ask, cat):
    found = ask("contrast", positive=282, negative=285)["contrast"]
    images = model.load_images([sample_image("chelsea")])
    with torch.no_grad():
        logits = model(images)[0]
    assert found["difference"] == pytest.approx(float(logits[282] - logits[285]), abs=1e-4)
    superpixels = naspix.NAS(model)(images).superpixels
    covered = (superpixels == 4)[:, None]
    with torch.no_grad():
        alone = model(torch.where(covered, model.mean, images))[0]
    fall = float(logits[282] - logits[285] - (alone[282] - alone[285]))
    assert found["fall"][4] == pytest.approx(fall, abs=1e-4)
    heat = naspix.saliency.GradCAMPlusPlus(model)(images, naspix.Contrast(282, 285))
    assert found["saliency"][4] == pytest.approx(float(heat[superpixels == 4].mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("action", "arguments", "words"),
    [
        ("toggle", {"number": 10**9}, "no superpixel"),
        ("step", {"n_steps": 1}, "start the curve"),
        ("target", {"index": 1000}, "no class"),
        ("rank", {"method": "__class__"}, "no saliency method"),
        ("compare", {"methods": []}, "at least one"),
        ("compare", {"methods": ["grad_cam"], "segmenters": ["os"]}, "no segmenter"),
        ("contrast", {"positive": 1, "negative": 1}, "different"),
        ("contrast", {"positive": 1, "negative": -1}, "two of the network's"),
        ("save", {"what": "../../etc/passwd"}, "no file"),
        ("sample", {"name": "__loader__"}, "no sample"),
        ("sample", {"name": "chelsea", "network": "/etc/passwd"}, "no network here"),
        ("toggle", {"number": 0, "photo": "another"}, "another photo"),
        ("toggle", {"number": 0, "cut": 99}, "cut anew"),
        ("photo", {"content": b""}, "empty"),
        ("undo", {"cut": 99}, "cut anew"),
        ("save", {"what": "report", "cut": 99}, "cut anew"),
        ("compare", {"methods": ["grad_cam"], "cut": 99}, "cut anew"),
        ("segment", {"levels": [9]}, "level"),
        ("segment", {"levels": [-1]}, "level"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(ask, cat, action, arguments, words):
    answer = ask(action, **arguments)
    assert answer["ok"] is False
    assert words in answer["sentence"]
    assert "\n" not in answer["sentence"]
    assert ask("undo")["ok"]  # and the visitor goes on


@pytest.mark.parametrize(
    "fields",
    [
        {"n_clusters": 1},
        {"n_clusters": 41},
        {"n_clusters": "5"},
        {"n_clusters": True},
        {"algorithm": "kmean"},
        {"levels": []},
        {"levels": ["features.0"]},
        {"levels": "34"},
        {"levels": [[3]]},
        {"clusters": 5},
    ],
)
def test_what_is_sent_is_checked(fields):
    with pytest.raises(ValidationError):
        ACTIONS["segment"](**fields)


def test_defaults_of_a_cut_are_the_networks(ask, cat, model):
    assert cat["regions"]["levels"] == [*model.default_levels]
    assert ask("segment")["regions"]["levels"] == [*model.default_levels]
    assert ask("segment", levels=[4, 3, 4])["regions"]["levels"] == [3, 4]


def test_an_answer_names_what_it_belongs_to(ask, cat):
    first = cat["belongs"]
    assert first["photo"] == cat["photo"]["token"]
    click = ask("toggle", number=1, photo=first["photo"], cut=first["cut"])["belongs"]
    assert click == {**first, "place": first["place"] + 1}
    again = ask("segment", n_clusters=7)["belongs"]
    assert (again["photo"], again["cut"]) == (first["photo"], first["cut"] + 1)
    assert "cut anew" in ask("toggle", number=1, cut=first["cut"])["sentence"]
    assert ask("sample", name="coffee")["belongs"]["photo"] != first["photo"]


def test_without_a_photo_there_is_a_sentence(ask):
    assert "choose it again" in ask("toggle", number=1)["sentence"]


def test_classes_are_found_by_a_part_of_their_name(ask, cat):
    found = ask("find_class", text="TABBY")["classes"]
    assert found == [{"index": 281, "name": "tabby"}]
    assert ask("find_class", text="tiger")["classes"][0]["name"].startswith("tiger")
    assert len(ask("find_class", text="")["classes"]) == 30
    assert ask("find_class", text="no such thing")["classes"] == []
