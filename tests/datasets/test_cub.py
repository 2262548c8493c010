"""CUB by its own tables and by CUBv2's lists."""

import numpy as np
import published
import pytest
from PIL import Image

from naspix.datasets import CUB200
from naspix.errors import DatasetError, ImageError, UnknownNameError


@pytest.fixture
def root(tmp_path):
    published.cub(tmp_path)
    return tmp_path


def test_its_own_tables(root):
    test, train = CUB200(root), CUB200(root, split="train")
    assert test.ids == (published.BIRDS[0], published.BIRDS[2])
    assert train.ids == (published.BIRDS[1],)
    assert test.labels == (0, 1)
    assert test.categories[0] == "Black footed Albatross"
    assert len(test.categories) == 200
    sample = test[1]
    assert sample.boxes.tolist() == [[5, 6, 12, 14]]  # left, top, width, height: 5 6 7 8
    assert sample.box_labels.tolist() == [1]
    assert sample.label == 1
    assert sample.mask is None
    expected = published.picture(root / "again.png", seed=2)
    np.testing.assert_array_equal((sample.image * 255).permute(1, 2, 0).numpy(), expected)


def test_the_inner_folder_will_do(root):
    assert CUB200(root / "CUB_200_2011")[0].id == published.BIRDS[0]


def test_lists_have_the_split_val(root):
    with pytest.raises(DatasetError, match=r"CUBv2's, whose lists .*wsolevaluation"):
        CUB200(root, split="val")
    published.cub_lists(root)
    val = CUB200(root, split="val")
    assert val.ids == ("002.Wren/99,1.png",)  # a comma in a name does no harm
    assert val[0].boxes.tolist() == [[2, 3, 12, 8]]
    assert val[0].label == 1
    assert CUB200(root).ids == (published.BIRDS[0], published.BIRDS[2])


def test_lists_may_lie_elsewhere(root, tmp_path_factory):
    lists = published.cub_lists(tmp_path_factory.mktemp("elsewhere"))
    dataset = CUB200(root, split="train", lists=lists)
    assert dataset[0].boxes.tolist() == [[2, 3, 12, 8]]


def test_as_wsolevaluation_lays_pictures_out(tmp_path):
    published.cub_lists(tmp_path)
    for i, bird in enumerate(published.BIRDS):
        published.picture(tmp_path / "CUB" / bird, seed=i)
    assert CUB200(tmp_path)[1].id == published.BIRDS[2]


def test_segmentations_are_the_masks(root):
    mask = np.zeros((20, 30), np.uint8)
    mask[3:8, 2:12] = 255
    mask[0, 0] = 51  # one person of five
    path = (root / "segmentations" / published.BIRDS[0]).with_suffix(".png")
    path.parent.mkdir(parents=True)
    Image.fromarray(mask).save(path)
    np.testing.assert_array_equal(CUB200(root)[0].mask.numpy(), mask > 128)


def test_boxes_of_a_smaller_copy_are_scaled_and_of_another_picture_left_out(root):
    published.cub_lists(root)
    path = root / "CUB_200_2011" / "images" / published.BIRDS[0]
    published.picture(path, size=(40, 60))
    assert CUB200(root)[0].boxes.tolist() == [[4, 6, 24, 16]]
    published.picture(path, size=(30, 20))
    sample = CUB200(root)[0]
    assert sample.boxes.shape == (0, 4)
    assert sample.problems == (
        "1 box was drawn on 30 x 20 pixels, but the picture has 20 x 30, so it is left out",
    )


def test_missing_parts_are_named(root):
    (root / "CUB_200_2011" / "images" / published.BIRDS[0]).unlink()
    with pytest.raises(ImageError, match=r"no image file .*a\.png.*fetch cub"):
        CUB200(root)[0]
    for name in ("bounding_boxes.txt", "image_class_labels.txt", "train_test_split.txt"):
        table = root / "CUB_200_2011" / name
        text = table.read_text()
        table.write_text("".join(text.splitlines(keepends=True)[:2]))
        with pytest.raises(DatasetError, match=f"{name}.* no line for picture 3"):
            CUB200(root)
        table.write_text("1 one\n" * 3)
        with pytest.raises(DatasetError, match=f"line 1 of .*{name}"):
            CUB200(root)
        table.unlink()
        with pytest.raises(DatasetError, match=f"no file .*{name}.*fetch cub"):
            CUB200(root)
        table.write_text(text)
    with pytest.raises(UnknownNameError):
        CUB200(root, split="validation")


def test_damaged_lists_are_named(root):
    lists = published.cub_lists(root) / "test"
    labels = (lists / "class_labels.txt").read_text()
    (lists / "class_labels.txt").write_text(labels.splitlines()[0] + "\n")
    with pytest.raises(DatasetError, match="no line for 1 of the 2 pictures"):
        CUB200(root)
    (lists / "class_labels.txt").write_text(labels)
    (lists / "localization.txt").write_text("a.png,1,2,3\n")
    with pytest.raises(DatasetError, match=r"line 1 of .*localization.txt' must hold a path and 4"):
        CUB200(root)
    (lists / "localization.txt").unlink()
    with pytest.raises(DatasetError, match=r"no file .*localization.txt.*wsolevaluation"):
        CUB200(root)


@pytest.mark.parametrize(("split", "number"), [("train", 5994), ("val", 1000), ("test", 5794)])
def test_the_published_lists(shared_data, split, number):
    dataset = CUB200(shared_data / "cub-metadata", split=split)
    assert len(dataset) == len(set(dataset.ids)) == number
    assert set(dataset.labels) == set(range(200))
    assert dataset.categories[13] == "Indigo Bunting"
    with pytest.raises(ImageError, match="there is no image file"):
        dataset[0]
