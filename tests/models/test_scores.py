"""What a score means, told from what a network does."""

import threading
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers
from torch import nn

import naspix
from naspix.errors import InputError, ModelError
from naspix.models.scores import check_output


class Net(nn.Module):
    """A small network whose logits differ from photo to photo, with something done to them."""

    def __init__(self, n_classes: int = 4, last: Any = None, *, scale: float = 8.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.conv = nn.Conv2d(3, 8, 3, padding=1)
            self.head = nn.Linear(8, n_classes)
        self.head.weight.data *= scale
        self.last = last if isinstance(last, nn.Module) else None
        self._function = None if isinstance(last, nn.Module) else last

    def features(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images).relu().mean((2, 3))

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.features(images))

    def forward(self, images: torch.Tensor) -> Any:
        rows = self.logits(images)
        if self.last is not None:
            return self.last(rows)
        return rows if self._function is None else self._function(rows)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(1))


LASTS = [
    (nn.Softmax(1), "softmax", torch.nn.functional.softmax),
    (nn.LogSoftmax(1), "softmax", torch.nn.functional.softmax),
    (nn.Sigmoid(), "sigmoid", lambda rows, dim: rows.sigmoid()),
    (nn.LogSigmoid(), "sigmoid", lambda rows, dim: rows.sigmoid()),
]


@pytest.mark.parametrize(("last", "output", "literal"), LASTS)
def test_a_last_layer_is_taken_off_and_the_network_stays_as_it_is(last, output, literal, images):
    network = Net(last=last)
    hooks = [len(module._forward_hooks) for module in network.modules()]
    model = naspix.wrap_model(network, input_size=12)
    assert model.scores.output == output
    assert not model.scores.assumed
    torch.testing.assert_close(model(images), network.logits(images))
    torch.testing.assert_close(model.probabilities(images), literal(network.logits(images), dim=1))
    heat = naspix.saliency.GradCAM(model, layer="conv")(images, 2)
    plain = naspix.wrap_model(Net(), input_size=12)
    torch.testing.assert_close(heat, naspix.saliency.GradCAM(plain, layer="conv")(images, 2))
    assert hooks == [len(module._forward_hooks) for module in network.modules()]
    assert network(images).shape == (3, 4)


