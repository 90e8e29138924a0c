"""Commands after a scan: run folders, decisions and label files that are damaged or foreign."""

import functools
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import numpy as np
import pandas as pd
from unusual_input import UnusualInput, write_images

import labelaudit

HEADER = "sample_id,decision,corrected_label"
WRONG = ("class1/005.png", "class0/002.png", "class0/005.png")  # as suspects.csv lists them
REVIEW = ["review", "run", "--no-browser"]
APPLY = ["apply", "labels.csv", "run"]
FIXED = [*APPLY, "-o", "fixed.csv"]


@functools.cache
def _finished() -> tempfile.TemporaryDirectory:
    """Return a folder with photos, labels.csv, probs.csv and the finished run of both in ``run``."""
    place = tempfile.TemporaryDirectory(prefix="labelaudit-after-scan-")
    folder = Path(place.name)
    write_images(folder / "photos", classes=2, each=15)
    truth = np.repeat([0, 1], 15)
    given = truth.copy()
    given[[2, 5, 20]] ^= 1
    ids = [f"class{right}/{row % 15:03d}.png" for row, right in enumerate(truth)]
    rows = [f"{one},{'ab'[label]}" for one, label in zip(ids, given, strict=True)]
    (folder / "labels.csv").write_text("\n".join(["path,label", *rows]) + "\n")
    rows = [
        f"{one},{0.97 - 0.94 * right:.2f},{0.03 + 0.94 * right:.2f}"
        for one, right in zip(ids, truth, strict=True)
    ]
    (folder / "probs.csv").write_text("\n".join(["path,a,b", *rows]) + "\n")
    with chdir(folder):
        labelaudit.scan("photos", "labels.csv", pred_probs="probs.csv", out="run", verbose=False)
    return place


def after(command: list[str], *changes: Callable[[Path], object]) -> Callable[[Path], list[str]]:
    """Return what makes a row: a copy of the finished run, the changes to it, and the command."""

    def make(folder: Path) -> list[str]:
        shutil.copytree(_finished().name, folder, dirs_exist_ok=True)
        for change in changes:
            change(folder)
        return command

    return make


