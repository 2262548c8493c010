"""Looks: figures have the panels promised, notebook HTML is whole and stands alone."""

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from naspix.errors import InputError
from naspix.segmentation import Segmentation


@pytest.fixture
def seg():
    return Segmentation(torch.randint(0, 3, (2, 12, 18)), source="NAS(<lambda>)")


def test_plot_has_a_row_an_image(seg):
    assert len(seg.plot().axes) == 2
    figure = seg.plot(torch.rand(2, 3, 12, 18))
    assert len(figure.axes) == 4
    assert figure.axes[1].get_title().startswith("3 clusters, ")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png")
    assert drawn.getbuffer().nbytes > 1000


def test_plot_takes_grey_and_half_precision_images(seg):
    assert len(seg.plot(torch.rand(2, 1, 12, 18)).axes) == 4
    assert len(seg.plot(torch.rand(2, 3, 12, 18).half()).axes) == 4


@pytest.mark.parametrize("shape", [(1, 3, 12, 18), (2, 3, 18, 12), (3, 12, 18)])
def test_plot_refuses_other_images(seg, shape):
    with pytest.raises(InputError, match="give the images that were segmented"):
        seg.plot(torch.rand(shape))


class _Balance(HTMLParser):
    """Counts what is opened and not closed, and gathers sources."""

    def __init__(self):
        super().__init__()
        self.open, self.sources = [], []

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.sources.append(dict(attributes)["src"])
        else:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_notebook_html_is_whole_small_and_self_contained(seg):
    page = seg._repr_html_()
    reader = _Balance()
    reader.feed(page)
    assert reader.open == []
    assert len(reader.sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in reader.sources)
    assert "NAS(&lt;lambda&gt;)" in page
    assert len(page) < 40_000


def test_thumbnails_show_every_cluster_in_its_own_colour():
    clusters = torch.zeros(1, 20, 20, dtype=torch.int64)
    clusters[:, :, 10:] = 1
    page = Segmentation(clusters)._repr_html_()
    data = re.search("base64,([^']+)", page)[1]
    picture = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    height, width = picture.shape[:2]
    left, right = picture[height // 2, width // 4], picture[height // 2, 3 * width // 4]
    assert abs(left - right).sum() > 100
    assert (picture[height // 4, width // 4] == left).all()


def test_a_large_batch_says_how_many_are_not_shown():
    page = Segmentation(torch.zeros(9, 4, 4, dtype=torch.int64))._repr_html_()
    assert page.count("<img") == 6
    assert "and 3 more" in page
    assert "1 cluster, 1 superpixel<" in page
