"""Several photos of one class: what the page is told is what the Python interface finds."""

import io

import pytest
import torch
from PIL import Image

import naspix
from naspix.app import group
from naspix.app.photos import sample_image
from naspix.errors import InputError


def _sent(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "png")
    return buffer.getvalue()


@pytest.fixture
def cats() -> list[Image.Image]:
    """Three views of the cat, one mirrored, one turned."""
    cat = Image.fromarray(sample_image("chelsea"))
    return [
        cat,
        cat.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        cat.rotate(10).crop((60, 40, 400, 280)),
    ]


def test_clusters_atlas_and_audit_are_the_python_interfaces(ask, model, cats):
    for i, picture in enumerate(cats):
        answer = ask("group_add", content=_sent(picture), name=f"cat-{i}.png")
        assert answer["n_photos"] == i + 1
        assert answer["added"]["picture"].startswith("data:image/png")
    found = ask("group_study", n_clusters=4)["group"]
    images = model.load_images(cats)
    clusters = naspix.ClassClustering(model, n_clusters=4).fit(images)
    segmentation, atlas = clusters(images), clusters.atlas(images, n_examples=3)
    with torch.no_grad():
        target = int(model(images).argmax(1).bincount().argmax())
    assert found["target"]["index"] == target
    method = naspix.saliency.GradCAMPlusPlus(model)
    heat = torch.cat([method(one[None], target) for one in images])
    measured = naspix.metrics.cluster_saliency(
        {"m": heat}, segmentation.clusters, segmentation.superpixels, n_clusters=4
    )
    suspects = {one.cluster: one for one in naspix.metrics.clever_hans_audit(measured)}
    whole = measured.sums[:, 0].sum(0) / measured.weights.sum(0)
    for told, entry in zip(found["clusters"], atlas.entries, strict=True):
        assert told["cluster"] == entry.cluster
        assert told["area"] == pytest.approx(entry.area)
        assert told["frequency"] == pytest.approx(entry.frequency)
        assert told["saliency"] == pytest.approx(float(whole[entry.cluster]), abs=1e-4)
        assert told["suspicion"] == pytest.approx(suspects[entry.cluster].score, abs=1e-4)
        assert len(told["patches"]) == len(entry.examples)
    assert [photo["name"] for photo in found["photos"]] == ["cat-0.png", "cat-1.png", "cat-2.png"]
    assert ask("group_clear")["ok"]
    assert "at least two" in ask("group_study", n_clusters=4)["sentence"]


def test_what_cannot_be_done_is_told(ask, cats):
    ask("group_add", content=_sent(cats[0]), name="one.png")
    assert "at least two" in ask("group_study", n_clusters=4)["sentence"]
    ask("group_add", content=_sent(cats[1]), name="two.png")
    assert "number of clusters" in ask("group_study", n_clusters=50)["sentence"]
    assert "no saliency method" in ask("group_study", n_clusters=3, method="os")["sentence"]
    assert "no picture" in ask("group_add", content=b"no")["sentence"]


def test_there_are_not_too_many():
    photos, image = group.Group("net"), torch.zeros(1, 3, 8, 8)
    for i in range(group.MOST_PHOTOS):
        photos.add(f"{i}", image)
    with pytest.raises(InputError, match="at most"):
        photos.add("one more", image)
    assert photos.images.shape == (group.MOST_PHOTOS, 3, 8, 8)
