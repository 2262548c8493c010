"""Networks of one's own code that learn other classes, and are read again from where they did."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

import naspix
from naspix.cli.app import main
from naspix.datasets import write_example
from naspix.errors import ModelError, WeightsError
from naspix.models.heads import head_of, replace_head
from naspix.models.own_models import _head_of, own_classifier, own_recipe
from naspix.models.recipes import with_classes

MINE = """
import torch, naspix
from torch import nn


def body():
    torch.manual_seed(0)
    return [nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 12, 3, 4, 1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten()]


def make():
    return naspix.wrap_model(
        nn.Sequential(*body(), nn.Linear(12, 4)), mean=0.5, std=0.25, input_size=64,
        categories=list("abcd"),
    )


def convolutional():
    return naspix.wrap_model(
        nn.Sequential(*body()[:-2], nn.Conv2d(12, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        mean=0.5, std=0.25, input_size=64,
    )


def prepares():
    return naspix.wrap_model(
        nn.Sequential(*body(), nn.Linear(12, 4)), preprocess=lambda photo: None, input_size=64
    )
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return path


def test_the_head_is_the_layer_whose_output_the_scores_are():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4), nn.ReLU(),
        nn.Linear(4, 5), nn.Dropout(),
    ).eval()  # fmt: skip
    images = torch.rand(2, 3, 8, 8)
    assert head_of(network, lambda: network(images), network(images)) == "5"
    assert head_of(network, lambda: network(images), network(images) * 2) == ""
    replace_head(network, "5", 3)
    assert network(images).shape == (2, 3)


def test_weights_stay_and_the_head_is_new(file: Path):
    recipe = own_recipe(f"{file}:make")
    made = with_classes(recipe, 7)
    assert sorted(made.head) == ["6.bias", "6.weight"]
    own = naspix.load_model(f"{file}:make").network
    assert torch.equal(made.network[0].weight, own[0].weight)
    assert made.network[6].weight.shape == (7, 12)
    assert recipe.description.mean == (0.5, 0.5, 0.5)


def test_a_network_that_trains_is_asked_in_eval_mode_and_left_as_it_was(file: Path):
    """Its batch statistics stay, and forward= is heard."""
    file.write_text(
        MINE
        + """

class Numbered(nn.Sequential):
    def forward(self, images, number):
        return super().forward(images) + 0 * number


net = Numbered(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
               nn.Flatten(), nn.Dropout(), nn.Linear(8, 4))


def trains():
    return naspix.wrap_model(
        net, mean=0.5, std=0.25, input_size=64, forward=lambda module, images: module(images, 1)
    )
"""
    )
    model = own_classifier(f"{file}:trains")
    assert model.network.training
    before = model.network[1].running_mean.clone()
    assert _head_of(model) == "6"
    assert torch.equal(model.network[1].running_mean, before)
    assert model.network.training
    with pytest.raises(ModelError, match="takes more than images"):
        own_recipe(f"{file}:trains")


def test_what_cannot_be_given_other_classes_is_one_sentence(file: Path):
    with pytest.raises(ModelError, match=r"no linear layer of .* puts out its scores"):
        own_recipe(f"{file}:convolutional")
    with pytest.raises(ModelError, match="prepares photos by a function of its own"):
        own_recipe(f"{file}:prepares")


def test_a_network_of_ones_own_learns_and_is_read_again(file: Path, tmp_path: Path, capsys):
    pytest.importorskip("lightning", reason="needs the extra train")
    write_example(tmp_path / "data")
    command = ["finetune", "--model", f"{file}:make", "--root", str(tmp_path / "data" / "classes")]
    command += ["--output", str(tmp_path / "run"), "--epochs", "2", "--workers", "0"]
    assert main([*command, "--device", "cpu", "--val-share", "0.34"]) == 0
    described = json.loads((tmp_path / "run" / "model.json").read_text())
    assert described["network"] == f"{file}:make"

    with pytest.raises(WeightsError, match=r"is not run by reading a folder.*--weights"):
        naspix.load_model(tmp_path / "run")
    model = naspix.load_model(f"{file}:make", weights=tmp_path / "run")
    assert model.categories == ("cat", "cup")
    images = model.load_images(tmp_path / "data" / "cat.jpg")
    assert model(images).shape == (1, 2)
    assert model.scores.output == "softmax"
    from safetensors.torch import load_file

    state = load_file(tmp_path / "run" / "model.safetensors")
    assert torch.equal(model.network[6].weight, state["6.weight"])
    alone = naspix.load_model(f"{file}:make", weights=tmp_path / "run" / "model.safetensors")
    torch.testing.assert_close(alone(images), model(images))
    assert alone.categories is None

    page = ["explain", str(tmp_path / "data" / "cat.jpg"), "--output", str(tmp_path / "out")]
    assert main([*page, "--model", f"{file}:make", "--weights", str(tmp_path / "run")]) == 0
    capsys.readouterr()
