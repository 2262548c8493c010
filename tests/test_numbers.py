"""Any number of a network's output as the target: the same as the class where it is one."""

import dataclasses

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional

import naspix
from naspix import targets
from naspix.errors import InputError, ModelError, NaspixWarning, UnknownNameError
from naspix.saliency import (
    LIME,
    LRP,
    RISE,
    XRAI,
    GradCAM,
    InputXGradient,
    IntegratedGradients,
    Occlusion,
    Shapley,
    SmoothGrad,
    VanillaGradient,
)
from naspix.segmentation import Grid

SIDE = 16


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip


@pytest.fixture
def model():
    names = ["cat", "dog", "ball"]
    return naspix.wrap_model(
        _network(), input_size=SIDE, categories=names, levels=["0", "2"], output="none"
    )


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


METHODS = {
    "grad_cam": lambda model: GradCAM(model),
    "gradient": lambda model: VanillaGradient(model),
    "input_x_gradient": lambda model: InputXGradient(model),
    "smoothgrad": lambda model: SmoothGrad(model, n_samples=2),
    "integrated": lambda model: IntegratedGradients(model, n_steps=4, tolerance=1.0),
    "lrp": lambda model: LRP(model),
    "xrai": lambda model: XRAI(model, n_steps=2, min_pixels=10),
    "rise": lambda model: RISE(model, n_masks=8, cells=3),
    "occlusion": lambda model: Occlusion(model, window=8, stride=8),
    "lime": lambda model: LIME(model, segmenter=Grid(n_segments=4), n_samples=20),
    "shapley": lambda model: Shapley(model, segmenter=Grid(n_segments=4)),
}


@pytest.mark.parametrize("name", METHODS)
def test_a_class_score_as_a_number_gives_the_classs_own_map(name, model, images):
    method = METHODS[name](model)
    expected = method(images, "dog")
    torch.testing.assert_close(method(images, targets.ClassScore("dog")), expected)
    torch.testing.assert_close(method(images, lambda scores: scores[:, 1]), expected)
    assert model.categories == ("cat", "dog", "ball"), "the model is as it was"


@pytest.mark.parametrize(
    "metric", [naspix.metrics.lerf, naspix.metrics.morf, naspix.metrics.insertion]
)
@pytest.mark.parametrize("score", ["logit", "probability"])
def test_metrics_take_the_number_as_it_is(metric, score, model, images):
    heat = images.mean(1)
    number = metric(model, images, heat, targets.ClassScore(2), steps=3, score=score)
    expected = metric(model, images, heat, 2, steps=3, score="logit")
    torch.testing.assert_close(number.score, expected.score)
    function, third = (lambda some: model.network(some)), (lambda rows: rows[:, 2])
    alone = metric(function, images, heat, third, steps=3, score=score, baseline=0.0)
    wrapped = metric(model, images, heat, 2, steps=3, score="logit", baseline=0.0)
    torch.testing.assert_close(alone.score, wrapped.score)


def test_greedy_order_of_a_number(model, images):
    superpixels = Grid(n_segments=4)(images).superpixels
    number = naspix.metrics.greedy_lerf(model, images, superpixels, targets.ClassScore(1))
    expected = naspix.metrics.greedy_lerf(model, images, superpixels, 1)
    assert [one.tolist() for one in number.order] == [one.tolist() for one in expected.order]


def test_explain_knows_the_number_by_its_name(model, images, tmp_path):
    def brightness(output):
        return output.sum(1)

    methods = ["grad_cam", VanillaGradient(model), lambda some, target: target(model.network(some))[
        :, None, None].expand(-1, SIDE, SIDE)]  # fmt: skip
    explanation = naspix.explain(
        model, images, brightness, method=methods, segmenter=["nas", "grid"], greedy=True
    )
    assert explanation.target_predictions[0].name == "brightness"
    expected = model.network(images).sum(1)
    torch.testing.assert_close(
        torch.tensor([one.probability for one in explanation.target_predictions]), expected.detach()
    )
    last = list(explanation.raw)[-1]
    torch.testing.assert_close(explanation.raw[last][:, 0, 0], expected.detach())
    contrast = naspix.explain(model, images, lambda out: out[:, 1] - out[:, 0], method="grad_cam")
    as_contrast = naspix.explain(model, images, naspix.Contrast(1, 0), method="grad_cam")
    torch.testing.assert_close(contrast.raw["grad_cam"], as_contrast.raw["grad_cam"])
    assert "brightness" in explanation.to_html()
    explanation.save(tmp_path / "out")
    assert "brightness" in (tmp_path / "out" / "results.json").read_text()


@pytest.mark.parametrize("by", ["explain", "method"])
def test_methods_within_a_method_are_asked_about_the_number_too(by, model, images):
    within = IntegratedGradients(model, n_steps=4, tolerance=1.0)
    method = XRAI(model, attribution=within, segmenter=Grid(n_segments=4), min_pixels=10)
    expected = method(images, "ball")
    assert not torch.equal(expected, method(images, "cat"))
    target = targets.ClassScore("ball")
    if by == "method":
        found = method(images, target)
    else:
        explanation = naspix.explain(model, images, target, method=method, segmenter="grid")
        found = explanation.raw["xrai"]
    torch.testing.assert_close(found, expected)


