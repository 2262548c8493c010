"""Odd and hostile image files, made from a seed: what strangers may send."""

import io
import random
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I", "I;16", "F")


def hostile_files(n: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield ``n`` files with a word for what each is."""
    dice = random.Random(seed)
    makers = [_odd, _flipped, _cut_short, _bomb, _polyglot, _noise, _chunks]
    for i in range(n):
        maker = makers[i % len(makers)]
        yield maker(dice)


def _picture(dice: random.Random) -> Image.Image:
    width, height = dice.choice([(1, 1), (1, 300), (300, 1), (37, 53), (224, 224), (640, 3)])
    values = np.random.default_rng(dice.randrange(2**32)).integers(
        0, 256, (height, width, 3), "uint8"
    )
    return Image.fromarray(values)


def _encoded(picture: Image.Image, form: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _plain(dice: random.Random) -> tuple[str, bytes]:
    form = dice.choice(["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
    return form, _encoded(_picture(dice), form)


def _odd(dice: random.Random) -> tuple[str, bytes]:
    """Right, but unusual: modes, sixteen bits, animation, orientation, profiles."""
    kind = dice.choice(["mode", "animated", "turned", "profile", "sixteen", "progressive"])
    picture = _picture(dice)
    if kind == "mode":
        mode = dice.choice(_MODES)
        if mode == "LAB":
            converted = Image.new("LAB", picture.size, (50, 10, 20))
        elif mode == "PA":
            converted = picture.convert("P")
        else:
            converted = (
                picture.convert("L").convert(mode)
                if mode in ("I", "F", "I;16")
                else picture.convert(mode)
            )
        form = "PNG" if mode in ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16") else "TIFF"
        return f"mode {mode} in {form}", _encoded(converted, form)
    if kind == "animated":
        frames = [_picture(dice).resize(picture.size) for _ in range(3)]
        form = dice.choice(["GIF", "WEBP", "PNG", "TIFF"])
        return f"animated {form}", _encoded(picture, form, save_all=True, append_images=frames)
    if kind == "turned":
        exif = Image.Exif()
        exif[0x0112] = dice.choice([0, 3, 6, 8, 9, 255])
        return "turned JPEG", _encoded(picture, "JPEG", exif=exif)
    if kind == "profile":
        return "PNG with a false profile", _encoded(picture, "PNG", icc_profile=b"\x00" * 100)
    if kind == "sixteen":
        values = np.arange(40 * 50, dtype=np.uint16).reshape(40, 50) * 30
        return "sixteen bits", _encoded(Image.fromarray(values), dice.choice(["PNG", "TIFF"]))
    return "progressive CMYK JPEG", _encoded(picture.convert("CMYK"), "JPEG", progressive=True)


def _flipped(dice: random.Random) -> tuple[str, bytes]:
    """Bytes changed, mostly in the header."""
    form, content = _plain(dice)
    damaged = bytearray(content)
    reach = len(damaged) if dice.random() < 0.3 else min(len(damaged), 64)
    for _ in range(dice.randint(1, 12)):
        damaged[dice.randrange(reach)] = dice.randrange(256)
    return f"{form} with changed bytes", bytes(damaged)


def _cut_short(dice: random.Random) -> tuple[str, bytes]:
    form, content = _plain(dice)
    return f"{form} cut short", content[: dice.randrange(len(content))]


def _bomb(dice: random.Random) -> tuple[str, bytes]:
    """Small files that say they are huge."""
    side = dice.choice([20_000, 65_535, 2**31 - 1])
    if dice.random() < 0.5:
        body = zlib.compress(b"\0" * 100_000)
        content = b"\x89PNG\r\n\x1a\n" + _chunk(
            b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        )
        return "PNG bomb", content + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")
    small = min(side, 65_535)
    return "GIF bomb", b"GIF89a" + struct.pack(
        "<HHBBB", small, small, 0x80, 0, 0
    ) + b"\0" * 6 + b",\0\0\0\0" + struct.pack("<HH", small, small) + b"\0\x02\x02\x44\x01\0;"


def _chunk(name: bytes, content: bytes) -> bytes:
    return (
        struct.pack(">I", len(content))
        + name
        + content
        + struct.pack(">I", zlib.crc32(name + content))
    )


def _chunks(dice: random.Random) -> tuple[str, bytes]:
    """PNG files whose side chunks unpack to far more than they weigh."""
    picture = _encoded(_picture(dice), "PNG")
    name = dice.choice([b"zTXt", b"iCCP"])
    bomb = _chunk(name, b"x\0\0" + zlib.compress(b"a" * 50_000_000, 9))
    return f"PNG with a {name.decode()} bomb", picture[:33] + bomb + picture[33:]


def _polyglot(dice: random.Random) -> tuple[str, bytes]:
    """One thing to one reader, another to the next."""
    start = dice.choice(
        [
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n",
            b"%PDF-1.4\n",
            b"<html><script>alert(1)</script>",
            b"PK\x03\x04",
            b"\x80\x04\x95",
            b"#!/bin/sh\n",
        ]
    )
    form, content = _plain(dice)
    if dice.random() < 0.5:
        return f"{start[:8]!r} before {form}", start + content
    return f"{form} before {start[:8]!r}", content + start


def _noise(dice: random.Random) -> tuple[str, bytes]:
    start = dice.choice(
        [
            b"",
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"RIFF\x10\0\0\0WEBPVP8 ",
            b"II*\0\x08\0\0\0",
            b"\0\0\0\x1cftypavif",
            b"BM",
        ]
    )
    return f"noise after {start[:4]!r}", start + dice.randbytes(dice.choice([0, 1, 17, 500]))
