"""Folders of images that are bad or unusual: links, folders of the system, other formats."""

import os
from functools import partial

import pandas as pd
from PIL import Image
from unusual_input import QUICK, UnusualInput, embed_command, write_images

SCAN = ["scan", "photos", *QUICK]
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)


def _add(folder, change):
    write_images(folder / "photos", each=5)
    change(folder / "photos")
    return embed_command("photos")


def _file(name, content=b"x"):
    def change(photos):
        file = photos / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            Image.new("L", (8, 8)).save(file)
        else:
            file.write_bytes(content)

    return change


def _the_same_ten(words, folder, output):
    assert len(pd.read_parquet(folder / "features.parquet")) == 10
    output = " ".join(output.split())
    for text in words:
        assert text in output, output
    if not words:
        assert "left out" not in output
        assert "no image" not in output


def _skipped(words, skipped, folder, output):
    """After a scan."""
    samples = pd.read_parquet(folder / "out" / "samples.parquet")
    assert len(samples) == 10
    assert set(samples["given_label"]) == {"class0", "class1"}
    assert words in " ".join(output.split())
    assert pd.read_csv(folder / "out" / "skipped.csv")["sample_id"].tolist() == skipped


def passes_over(title, change, *words):
    """Return a row: the ten images are read, and `words` are said."""
    return UnusualInput(title, partial(_add, change=change), check=partial(_the_same_ten, words))


def refused(title, make, message):
    return UnusualInput(title, make, message=message)


def _empty(folder):
    (folder / "photos").mkdir()
    return SCAN


def _only(name, content=b"x"):
    def make(folder):
        _file(name, content)(folder / "photos")
        return SCAN

    return make


def _results(folder):
    _file("plots/a.png", None)(folder / "photos")
    (folder / "photos" / "labelaudit.json").write_text("{}")
    return SCAN


def _twice(folder):
    command = _add(folder, _file("labelaudit-photos/plots/a.png", None))
    marker = folder / "photos" / "labelaudit-photos" / "labelaudit.json"
    marker.write_text('{"status": "running"}')
    return command


def _splits(folder):
    for split in ("train", "val"):
        write_images(folder / "photos" / split, each=5)
    _file("test/cat/1.jxl")(folder / "photos")
    return embed_command("photos")


def _says_splits(folder, output):
    output = " ".join(output.split())
    assert 'only the split "train" was read, not val' in output
    assert 'not read: "test" (1 .jxl)' in output


def _no_train(folder):
    for split in ("val", "test"):
        write_images(folder / "photos" / split, each=2)
    return SCAN


def _pipe_in_table(folder):
    write_images(folder / "photos", each=5)
    os.mkfifo(folder / "photos" / "pipe.png")
    names = [f"class{label}/{number:03d}.png" for label in (0, 1) for number in range(5)]
    rows = [f"{name},{name[:6]}" for name in names]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows, "pipe.png,class0"]) + "\n")
    return ["scan", "photos", "labels.csv", *QUICK]


SEVERAL = ["bear", "class1/a.jxl", "owl/a.jxl", "fox/a.HEIC"]


def _several(folder):
    _add(folder, _file("fox/a.HEIC", HEIC))
    for name in ("class1/a.jxl", "owl/a.jxl"):
        _file(name)(folder / "photos")
    (folder / "photos" / "bear").mkdir()
    return SCAN


def _pipe(folder):
    os.mkfifo(folder / "photos.csv")
    return ["scan", "photos.csv", "--out", "out"]


def _link(name, target, is_folder=False):
    return lambda photos: (photos / name).symlink_to(target, target_is_directory=is_folder)


SYSTEM = ("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", ".git", ".ipynb_checkpoints")
SYSTEM += ("lost+found", ".Trashes", "System Volume Information")
ROWS = [
    *(passes_over(f"a folder {name}", _file(f"{name}/cat/a.png", None)) for name in SYSTEM),
    passes_over("a folder @eaDir in a class", _file("class1/@eaDir/a.png", None)),
    passes_over("AppleDouble files", _file("class1/._000.png")),
    passes_over("Thumbs.db and desktop.ini", _file("class1/Thumbs.db")),
    passes_over("a text beside each image", _file("class1/000.txt")),
    passes_over(
        "a class folder of JPEG XL",
        _file("fox/a.jxl"),
        '1 folder has no image that can be read, and is no class: "fox" (1 .jxl)',
    ),
    passes_over(
        "a class folder of HEIC that cannot be read",
        _file("fox/a.HEIC", HEIC),
        '1 image could not be read and left out: "fox/a.HEIC"',
    ),
    passes_over(
        "an empty class folder",
        lambda photos: (photos / "fox").mkdir(),
        'no class: "fox" (empty)',
    ),
    passes_over(
        "a raw photo among images",
        _file("class1/a.CR2"),
        'the format is not read (1 .cr2): "class1/a.CR2"',
    ),
    passes_over(
        "a class folder of videos",
        _file("fox/a.mp4"),
        '"fox" (1 .mp4)',
    ),
    passes_over("a link to the folder itself", _link("class1/up", "../..", is_folder=True)),
    passes_over("a link to itself without a suffix", _link("class1/loop", "loop")),
    passes_over("a link to nothing without a suffix", _link("class1/gone", "nowhere")),
    passes_over("a named pipe without a suffix", lambda photos: os.mkfifo(photos / "class1/pipe")),
    UnusualInput(
        "the results of an earlier scan in the source",
        _twice,
        check=partial(_the_same_ten, ()),
    ),
    UnusualInput("a split of JPEG XL beside train and val", _splits, check=_says_splits),
    refused("a folder of results as the source", _results, "holds results of labelaudit"),
    refused("an empty folder", _empty, "no image found"),
    refused("a folder of JPEG XL only", _only("cat/a.jxl"), r"no image found in photos \(1 \.jxl\)"),
    refused("a folder of HEIC that cannot be read", _only("cat/a.heic", HEIC), "one class|can be"),
    refused("one image as the source", lambda f: (_only("a.png", None)(f), ["scan", "photos/a.png"])[1],
            "is a single image"),
    refused("images without class folders", _only("a.png", None), "none of the 1 images has a label"),
    refused("splits without train", _no_train, "several splits, none of them train"),
    refused("a named pipe as the source", _pipe, "not a regular file .it is a named pipe."),
    UnusualInput(
        "a named pipe in a table of labels",
        _pipe_in_table,
        check=partial(_skipped, "could not be read", ["pipe.png"]),
    ),
    UnusualInput(
        "class folders that are empty or hold HEIC and JPEG XL",
        _several,
        check=partial(_skipped, '1 class has no labeled image: "fox"', SEVERAL),
    ),
]  # fmt: skip