def test_a_regression_network(images):
    network = nn.Sequential(*list(_network())[:-1], nn.Linear(8, 1))
    model = naspix.wrap_model(network, input_size=SIDE, levels=["0", "2"])
    explanation = naspix.explain(model, images, targets.Regression(), method=["grad_cam", "lrp"])
    value = network(images)[:, 0]
    assert [one.shown() for one in explanation.target_predictions] == [f"{v:.4g}" for v in value]
    flat = targets.Regression()(value)
    torch.testing.assert_close(flat, value)


def test_similarity_to_another_images_embedding(images):
    encoder = nn.Sequential(*list(_network())[:-1])
    model = naspix.wrap_model(encoder, input_size=SIDE, levels=["0", "2"])
    with torch.no_grad():
        other = encoder(torch.rand(1, 3, SIDE, SIDE))[0]
    asked = targets.Similarity(other, name="like the other photo")
    explanation = naspix.explain(model, images, asked, method=["vanilla_gradient", "rise"])
    expected = functional.cosine_similarity(encoder(images), other[None])
    assert explanation.target_predictions[1].name == "like the other photo"
    assert explanation.target_predictions[1].probability == pytest.approx(
        float(expected[1].detach())
    )
    with pytest.raises(InputError, match="8 numbers, but the embedding to compare with has 5"):
        naspix.explain(model, images, targets.Similarity(torch.ones(5)))


def test_one_classs_pixels_of_a_segmentation():
    torch.manual_seed(0)
    network = torchvision.models.segmentation.lraspp_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4
    )
    images = torch.rand(1, 3, 64, 64)
    mask = torch.zeros(64, 64, dtype=torch.bool)
    mask[16:32, 8:40] = True
    model = naspix.wrap_model(network, input_size=64)
    asked = targets.Region(mask, 2)
    explanation = naspix.explain(model, images, asked, method="vanilla_gradient", segmenter="slic")
    with torch.no_grad():
        expected = network.eval()(images)["out"][0, 2][mask].mean()
    assert explanation.target_predictions[0].probability == pytest.approx(float(expected), abs=1e-5)
    heat = explanation.raw["vanilla_gradient"][0]
    assert float(heat.abs().max()) > 0
    with pytest.raises(InputError, match="at least one pixel"):
        naspix.explain(model, images, targets.Region(mask & False, 2), segmenter="slic")


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return torchvision.models.detection.fasterrcnn_mobilenet_v3_large_320_fpn(
        weights=None, weights_backbone=None, num_classes=3, box_score_thresh=0.0, min_size=96,
        max_size=96, rpn_score_thresh=0.0, box_detections_per_img=5,
        rpn_post_nms_top_n_test=20,
    ).eval()  # fmt: skip


def test_one_boxs_class_score_of_a_detector(detector):
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        (found,) = detector(images)
    box, category = tuple(found["boxes"][0].tolist()), int(found["labels"][0])
    model = naspix.wrap_model(detector, input_size=96, name="detector")
    asked = targets.Detection(box, category)
    explanation = naspix.explain(
        model, images, asked, method=RISE(model, n_masks=6), segmenter="slic"
    )
    assert explanation.target_predictions[0].probability == pytest.approx(float(found["scores"][0]))
    assert explanation.target_predictions[0].name == f"class {category} in a box"
    score = asked(detector.train(False)(images))  # under gradients nothing is warned of
    assert score.requires_grad
    with pytest.warns(NaspixWarning, match="its score is 0"):
        assert float(targets.Detection((0, 0, 1, 1), category)([found])) == 0
    with pytest.raises(InputError, match="does not return detections"):
        targets.Detection(box, category)(torch.rand(2, 3))


def test_what_is_no_number_is_one_sentence(model, images):
    for ask in (
        lambda target: naspix.explain(model, images, target),
        lambda target: GradCAM(model)(images, target),
        lambda target: naspix.metrics.lerf(model, images, images[:, 0], target, steps=2),
    ):
        with pytest.raises(ModelError, match="one number for each"):
            ask(lambda output: output.sum())
        with pytest.raises(ModelError, match=r"a number.*cannot be computed.*KeyError"):
            ask(lambda output: {}["logits"])
        with pytest.raises(InputError, match=r"Regression\(\.\.\.\), not Regression itself"):
            ask(targets.Regression)
        with pytest.raises(UnknownNameError, match="did you mean 'dog'"):
            ask(targets.ClassScore("dogg"))
        with pytest.raises(InputError, match="3 numbers, from 0"):
            ask(targets.ClassScore(3))


def test_ready_targets_are_frozen_and_named():
    for asked, name in (
        (targets.ClassScore("dog"), "score of dog"),
        (targets.Regression(1), "value 1"),
        (targets.Similarity(torch.ones(2)), "similarity"),
        (targets.Region(torch.ones(2, 2, dtype=torch.bool), 3), "class 3 in a region"),
        (targets.Detection((0, 0, 1, 1), "dog"), "dog in a box"),
    ):
        assert targets.name_of(asked) == name
        with pytest.raises(dataclasses.FrozenInstanceError):
            asked.category = 1
