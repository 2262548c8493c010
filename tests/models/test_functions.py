"""Functions that only return scores, networks that take more than images, and pipelines."""

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from torch import nn

import naspix
from naspix import metrics, targets
from naspix.errors import InputError, ModelError
from naspix.registry import SALIENCY, SEGMENTERS
from naspix.saliency import RISE, IntegratedGradients

SIDE = 24
NAMES = ["cat", "dog", "ball"]


def _network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 3),
    )  # fmt: skip


NETWORK = _network().eval()
IMAGES = torch.rand(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def in_numpy(images: torch.Tensor) -> np.ndarray:
    """A function as ONNX Runtime is called: arrays in, arrays out."""
    return NETWORK(torch.from_numpy(np.asarray(images))).numpy()


FUNCTIONS = {
    "array": in_numpy,
    "list of arrays": lambda images: [in_numpy(images)],
    "nested lists": lambda images: in_numpy(images).tolist(),
    "dictionary": lambda images: {"logits": in_numpy(images), "extra": "text"},
    "tensor": lambda images: NETWORK(images),
}


@pytest.fixture(params=FUNCTIONS)
def model(request) -> naspix.Classifier:
    return naspix.wrap_model(FUNCTIONS[request.param], input_size=SIDE, categories=NAMES)


@pytest.fixture
def seen_into() -> naspix.Classifier:
    """The same with the network at hand."""
    return naspix.wrap_model(NETWORK, input_size=SIDE, categories=NAMES, levels=["0", "2"])


@pytest.fixture
def black_box() -> naspix.Classifier:
    return naspix.wrap_model(in_numpy, input_size=SIDE, categories=NAMES)


def test_scores_are_the_functions(model):
    torch.testing.assert_close(model(IMAGES), NETWORK(IMAGES).detach())
    assert model.scores.output == "softmax"
    assert not model(IMAGES).requires_grad


def test_probabilities_are_told_apart(black_box):
    softmax = naspix.wrap_model(
        lambda images: torch.from_numpy(in_numpy(images)).softmax(1).numpy(), input_size=SIDE
    )
    torch.testing.assert_close(softmax.probabilities(IMAGES), black_box.probabilities(IMAGES))
    assert not softmax.scores.assumed
    assert black_box.scores.assumed


def test_explain_in_three_lines(black_box, seen_into):
    explanation = naspix.explain(black_box, IMAGES, method="rise", segmenter="slic")
    expected = naspix.explain(seen_into, IMAGES, method="rise", segmenter="slic")
    torch.testing.assert_close(explanation.raw["rise"], expected.raw["rise"])
    assert explanation.predictions[0][0].name == expected.predictions[0][0].name


@pytest.mark.parametrize("name", [n for n, kind in SALIENCY.items() if kind.needs == "scores"])
def test_methods_that_need_scores_work(black_box, seen_into, name):
    kind = SALIENCY[name]
    heat = kind(black_box, **kind.quick)(IMAGES[:1], "dog" if kind.asks_class else None)
    expected = kind(seen_into, **kind.quick)(IMAGES[:1], "dog" if kind.asks_class else None)
    torch.testing.assert_close(heat, expected)


@pytest.mark.parametrize("name", [n for n, kind in SALIENCY.items() if kind.needs != "scores"])
def test_methods_that_need_more_refuse_by_name(black_box, name):
    kind = SALIENCY[name]
    with pytest.raises(
        ModelError, match=rf"^{kind.__name__}.* needs .*in_numpy is a function.*rise"
    ):
        kind(black_box)(IMAGES)


def test_what_needs_activations_refuses_by_name(black_box):
    for make in (naspix.NAS, naspix.ClassClustering):
        with pytest.raises(ModelError, match=r"needs activations, but in_numpy is a function"):
            make(black_box)
    with pytest.raises(ModelError, match="is a function that"):
        black_box.activations(IMAGES)
    with pytest.raises(ModelError, match=r'function.*method="rise", segmenter="slic"'):
        naspix.explain(black_box, IMAGES)


@pytest.mark.parametrize("name", [n for n in SEGMENTERS if n != "nas"])
def test_segmenters_of_pictures_work(black_box, name):
    explanation = naspix.explain(black_box, IMAGES, method="occlusion", segmenter=name)
    assert len(explanation) == 2


def test_all_perturbation_metrics_work(black_box, seen_into):
    heat = RISE(black_box, n_masks=20)(IMAGES)
    labels = naspix.Grid(n_segments=6)(IMAGES).superpixels
    for measure in (metrics.lerf, metrics.morf, metrics.deletion, metrics.insertion, metrics.srg):
        found = measure(black_box, IMAGES, heat, steps=4)
        expected = measure(seen_into, IMAGES, heat, steps=4)
        torch.testing.assert_close(found.auc, expected.auc)
    best = metrics.greedy_lerf(black_box, IMAGES, labels)
    assert [len(order) for order in best.order] == [int(labels[i].max()) + 1 for i in range(2)]


def test_callable_targets_get_the_functions_answer(black_box, seen_into):
    heat = RISE(black_box, n_masks=20)(IMAGES, targets.ClassScore("ball"))
    torch.testing.assert_close(heat, RISE(seen_into, n_masks=20)(IMAGES, targets.ClassScore(2)))


def test_the_doctor_says_what_serves(black_box):
    diagnosis = naspix.check(black_box)
    assert diagnosis.serves("rise")
    assert not diagnosis.serves("grad_cam")
    assert "function" in str(diagnosis)


def test_a_function_that_fails_is_one_sentence():
    def broken(images):
        raise ConnectionError("no answer from port 80")

    with pytest.raises(ModelError, match=r"broken fails on images .*no answer from port 80"):
        naspix.wrap_model(broken, input_size=SIDE)(IMAGES)


@pytest.mark.parametrize("given", [nn.Conv2d, dict])
def test_what_is_no_model_is_refused(given):
    with pytest.raises(InputError, match=r"wrap_model takes a torch.nn.Module or a function"):
        naspix.wrap_model(given)


# --- networks that take more than images ---------------------------------------------------------


class WithAge(nn.Module):
    """Takes images and a number each, in a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = _network()

    def forward(self, batch):
        return self.body(batch["images"]) + batch["age"][:, None]


def test_forward_calls_a_network_with_more_than_images():
    network = WithAge().eval()

    def call(module, images):
        return module({"images": images, "age": torch.full((len(images),), 2.0)})

    model = naspix.wrap_model(network, input_size=SIDE, forward=call)
    plain = naspix.wrap_model(NETWORK, input_size=SIDE)
    torch.testing.assert_close(model(IMAGES), plain(IMAGES) + 2)
    assert model.levels == tuple(f"body.{name}" for name in plain.levels)
    torch.testing.assert_close(
        naspix.explain(model, IMAGES).raw["grad_cam_plus_plus"],
        naspix.explain(plain, IMAGES).raw["grad_cam_plus_plus"],
    )
    for name in ("lrp", "guided_backprop"):
        torch.testing.assert_close(
            SALIENCY[name](model)(IMAGES), SALIENCY[name](plain)(IMAGES), rtol=1e-3, atol=1e-4
        )
    method = IntegratedGradients(model, n_steps=8, tolerance=1.0)
    expected = IntegratedGradients(plain, n_steps=8, tolerance=1.0)
    torch.testing.assert_close(method(IMAGES), expected(IMAGES))


def test_forward_with_a_function_is_refused():
    with pytest.raises(InputError, match=r"forward= calls a module"):
        naspix.wrap_model(in_numpy, forward=lambda network, images: network(images))


@pytest.mark.parametrize("shape", [(1, 3, 5, SIDE, SIDE), (1, 5, 3, SIDE, SIDE)])
def test_volumes_and_films_are_told_to_come_in_slices(black_box, shape):
    with pytest.raises(InputError, match=r"slice by slice.*images\[:, :, i\].*flatten\(0, 1\)"):
        naspix.explain(black_box, torch.rand(shape), method="rise", segmenter="slic")


# --- pipelines of transformers -------------------------------------------------------------------


def _pipeline(task: str = "image-classification"):
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=6, num_attention_heads=2, intermediate_size=32,
        image_size=32, patch_size=8, id2label={0: "cat", 1: "dog", 2: "tree"},
        label2id={"cat": 0, "dog": 1, "tree": 2},
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.pipeline(
        "image-classification",
        model=transformers.ViTForImageClassification(config).eval(),
        image_processor=transformers.ViTImageProcessor(size={"height": 32, "width": 32}),
    )


@pytest.fixture
def photo() -> Image.Image:
    array = np.random.default_rng(0).integers(0, 255, (40, 50, 3), dtype=np.uint8)
    return Image.fromarray(array)


def test_a_pipeline_is_taken_as_it_is(photo):
    pipeline = _pipeline()
    theirs = {each["label"]: each["score"] for each in pipeline(photo, top_k=3)}
    for model in (naspix.wrap_model(pipeline), naspix.wrap_huggingface(pipeline)):
        found = model.probabilities(model.load_images(photo))[0].detach()
        for number, name in enumerate(model.categories):
            assert float(found[number]) == pytest.approx(theirs[name], abs=1e-5)
    explanation = naspix.explain(pipeline, photo)
    name, score = max(theirs.items(), key=lambda item: item[1])
    assert explanation.predictions[0][0].name == name
    assert explanation.predictions[0][0].probability == pytest.approx(score, abs=1e-5)


def test_a_pipelines_own_word_is_not_overruled(photo):
    with pytest.raises(InputError, match="says itself how it wants its images"):
        naspix.wrap_model(_pipeline(), mean=0.5)
    other = _pipeline()
    other.task = "zero-shot-image-classification"
    with pytest.raises(InputError, match=r"task is zero-shot-image-classification.*wrap_clip"):
        naspix.wrap_huggingface(other)
