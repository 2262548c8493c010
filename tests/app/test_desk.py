"""The desk: what visitors are answered, that they do not meet, and that they are forgotten."""

import base64
import io
import secrets
import threading
import time

import pytest
import torch
from PIL import Image
from visitors import visitor_of

import naspix
from naspix.app import Desk, Shelf
from naspix.app.jobs import Job
from naspix.app.samples import SAMPLES, sample_image
from naspix.app.turns import Ticket


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
    data = base64.b64encode(buffer.getvalue()).decode()
    state = ask("photo", data=data, name="<b>my</b>/rocket.png")
    assert state["photo"]["name"] == "rocket.png"
    assert state["photo"]["predicted"]["index"] == 657  # missile
    assert state["photo"]["token"] != ask("photo", data=data)["photo"]["token"]


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
    desk = Desk(Shelf({"large": lambda: model, "small": lambda: small}))
    ask = visitor_of(desk)
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
    desk.close()


def test_play_step_by_step_is_lerf_and_equals_all_at_once(model, ask, cat):
    ask("start_lerf")
    scores = ask("step", n_steps=1)["scores"]
    least = cat["regions"]["rank"].index(cat["regions"]["n"])
    assert scores["hidden"] == [least]
    while not scores["curve"]["done"]:
        scores = ask("step", n_steps=1)["scores"]
    images = model.load_images([sample_image("chelsea")])
    superpixels = naspix.NAS(model)(images).superpixels
    heat = naspix.saliency.GradCAMPlusPlus(model)(images)
    with torch.no_grad():
        expected = naspix.metrics.lerf(model, images, heat, superpixels=superpixels)
    assert scores["curve"]["area"] == pytest.approx(float(expected.auc[0]), abs=1e-4)
    ask("start_lerf")
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
        assert all(one["picture"].startswith("data:image/png;base64,") for one in row["maps"])
        assert row["low"] < row["high"]


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
    heat = naspix.saliency.GradCAMPlusPlus(model)(images, (282, 285))
    assert found["saliency"][4] == pytest.approx(float(heat[superpixels == 4].mean()), abs=1e-5)


@pytest.mark.parametrize(
    ("action", "arguments", "words"),
    [
        ("toggle", {"number": 10**9}, "no superpixel"),
        ("toggle", {"number": "1"}, "whole number"),
        ("toggle", {"number": True}, "whole number"),
        ("toggle", {}, "whole number"),
        ("segment", {"n_clusters": 500}, "number of clusters"),
        ("step", {"n_steps": 1}, "start the curve"),
        ("target", {"index": 1000}, "no class"),
        ("rank", {"method": "__class__"}, "no saliency method"),
        ("compare", {"methods": []}, "at least one"),
        ("compare", {"methods": ["grad_cam"], "segmenters": ["os"]}, "no segmenter"),
        ("compare", {"methods": "grad_cam"}, "list of names"),
        ("contrast", {"positive": 1, "negative": 1}, "different"),
        ("contrast", {"positive": 1, "negative": -1}, "two of the network's"),
        ("save", {"what": "../../etc/passwd"}, "no file"),
        ("sample", {"name": "__loader__"}, "no sample"),
        ("sample", {"name": "chelsea", "network": "/etc/passwd"}, "no network here"),
        ("photo", {"data": 7}, "choose one"),
        ("no_such", {}, "no action"),
        ("toggle", {"number": 0, "token": "another"}, "another photo"),
        ("follow", {"job": "7"}, "over"),
    ],
)
def test_mistakes_are_answered_in_a_sentence(ask, cat, action, arguments, words):
    answer = ask(action, **arguments)
    assert answer["ok"] is False
    assert words in answer["sentence"]
    assert "\n" not in answer["sentence"]
    assert ask("undo")["ok"]  # and the visitor goes on


@pytest.mark.parametrize("request_", [None, [], "hello", {}, {"key": "short"}, {"key": "../" * 10}])
def test_a_request_needs_a_key(desk, request_):
    answer = desk.ask(request_)
    assert answer["ok"] is False


def test_without_a_photo_there_is_a_sentence(ask):
    assert "choose it again" in ask("toggle", number=1)["sentence"]


