"""What is asked about: names, lists, contrasts, several classes at once."""

import json

import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError, UnknownNameError
from naspix.saliency import GradCAM, VanillaGradient
from naspix.targets import Contrast, Each


def _model(**options: object) -> naspix.Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 64, 3)
        )
    network[3].weight.data *= 10
    return naspix.wrap_model(
        network, input_size=8, levels=["0"], **{"categories": ["cat", "dog", "ball"], **options}
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(2))


def test_names_and_lists(images):
    model = _model()
    method = VanillaGradient(model)
    torch.testing.assert_close(method(images, "Dog"), method(images, 1))
    torch.testing.assert_close(method(images, ["ball", 0]), method(images, torch.tensor([2, 0])))
    predicted = model(images).argmax(1)
    torch.testing.assert_close(
        method(images, [None, "cat"]), method(images, torch.tensor([int(predicted[0]), 0]))
    )
    explanation = naspix.explain(model, images, ["ball", None], method="grad_cam")
    assert explanation.target.tolist() == [2, int(predicted[1])]
    heat = method(images, 1)
    named = naspix.metrics.lerf(model, images, heat, "dog", steps=3)
    torch.testing.assert_close(
        named.score, naspix.metrics.lerf(model, images, heat, 1, steps=3).score
    )


def test_near_matches(images):
    with pytest.raises(UnknownNameError, match="did you mean 'dog'"):
        naspix.explain(_model(), images, "dogg")
    with pytest.raises(UnknownNameError, match="did you mean 'dog'"):
        naspix.metrics.lerf(_model(), images, images[:, 0], "dogg", steps=4)
    with pytest.raises(InputError, match="no names"):
        GradCAM(_model(categories=None))(images, "dog")


def test_names_that_two_classes_may_mean_are_refused(images):
    model = _model(categories=["crane", "ball", "crane"])
    with pytest.raises(InputError, match="class 0 or class 2"):
        model.find_class("crane")
    digits = _model(categories=["2", "1", "0"])
    assert digits.find_class("1") == 1
    with pytest.raises(InputError, match="give the number"):
        digits.find_class("2")
    assert _model(categories=["us", "US", "x"]).find_class("US") == 1


@pytest.mark.parametrize("ask", [naspix.explain, lambda model, x, t: GradCAM(model)(x, t)])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        ((1, 2), "Contrast"),
        ([1], "one for each"),
        ([1, 2.5], "number or name"),
        ([True, 1], "number or name"),
    ],
)
def test_what_is_no_target_is_one_sentence(ask, target, words, images):
    with pytest.raises(InputError, match=words):
        ask(_model(), images, target)


def test_a_contrast_has_one_meaning_everywhere(images):
    model = _model()
    target = Contrast("dog", "cat")
    assert naspix.Contrast is Contrast
    heat = GradCAM(model)(images, target)
    explanation = naspix.explain(model, images, target, method="grad_cam", greedy=True)
    torch.testing.assert_close(explanation.raw["grad_cam"], heat)
    assert explanation.target.tolist() == [[1, 0], [1, 0]]
    assert explanation.target_predictions[0].name == "dog rather than cat"
    assert "dog rather than cat" in explanation.to_html()
    curves = naspix.metrics.lerf(model, images, heat, target, steps=3, scaled=False)
    scores = model(images)
    torch.testing.assert_close(curves.score[:, 0], (scores[:, 1] - scores[:, 0]).double())


def test_each_is_an_entry_for_each_photo_and_class(images):
    model = _model(output="sigmoid")
    explanation = naspix.explain(
        model, images, Each("dog", "ball"), method="grad_cam", names=["a", "b"]
    )
    assert explanation.names == ("a-dog", "a-ball", "b-dog", "b-ball")
    assert explanation.target.tolist() == [1, 2, 1, 2]
    for row, (image, target) in enumerate([(0, 1), (0, 2), (1, 1), (1, 2)]):
        torch.testing.assert_close(
            explanation.raw["grad_cam"][row], GradCAM(model)(images, target)[image]
        )
        found = explanation.target_predictions[row].probability
        assert found == pytest.approx(
            float(model.probabilities(images)[image, target].detach()), abs=1e-5
        )
    with pytest.raises(InputError, match=r"naspix\.explain"):
        GradCAM(model)(images, Each("dog"))
    with pytest.raises(InputError, match="at least one"):
        Each()


def test_all_classes_above_the_threshold_are_told(images):
    model = _model(output="sigmoid")
    probabilities = model.probabilities(images).detach()
    explanation = naspix.explain(model, images, "dog", method="grad_cam")
    for row, told in zip(probabilities, explanation.predictions, strict=True):
        above = {i for i in range(3) if row[i] >= 0.5} or {int(row.argmax())}
        assert {one.index for one in told} == above
        assert all(one.probability == pytest.approx(float(row[one.index])) for one in told)
    everything = naspix.explain(model, images, "dog", method="grad_cam", threshold=0.0)
    assert [len(told) for told in everything.predictions] == [3, 3]
    assert explanation.settings["scores"] == "sigmoid, as given"
    assert "sigmoid, as given" in explanation.to_html()


def test_numbers_that_are_no_probabilities_are_not_shown_as_such(images):
    model = _model(output="none", categories=None)
    explanation = naspix.explain(model, images, 1, method="grad_cam")
    first = explanation.target_predictions[0]
    assert not first.is_probability
    assert "%" not in first.shown()
    assert first.probability == pytest.approx(float(model(images)[0, 1].detach()), rel=1e-5)
    entry = next(explanation.photos()).to_json()
    assert "score" in entry["target"]
    assert "probability" not in entry["target"]


def test_rise_takes_the_probability_of_the_network(images):
    sigmoid, softmax = (
        naspix.saliency.RISE(_model(output=output), n_masks=30)(images, 1)
        for output in ("sigmoid", "softmax")
    )
    assert not torch.allclose(sigmoid, softmax, atol=1e-3)


def test_the_command_takes_several_classes_and_says_what_scores_are(tmp_path, capsys):
    from naspix.cli import main

    names = tmp_path / "names.txt"
    categories = naspix.load_model("efficientnet_lite0").categories
    assert categories is not None
    names.write_text("\n".join(f"c{i}" for i in range(1000)), "utf-8")
    command = [
        *("explain", "--segmenter", "grid", "--target", "c282", "--target", "281"),
        *("--scores", "sigmoid", "--categories", str(names), "-o", str(tmp_path / "out"), "--json"),
    ]
    assert main(command) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["settings"]["scores"] == "sigmoid, as given"
    found = [photo["target"]["name"] for photo in record["photos"]]
    assert found == ["c282", "c281"] * (len(found) // 2)
    assert len({photo["name"] for photo in record["photos"]}) == len(found) == 4
