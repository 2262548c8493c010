"""LIME's package cuts by NAS, counts our regions rightly, and finds the one that matters."""

import numpy as np
import pytest
import torch
from torch import nn

import naspix
from naspix.errors import InputError
from naspix.interop.lime import LimeExplainer, classifier_fn, saliency_map, segmentation_fn


def test_regions_are_nas_own_and_count_from_0(network, images):
    nas = naspix.NAS(network, levels=(0, 1), n_clusters=3)
    array = images[0].permute(1, 2, 0).numpy()
    labels = nas.as_lime()(array)
    assert labels.dtype == np.int64
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert np.array_equal(labels, nas(images[:1]).superpixels[0].numpy())


def test_arrays_of_bytes_and_of_floats_are_the_same_picture(network):
    array = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    segment = naspix.NAS(network, levels=(0, 1), n_clusters=3).as_lime()
    assert np.array_equal(segment(array), segment(array / 255))
    with pytest.raises(InputError, match="0 to 255"):
        segment(array.astype(np.float64))


def test_the_frame_is_the_pictures_whatever_the_network_looks_at(network):
    array = np.random.default_rng(0).random((33, 21, 3))
    nas = naspix.NAS(network, levels=(0, 1), n_clusters=2)
    labels = nas.as_lime(input_size=(24, 24))(array)
    assert labels.shape == (33, 21)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    with pytest.raises(InputError, match="input_size is"):
        nas.as_lime(input_size=(0, 24))(array)


def test_limes_own_explainer_hides_every_region_once(network, images):
    """SLIC's ids begin at 1 by default, and then LIME never hides the last region."""
    from lime.lime_image import LimeImageExplainer

    array = images[0].permute(1, 2, 0).double().numpy()
    segment = naspix.NAS(network, levels=(0, 1), n_clusters=3).as_lime()
    shown = []

    def ask(pictures: np.ndarray) -> np.ndarray:
        shown.extend(pictures)
        return classifier_fn(network)(pictures)

    explanation = LimeImageExplainer(random_state=0, verbose=False).explain_instance(
        array, ask, segmentation_fn=segment, hide_color=0, num_samples=60, batch_size=20
    )
    hidden = np.stack([(picture == 0).all(-1) for picture in shown])
    labels = segment(array)
    for region in range(labels.max() + 1):
        inside = hidden[:, labels == region]
        assert (inside.all(1) == inside.any(1)).all()  # whole or not at all
        assert 0 < inside.all(1).sum() < len(shown)
    assert len(explanation.local_exp[explanation.top_labels[0]]) == labels.max() + 1


def test_the_region_that_a_score_rests_on_gets_the_weight(linear):
    images = torch.full((1, 3, 8, 8), 0.25)
    images[:, 2, 4:, :4] = 1.0
    grid = naspix.Grid(n_segments=4)
    method = LimeExplainer(linear, grid, n_samples=100, hide_color=0.25)
    heat = method(images, 2)
    assert heat.shape == (1, 8, 8)
    assert (heat[0, 4:, :4] > 0).all()
    assert (heat[0, 4:, :4] > 5 * heat[0, :4].abs().max()).all()
    torch.testing.assert_close(method(images, 2), heat)  # a seed is a seed


def test_without_a_segmenter_lime_takes_its_quickshift(linear):
    images = torch.rand(1, 3, 16, 16)
    heat = LimeExplainer(linear, n_samples=20)(images)
    assert heat.shape == (1, 16, 16)


def test_map_of_an_explanation_puts_weights_where_regions_are():
    from types import SimpleNamespace

    segments = np.array([[2, 0], [1, 1]])
    explanation = SimpleNamespace(segments=segments, local_exp={4: [(1, -1.0), (2, 3.0)]})
    assert saliency_map(explanation, 4).tolist() == [[3.0, 0.0], [-1.0, -1.0]]


def test_any_segmenter_will_do(images):
    labels = segmentation_fn(naspix.SLIC(n_segments=6))(images[0].permute(1, 2, 0).numpy())
    assert labels.min() == 0


def _grey() -> naspix.Classifier:
    """The score of the first class is the mean of the lower left quarter."""
    network = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.AvgPool2d(4), nn.Flatten())
    network[0].weight.data = torch.tensor([4.0, -4.0]).view(2, 1, 1, 1)
    picked = nn.Linear(8, 2, bias=False)
    picked.weight.data = torch.zeros(2, 8)
    picked.weight.data[0, 2] = picked.weight.data[1, 6] = 1.0
    return naspix.wrap_model(
        nn.Sequential(network, picked), mean=[0.0], std=[1.0], input_size=(8, 8), levels=["0.0"]
    )


def test_one_channel():
    """LIME knows colours only: a grey picture has three equal ones, which the model sees grey."""
    model, images = _grey(), torch.full((1, 1, 8, 8), 0.9)
    array = images[0].expand(3, -1, -1).permute(1, 2, 0).double().numpy()
    asked = classifier_fn(model)(array[None])
    with torch.no_grad():
        expected = model.probabilities(images)
    np.testing.assert_allclose(asked, expected.numpy(), rtol=1e-5)
    method = LimeExplainer(model, naspix.Grid(n_segments=4), n_samples=60, hide_color=0.0)
    heat = method(images, 0)
    assert heat.shape == (1, 8, 8)
    assert heat[0, 4:, :4].min() > 5 * heat[0, :4].abs().max()


def test_one_channel_cut_by_nas():
    network = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    )
    model = naspix.wrap_model(network, mean=[0.5], std=[0.3], input_size=(16, 16), levels=["1"])
    images = torch.full((1, 1, 16, 16), 0.2)
    images[:, :, 3:9, 4:13] = 0.9
    nas = naspix.NAS(model, levels=(0,), n_clusters=2)
    array = images[0].expand(3, -1, -1).permute(1, 2, 0).double().numpy()
    assert np.array_equal(nas.as_lime()(array), nas(images).superpixels[0].numpy())
    assert LimeExplainer(model, nas, n_samples=10)(images, 0).shape == (1, 16, 16)


def test_without_a_segmenter_grey_pictures_are_cut_too():
    assert LimeExplainer(_grey(), n_samples=10)(torch.rand(1, 1, 8, 8), 0).shape == (1, 8, 8)


def test_other_numbers_of_channels_are_refused():
    network = nn.Sequential(nn.Conv2d(2, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = naspix.wrap_model(
        network, mean=[0.5] * 2, std=[0.5] * 2, input_size=(8, 8), levels=["0"]
    )
    with pytest.raises(InputError, match="one channel or three, and this takes 2"):
        classifier_fn(model)
    with pytest.raises(InputError, match="one channel or three, and this takes 2"):
        LimeExplainer(model)(torch.rand(1, 2, 8, 8), 0)


def test_nothing_is_printed_and_the_package_stays_as_it_is(linear, capsys):
    from lime.lime_image import LimeImageExplainer

    before = LimeImageExplainer.data_labels
    LimeExplainer(linear, naspix.Grid(n_segments=4), n_samples=20)(torch.rand(1, 3, 8, 8), 1)
    assert capsys.readouterr() == ("", "")
    assert LimeImageExplainer.data_labels is before
    assert "tqdm" in before.__globals__