def test_visitors_do_not_meet(desk):
    names = [*SAMPLES] * 2
    visitors = [visitor_of(desk) for _ in names]
    states = [ask("sample", name=name) for ask, name in zip(visitors, names, strict=True)]
    failed: list[str] = []

    def click(number: int) -> None:
        ask, state = visitors[number], states[number]
        for k in range(4):
            scores = ask("toggle", number=k % state["regions"]["n"])["scores"]
            befores = [(bar["index"], bar["before"]) for bar in scores["bars"][:5]]
            if befores != [(bar["index"], bar["before"]) for bar in state["scores"]["bars"]]:
                failed.append(names[number])
        if ask("hello")["photo"]["token"] != state["photo"]["token"]:
            failed.append(names[number])

    threads = [threading.Thread(target=click, args=[i]) for i in range(len(names))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []


def test_visitors_are_bounded_and_forgotten(model):
    desk = Desk(Shelf({"net": lambda: model}), most_visitors=2, forget_after=1000)
    first = visitor_of(desk)
    first("sample", name="chelsea")
    for _ in range(3):
        visitor_of(desk)("cancel")
    assert desk.n_visitors == 2
    assert "choose it again" in first("toggle", number=0)["sentence"]
    desk._forget_after = -1.0
    visitor_of(desk)("cancel")
    assert desk.n_visitors <= 1
    desk.close()


def test_leaving_frees_the_photo(desk):
    key = secrets.token_hex(16)
    ask = visitor_of(desk, key)
    ask("sample", name="coffee")
    assert ask("leave")["ok"]
    assert key not in desk._visitors


def test_long_work_tells_its_progress_lets_others_in_and_is_cancelled(desk):
    key, other = secrets.token_hex(16), visitor_of(desk)
    ask = visitor_of(desk, key)
    ask("sample", name="chelsea")
    other("sample", name="coffee")
    job = desk.ask({"key": key, "action": "compare", "methods": ["rise"], "segmenters": []})
    assert isinstance(job, Job)
    end = time.monotonic() + 30
    while not (standing := desk.wait(job, timeout=0.05)).get("share"):
        assert time.monotonic() < end
    assert standing["note"] == "RISE"
    assert 0 < standing["share"] < 0.5
    assert other("toggle", number=1)["ok"]  # while RISE goes on
    assert not job.result.done()
    assert ask("cancel")["ok"]
    answer = desk.wait(job, timeout=10)
    assert answer["cancelled"]
    assert desk.workshop.n_jobs == 0


def test_a_visitor_that_is_silent_is_taken_to_have_left(desk, monkeypatch):
    key = secrets.token_hex(16)
    ask = visitor_of(desk, key)
    ask("sample", name="chelsea")
    monkeypatch.setattr("naspix.app.jobs.LEFT_AFTER", 0.2)
    job = desk.ask({"key": key, "action": "compare", "methods": ["rise"], "segmenters": []})
    end = time.monotonic() + 20
    while not job.result.done():  # nobody asks about it
        assert time.monotonic() < end
        time.sleep(0.05)
    assert desk.wait(job)["cancelled"]


def test_the_place_in_line_is_told(desk):
    key, ask = secrets.token_hex(16), visitor_of(desk)
    with desk.workshop.turns.take(Ticket("somebody")):
        other = desk.ask({"key": secrets.token_hex(16), "action": "hello"})
        job = desk.ask({"key": key, "action": "hello"})
        told = desk.wait(job, timeout=0.05)
        assert told["note"] == "waiting: 2 computations ahead"
        assert told["share"] is None
        followed = desk.ask({"key": key, "action": "follow", "job": told["job"]})
        assert followed is job
    assert desk.wait(other, timeout=20)["ok"]
    assert desk.wait(job, timeout=20)["samples"]
    assert ask("hello")["ok"]


def test_too_many_are_refused(model):
    desk = Desk(Shelf({"net": lambda: model}))
    desk.workshop._most_waiting = 0
    assert "try again" in visitor_of(desk)("sample", name="chelsea")["sentence"]
    desk.close()


def test_innards_of_other_errors_stay_inside(desk, ask, monkeypatch):
    def fail(*_: object) -> None:
        raise KeyError("/secret/path")

    monkeypatch.setattr("naspix.app.actions.sample_image", fail)
    sentence = ask("sample", name="chelsea")["sentence"]
    assert "secret" not in sentence
    assert "KeyError" in sentence


def test_the_network_is_left_as_it_came(model):
    hooks = len(model._forward_pre_hooks)
    desk = Desk(Shelf({"net": lambda: model}))
    visitor_of(desk)("sample", name="chelsea")
    assert len(model._forward_pre_hooks) == hooks + 1
    desk.close()
    assert len(model._forward_pre_hooks) == hooks


def test_classes_are_found_by_a_part_of_their_name(ask, cat):
    found = ask("find_class", text="TABBY")["classes"]
    assert found == [{"index": 281, "name": "tabby"}]
    assert ask("find_class", text="tiger")["classes"][0]["name"].startswith("tiger")
    assert len(ask("find_class", text="")["classes"]) == 30
    assert ask("find_class", text="no such thing")["classes"] == []
