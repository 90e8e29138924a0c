"""Image files that are bad or unusual, one at a time beside good ones."""

import io
import os
import socket
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, PngImagePlugin
from unusual_input import QUICK, UnusualInput, embed_command, write_images

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n"
RED = Image.new("RGB", (8, 8), (250, 5, 5))


def _encoded(image, kind="PNG", **options):
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def _write(folder, files):
    write_images(folder / "photos", each=5)
    for name, content in files.items():
        file = folder / "photos" / "class1" / name
        if callable(content):
            content(file)
        else:
            file.write_bytes(content)


def _embed(folder, name, content):
    _write(folder, {name: content})
    return embed_command("photos")


def _is_read(name, folder, output):
    assert f"class1/{name}" in set(pd.read_parquet(folder / "features.parquet")["sample_id"]), (
        output
    )
    assert "left out" not in output


def _is_left_out(name, folder, output):
    samples = set(pd.read_parquet(folder / "features.parquet")["sample_id"])
    assert len(samples) == 10
    assert f"class1/{name}" not in samples
    assert f'1 image could not be read and left out: "class1/{name}"' in output


def read(title, content, name="x.png"):
    make = partial(_embed, name=name, content=content)
    return UnusualInput(title, make, check=partial(_is_read, name))


def left_out(title, content, reason, name="x.png"):
    REASONS[title] = (content, reason)
    make = partial(_embed, name=name, content=content)
    return UnusualInput(title, make, check=partial(_is_left_out, name))


REASONS = {}


def _all_at_once(folder):
    _write(folder, {f"{row}.png": content for row, (content, _) in enumerate(REASONS.values())})
    return ["scan", "photos", *QUICK]


def _all_reasons(folder, output):
    """A scan names each file that is left out, with the reason."""
    table = pd.read_csv(folder / "out" / "skipped.csv")
    found = dict(zip(table["sample_id"], table["reason"], strict=True))
    for row, (title, (_, reason)) in enumerate(REASONS.items()):
        assert reason in found[f"class1/{row}.png"], (title, found)
    assert f"{len(REASONS)} images could not be read and left out" in output


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def _palette():
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    return image


def _text_bomb():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 2_000_000, zip=True)
    return _encoded(RED, pnginfo=info)


