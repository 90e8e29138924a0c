"""Run folders that are damaged, unfinished, hostile or in use, and places that cannot hold one."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from unusual_input import QUICK, UnusualInput, write_features, write_images, write_labels

MARKER = "labelaudit.json"
COMPLETE = {
    "labelaudit": "0.1",
    "status": "complete",
    "fingerprint": "f",
    "config": {},
    "files": {},
}
RUNNING = {"labelaudit": "0.1", "status": "running", "fingerprint": "f", "config": {}}
FEATURES = ["scan", "labels.csv", "--features", "features.npy", "--epochs", "1"]


def _scan(out: str, *options: str) -> list[str]:
    return [*FEATURES, "--out", out, *options]


def _write_data(folder: Path) -> None:
    write_labels(folder, write_features(folder))


def _to(out: str, *options: str, before: Callable[[Path], object] | None = None):
    """A scan of features to a folder, after something was done."""

    def make(folder: Path) -> list[str]:
        _write_data(folder)
        if before is not None:
            before(folder)
        return _scan(out, *options)

    return make


def _write_run(folder: Path, marker: object = COMPLETE, name: str = "out") -> Path:
    run = folder / name
    run.mkdir(parents=True)
    text = marker if isinstance(marker, str) else json.dumps(marker)
    (run / MARKER).write_text(text)
    return run


def _run(marker: object, *options: str, also: Callable[[Path], object] = lambda run: None):
    """A scan to a folder that has a marker."""
    return _to("out", *options, before=lambda folder: also(_write_run(folder, marker)))


def _has_results(name: str = "out"):
    def check(folder: Path, _: str) -> None:
        run = folder / name
        assert len(pd.read_parquet(run / "samples.parquet")) == 60
        marker = json.loads((run / MARKER).read_text())
        assert marker["status"] == "complete"
        found = {p.relative_to(run).as_posix() for p in run.rglob("*") if p.is_file()}
        assert set(marker["files"]) | {MARKER} == found, "the marker lists what was written"

    return check


def _make_folder(name: str, *files: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).mkdir()
        for file in files:
            (folder / name / file).write_text("precious")

    return make


# --- the place ---------------------------------------------------------------------------------------


def _images_to(out: str, *options: str):
    def make(folder: Path) -> list[str]:
        write_images(folder / "photos")
        return ["scan", "photos", *QUICK[:-1], out, *options]

    return make


def _inside_the_source(folder: Path, _: str) -> None:
    samples = pd.read_parquet(folder / "photos" / "results" / "samples.parquet")
    assert len(samples) == 20


def _link_loop(folder: Path) -> None:
    (folder / "out").symlink_to("loop")
    (folder / "loop").symlink_to("out")


NOT_OURS = "was not written by labelaudit.*--out"
PLACES = [
    UnusualInput(
        "--out is a file",
        _to("out", before=lambda folder: (folder / "out").write_text("precious")),
        message=f"the file out exists and {NOT_OURS}",
    ),
    UnusualInput(
        "--out is a folder of the user",
        _to("out", before=_make_folder("out", "a.txt")),
        message=NOT_OURS,
    ),
    UnusualInput(
        "--out is a folder of the user, --force",
        _to("out", "--force", before=_make_folder("out", "a.txt")),
        message=NOT_OURS,
    ),
    UnusualInput(
        "--out is a folder of the user, --resume",
        _to("out", "--resume", before=_make_folder("out", "a.txt")),
        message=NOT_OURS,
    ),
    UnusualInput(
        "--out has only a hidden file",
        _to("out", before=_make_folder("out", ".gitkeep")),
        message=NOT_OURS,
    ),
    UnusualInput(
        "--out has files with our names and no marker",
        _to("out", "--force", before=_make_folder("out", "suspects.csv", "samples.parquet")),
        message="labelaudit.json is missing",
    ),
    UnusualInput("--out is the source", _images_to("photos", "--force"), message=NOT_OURS),
    UnusualInput("--out is the current folder", _to(".", "--force"), message=NOT_OURS),
    UnusualInput("--out is the root", _to("/", "--force"), message=NOT_OURS),
    UnusualInput("--out lies in a file", _to("labels.csv/out"), message="--out"),
    UnusualInput("--out lies in /proc", _to("/proc/out"), message="cannot be written.*--out"),
    UnusualInput("--out is a link to itself", _to("out", before=_link_loop), message="--out"),
    UnusualInput("--out has a name of 300 letters", _to("o" * 300), message="name too long.*--out"),
    UnusualInput("--out has a part of 300 letters", _to(f"{'o' * 300}/a"), message="--out"),
    UnusualInput(
        "--force and --resume", _to("out", "--force", "--resume"), message="only one of them"
    ),
    UnusualInput(
        "--out is an empty folder", _to("out", before=_make_folder("out")), check=_has_results()
    ),
    UnusualInput(
        "--out is a link to a folder that does not exist",
        _to("out", before=lambda folder: (folder / "out").symlink_to("elsewhere")),
        check=_has_results("elsewhere"),
    ),
    UnusualInput(
        "--out is new and so are the folders above",
        _to("a/b/c/", "--resume"),
        check=_has_results("a/b/c"),
    ),
    UnusualInput(
        "--out has a name of 255 bytes", _to("ö" * 127 + "o"), check=_has_results("ö" * 127 + "o")
    ),
    UnusualInput(
        "--out has markup, quotes and a line end in its name",
        _to("[red]'a\"\n$(b)"),
        check=_has_results("[red]'a\"\n$(b)"),
    ),
    UnusualInput(
        "--out has a name that is not UTF-8",
        _to(os.fsdecode(b"o\xff")),
        message="not UTF-8; choose another --out",
    ),
    UnusualInput(
        "--out lies in the source", _images_to("photos/results"), check=_inside_the_source
    ),
]


# --- the marker --------------------------------------------------------------------------------------


def _with_marker_that_is(make: Callable[[Path], object]):
    def before(folder: Path) -> None:
        (folder / "out").mkdir()
        make(folder / "out" / MARKER)

    return before


DAMAGED = "is damaged.*move the folder away"
BAD_MARKERS = {
    "an empty marker": "",
    "a marker that is cut off": '{"labelaudit": "0.1", "stat',
    "a marker that is a list": "[]",
    "a marker that is null": "null",
    "a marker of another program": '{"version": 3}',
    "a marker whose version is a number": '{"labelaudit": 1}',
    "a marker whose settings are a list": '{"labelaudit": "0.1", "config": []}',
    "a marker whose files are numbers": '{"labelaudit": "0.1", "files": {"a": 1}}',
    "a marker of 100,000 brackets": "[" * 100_000,
}
MARKERS = [
    UnusualInput(name, _run(text, *options), message=DAMAGED)
    for (name, text), options in zip(
        BAD_MARKERS.items(), [[], ["--force"], ["--resume"]] * 3, strict=True
    )
] + [
    UnusualInput(
        "a marker that is a folder",
        _to("out", "--force", before=_with_marker_that_is(Path.mkdir)),
        message="it is not a file",
    ),
    UnusualInput(
        "a marker that is a pipe",
        _to("out", "--force", before=_with_marker_that_is(os.mkfifo)),
        message="it is not a file",
    ),
    UnusualInput(
        "a marker that is a link to a device",
        _to("out", "--force", before=_with_marker_that_is(lambda m: m.symlink_to("/dev/zero"))),
        message="it is not a file",
    ),
    UnusualInput(
        "a marker that is not UTF-8",
        _to("out", before=_with_marker_that_is(lambda m: m.write_bytes(b"\xff\xfe{}"))),
        message=DAMAGED,
    ),
]


# --- the run in it -----------------------------------------------------------------------------------


def _link(name: str) -> Callable[[Path], None]:
    return lambda run: (run / name).symlink_to(run.parent)


def _with_earlier(run: Path) -> None:
    _write_run(run, COMPLETE, "earlier-run")


def _input(*arguments: str):
    """A scan of a file in the run folder that it replaces."""

    def make(folder: Path) -> list[str]:
        _write_data(folder)
        run = _write_run(folder, RUNNING)
        write_labels(run, [0, 1] * 10, "suspects.csv")
        for name in ("pred_probs.npy", "embeddings.npy", "model.pt", "samples.parquet"):
            (run / name).write_bytes((folder / "features.npy").read_bytes())
        _write_run(run, COMPLETE, "earlier-run")
        write_labels(run / "earlier-run", [0, 1] * 10, "suspects.csv")
        return ["scan", *arguments, "--epochs", "1", "--out", "out", "--force"]

    return make


EXISTS = "out already exists.*--force"
RUNS = [
    UnusualInput("a complete run", _run(COMPLETE), message=f"{EXISTS}.*--out"),
    UnusualInput(
        "a complete run, --resume", _run(COMPLETE, "--resume"), message="nothing to resume"
    ),
    UnusualInput("an unfinished run", _run(RUNNING), message="unfinished run; continue.*--resume"),
    UnusualInput(
        "an unfinished run that replaces one",
        _run(RUNNING, also=_with_earlier),
        message="results that it replaces are in out/earlier-run.*--resume",
    ),
    UnusualInput(
        "an interrupted run",
        _run(COMPLETE | {"status": "interrupted"}),
        message="unfinished run; continue.*--resume",
    ),
    UnusualInput(
        "an unfinished run of other data",
        _run(RUNNING, "--resume"),
        message="images or labels have changed.*--force",
    ),
    UnusualInput(
        "a marker that names a folder to delete",
        _run(COMPLETE | {"replaces": "../features.npy"}, "--resume"),
        message="nothing to resume",
    ),
    *(
        UnusualInput(f"{what} in the run folder that is replaced", _input(*arguments), message=told)
        for what, told, arguments in (
            ("the source", "the source.*--out", ["out/samples.parquet"]),
            ("the source, spelled otherwise,", "the source", ["out/../out/samples.parquet"]),
            ("the labels", "the source.*--out", ["out/suspects.csv", "--features", "features.npy"]),
            (
                "the features",
                "--features.*--out",
                ["labels.csv", "--features", "out/embeddings.npy"],
            ),
            (
                "the predictions",
                "--pred-probs",
                ["labels.csv", "--pred-probs", "out/pred_probs.npy"],
            ),
            (
                "the second predictions",
                "--pred-probs",
                [
                    *("labels.csv", "--pred-probs", "features.npy"),
                    *("--pred-probs", "out/pred_probs.npy"),
                ],
            ),
            (
                "labels of the earlier run",
                "the source",
                ["out/earlier-run/suspects.csv", "--features", "features.npy"],
            ),
        )
    ),
]


# --- commands that read a run ------------------------------------------------------------------------


def _read(command: list[str], marker: object, *files: str, earlier: bool = False):
    def make(folder: Path) -> list[str]:
        _write_data(folder)
        run = folder / "out"
        if marker is None:
            run.mkdir()
        else:
            _write_run(folder, marker)
        for file in files:
            (run / file).write_text("{}")
        if earlier:
            _with_earlier(run)
        return command

    return make


COMMANDS = {
    "review": ["review", "out", "--no-browser"],
    "report": ["report", "out"],
    "export": ["export", "out", "--to", "csv"],
    "diff": ["diff", "out", "out"],
    "a scan with --reviewed": _scan("new", "--reviewed", "out"),
}
BOTH = ("summary.json", "samples.parquet")
STATES = {
    "a folder without a marker": (None, BOTH, False, "labelaudit.json is missing"),
    "a running scan": (RUNNING, (), False, "unfinished.*wait for the scan, or .*--resume"),
    "a scan that is writing": (RUNNING | {"status": "writing"}, BOTH, False, "being written"),
    "a replacing scan": (RUNNING, (), True, "replaces are in out/earlier-run"),
    "a scan killed while it moved files": (None, (), True, "cut off there.*--force"),
    "a run without its tables": (COMPLETE, (), False, "incomplete.*--force"),
    "a damaged marker": ('{"labelaudit": ', BOTH, False, "is damaged"),
}
READS = [
    UnusualInput(f"{command} on {state}", _read(arguments, marker, *files, earlier=earlier),
                 message=message)
    for command, arguments in COMMANDS.items()
    for state, (marker, files, earlier, message) in STATES.items()
]  # fmt: skip


# --- embed -------------------------------------------------------------------------------------------


def _embed(out: str):
    def make(folder: Path) -> list[str]:
        write_images(folder / "photos", each=2)
        (folder / "a.parquet").mkdir()
        return ["embed", "photos", "--encoder", "resnet18", "--out", out]

    return make


EMBED = [
    UnusualInput("embed to a folder", _embed("a.parquet"), message="it is a folder"),
    UnusualInput("embed to CSV", _embed("a.csv"), message="name it .parquet"),
    UnusualInput("embed to no folder", _embed("b/c.parquet"), message="does not exist"),
    UnusualInput("embed to /proc", _embed("/proc/c.parquet"), message="cannot write"),
    UnusualInput(
        "embed to a name that is not UTF-8",
        _embed(os.fsdecode(b"\xff.parquet")),
        message="not UTF-8",
    ),
    UnusualInput("embed to a long name", _embed(f"{'o' * 300}.parquet"), message="cannot write"),
]

ROWS = [*PLACES, *MARKERS, *RUNS, *READS, *EMBED]