def decide(*rows: str, header: str = HEADER) -> Callable[[Path], object]:
    """Write the decisions of a run."""
    text = "\n".join([header, *rows]) + "\n"
    return lambda folder: (folder / "run" / "corrections.csv").write_text(text)


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    """Write a file, whatever was there."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def delete(name: str) -> Callable[[Path], object]:
    """Delete a file or folder."""

    def change(folder: Path) -> None:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()

    return change


def cut(name: str, share: float = 0.5) -> Callable[[Path], object]:
    """Keep only the beginning of a file."""

    def change(folder: Path) -> None:
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data[: int(len(data) * share)])

    return change


def set_json(name: str, **values: object) -> Callable[[Path], object]:
    """Set values of a JSON file."""

    def change(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def edit_samples(edit: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path], object]:
    """Edit the samples of a run."""

    def change(folder: Path) -> None:
        path = folder / "run" / "samples.parquet"
        edit(pd.read_parquet(path)).to_parquet(path)

    return change


def be_pipe(name: str) -> Callable[[Path], object]:
    """Put a named pipe, which nobody writes to, where a file was."""

    def change(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        os.mkfifo(folder / name)

    return change


def labels_of(folder: Path, name: str = "fixed.csv") -> dict[str, str]:
    """Return the labels that `apply` wrote, by path."""
    table = pd.read_csv(folder / name, dtype=str, keep_default_na=False)
    return dict(zip(table["path"], table["label"], strict=True))


def decided(**labels: str) -> Callable[[Path, str], None]:
    """Check that exactly the labels of these rows of suspects.csv changed (``first="b"``)."""

    def check(folder: Path, _: str) -> None:
        before = labels_of(folder, "labels.csv")
        names = dict(zip(("first", "second", "third"), WRONG, strict=True))
        assert labels_of(folder) == before | {names[key]: label for key, label in labels.items()}

    return check


def _exported(folder: Path, _: str) -> None:
    table = labelaudit.read_csv(folder / "run" / "export-csv" / "suspects_plain.csv")
    assert table["sample_id"].tolist() == list(WRONG)


def _report_written(folder: Path, _: str) -> None:
    page = (folder / "run" / "report.html").read_text(encoding="utf-8")
    assert all(one in page for one in WRONG)
    assert "<script>alert" not in page


def _no_other_script(folder: Path) -> None:
    """Rename the classes and a sample to something that a page or a sheet could execute."""
    evil = "</script><script>alert(1)</script>"
    edit_samples(lambda table: table.replace({"given_label": {"a": evil}}))(folder)
    set_json("run/summary.json", class_names=[evil, "b"])(folder)


def _neighbor_of_another_name(folder: Path) -> None:
    set_json("run/labelaudit.json", replaces="../photos")(folder)


def _of_other_samples(folder: Path) -> None:
    shutil.copytree(folder / "run", folder / "other")
    table = pd.read_parquet(folder / "other" / "samples.parquet")
    ids = [f"x{row}" for row in range(len(table))]
    table.assign(sample_id=ids).to_parquet(folder / "other" / "samples.parquet")


def _labels_changed_since(folder: Path) -> None:
    decide(f"{WRONG[0]},accept,b,a", header=f"{HEADER},given_label")(folder)
    text = (folder / "labels.csv").read_text()
    (folder / "labels.csv").write_text(text.replace(f"{WRONG[0]},a", f"{WRONG[0]},c"))


def _spreadsheet(folder: Path) -> None:
    """Fill in suspects.csv as a spreadsheet program with decimal commas saves it."""
    table = labelaudit.read_csv(folder / "run" / "suspects.csv")
    table["decision"] = ["accept", None, None]
    text = table.to_csv(sep=";", decimal=",", index=False, lineterminator="\r\n")
    (folder / "run" / "suspects.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())


def _suspects_and_corrections(folder: Path) -> None:
    _spreadsheet(folder)
    decide(f"{WRONG[1]},keep,")(folder)


ACCEPT = decide(f"{WRONG[0]},accept,b")
DAMAGED = "damaged.*scan again with --force"
EXPORT = ["export", "run", "--to", "csv"]
NESTED = "[" * 100_000

# What is wrong with a run folder, how it is made, and what each command that reads all of it says.
DAMAGES = {
    "a summary cut off": (cut("run/summary.json"), f"summary.json is {DAMAGED}"),
    "a summary that is not text": (write("run/summary.json", b"\xff\xfe\0"), DAMAGED),
    "a summary nested too deeply": (write("run/summary.json", NESTED), DAMAGED),
    "a marker nested too deeply": (write("run/labelaudit.json", NESTED), DAMAGED),
    "a summary of other types": (set_json("run/summary.json", class_names=5), "is damaged, or of"),
    "a summary of other classes": (set_json("run/summary.json", class_names=["x"]), "no class 'a'"),
    "samples cut off": (cut("run/samples.parquet"), f"samples.parquet is {DAMAGED}"),
    "samples without ranks": (
        edit_samples(lambda table: table.drop(columns="rank")),
        'lacks the column "rank"',
    ),
    "scores that are text": (
        edit_samples(lambda table: table.assign(suspect_score="high")),
        "suspect_score is not a number",
    ),
    "scores that are missing": (
        edit_samples(lambda table: table.assign(suspect_score=np.nan)),
        "a label has no suspect_score",
    ),
    "scores beyond 1": (
        edit_samples(lambda table: table.assign(suspect_score=7.0)),
        r"suspect_score is not in \[0, 1\]",
    ),
    "flags that are words": (
        edit_samples(lambda table: table.assign(is_label_issue="yes")),
        "neither true nor false",
    ),
    "labels that are lists": (
        edit_samples(lambda table: table.assign(given_label=[["a"]] * len(table))),
        "given_label is not text",
    ),
    "two samples of one id": (
        edit_samples(lambda table: table.assign(sample_id="x")),
        'two samples have the id "x"',
    ),
    "a pipe as decisions": (be_pipe("run/corrections.csv"), "not a regular file"),
}
READERS = {
    "review": REVIEW,
    "report": ["report", "run"],
    "export": EXPORT,
    "diff": ["diff", "run", "run"],
}

ROWS = [
    *(
        # Each damage meets one of the commands, in turn; all of them read a folder in one place.
        UnusualInput(f"{command} of {name}", after(READERS[command], change), message=message)
        for (name, (change, message)), command in zip(
            DAMAGES.items(), [*READERS] * len(DAMAGES), strict=False
        )
    ),
    UnusualInput(
        "review of a run whose list of suspects is a foreign script",
        after(REVIEW, write("run/report-data/index.js", "alert(1)")),
        message="index.js cannot be read",
    ),
    UnusualInput(
        "review of a pipe as list of suspects",
        after(REVIEW, be_pipe("run/report-data/index.js")),
        message="not a regular file",
    ),
    UnusualInput(
        "review of a folder of photos", after(["review", "photos"]), message="not a run folder"
    ),
    UnusualInput("review of a file", after(["review", "labels.csv"]), message="is a file; give"),
    UnusualInput("review of nothing", after(["review", "no"]), message="no does not exist"),
    UnusualInput(
        "review of decisions with an unknown word",
        after(REVIEW, decide(f"{WRONG[0]},maybe,")),
        message='is "maybe"; write one of',
    ),
    UnusualInput(
        "review of a run that goes on",
        after(
            REVIEW, set_json("run/labelaudit.json", status="running"), delete("run/summary.json")
        ),
        message="unfinished.*continue it with --resume",
    ),
    UnusualInput(
        "report of a run whose marker names another folder",
        after(["report", "run"], _neighbor_of_another_name),
        check=_report_written,
        rewrites=("run/report.html",),
    ),
    UnusualInput(
        "report of classes that are scripts",
        after(["report", "run"], _no_other_script),
        check=_report_written,
        rewrites=("run/report.html",),
    ),
    UnusualInput(
        "report with a pipe as plot",
        after(["report", "run"], be_pipe("run/plots/review.png")),
        check=_report_written,
        rewrites=("run/report.html",),
    ),
    UnusualInput(
        "report of decisions that contradict each other",
        after(["report", "run"], decide(f"{WRONG[0]},keep,", f"{WRONG[0]},relabel,b")),
        message="two decisions about",
    ),
    UnusualInput(
        "export to an unknown tool", after(["export", "run", "--to", "x"]), message="label-studio"
    ),
    UnusualInput(
        "export into a folder of the user",
        after([*EXPORT, "--out", "photos", "--force"]),
        check=lambda folder, _: (folder / "photos" / "class0" / "000.png").stat(),
    ),
    UnusualInput(
        "export where a file is in the way",
        after([*EXPORT, "-o", "labels.csv"]),
        message="labels.csv",
    ),
    UnusualInput(
        "export of images that are gone",
        after(["export", "run", "--to", "fiftyone"], delete("photos")),
        message="is not found",
    ),
    UnusualInput(
        "export without plots and pages", after(EXPORT, delete("run/plots")), check=_exported
    ),
    UnusualInput(
        "diff of a folder of photos", after(["diff", "run", "photos"]), message="not a run"
    ),
    UnusualInput(
        "diff of runs on other samples",
        after(["diff", "run", "other"], _of_other_samples),
        message="(?i)no sample|in common",
    ),
    UnusualInput(
        "diff written over labels",
        after(["diff", "run", "run", "-o", "labels.csv"]),
        message="--force",
    ),
    UnusualInput("apply of a run without decisions", after(FIXED), message="no decisions yet"),
    UnusualInput(
        "apply of an id that the labels lack",
        after(FIXED, decide("no.png,accept,b")),
        message="no row",
    ),
    UnusualInput(
        "apply of a label that is a formula",
        after(FIXED, decide(f"{WRONG[0]},relabel,'=HYPERLINK(1)")),
        message="no class",
    ),
    UnusualInput(
        "apply of a new class that is allowed",
        after([*FIXED, "--allow-new-classes"], decide(f"{WRONG[0]},relabel,c")),
        check=decided(first="c"),
    ),
    UnusualInput(
        "apply of a label that is missing",
        after(FIXED, decide(f"{WRONG[0]},relabel,")),
        message="empty",
    ),
    UnusualInput(
        "apply of decisions that contradict each other",
        after(FIXED, decide(f"{WRONG[0]},keep,", f"{WRONG[0]},exclude,")),
        message="two decisions about",
    ),
    UnusualInput(
        "apply of the same decision twice",
        after(FIXED, decide(*[f"{WRONG[0]},accept,b"] * 2)),
        check=decided(first="b"),
    ),
    UnusualInput(
        "apply of decisions with a column twice",
        after(FIXED, decide("x,keep,keep,", header="sample_id,decision,decision,corrected_label")),
        message="two columns",
    ),
    UnusualInput(
        "apply of decisions with too many cells",
        after(FIXED, decide(f"{WRONG[0]},accept,b,,,,")),
        message="has 7 cells",
    ),
    UnusualInput(
        "apply of decisions with an open quote",
        after(FIXED, decide(f'"{WRONG[0]},accept,b')),
        message="broken quotes",
    ),
    UnusualInput(
        "apply of decisions in another encoding",
        after(FIXED, write("run/corrections.csv", f"{HEADER}\nä,keep,\n".encode("utf-16"))),
        message="not UTF-8",
    ),
    UnusualInput(
        "apply of empty decisions",
        after(FIXED, write("run/corrections.csv", "")),
        message="is empty",
    ),
    UnusualInput(
        "apply of decisions in another order of columns",
        after(FIXED, decide(f"b,{WRONG[0]},relabel", header="corrected_label,sample_id,decision")),
        check=decided(first="b"),
    ),
    UnusualInput(
        "apply of suspects that a spreadsheet saved",
        after(FIXED, _spreadsheet),
        check=decided(first="b"),
    ),
    UnusualInput(
        "apply of decisions in two files", after(FIXED, _suspects_and_corrections), message="both"
    ),
    UnusualInput(
        "apply to labels that changed since the scan",
        after(FIXED, _labels_changed_since),
        message="c",
    ),
    UnusualInput(
        "apply over the labels themselves",
        after([*APPLY, "-o", "labels.csv", "--force"], ACCEPT),
        message="labels.csv",
    ),
    UnusualInput(
        "apply over the decisions",
        after([*APPLY, "-o", "run/corrections.csv", "--force"], ACCEPT),
        message="corrections.csv",
    ),
    UnusualInput(
        "apply in another format",
        after([*APPLY, "-o", "fixed.parquet"], ACCEPT),
        message="fixed.parquet",
    ),
    UnusualInput(
        "apply of Label Studio's JSON nested too deeply",
        after(["apply", "labels.csv", "deep.json"], write("deep.json", NESTED)),
        message="not JSON",
    ),
    UnusualInput(
        "apply of a foreign JSON file",
        after(["apply", "labels.csv", "run/summary.json"]),
        message='without "sample_id"',
    ),
    UnusualInput(
        "apply of a pipe",
        after(["apply", "labels.csv", "pipe.csv"], be_pipe("pipe.csv")),
        message="pipe",
    ),
    UnusualInput(
        "embed without weights",
        after(["embed", "photos", "--encoder", "nothing-such"]),
        message="nothing-such",
    ),
    UnusualInput(
        "eval of an unknown method", after(["eval", "digits", "--method", "x"]), message="x"
    ),
    UnusualInput(
        "eval of an unknown noise", after(["eval", "digits", "--noise", "x"]), message="noise"
    ),
    UnusualInput(
        "eval of data that is not there", after(["eval", "no-such-folder"]), message="no-such"
    ),
    UnusualInput(
        "eval of a rate beyond 1", after(["eval", "digits", "--rate", "7"]), message="rate.*7"
    ),
]