@pytest.mark.parametrize(
    ("last", "output", "literal"),
    [
        (lambda rows: rows.softmax(1), "softmax", lambda rows: rows.log_softmax(1)),
        (lambda rows: rows.log_softmax(1), "softmax", lambda rows: rows.log_softmax(1)),
        (lambda rows: rows.sigmoid(), "sigmoid", lambda rows: rows),
        (torch.nn.functional.logsigmoid, "sigmoid", lambda rows: rows),
    ],
)
def test_a_function_at_the_end_leaves_its_logarithm(last, output, literal, images):
    network = Net(last=last, scale=1.0)
    model = naspix.wrap_model(network, input_size=12)
    assert model.scores.output == output
    torch.testing.assert_close(model(images), literal(network.logits(images)), rtol=1e-3, atol=1e-4)
    answer = network(images)
    wanted = answer.exp() if bool((answer < 0).any()) else answer
    torch.testing.assert_close(model.probabilities(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("last", [nn.Softmax(1), nn.LogSoftmax(1), lambda rows: rows.softmax(1)])
def test_half_precision_is_no_other_case(last, dtype, images):
    model = naspix.wrap_model(Net(last=last).to(dtype), input_size=12)
    assert model.scores.output == "softmax"
    assert not model.scores.assumed
    wanted = Net()(images).softmax(1)
    torch.testing.assert_close(model.probabilities(images), wanted, rtol=0.1, atol=0.03)


def test_a_softmax_that_is_certain_stays_finite(images):
    model = naspix.wrap_model(Net(last=lambda rows: (1000 * rows).softmax(1)), input_size=12)
    assert bool(torch.isfinite(model(images)).all())
    assert bool(torch.isfinite(naspix.saliency.VanillaGradient(model)(images, 0)).all())


@pytest.mark.parametrize("last", [nn.Softmax(1), nn.Sigmoid()])
def test_a_layer_inside_is_left_alone(last, images):
    network = nn.Sequential(Net(5, last=last), nn.Linear(5, 3))
    model = naspix.wrap_model(network, input_size=12)
    torch.testing.assert_close(model(images), network(images))
    assert model.scores.assumed


def test_two_threads_read_their_own_photos(images):
    network = Net(last=nn.Softmax(1))
    model = naspix.wrap_model(network, input_size=12)
    model(images[:1])
    wrong = []

    def ask(image: torch.Tensor) -> None:
        for _ in range(20):
            if not torch.allclose(model(image), network.logits(image)):
                wrong.append(1)

    threads = [threading.Thread(target=ask, args=(images[i : i + 1],)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_logits_that_lie_in_0_to_1_by_chance_are_logits(images):
    network = Net(scale=1e-3)
    network.head.bias.data = torch.tensor([0.3, 0.2, 0.6, 0.1])
    model = naspix.wrap_model(network, input_size=12)
    torch.testing.assert_close(model(images), network(images))
    assert (model.scores.output, model.scores.assumed) == ("softmax", True)
    squeezed = nn.Sequential(network, nn.ReLU())
    torch.testing.assert_close(naspix.wrap_model(squeezed)(images), squeezed(images))


def test_one_logit_is_a_sigmoid_of_two_directions(images):
    network = Net(1)
    model = naspix.wrap_model(network, input_size=12, categories=["crack"])
    z = network(images)
    assert model.scores.output == "sigmoid"
    assert model.scores.assumed
    assert model.categories == ("not crack", "crack")
    assert model.n_classes == 2
    torch.testing.assert_close(
        model.probabilities(images), torch.cat([1 - z.sigmoid(), z.sigmoid()], 1)
    )
    rise = naspix.saliency.RISE(model, n_masks=40)
    for_it, against = rise(images, 1), rise(images, 0)
    assert not torch.allclose(for_it, against, atol=1e-3)
    assert naspix.saliency.LIME(model, n_samples=30)(images, "crack").any()
    explanation = naspix.explain(model, images, ["crack"] * 3, method=[rise], segmenter="grid")
    assert explanation.target_predictions[0].name == "crack"
    curves = naspix.metrics.lerf(
        model, images, for_it, 1, steps=4, score="probability", scaled=False
    )
    torch.testing.assert_close(curves.score[:, 0], z.sigmoid()[:, 0].double(), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(curves.score[:, 0], curves.score[:, -1])


def test_one_number_in_0_to_1_is_a_sigmoid_already(images):
    network = Net(1, last=nn.Sigmoid())
    model = naspix.wrap_model(network, input_size=12)
    torch.testing.assert_close(model.probabilities(images)[:, 1:], network(images))
    assert not model.scores.assumed
    with pytest.raises(ModelError, match="softmax over one number"):
        naspix.wrap_model(Net(1, last=lambda rows: rows.softmax(1)), input_size=12)(images)


def test_what_is_given_counts(images):
    network = Net()
    sigmoid = naspix.wrap_model(network, input_size=12, output="sigmoid")
    torch.testing.assert_close(sigmoid.probabilities(images), network(images).sigmoid())
    assert "as given" in str(sigmoid.scores)
    assert not sigmoid.scores.assumed
    none = naspix.wrap_model(network, input_size=12, output="none")
    torch.testing.assert_close(none.probabilities(images), network(images))
    rows = Net(last=lambda rows: rows.softmax(1))
    torch.testing.assert_close(
        naspix.wrap_model(rows, input_size=12, output="none")(images), rows(images)
    )
    with pytest.raises(InputError, match="output is one of softmax, sigmoid, none"):
        check_output("soft")
    with pytest.raises(ModelError, match="sum to 1"):
        naspix.wrap_model(rows, input_size=12, output="sigmoid")(images)
    with pytest.raises(ModelError, match="softmax over one number"):
        naspix.wrap_model(Net(1), input_size=12, output="softmax")(images)


@pytest.mark.parametrize(
    ("problem", "output"),
    [
        ("multi_label_classification", "sigmoid"),
        ("single_label_classification", "softmax"),
        ("regression", "none"),
    ],
)
def test_the_configuration_says_it(problem, output, images):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
        image_size=12, patch_size=4, num_labels=3, problem_type=problem,
    )  # fmt: skip
    model = naspix.wrap_model(transformers.ViTForImageClassification(config))
    assert model.scores.output == output
    assert not model.scores.assumed
    assert "problem_type" in model.scores.how


class Several(Net):
    """Returns more than logits."""

    def __init__(self, form: Any) -> None:
        super().__init__(scale=8.0)
        self._form = form

    def forward(self, images: torch.Tensor) -> Any:
        features = self.features(images)
        return self._form(features, self.head(features))


@pytest.mark.parametrize(
    "form",
    [
        lambda f, z: (f, z),
        lambda f, z: (z, f),
        lambda f, z: {"features": f, "classes": z},
        lambda f, z: (z.softmax(1), z),
        lambda f, z: (z.sigmoid(), z),
        lambda f, z: (z.log_softmax(1), {"z": z, "f": f}),
        lambda f, z: (z.mean(), f[:, :, None].expand(-1, -1, 5), z),
        lambda f, z: SimpleNamespace(hidden=f, prediction=z, loss=None),
    ],
)
def test_entries_are_looked_at_before_one_is_taken(form, images):
    network = Several(form)
    torch.testing.assert_close(naspix.wrap_model(network)(images), network.logits(images))


def test_entries_that_cannot_be_told_apart_are_asked_for(images):
    network = Several(lambda f, z: (f.detach() + 1, z.detach()))
    with pytest.raises(ModelError, match=r"several .*logits="):
        naspix.wrap_model(network)(images)
    named = naspix.wrap_model(network, categories=list("abcd"))
    torch.testing.assert_close(named(images), network.logits(images))


def test_probabilities_that_stop_being_such_are_said(images):
    network = nn.Module()
    network.top = 1.0  # type: ignore[assignment]
    network.forward = lambda x: network.top * x.mean((2, 3)).clamp(0, 1)  # type: ignore[assignment]
    model = naspix.wrap_model(network, input_size=12)
    assert model.scores.output == "sigmoid"
    network.top = 3.0  # type: ignore[assignment]
    with pytest.raises(ModelError, match="output="):
        model(torch.ones(1, 3, 12, 12))


def test_finding_out_keeps_random_state_and_modes(images):
    network = Net(last=nn.Softmax(1)).train()
    state = torch.random.get_rng_state()
    with torch.inference_mode():
        assert naspix.wrap_model(network, input_size=12)(images).shape == (3, 4)
    assert torch.equal(state, torch.random.get_rng_state())
    assert network.training
    assert all(each.grad is None for each in network.parameters())


def test_methods_that_watch_the_network_are_not_disturbed(images):
    plain = naspix.wrap_model(Net(), input_size=12)
    model = naspix.wrap_model(Net(last=nn.Softmax(1)), input_size=12)
    heat = naspix.saliency.LRP(model)(images, 1)
    torch.testing.assert_close(heat, naspix.saliency.LRP(plain)(images, 1))


def test_the_doctor_says_it_first():
    ending = naspix.wrap_model(Net(last=nn.Softmax(1)), input_size=16)
    line = repr(naspix.check(ending)).split("\n")[0]
    assert "scores: softmax" in line
    assert "sum to 1" in line
    assert "assumed" in repr(naspix.check(naspix.wrap_model(Net(), input_size=16))).split("\n")[0]


def test_metrics_of_a_plain_function():
    images = torch.rand(2, 3, 8, 8)
    heat = torch.rand(2, 8, 8)

    def rows(x: torch.Tensor) -> torch.Tensor:
        return (4 * x.mean((2, 3))).softmax(1)

    found = naspix.metrics.lerf(rows, images, heat, 0, steps=2, score="probability", scaled=False)
    torch.testing.assert_close(found.score[:, 0], rows(images)[:, 0].double(), rtol=1e-5, atol=1e-6)
    one = naspix.metrics.lerf(
        lambda x: x.mean((2, 3))[:, :1], images, heat, 0, steps=2, score="probability", scaled=False
    )
    wanted = images.mean((2, 3))[:, 0].sigmoid().double()
    torch.testing.assert_close(one.score[:, 0], wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "categories",
    [{2: "c", 0: "a", 1: "b"}, {"c": 2, "a": 0, "b": 1}, {"2": "c", "1": "b", "0": "a"}],
)
def test_categories_of_a_dictionary_are_ordered_by_number(categories):
    assert naspix.wrap_model(Net(3), categories=categories).categories == ("a", "b", "c")


@pytest.mark.parametrize(
    "categories", [{0: "a", 2: "c"}, {"a": 0, "b": 0}, {"a": "x"}, {1: 2}, {"a", "b"}, "ab", {}]
)
def test_categories_that_would_go_wrong_are_refused(categories):
    with pytest.raises(InputError, match="categories"):
        naspix.wrap_model(Net(2), categories=categories)


def test_categories_in_a_file(tmp_path):
    lines, table, items = (tmp_path / name for name in ("a.txt", "b.json", "c.json"))
    lines.write_text("cat\ntiger cat\n", "utf-8")
    table.write_text('{"tiger cat": 1, "cat": 0}', "utf-8")
    items.write_text('["cat", "tiger cat"]', "utf-8")
    for file in (lines, table, items):
        assert naspix.models.read_categories(file) == ("cat", "tiger cat")
    lines.write_text("cat\n\ndog\n", "utf-8")
    with pytest.raises(InputError, match="each line"):
        naspix.models.read_categories(lines)
    with pytest.raises(InputError, match="cannot be read"):
        naspix.models.read_categories(tmp_path / "none.txt")
