"""Files: what is written comes back, nothing is half written, what is broken is said to be."""

import contextlib
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from naspix.clustering.features import UpsampledFeatures
from naspix.clustering.ward import ward
from naspix.errors import InputError, OutputError
from naspix.segmentation import Segmentation, files


@pytest.fixture
def seg():
    features = UpsampledFeatures([torch.rand(2, 30, 4, 4)], (12, 10))
    tree = ward(features)
    clusters = torch.stack([each.cut(3) for each in tree])
    return Segmentation(clusters, source="NAS(levels=(2, 3, 4))", tree=tree, connectivity=8)


def test_save_and_load_bring_everything_back(seg, tmp_path):
    seg.save(tmp_path / "x.npz")
    loaded = Segmentation.load(tmp_path / "x.npz")
    assert loaded == seg
    assert loaded.source == seg.source
    assert loaded.connectivity == 8
    assert loaded.cut(7) == seg.cut(7)


def test_the_file_needs_no_pickle_and_no_naspix(seg, tmp_path):
    seg.save(str(tmp_path / "x.npz"))
    with np.load(tmp_path / "x.npz", allow_pickle=False) as file:
        np.testing.assert_array_equal(file["superpixels"], seg.superpixels.numpy())
        assert int(file["version"]) == files.FORMAT_VERSION


def test_no_suffix_is_added_and_nothing_is_left_beside(tmp_path):
    seg = Segmentation(torch.zeros(1, 3, 3, dtype=torch.int64))
    seg.save(tmp_path / "plain")
    seg.save(tmp_path / "plain")  # again, over itself
    assert [path.name for path in tmp_path.iterdir()] == ["plain"]
    loaded = Segmentation.load(tmp_path / "plain")
    assert loaded == seg
    assert loaded.tree is None


def test_a_new_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "usual").write_text("")
    Segmentation(torch.zeros(1, 3, 3, dtype=torch.int64)).save(tmp_path / "x.npz")
    assert (tmp_path / "x.npz").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_a_failing_write_leaves_the_old_file_and_no_part(seg, tmp_path, monkeypatch):
    place = tmp_path / "x.npz"
    place.write_bytes(b"old")

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match=r"x\.npz: the disk is full"):
        seg.save(place)
    assert place.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_folder_that_is_not_there_is_said(seg, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        seg.save(tmp_path / "nowhere" / "x.npz")


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Segmentation.load(tmp_path)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(InputError, match="there is no file"):
        Segmentation.load(tmp_path / "x.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive", b"PK\x03\x04 cut short"])
def test_what_is_no_archive_is_said(tmp_path, content):
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.npz"):
        Segmentation.load(tmp_path / "x.npz")


def test_a_cut_or_altered_file_is_refused_wherever_it_is_damaged(seg, tmp_path):
    seg.save(tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "cut.npz").write_bytes(whole[:length])
        with pytest.raises(InputError):
            Segmentation.load(tmp_path / "cut.npz")
    for position in range(0, len(whole), 61):
        altered = bytearray(whole)
        altered[position] ^= 0xFF
        (tmp_path / "altered.npz").write_bytes(altered)
        with contextlib.suppress(InputError):
            # a byte that does not matter (a time stamp) may be anything, others are noticed
            assert Segmentation.load(tmp_path / "altered.npz") == seg


def test_a_pickle_inside_is_not_opened(tmp_path):
    np.savez(tmp_path / "x.npz", clusters=np.array([{"a": 1}], dtype=object), version=1)
    with pytest.raises(InputError, match=r"not written by Segmentation\.save"):
        Segmentation.load(tmp_path / "x.npz")


