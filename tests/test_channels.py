"""Images of two, four and six channels all through: reading, regions, maps, figures, pages."""

import warnings

import numpy as np
import pytest
import timm
import torch
from skimage.graph import rag_mean_color

import naspix
from naspix.errors import ImageError, InputError
from naspix.registry import SALIENCY, SEGMENTERS

SIDE = 32
OF_CNNS = [name for name in SALIENCY if name != "attention_rollout"]


@pytest.fixture(params=[2, 4, 6], scope="module")
def model(request) -> naspix.Classifier:
    torch.manual_seed(0)
    network = timm.create_model("test_resnet", num_classes=3, in_chans=request.param)
    return naspix.wrap_model(network, input_size=SIDE)


@pytest.fixture
def images(model) -> torch.Tensor:
    rough = torch.rand(1, model.in_channels, 4, 4, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(rough, (SIDE, SIDE), mode="bilinear")


@pytest.fixture(autouse=True)
def _no_warning_leaks():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("default", category=naspix.NaspixWarning)
        yield


@pytest.mark.parametrize("name", SEGMENTERS)
def test_segmenters(model, images, name):
    explanation = naspix.explain(model, images, method="vanilla_gradient", segmenter=name)
    assert explanation.segmentations[name].clusters.shape == (1, SIDE, SIDE)


@pytest.mark.parametrize("name", OF_CNNS)
def test_methods(model, images, name):
    kind = SALIENCY[name]
    assert kind(model, **kind.quick)(images).shape == (1, SIDE, SIDE)


def test_normalised_cut_sees_all_channels():
    """Two halves that differ in the last channel alone are two regions."""
    for n_channels in (2, 4, 5, 6):
        images = torch.full((1, n_channels, 16, 16), 0.5)
        images[0, -1, :, 8:] = 0.9
        found = naspix.NormalizedCut(n_regions=16)(images).clusters[0]
        left, right = found[:, :6].unique(), found[:, 10:].unique()  # SLIC is free at the edge
        assert len(left) == len(right) == 1
        assert left != right


def test_similarity_over_three_channels_is_scikit_images():
    image = np.random.default_rng(0).random((12, 12, 3))
    labels = naspix.Grid(n_segments=9)(torch.rand(1, 3, 12, 12)).clusters[0].numpy()
    whole = rag_mean_color(image, labels, mode="similarity", sigma=0.1)
    padded = rag_mean_color(np.pad(image[..., :2], ((0, 0), (0, 0), (0, 1))), labels,
                            mode="similarity", sigma=0.1)  # fmt: skip
    last = rag_mean_color(np.pad(image[..., 2:], ((0, 0), (0, 0), (0, 2))), labels,
                          mode="similarity", sigma=0.1)  # fmt: skip
    for one, other, edge in whole.edges(data=True):
        product = padded[one][other]["weight"] * last[one][other]["weight"]
        assert edge["weight"] == pytest.approx(product)


def test_figures_pages_and_files(model, images, tmp_path):
    explanation = naspix.explain(model, images)
    explanation.plot()
    explanation.save(tmp_path / "out")
    assert (tmp_path / "out" / "report.html").is_file()


# --- reading bands -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_arrays_of_bands_are_read(model, dtype):
    rng = np.random.default_rng(0)
    values = rng.random((SIDE, SIDE, model.in_channels))
    most = 1 if np.issubdtype(dtype, np.floating) else np.iinfo(dtype).max
    array = (values * most).astype(dtype)
    found = model.load_images(array)
    expected = torch.from_numpy(array.astype(np.float64) / most).permute(2, 0, 1)[None].float()
    torch.testing.assert_close(found, expected)
    as_tensor = torch.from_numpy(array.astype(np.float32) / np.float32(most)).permute(2, 0, 1)
    torch.testing.assert_close(model.load_images(as_tensor), expected)


def test_arrays_of_bands_are_cropped_as_pictures_are(model):
    rng = np.random.default_rng(0)
    array = rng.random((50, 40, model.in_channels)).astype(np.float32)
    found = model.load_images([array, array[:45]])
    colour = naspix.wrap_model(torch.nn.Conv2d(3, 3, 1), input_size=SIDE)
    for band in range(model.in_channels):
        grey = np.repeat(array[..., band : band + 1], 3, axis=2)
        torch.testing.assert_close(found[0, band], colour.load_images(grey)[0, 0])


def test_bands_are_chosen_in_the_networks_order():
    model = naspix.wrap_model(
        timm.create_model("test_resnet", num_classes=3, in_chans=4), input_size=SIDE
    )
    array = np.random.default_rng(0).random((SIDE, SIDE, 12)).astype(np.float32)
    found = model.load_images(array, channels=(7, 3, 2, 1))
    torch.testing.assert_close(
        found[0], torch.from_numpy(array[..., [7, 3, 2, 1]]).permute(2, 0, 1)
    )
    rgb = naspix.wrap_model(timm.create_model("test_resnet", num_classes=3), input_size=SIDE)
    found = rgb.load_images(array, channels=(3, 2, 1))
    torch.testing.assert_close(found[0], torch.from_numpy(array[..., [3, 2, 1]]).permute(2, 0, 1))


@pytest.mark.parametrize(
    ("source", "channels", "complaint"),
    [
        (np.zeros((8, 8, 12), np.float32), None, "takes 4 channels, but 12 bands .* channels="),
        (np.zeros((8, 8, 12), np.float32), (1, 2), "takes 4 channels, but 2 bands"),
        (np.zeros((8, 8, 12), np.float32), (1, 2, 3, 12), "bands that are none of the 12"),
        (np.zeros((8, 8), np.float32), None, r"bands are read of arrays .* ndarray \(8, 8\)"),
        ("cube.tif", None, "'cube.tif' is not; read the file with the library"),
        (np.full((8, 8, 4), 3.0), None, "floats in the array must lie in"),
    ],
)
def test_bands_that_do_not_fit_are_one_sentence(source, channels, complaint):
    model = naspix.wrap_model(
        timm.create_model("test_resnet", num_classes=3, in_chans=4), input_size=SIDE
    )
    with pytest.raises(ImageError, match=complaint):
        model.load_images(source, channels=channels)


def test_chosen_bands_are_shown():
    network = timm.create_model("test_resnet", num_classes=3, in_chans=5)
    model = naspix.wrap_model(network, input_size=SIDE, shown=(4, 2, 0))
    images = torch.rand(1, 5, SIDE, SIDE)
    photo = next(naspix.explain(model, images).photos())
    np.testing.assert_allclose(photo.image, images[0, [4, 2, 0]].permute(1, 2, 0))
    one = naspix.wrap_model(network, input_size=SIDE, shown=(3,))
    assert next(naspix.explain(one, images).photos()).image.shape == (SIDE, SIDE, 1)


@pytest.mark.parametrize("shown", [(0, 1), (0, 1, 5), (0, 1, 2, 3)])
def test_bands_to_show_are_checked(shown):
    network = timm.create_model("test_resnet", num_classes=3, in_chans=5)
    with pytest.raises(InputError, match="name three of the channels 0 to 4, or one"):
        naspix.wrap_model(network, input_size=SIDE, shown=shown)
