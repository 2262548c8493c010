"""Uploads: a photo comes in as Python reads it, everything else is refused in a sentence."""

import io
import warnings

import numpy as np
import pytest
import torch
from hostile_files import hostile_files
from PIL import Image

from naspix.app.photos import Limits, read_upload, sample_image, shown_name
from naspix.errors import ImageError


def _encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF", "JPEG", "GIF", "AVIF"])
def test_a_photo_is_read_as_python_reads_it(model, form, tmp_path):
    content = _encoded(Image.fromarray(sample_image("coffee")), form)
    path = tmp_path / "photo"
    path.write_bytes(content)
    assert torch.equal(read_upload(content, model).images, model.load_images([path]))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"hello", "no picture in a format"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture in a format"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no picture in a format"),
        (b"\x89PNG\r\n\x1a\n", "damaged or cut short"),
    ],
)
def test_what_is_no_photo_is_refused(model, content, words):
    with pytest.raises(ImageError, match=words):
        read_upload(content, model)


def test_too_large_in_bytes_or_pixels(model):
    content = _encoded(Image.new("RGB", (300, 200)), "PNG")
    with pytest.raises(ImageError, match="MB, more than"):
        read_upload(content, model, Limits(n_bytes=100))
    with pytest.raises(ImageError, match="300 x 200 pixels, more than"):
        read_upload(content, model, Limits(n_pixels=50_000))
    assert read_upload(content, model, Limits(n_pixels=60_000)).images.shape == (1, 3, 224, 224)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"),
        ("C:\\photos\\cat.jpg", "cat.jpg"),
        ("<img src=x onerror=alert(1)>.png", "<img src=x onerror=alert(1)>.png"),
        ("a\nb\x00c\u202e.png", "abc.png"),
        ("", "photo"),
        ("x" * 500, "x" * 80),
        (7, "7"),
    ],
)
def test_names_are_short_text(name, shown):
    assert shown_name(name) == shown


def test_hostile_files_give_a_photo_or_a_sentence(model):
    small = Limits(n_bytes=5_000_000, n_pixels=2_000_000)
    kinds = {"read": 0, "refused": 0}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, about what it finds in them
        for what, content in hostile_files(84, seed=3):
            try:
                images = read_upload(content, model, small).images
            except ImageError as error:
                sentence = str(error)
                kinds["refused"] += 1
            else:
                sentence = ""
                kinds["read"] += 1
                assert images.shape == (1, 3, 224, 224), what
                assert np.isfinite(images.numpy()).all(), what
            assert "\n" not in sentence, what
    assert min(kinds.values()) > 15, kinds
