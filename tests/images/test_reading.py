"""Pictures of every kind come out as the right numbers, and bad ones with the right sentence."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps
from skimage import data

import naspix
from naspix.errors import ImageError, InputError, UnknownNameError
from naspix.models import check_images, expand_paths, read_image, read_images


@pytest.fixture
def rgb() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


def _plain(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array.astype(np.float32) / 255).permute(2, 0, 1)


# --- sources -----------------------------------------------------------------------------------


def test_one_picture_in_every_form(tmp_path: Path, rgb: np.ndarray) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(rgb).save(path)
    forms: list[Any] = [
        path,
        str(path),
        Image.open(path),
        io.BytesIO(path.read_bytes()),
        rgb,
        rgb.astype(np.int64),
        rgb.astype(np.float64) / 255,
        rgb.astype(np.uint16) * 257,
        _plain(rgb),
        torch.from_numpy(rgb).permute(2, 0, 1),
    ]
    for form in forms:
        found = read_image(form)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, _plain(rgb), rtol=0, atol=1e-6)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path: Path, orientation: int, rgb: np.ndarray) -> None:
    upright = Image.fromarray(rgb)
    exif = Image.Exif()
    exif[0x0112] = orientation
    # the camera stores the turned picture and says how it is turned
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }.get(orientation)
    stored = upright if turn is None else upright.transpose(turn)
    stored.save(tmp_path / "a.png", exif=exif)
    assert torch.equal(read_image(tmp_path / "a.png"), _plain(rgb))


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    rgba = np.zeros((1, 3, 4), np.uint8)
    rgba[0, :, 0] = 255  # red: unseen, half, seen
    rgba[0, :, 3] = 0, 128, 255
    wanted = torch.tensor([[[1, 1, 1]], [[1, 0.5, 0]], [[1, 0.5, 0]]]).float()
    Image.fromarray(rgba).save(tmp_path / "a.png")
    for form in (tmp_path / "a.png", rgba, rgba / np.float32(255), torch.tensor(rgba).mT.mT):
        if isinstance(form, torch.Tensor):
            form = form.permute(2, 0, 1)
        torch.testing.assert_close(read_image(form), wanted, rtol=0, atol=0.003)
    grey = Image.new("LA", (2, 1))
    grey.putpixel((1, 0), (0, 255))
    assert read_image(grey)[:, 0].tolist() == [[1, 0]] * 3


def test_palettes_with_and_without_transparency(tmp_path: Path) -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 200, 100, 50])
    picture.putpixel((1, 0), 1)
    expected = torch.tensor([[10, 200], [20, 100], [30, 50]]) / 255
    picture.save(tmp_path / "plain.png")
    assert torch.equal(read_image(tmp_path / "plain.png")[:, 0], expected)
    picture.save(tmp_path / "clear.gif", transparency=0)
    expected[:, 0] = 1
    assert torch.equal(read_image(tmp_path / "clear.gif")[:, 0], expected)


def test_cmyk_and_black_and_white(tmp_path: Path) -> None:
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg")
    red, green, blue = read_image(tmp_path / "a.jpg")[:, 4, 4]
    assert red > 0.95
    assert max(green, blue) < 0.05
    assert read_image(Image.new("1", (2, 2), 1)).min() == 1


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_sixteen_bits_keep_their_range(tmp_path: Path, kind: str) -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    wanted = torch.from_numpy(values / np.float32(65535))
    torch.testing.assert_close(read_image(tmp_path / f"a.{kind}", channels=1)[0], wanted)
    assert read_image(tmp_path / f"a.{kind}").shape == (3, 1, 4)


def test_floats_in_a_file(tmp_path: Path) -> None:
    values = np.array([[0, 0.25, 1]], np.float32)
    Image.fromarray(values).save(tmp_path / "a.tiff")
    assert read_image(tmp_path / "a.tiff", channels=1)[0].tolist() == values.tolist()
    Image.fromarray(values * 300).save(tmp_path / "b.tiff")
    with pytest.raises(ImageError, match=r"b\.tiff' must lie in \[0, 1\]"):
        read_image(tmp_path / "b.tiff")


def test_grey_and_colour_become_each_other(rgb: np.ndarray) -> None:
    grey = read_image(rgb, channels=1)
    assert grey.shape == (1, 6, 9)
    # PIL rounds the luma to a byte, the float path does not
    torch.testing.assert_close(read_image(_plain(rgb), channels=1), grey, rtol=0, atol=1 / 255)
    spread = read_image(np.uint8(255 * grey[0].numpy() + 0.5))
    assert spread.shape == (3, 6, 9)
    assert torch.equal(spread[0], spread[2])
    assert read_image(np.ones((2, 2, 1), bool)).shape == (3, 2, 2)
    assert read_image(torch.rand(4, 5)).shape == (3, 4, 5)


@pytest.mark.parametrize("kind", ["gif", "webp", "tiff", "png"])
def test_the_first_frame_of_an_animation(tmp_path: Path, kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "webp" else {}
    path = tmp_path / f"a.{kind}"
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)
    assert read_image(path)[:, 0, 0].tolist() == [1, 0, 0]


# --- bad input ---------------------------------------------------------------------------------


def _jpeg(size: tuple[int, int] = (64, 64)) -> bytes:
    held = io.BytesIO()
    noise = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(noise).save(held, "jpeg")
    return held.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", r"bad\.jpg' is empty \(zero bytes\)"),
        (b"this is text", r"bad\.jpg' is not an image"),
        (_jpeg()[:900], r"bad\.jpg' cannot be read as an image: .*truncated"),
        (_jpeg()[:20], r"bad\.jpg' (is not an image|cannot be read)"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 40, r"bad\.jpg' (is not an image|cannot be read)"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "bad.jpg").write_bytes(content)
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "bad.jpg")


def test_truncated_pil_images_and_streams() -> None:
    with pytest.raises(ImageError, match="the PIL image cannot be read"):
        read_image(Image.open(io.BytesIO(_jpeg()[:900])))
    with pytest.raises(ImageError, match="the open file cannot be read"):
        read_image(io.BytesIO(_jpeg()[:900]))


@given(cut=st.integers(1, 3000), flip=st.integers(0, 3000))
def test_damaged_files_never_raise_anything_else(cut: int, flip: int) -> None:
    content = bytearray(_jpeg((32, 32))[:cut])
    content[flip % len(content)] ^= 0xFF
    try:
        image = read_image(io.BytesIO(bytes(content)))
    except ImageError:
        return
    assert image.shape[0] == 3


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match=r"there is no image file 'nowhere\.jpg'"):
        read_image("nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        read_image(tmp_path)


def test_huge_pictures_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = tmp_path / "wide.png"
    Image.new("1", (50_000, 20)).save(path)
    with pytest.raises(ImageError, match=r"wide\.png' is 50000 x 20 pixels") as caught:
        read_image(path, max_pixels=900_000)
    needed = int(str(caught.value).rpartition("(--max-pixels) to ")[2])
    assert read_image(path, max_pixels=needed).shape == (3, 20, 50_000)
    with pytest.raises(ImageError, match=f"to {needed}"):
        read_image(path, max_pixels=needed - 1)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ImageError, match="limit of 50 pixels"):
        read_image(Image.new("L", (8, 8)), max_pixels=50)
    assert limit == Image.MAX_IMAGE_PIXELS
    # a bomb: a header that promises far more than the file holds
    content = bytearray(path.read_bytes())
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    with pytest.raises(ImageError):
        read_image(io.BytesIO(bytes(content)))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.full((4, 4, 3), 255.0), "if these are values from 0 to 255, divide them by 255"),
        (np.full((4, 4, 3), -2.0), "reach from -2 to -2"),
        (np.full((4, 4, 3), np.nan), "NaN or infinite"),
        (np.zeros((4, 4, 2), np.uint8), r"has the shape \(4, 4, 2\)"),
        (np.zeros((3, 5, 6), np.uint8), "move the channels last"),
        (np.zeros((0, 4, 3), np.uint8), "has the shape"),
        (np.full((4, 4), 256), "int64 values from 256 to 256"),
        (np.zeros((4, 4), complex), "complex128"),
        (torch.zeros(2, 4, 4), "1, 3 or 4 channels"),
        (torch.full((3, 4, 4), 9.0), "divide them by 255"),
        (torch.full((3, 4, 4), torch.inf), "NaN or infinite"),
    ],
)
def test_bad_arrays(array: Any, said: str) -> None:
    with pytest.raises(ImageError, match=said):
        read_image(array)


def test_other_bad_requests(rgb: np.ndarray) -> None:
    with pytest.raises(InputError, match="no images are given"):
        read_images([], (4, 4))
    with pytest.raises(InputError, match=r"different sizes \(6 x 9, 8 x 9\)"):
        read_images([rgb, np.zeros((8, 9, 3), np.uint8)], (4, 4), resize=None)
    with pytest.raises(InputError, match="1 or 3 channels"):
        read_image(rgb, channels=2)
    with pytest.raises(InputError, match="takes 5 channels, but 3 bands"):
        read_images(rgb, (4, 4), channels=5)


def test_an_unknown_way_to_resize(rgb: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    unchecked = getattr(read_images, "__wrapped__", read_images)  # without beartype
    with pytest.raises(UnknownNameError, match="did you mean 'crop'"):
        unchecked(rgb, (4, 4), resize="crap")


# --- sizes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["chelsea", "coffee", "rocket"])
def test_crop_is_what_timm_evaluates_with(name: str) -> None:
    model = naspix.load_model("efficientnet_lite0")
    picture = Image.fromarray(getattr(data, name)())
    transform = timm.data.create_transform(
        input_size=(3, 224, 224),
        interpolation="bicubic",
        crop_pct=0.875,
        mean=(0.5,) * 3,
        std=(0.5,) * 3,
    )
    found = model.standardize(model.load_images(picture))[0]
    torch.testing.assert_close(found, transform(picture), rtol=0, atol=1e-6)


def test_crop_is_what_torchvision_evaluates_with() -> None:
    model = naspix.load_model("resnet18", weights=None)
    picture = ImageOps.exif_transpose(Image.fromarray(data.coffee()))
    preset = torchvision.models.ResNet18_Weights.DEFAULT.transforms()
    found = model.standardize(model.load_images(picture))[0]
    torch.testing.assert_close(found, preset(picture), rtol=0, atol=1e-5)


def test_arrays_and_tensors_are_resized_alike() -> None:
    array = data.chelsea()
    bytes_, floats = (
        read_images(source, (64, 80), crop_pct=0.9, interpolation="bicubic")
        for source in (array, _plain(array))
    )
    assert bytes_.shape == (1, 3, 64, 80)
    # PIL works in bytes, torch in floats, with the same filter (bicubic's a is -0.5 in both)
    assert float((bytes_ - floats).abs().mean()) < 2 / 255


def test_squash_sees_everything_and_none_keeps_it(rgb: np.ndarray) -> None:
    picture = np.zeros((20, 60, 3), np.uint8)
    picture[:, :5], picture[:, -5:] = 255, 255
    squashed = read_images(picture, (20, 20), resize="squash")[0, 0]
    assert squashed[:, 0].min() > 0.9
    assert squashed[:, -1].min() > 0.9
    cropped = read_images(picture, (20, 20), resize="crop")[0, 0]
    assert cropped.max() == 0
    assert torch.equal(read_images(rgb, (20, 20), resize=None)[0], _plain(rgb))


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    size=st.tuples(st.integers(1, 24), st.integers(1, 24)),
    crop_pct=st.floats(0.3, 1),
    resize=st.sampled_from(["crop", "squash"]),
    interpolation=st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"]),
    as_float=st.booleans(),
)
def test_sizes_and_ranges(
    height: int,
    width: int,
    size: tuple[int, int],
    crop_pct: float,
    resize: Any,
    interpolation: str,
    as_float: bool,
) -> None:
    noise = np.random.default_rng(0).integers(0, 2, (height, width, 3), np.uint8) * 255
    images = read_images(
        [noise / 255.0 if as_float else noise],
        size,
        resize=resize,
        crop_pct=crop_pct,
        interpolation=interpolation,
    )
    assert images.shape == (1, 3, *size)
    check_images(images, 3)


@pytest.mark.parametrize("shape", [(1, 25, 3), (2000, 1), (1, 5000, 1)])
def test_long_narrow_arrays_are_read_as_they_are(shape: tuple[int, ...]) -> None:
    line = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    pixels = read_image(line)
    assert pixels.shape == (3, *shape[:2])
    np.testing.assert_array_equal(
        (pixels[0] * 255).round().numpy(), line.reshape(*shape[:2], -1)[..., 0]
    )


def test_a_batch_of_arrays_or_tensors(rgb: np.ndarray) -> None:
    batch = np.stack([rgb, 255 - rgb])
    images = read_images(batch, (4, 4), resize=None)
    assert images.shape == (2, 3, 6, 9)
    assert torch.equal(read_images(images, (4, 4), resize=None), images)
    assert torch.equal(read_images([rgb, 255 - rgb], (4, 4), resize=None), images)
    assert torch.equal(read_images(iter([rgb, 255 - rgb]), (4, 4), resize=None), images)


# --- files and folders -------------------------------------------------------------------------


def test_expand_paths(tmp_path: Path) -> None:
    for name in ("b.png", "a.JPG", "note.txt", "sub/c.jpeg", ".hidden/d.png", ".e.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    odd = tmp_path / "note.txt"
    missing = tmp_path / "missing.jpg"
    found = expand_paths([tmp_path / "b.png", tmp_path, odd, str(missing), odd])
    names = [path.relative_to(tmp_path).as_posix() for path in found]
    assert names == ["b.png", "a.JPG", "sub/c.jpeg", "note.txt", "missing.jpg"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image in the folder .*empty"):
        expand_paths([tmp_path / "empty"])


# --- long narrow pictures ----------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(8, 3000, 3), (3000, 8, 3), (5, 4000, 3), (1, 20_000, 3)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("as_float", [True, False])
def test_only_the_middle_of_long_narrow_arrays_is_scaled(
    shape: tuple[int, int, int], interpolation: str, as_float: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(64, 192, shape, np.uint8)  # PIL clips what overshoots
    source = noise / 255.0 if as_float else noise
    found = read_images([source], (32, 32), crop_pct=0.875, interpolation=interpolation)
    monkeypatch.setattr("naspix.images.reading._NARROW", 1e9)
    whole = read_images([source], (32, 32), crop_pct=0.875, interpolation=interpolation)
    assert (found - whole).abs().max() <= (1e-3 if as_float else 2.5 / 255)


@pytest.mark.parametrize("resize", ["crop", "squash"])
@pytest.mark.parametrize("shape", [(2_000_000, 4), (4, 2_000_000)])
def test_no_side_is_too_long(shape: tuple[int, int], resize: Any) -> None:
    images = read_images([np.full(shape, 51, np.uint8)], (224, 224), resize=resize)
    assert images.shape == (1, 3, 224, 224)
    assert torch.equal(images, torch.full_like(images, 0.2))
