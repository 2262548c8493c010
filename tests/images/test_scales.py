"""Which number is white: by the type of arrays and PIL images, by the values of roomy files."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import naspix
from naspix.errors import ImageError, InputError, NaspixWarning
from naspix.images import expand_paths, find_photos, read_image


def _png(depth: int, colours: int, row: bytes, clear: bytes = b"") -> io.BytesIO:
    """Two pixels beside each other, of a kind that PIL does not write."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    header = struct.pack(">IIBBBBB", 2, 1, depth, colours, 0, 0, 0)
    parts = [chunk(b"IHDR", header)] + [chunk(b"tRNS", clear)] * bool(clear)
    parts += [chunk(b"IDAT", zlib.compress(b"\0" + row)), chunk(b"IEND", b"")]
    return io.BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


@pytest.mark.parametrize(
    ("dtype", "value", "wanted"),
    [
        ("bool", 1, 1),
        *((kind, 100, 100 / 255) for kind in ("u1", "i1")),
        *(
            (order + kind, 200, 200 / 255)
            for order in "<>"
            for kind in ("i2", "i4", "u4", "i8", "u8")
        ),
        *((order + "u2", value, value / 65535) for order in "<>" for value in (200, 40_000)),
        *((order + kind, 0.25, 0.25) for order in "<>" for kind in ("f2", "f4", "f8")),
    ],
)
def test_arrays_by_type_in_any_byte_order(dtype: str, value: float, wanted: float) -> None:
    for shape in ((2, 3), (2, 3, 3)):
        found = read_image(np.full(shape, value, dtype))
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, torch.full((3, 2, 3), float(wanted)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "value", "wanted"),
    [
        ("1", 1, 1),
        ("L", 51, 0.2),
        ("LA", (51, 255), 0.2),
        ("La", (51, 255), 0.2),
        ("RGB", (51, 51, 51), 0.2),
        ("RGBX", (51, 51, 51, 0), 0.2),
        ("RGBA", (51, 51, 51, 255), 0.2),
        ("RGBa", (51, 51, 51, 255), 0.2),
        ("CMYK", (204, 204, 204, 0), 0.2),
        ("YCbCr", (51, 128, 128), 0.2),
        ("HSV", (0, 0, 51), 0.2),
        ("I", 51, 0.2),
        ("F", 0.2, 0.2),
        *((mode, 13107, 0.2) for mode in ("I;16", "I;16L", "I;16B")),
        *((mode, 200, 200 / 65535) for mode in ("I;16", "I;16L", "I;16B")),
    ],
)
def test_all_modes_of_pillow(mode: str, value: Any, wanted: float) -> None:
    picture = Image.new(mode, (2, 2), value)
    for channels in (1, 3):
        found = read_image(picture, channels=channels)
        torch.testing.assert_close(
            found, torch.full((channels, 2, 2), float(wanted)), rtol=0, atol=2e-6
        )


@pytest.mark.parametrize("value", [70_000, -5, 300])
def test_wide_integers_beyond_bytes_are_refused_alike(value: int) -> None:
    array = np.full((2, 2), value, np.int32)
    for source in (array, array.astype(">i4"), Image.fromarray(array)):
        with pytest.raises(ImageError, match=f"int32 values from {value} to {value}"):
            read_image(source)


@pytest.mark.parametrize(
    ("dtype", "most", "kind"),
    [
        (dtype, most, kind)
        for dtype in ("u2", "i4")
        for most in (255, 4095, 65535)
        for kind in ("tiff", "png")
        if kind == "tiff" or dtype == "u2"
    ],
)
def test_a_roomy_file_is_scaled_by_its_values(
    tmp_path: Path, dtype: str, most: int, kind: str
) -> None:
    Image.fromarray(np.array([[0, most]], dtype)).save(tmp_path / f"a.{kind}")
    if (dtype, most) == ("u2", 65535):
        found = read_image(tmp_path / f"a.{kind}")
    else:
        with pytest.warns(NaspixWarning, match=f"{most} is taken for white"):
            found = read_image(tmp_path / f"a.{kind}")
    assert found[:, 0].tolist() == [[0, 1]] * 3


