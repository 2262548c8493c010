"""Classes by folders, as torchvision has them."""

import published
import pytest
import torchvision

from naspix.datasets import ImageFolder
from naspix.errors import DatasetError, ImageError


@pytest.fixture
def root(tmp_path):
    for i, name in enumerate(("dog/2.png", "dog/more/1.png", "cat/1.png", "cat/10.PNG")):
        published.picture(tmp_path / name, seed=i)
    (tmp_path / "cat" / "notes.txt").write_text("")
    (tmp_path / "cat" / ".hidden.png").write_text("")
    (tmp_path / "nothing").mkdir()
    return tmp_path


def test_as_torchvision_has_it(root):
    ours = ImageFolder(root)
    (root / "cat" / ".hidden.png").unlink()
    (root / "nothing").rmdir()
    theirs = torchvision.datasets.ImageFolder(str(root))
    assert ours.categories == tuple(theirs.classes) == ("cat", "dog")
    assert ours.ids == tuple(path[len(str(root)) + 1 :] for path, _ in theirs.imgs)
    assert ours.labels == tuple(theirs.targets)
    assert [sample.label for sample in ours] == theirs.targets
    assert ours[0].image.shape == (3, 20, 30)


def test_categories_may_be_given(root):
    assert ImageFolder(root, categories=("dog", "bird", "cat")).labels == (2, 2, 0, 0)
    with pytest.raises(DatasetError, match=r"'dog' in .* is none of the 1 classes asked for"):
        ImageFolder(root, categories=("cat",))


def test_a_damaged_picture_is_named_and_the_rest_goes_on(root):
    (root / "cat" / "1.png").write_bytes(b"")
    dataset = ImageFolder(root)
    with pytest.raises(ImageError, match=r"1\.png' is empty"):
        dataset[0]
    assert dataset[1].label == 0


def test_folders_of_another_kind_are_refused(root):
    with pytest.raises(DatasetError, match="holds no folders of pictures"):
        ImageFolder(root / "cat")
    with pytest.raises(DatasetError, match="is a file, not a folder"):
        ImageFolder(root / "cat" / "10.PNG")


def test_stl10_by_kind(shared_data):
    dataset = ImageFolder(shared_data / "stl10-sample")
    assert len(dataset) == 246
    assert len(dataset.categories) == 26
    assert all(sample.image.shape == (3, 96, 96) for sample in dataset)
