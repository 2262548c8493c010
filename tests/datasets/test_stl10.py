"""STL-10's binary files: against torchvision's reader, and each way they may be damaged."""

import os
import pickle

import numpy as np
import published
import pytest
import torch
import torchvision

from naspix.datasets import STL10
from naspix.errors import DatasetError, UnknownNameError


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("stl10")
    published.stl10(root)
    return root


@pytest.mark.parametrize("split", ["train", "test", "unlabeled"])
def test_as_torchvision_reads_it(root, split, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.STL10(root, split)
    ours = STL10(root, split=split)
    assert len(ours) == len(theirs) == 12
    assert ours.categories == tuple(theirs.classes)
    for i in range(12):
        picture, label = theirs[i]
        sample = ours[i]
        expected = torch.from_numpy(np.array(picture)).permute(2, 0, 1) / 255
        torch.testing.assert_close(sample.image, expected, rtol=0, atol=0)
        assert sample.label == (None if split == "unlabeled" else label) == ours.labels[i]
        assert sample.id == ours.ids[i]
        assert sample.boxes.shape == (0, 4)


def test_folds_as_torchvision_has_them(root, monkeypatch):
    monkeypatch.setattr(torchvision.datasets.STL10, "_check_integrity", lambda self: True)
    theirs = torchvision.datasets.STL10(root, "train", folds=4)
    ours = STL10(root, split="train", fold=4)
    assert ours.ids == ("train/00004", "train/00007", "train/00009")
    for i, (picture, label) in enumerate(theirs):
        assert ours[i].label == label
        np.testing.assert_array_equal(
            (ours[i].image * 255).permute(1, 2, 0).numpy(), np.array(picture)
        )


def test_the_inner_folder_will_do(root):
    assert STL10(root / "stl10_binary").ids == STL10(root).ids


def test_it_behaves_as_a_list(root):
    dataset = STL10(root)
    assert len(list(dataset)) == 12
    assert dataset[-1].id == dataset[11].id
    with pytest.raises(IndexError):
        dataset[12]
    assert pickle.loads(pickle.dumps(dataset))[3].id == dataset.ids[3]  # for worker processes
    assert repr(dataset) == f"STL10(root={root!r}, split='test', fold=None)"


def _cut(path, n):
    with path.open("r+b") as file:
        file.truncate(n)


DAMAGE = {
    "no pictures": (lambda f: os.remove(f / "test_X.bin"), "no file .*test_X.bin.*fetch stl10"),
    "no labels": (lambda f: os.remove(f / "test_y.bin"), "no file .*test_y.bin"),
    "cut pictures": (lambda f: _cut(f / "test_X.bin", 5000), "has 5000 bytes.*published"),
    "one fewer": (lambda f: _cut(f / "test_X.bin", 11 * 27648), "12 labels, .* 11 pictures"),
    "empty": (lambda f: _cut(f / "test_X.bin", 0), "has 0 bytes"),
    "zero label": (lambda f: (f / "test_y.bin").write_bytes(bytes(12)), "label 0 for picture 0"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(tmp_path, damage):
    published.stl10(tmp_path)
    harm, sentence = DAMAGE[damage]
    harm(tmp_path / "stl10_binary")
    with pytest.raises(DatasetError, match=sentence):
        STL10(tmp_path)


def test_wrong_wishes_are_refused(root, tmp_path):
    with pytest.raises(UnknownNameError, match="did you mean 'train'"):
        STL10(root, split="training")
    with pytest.raises(DatasetError, match="folds 0 to 9, not 10"):
        STL10(root, split="train", fold=10)
    with pytest.raises(DatasetError, match="'train' only"):
        STL10(root, fold=1)
    with pytest.raises(DatasetError, match=r"no STL-10 in .*naspix data fetch stl10"):
        STL10(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        STL10(tmp_path / "nowhere")


def test_damaged_folds_are_named(tmp_path):
    published.stl10(tmp_path)
    path = tmp_path / "stl10_binary" / "fold_indices.txt"
    path.write_text("0 1\n")
    with pytest.raises(DatasetError, match="10 lines"):
        STL10(tmp_path, split="train", fold=1)
    path.write_text("0 12\n")
    with pytest.raises(DatasetError, match="names picture 12, but there are 12"):
        STL10(tmp_path, split="train", fold=0)
    path.unlink()
    with pytest.raises(DatasetError, match=r"there is no file .*fold_indices"):
        STL10(tmp_path, split="train", fold=0)


def test_a_file_cut_while_it_is_read_is_named(tmp_path):
    published.stl10(tmp_path)
    dataset = STL10(tmp_path)
    _cut(tmp_path / "stl10_binary" / "test_X.bin", 27648 * 5 + 7)
    assert dataset[4].id == "test/00004"
    with pytest.raises(DatasetError, match="ends before picture 5"):
        dataset[5]