@pytest.mark.parametrize("value", [-5, 70_000])
def test_files_beyond_sixteen_bits_are_refused(tmp_path: Path, value: int) -> None:
    Image.fromarray(np.array([[0, value]], np.int32)).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match=r"a\.tiff' holds int32 values"):
        read_image(tmp_path / "a.tiff")


def test_arrays_of_twelve_bits_are_warned_about() -> None:
    with pytest.warns(NaspixWarning, match="divide it by 4095"):
        assert read_image(np.array([[0, 4095]], np.uint16)).max() < 0.07


def test_colours_of_twelve_bits_in_sixteen() -> None:
    with pytest.warns(NaspixWarning, match="12-bit"):
        found = read_image(_png(16, 2, struct.pack(">6H", 0, 0, 0, 4095, 4095, 4095)))
    assert found[:, 0].tolist() == [[0, 1]] * 3


@pytest.mark.parametrize(
    ("picture", "wanted"),
    [
        (_png(16, 0, struct.pack(">2H", 50000, 0), struct.pack(">H", 50000)), [1, 0]),
        (_png(4, 0, bytes([0x20]), struct.pack(">H", 2)), [1, 0]),
        (_png(2, 0, bytes([0b01000000]), struct.pack(">H", 1)), [1, 0]),
        (
            _png(
                16, 2, struct.pack(">6H", 65535, 0, 300, 0, 0, 0), struct.pack(">3H", 65535, 0, 300)
            ),
            [1, 0],
        ),
    ],
)
def test_a_transparent_colour_of_any_depth(picture: io.BytesIO, wanted: list[float]) -> None:
    assert read_image(picture)[:, 0].tolist() == [wanted] * 3


def test_masked_arrays_are_refused() -> None:
    with pytest.raises(ImageError, match="masked values"):
        read_image(np.ma.masked_equal(np.zeros((2, 2), np.uint8), 0))


def test_heic_is_named(tmp_path: Path) -> None:
    (tmp_path / "phone.jpg").write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 40)
    with pytest.raises(ImageError, match="pillow-heif"):
        read_image(tmp_path / "phone.jpg")


def test_heic_is_read_where_pillow_heif_is_installed(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:, 48:, 0] = 255
    file = heif.from_pillow(Image.fromarray(pixels))
    file.save(tmp_path / "phone.heic", quality=-1)
    image = read_image(tmp_path / "phone.heic")
    assert image.shape == (3, 64, 96)
    assert float((image - torch.from_numpy(pixels).permute(2, 0, 1) / 255).abs().mean()) < 0.02


def test_exif_can_be_ignored(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (4, 2)).save(tmp_path / "a.png", exif=exif)
    assert read_image(tmp_path / "a.png").shape == (3, 4, 2)
    assert read_image(tmp_path / "a.png", exif=False).shape == (3, 2, 4)


def test_linked_folders_and_patterns(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pics").mkdir()
    for name in ("elsewhere/b.png", "pics/a.png", "pics/c.jpg"):
        (tmp_path / name).touch()
    (tmp_path / "pics" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "pics" / "round").symlink_to(tmp_path / "pics")
    (tmp_path / "elsewhere" / "up").symlink_to(tmp_path / "pics")
    found = [path.relative_to(tmp_path).as_posix() for path in expand_paths([tmp_path / "pics"])]
    assert found == ["pics/a.png", "pics/c.jpg", "pics/link/b.png"]
    assert expand_paths([str(tmp_path / "pics" / "*.png")]) == [tmp_path / "pics" / "a.png"]
    with pytest.raises(InputError, match="nothing fits the pattern"):
        expand_paths([str(tmp_path / "*.gif")])


def test_a_name_that_is_no_utf_8_can_be_printed(tmp_path: Path) -> None:
    (tmp_path / "caf\udce9.png").touch()
    (photo,) = find_photos([tmp_path])
    assert photo.source.endswith(r"caf\udce9.png")
    photo.source.encode()
    photo.name.encode()


def test_an_array_of_four_axes_is_a_batch_to_explain() -> None:
    model = naspix.load_model("efficientnet_lite0")
    photos = np.random.default_rng(0).integers(0, 256, (2, 40, 50, 3), np.uint8)
    explanation = naspix.explain(model, photos)
    assert torch.equal(explanation.images, model.load_images(photos))
    assert len(explanation.names) == 2