def _huge_header():
    """Return a PNG whose header names 60,000 x 60,000 pixels."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    packed = b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + packed


def _link_to(target):
    return lambda file: file.symlink_to(target)


def _link_to_pipe(file):
    os.mkfifo(file.with_name("pipe"))
    file.symlink_to("pipe")


def _link_to_itself(file):
    file.symlink_to(file.name)


def _link_to_socket(file):
    before = Path.cwd()
    os.chdir(file.parent)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
    os.chdir(before)
    file.symlink_to("socket")


def _sparse(file):
    with file.open("wb") as stream:
        stream.truncate(300 * 2**30)


FILES = [
    left_out("a file of zero bytes", b"", "the file is empty"),
    left_out("a PNG cut in half", _encoded(Image.effect_noise((64, 64), 50))[:1500], "truncated"),
    left_out("a text named .png", b"<html>not found</html>", "not an image"),
    left_out("PostScript named .png", EPS, "PostScript is not read"),
    left_out("PostScript for Windows named .jpg", b"\xc5\xd0\xd3\xc6" + EPS, "PostScript", "x.jpg"),
    left_out("a PDF named .jpg", b"%PDF-1.4\n%%EOF", "PDF is not read", "x.jpg"),
    left_out("a metafile named .tif", b"\xd7\xcd\xc6\x9a" + bytes(60), "WMF is not read", "x.tif"),
    left_out("FITS named .tif", b"SIMPLE  =                    T", "FITS is not read", "x.tif"),
    left_out("an SVG named .png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG is not read"),
    left_out("JPEG XL named .jpg", b"\xff\x0a" + bytes(64), "JPEG XL is not read", "x.jpg"),
    left_out(
        "a pointer of Git LFS", b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"
    ),
    left_out(
        "a PNG of 165 million black pixels", _encoded(Image.new("1", (15_000, 11_000))), "unpack"
    ),
    left_out(
        "a GIF of 144 million pixels", _encoded(Image.new("L", (12_000, 12_000)), "GIF"), "unpack"
    ),
    left_out("a header that names 3.6 billion pixels", _huge_header(), "too many pixels"),
    left_out("a text chunk that unpacks to 2 MB", _text_bomb(), "too large"),
    left_out("a sparse file of 300 GB", _sparse, "too many for an image"),
    left_out("a link to a device", _link_to("/dev/zero"), "a device"),
    left_out("a link to a named pipe", _link_to_pipe, "a named pipe"),
    left_out("a named pipe", os.mkfifo, "a named pipe"),
    left_out("a link to a socket", _link_to_socket, "a socket"),
    left_out("a link to nothing", _link_to("gone.png"), "does not exist"),
    left_out("a link to itself", _link_to_itself, "symbolic links"),
    read("a link to an image", _link_to("000.png")),
    read("CMYK", _encoded(RED.convert("CMYK"), "JPEG"), "x.jpg"),
    read("a palette with a transparent color", _encoded(_palette(), transparency=1)),
    read("gray with alpha", _encoded(Image.new("LA", (8, 8), (9, 100)))),
    read("one bit per pixel", _encoded(Image.new("1", (8, 8), 1))),
    read("16 bits per color", _encoded(Image.new("I;16", (8, 8), 40_000))),
    read("floats", _encoded(Image.new("F", (8, 8), 0.25), "TIFF"), "x.tif"),
    read("signed integers of 32 bits", _encoded(Image.new("I", (8, 8), -7), "TIFF"), "x.tif"),
    read("an orientation", _encoded(RED.resize((8, 4)), "JPEG", exif=_exif(6)), "x.jpg"),
    read("a single pixel", _encoded(Image.new("L", (1, 1), 9))),
    read("1 x 20,000 pixels", _encoded(Image.new("L", (1, 20_000), 9))),
    read("20,000 x 1 pixels", _encoded(Image.new("L", (20_000, 1), 9))),
    read(
        "an animated GIF",
        _encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (8, 8))]),
        "x.gif",
    ),
    read("a TIFF of two pages", _encoded(RED, "TIFF", save_all=True, append_images=[RED]), "x.tif"),
    read("a JPEG named .png", _encoded(RED, "JPEG")),
    read("a suffix in upper case", _encoded(RED), "X.PNG"),
    read("a percent sign in the name", _encoded(RED), "100%20.png"),
    read("a line break in the name", _encoded(RED), "two\nlines.png"),
    read("a quote and a comma in the name", _encoded(RED), 'a,"b".png'),
    read("a name in decomposed Unicode", _encoded(RED), "cafe\u0301.png"),
    read("a name of 250 letters", _encoded(RED), "n" * 246 + ".png"),
    read("a name that begins with a dash", _encoded(RED), "--out.png"),
    read(
        "a photo of 100 million pixels", _encoded(Image.new("L", (10_000, 10_000)), "JPEG"), "x.jpg"
    ),
]


# --- gray values -------------------------------------------------------------------------------


def _sixteen_bit(folder, low, high, command):
    for label, dark in (("dark", True), ("light", False)):
        (folder / "photos" / label).mkdir(parents=True)
        for number in range(6):
            ramp = np.linspace(low, (low + high) / 2, 64) + (0 if dark else (high - low) / 2)
            values = np.roll(ramp, number).astype(np.uint16).reshape(8, 8)
            Image.fromarray(values).save(folder / "photos" / label / f"{number}.png")
    return command or embed_command("photos")


def _says_range(words, folder, output):
    assert f"scaled from {words} to 0 to 255" in " ".join(output.split())
    assert "gray levels" not in output


def _few_levels(folder):
    for label in (0, 1):
        (folder / "photos" / f"c{label}").mkdir(parents=True)
        for number in range(5):
            values = np.full((8, 8), 100 + label, np.uint8)
            Image.fromarray(values).save(folder / "photos" / f"c{label}" / f"{number}.png")
    return ["scan", "photos", *QUICK]


def _says_levels(folder, output):
    output = " ".join(output.split())
    assert "of 256 gray levels they use 2, from 100 to 101" in output
    assert "The images have little contrast, so the mlp reads them standardized." in output


GRAY = [
    UnusualInput(
        f"16-bit files that hold {low} to {high}",
        partial(_sixteen_bit, low=low, high=high, command=None),
        check=partial(_says_range, words),
    )
    for low, high, words in (
        (0, 65535, "0 to 65,535"),
        (0, 4095, "0 to 4,095"),
        (33069, 36863, "33,069 to 36,863"),
        (0, 255, "0 to 255"),
    )
]
ROWS = [
    *FILES,
    *GRAY,
    UnusualInput(
        "16-bit files that hold 1000 to 1100",
        partial(_sixteen_bit, low=1000, high=1100, command=["scan", "photos", *QUICK]),
        check=partial(_says_range, "1,000 to 1,100"),
    ),
    UnusualInput("many unreadable images at once", _all_at_once, check=_all_reasons),
    UnusualInput("images of two gray levels", _few_levels, check=_says_levels),
]
