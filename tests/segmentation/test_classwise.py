"""Class clustering: known answers, scikit-learn and SciPy on the dense matrix, files and laws."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster, linkage
from sklearn.metrics import adjusted_rand_score
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

import naspix
from naspix.errors import InputError, UnknownNameError
from naspix.segmentation import ClassClustering, ClassClusters


@pytest.fixture(scope="module")
def model() -> naspix.Classifier:
    """A network whose only level tells colours apart, exactly."""
    colours = nn.Conv2d(3, 6, 1, bias=False)
    with torch.no_grad():
        colours.weight.copy_(torch.cat([torch.eye(3), -torch.eye(3)])[:, :, None, None])
    network = nn.Sequential(
        nn.Sequential(colours, nn.ReLU()), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
    return naspix.wrap_model(
        network, mean=(0.5,) * 3, std=(0.5,) * 3, input_size=(16, 16), levels=("0",)
    )


COLOURS = torch.tensor([[0.9, 0.1, 0.1], [0.1, 0.9, 0.1], [0.1, 0.1, 0.9]])


def patchwork(seed: int, n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    """Images of three colours, a little noisy, and which colour each pixel has."""
    generator = torch.Generator().manual_seed(seed)
    cells = torch.randint(0, 3, (n, 4, 4), generator=generator)
    truth = cells.repeat_interleave(4, 1).repeat_interleave(4, 2)
    images = COLOURS[truth].permute(0, 3, 1, 2)
    return (images + 0.02 * torch.randn(images.shape, generator=generator)).clamp(0, 1), truth


def test_a_cluster_is_the_same_colour_in_every_image_seen_or_not(model):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=90).fit(patchwork(0)[0])
    images, truth = patchwork(1)
    clusters = fitted(images).clusters
    names = {int(clusters[truth == colour].mode().values) for colour in range(3)}
    assert names == {0, 1, 2}
    assert adjusted_rand_score(truth.flatten(), clusters.flatten()) == 1.0
    sizes = fitted.labels.bincount()
    assert sizes.tolist() == sorted(sizes.tolist(), reverse=True)


def test_by_scipy_and_scikit_learn_from_the_same_sample():
    model = naspix.load_model("efficientnet_lite0")
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    clustering = ClassClustering(model, n_clusters=4, n_samples=150)
    fitted = clustering.fit(images)
    points = fitted.points.double().numpy()
    expected = fcluster(linkage(points, "ward"), 4, "maxclust")
    assert adjusted_rand_score(expected, fitted.labels) == 1.0
    activations = [maps.double() for maps in model.activations(images, clustering.levels)]
    features = clustering.features(activations, (64, 64))
    oracle = KNeighborsClassifier(5, algorithm="brute").fit(points, fitted.labels.numpy())
    dense = features.dense().flatten(2).mT.flatten(0, 1)
    predicted = oracle.predict(dense.numpy()).reshape(3, 64, 64)
    np.testing.assert_array_equal(fitted.segment(activations, (64, 64)).clusters, predicted)
    # in single precision a pixel may lie on the edge
    assert (fitted(images).clusters.numpy() != predicted).mean() < 1e-3


def test_a_stream_is_the_same_as_one_tensor(model):
    images = torch.cat([patchwork(seed)[0] for seed in range(5)])
    clustering = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50)
    whole = clustering.fit(images)
    labelled = ((images[i : i + 3], torch.zeros(3)) for i in range(0, 20, 3))  # as a DataLoader
    streamed = clustering.fit(labelled)
    assert torch.equal(whole.points, streamed.points)
    assert whole.n_images == streamed.n_images == 20
    other = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50, seed=1).fit(images)
    assert not torch.equal(whole.points, other.points)


def test_images_one_by_one_are_a_batch_of_them(model):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50).fit(patchwork(0)[0])
    images, _ = patchwork(2)
    batch = fitted(images)
    for i in range(len(images)):
        assert batch[i] == fitted(images[i : i + 1])


def test_a_finer_cut_refines_the_sample(model):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=60).fit(patchwork(0)[0])
    finer = fitted.cut(7)
    pairs = set(zip(finer.labels.tolist(), fitted.labels.tolist(), strict=True))
    assert len(pairs) == finer.n_clusters == 7
    assert finer.points is fitted.points


def test_autocast_does_not_reach_the_clusters(model):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    fitted = ClassClustering(model, levels=(0,), n_clusters=5, n_samples=60).fit(images)
    activations = model.activations(images, (0,))
    plain = fitted.segment(activations, (16, 16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert fitted.segment(activations, (16, 16)) == plain


def test_size_is_the_frame_of_the_result(model):
    clustering = ClassClustering(model, levels=(0,), n_clusters=2, n_samples=30, size=(8, 5))
    assert clustering.fit(patchwork(0)[0])(patchwork(1)[0]).size == (8, 5)


def test_saved_and_loaded_it_is_the_same(model, tmp_path: Path):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50).fit(patchwork(0)[0])
    fitted = fitted.named({0: "Gräser", 2: "head"})
    fitted.save(tmp_path / "tench.npz")
    loaded = ClassClusters.load(tmp_path / "tench.npz", model)
    images, _ = patchwork(1)
    assert loaded(images) == fitted(images)
    assert loaded.names == ("Gräser", "", "head")
    assert loaded.title(1) == "cluster 1"
    assert loaded.clustering == fitted.clustering
    assert loaded.n_images == 4
    assert loaded.cut(5)(images) == fitted.cut(5)(images)


def test_names_are_kept_and_checked(model):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50).fit(patchwork(0)[0])
    named = fitted.named(["a", "b", "c"]).named({1: "B"})
    assert named.names == ("a", "B", "c")
    assert fitted.names == ("", "", "")  # the first object is as it was
    with pytest.raises(InputError, match="there is no cluster 3; they are 0 to 2"):
        fitted.named({3: "tail"})
    with pytest.raises(InputError, match="2 names for 3 clusters"):
        fitted.named(["a", "b"])


def test_files_that_are_not_class_clusters(model, tmp_path: Path):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50).fit(patchwork(0)[0])
    path = tmp_path / "x.npz"
    with pytest.raises(InputError, match="there is no file"):
        ClassClusters.load(path, model)
    with pytest.raises(InputError, match="cannot be read"):
        ClassClusters.load(tmp_path, model)
    fitted.save(path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match="is damaged"):
        ClassClusters.load(path, model)
    naspix.Segmentation(torch.zeros(1, 2, 2, dtype=torch.int64)).save(path)
    with pytest.raises(InputError, match=r"was not written by ClassClusters\.save"):
        ClassClusters.load(path, model)
    fitted.save(path)
    other = naspix.load_model("efficientnet_lite0")
    with pytest.raises(InputError, match=r"was fitted to .*, not to efficientnet_lite0"):
        ClassClusters.load(path, other)
    arrays = dict(np.load(path))
    np.savez(path, **(arrays | {"linkage": arrays["linkage"][:-1]}))
    with pytest.raises(InputError, match="no whole class clusters: its tree names nodes"):
        ClassClusters.load(path, model)
    described = json.loads(str(arrays["described"]))
    later = np.str_(json.dumps(described | {"class_clusters": 2}))
    np.savez(path, **(arrays | {"described": later}))
    with pytest.raises(InputError, match="format 2, this naspix reads up to 1"):
        ClassClusters.load(path, model)


def test_files_hold_no_pickle(model, tmp_path: Path):
    fitted = ClassClustering(model, levels=(0,), n_clusters=3, n_samples=50).fit(patchwork(0)[0])
    fitted.save(tmp_path / "x.npz")
    with zipfile.ZipFile(tmp_path / "x.npz") as file:
        for name in file.namelist():
            assert b"|O" not in file.read(name)[:128]


def test_what_cannot_be_is_refused_in_a_sentence(model):
    with pytest.raises(InputError, match="n_clusters is 0"):
        ClassClustering(model, n_clusters=0)
    with pytest.raises(InputError, match="n_neighbors is 9; with n_samples = 8"):
        ClassClustering(model, n_clusters=2, n_samples=8, n_neighbors=9)
    with pytest.raises(InputError, match="size is"):
        ClassClustering(model, size=(0, 4))
    with pytest.raises(UnknownNameError, match="no level 7"):
        ClassClustering(model, levels=(7,))
    clustering = ClassClustering(model, levels=(0,), n_clusters=3)
    with pytest.raises(InputError, match="there are no images"):
        clustering.fit([])
    with pytest.raises(InputError, match=r"\(B, C, H, W\) in \[0, 1\], not the shape"):
        clustering.fit([torch.rand(3, 16, 16)])
    with pytest.raises(InputError, match="not a str"):
        clustering.fit(["cat.jpg"])
    with pytest.raises(InputError, match="1 images have 4 pixels together"):
        clustering.fit(torch.rand(1, 3, 2, 2))
    with pytest.raises(InputError):
        clustering.fit([torch.full((1, 3, 16, 16), torch.nan)])