def test_another_array_file_is_refused(tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(InputError, match=r"x\.npy"):
        Segmentation.load(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", photos=np.zeros(3))
    with pytest.raises(InputError, match=r"not written by Segmentation\.save"):
        Segmentation.load(tmp_path / "x.npz")


def rewrite(path, **changes):
    with np.load(path) as file:
        arrays = {**file, **changes}
    np.savez(path, **arrays)


def test_a_newer_version_and_impossible_content_are_refused(seg, tmp_path):
    place = tmp_path / "x.npz"
    seg.save(place)
    rewrite(place, version=99)
    with pytest.raises(InputError, match="newer naspix"):
        Segmentation.load(place)
    for changes in (
        {"clusters": np.zeros((2, 12, 10))},
        {"superpixels": seg.superpixels.numpy() + 1},
        {"linkage_0": np.zeros((3, 2))},
        {"leaves_1": np.full((12, 10), 120)},
        {"leaves_1": np.zeros((12, 9), np.int64)},
        {"connectivity": 5},
        {"n_trees": 5},
        {"n_trees": 1},
    ):
        seg.save(place)
        rewrite(place, **changes)
        with pytest.raises(InputError):
            Segmentation.load(place)


def test_files_are_small(tmp_path):
    rows = torch.arange(224).div(6, rounding_mode="floor")
    Segmentation(rows[None, :, None].repeat(1, 1, 224)).save(tmp_path / "x.npz")
    assert (tmp_path / "x.npz").stat().st_size < 20_000  # two int64 maps are 800 kB
    assert zipfile.is_zipfile(tmp_path / "x.npz")


# --------------------------------------------------------------------------- label maps as PNG


@pytest.mark.parametrize(("n_ids", "mode"), [(3, "P"), (256, "P"), (257, "I;16"), (4000, "I;16")])
def test_png_values_are_the_ids(tmp_path, n_ids, mode):
    ids = torch.arange(n_ids).view(1, 1, -1)
    Segmentation(ids, ids).save_png(tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as image:
        assert image.mode == mode
        np.testing.assert_array_equal(np.asarray(image), ids[0].numpy())


def test_png_of_the_clusters_of_another_image(tmp_path):
    clusters = torch.randint(0, 4, (2, 9, 7))
    Segmentation(clusters).save_png(tmp_path / "x.png", index=1, labels="clusters")
    with Image.open(tmp_path / "x.png") as image:
        np.testing.assert_array_equal(np.asarray(image), clusters[1].numpy())


def test_png_with_too_many_ids_or_no_place_is_refused(tmp_path):
    ids = torch.arange(2**16 + 1).view(1, 1, -1)
    seg = Segmentation(ids, ids)
    with pytest.raises(InputError, match="65,536"):
        seg.save_png(tmp_path / "x.png")
    with pytest.raises(OutputError, match="cannot write"):
        seg.resize((1, 5)).save_png(tmp_path / "nowhere" / "x.png")


def _tampered(path, changes) -> None:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    np.savez_compressed(path, **{**arrays, **changes})


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"n_trees": np.int64(10**9)}, "has 1000000000 trees for 2 images"),
        ({"n_trees": np.int64(-1)}, "has -1 trees"),
        ({"n_trees": np.float64(0)}, "is damaged"),
        ({"version": np.str_("1")}, "is damaged"),
        ({"version": np.int64([1, 1])}, "is damaged"),
        ({"connectivity": np.int64(5)}, "connectivity is 5"),
        ({"clusters": np.full((2, 6, 8), -1)}, "clusters are no .* numbers from 0"),
        ({"superpixels": np.zeros((2, 6, 8), np.int64)}, "lies in several clusters"),
        ({"superpixels": np.full((2, 6, 8), 2**40)}, "do not fit its clusters"),
        ({"superpixels": np.zeros((2, 600, 800), np.int64)}, "its superpixels unfold to"),
        ({"source": np.str_("x" * (1 << 23))}, "its source unfold to"),
    ],
)
def test_tampered_segmentations_are_refused_at_once(tmp_path, changes, complaint):
    path = tmp_path / "seg.npz"
    clusters = torch.arange(8).div(4, rounding_mode="floor").expand(2, 6, 8)
    Segmentation(clusters.contiguous()).save(path)
    _tampered(path, changes)
    with pytest.raises(InputError, match=complaint):
        Segmentation.load(path)


def test_what_nobody_asked_for_is_not_unfolded(tmp_path, monkeypatch):
    """An array of half a gigabyte in half a megabyte, under another name, is never read."""
    path = tmp_path / "seg.npz"
    clusters = torch.zeros(1, 4, 5, dtype=torch.int64)
    Segmentation(clusters).save(path)
    _tampered(path, {"bomb": np.zeros(1 << 26)})
    tracemalloc.start()
    loaded = Segmentation.load(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert torch.equal(loaded.clusters, clusters)
    assert most < 1 << 25
