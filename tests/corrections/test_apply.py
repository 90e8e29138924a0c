"""Corrections applied to every format of labels: what changes, and that nothing else does."""

import csv
import io
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from labelaudit.corrections.apply import CHANGE_COLUMNS, apply_corrections
from labelaudit.corrections.csv_edits import csv_rows
from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections
from labelaudit.errors import OptionError, OutputError, SourceError
from labelaudit.reporting.run_files import MARKER
from labelaudit.reporting.tables import read_csv, write_csv
from labelaudit.sources.cells import ID_COLUMNS, Columns
from labelaudit.sources.classes import as_text
from labelaudit.sources.feature_tables import source_from_table
from labelaudit.sources.folders import read_source
from labelaudit.sources.label_tables import read_table
from labelaudit.sources.manifest import Source

CSV = "path,label\na.png,cat\nb.png,dog\nc.png,dog\n"


def decide(**decisions: str) -> pd.DataFrame:
    """Corrections: `a_png="=dog"` relabels, other words are decisions; the name has no suffix."""
    return decided({f"{name}.png": what for name, what in decisions.items()})


def decided(decisions: dict[str, str], **more: str) -> pd.DataFrame:
    rows = [
        {
            "sample_id": name,
            "decision": "relabel" if what.startswith("=") else what,
            "corrected_label": what[1:] if what.startswith("=") else "",
            **more,
        }
        for name, what in decisions.items()
    ]
    return pd.DataFrame(rows, dtype="str")


def table(folder: Path, data: str | bytes, name: str = "labels.csv") -> Path:
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data.encode() if isinstance(data, str) else data)
    return file


def images(folder: Path, *names: str) -> Path:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (2, 2), len(name)).save(file, format="PNG")
    return folder


def written(labels: Path, corrections: pd.DataFrame | Path, **options: Any) -> bytes:
    """Apply corrections, and again to what was written, which may change nothing more."""
    before = labels.read_bytes() if labels.is_file() else b""
    applied = apply_corrections(labels, corrections, **options)
    assert applied.out is not None
    assert applied.changes_path is not None
    data = applied.out.read_bytes()
    if labels.is_file():
        assert labels.read_bytes() == before
    options.pop("out", None)
    again = apply_corrections(applied.out, corrections, **options)
    assert again.out is not None
    assert again.out.read_bytes() == data
    assert again.changes.empty
    if isinstance(corrections, Path):
        corrections = read_corrections(corrections)
    assert again.num_unchanged == len(corrections) - again.num_unsure
    return data


def labels_of(source: Source) -> dict[str, str]:
    names = (*source.manifest.class_names, "")
    numbers = source.manifest.noisy_labels
    return {i: names[n] for i, n in zip(source.manifest.sample_ids, numbers, strict=True)}


# --- CSV ---------------------------------------------------------------------------------------


def test_decisions_in_a_csv_file(tmp_path: Path) -> None:
    labels = table(
        tmp_path, "path,label,note\na.png,cat,x\nb.png,dog,\nc.png,dog,z\nd.png,,\ne.png,cat,\n"
    )
    corrections = decide(a="=dog", b="keep", c="exclude", d="=cat", e="unsure")
    corrections["note"] = ["blurred, but a dog", "", "", "", ""]
    corrections["reviewer"] = "Ada"
    corrections["reviewed_at"] = "2026-07-01T10:00:00"
    applied = apply_corrections(labels, corrections)
    assert applied.out == tmp_path / "labels.fixed.csv"
    assert applied.out.read_text() == (
        "path,label,note,verified,first_label\na.png,dog,x,yes,cat\nb.png,dog,,yes,dog\n"
        "c.png,dog,z,excluded,\nd.png,cat,,yes,\ne.png,cat,,,\n"
    )
    assert applied.changes.columns.tolist() == list(CHANGE_COLUMNS)
    assert applied.changes.to_numpy().tolist() == [
        ["a.png", "cat", "dog", "relabel", "blurred, but a dog", "Ada", "2026-07-01T10:00:00"],
        ["d.png", "", "cat", "relabel", "", "Ada", "2026-07-01T10:00:00"],
    ]
    assert applied.pairs.to_numpy().tolist() == [["", "cat", 1], ["cat", "dog", 1]]
    assert applied.pairs["count"].dtype == "int64"
    counts = (applied.num_verified, applied.num_excluded, applied.num_unsure, applied.num_unchanged)
    assert counts == (3, 1, 1, 0)
    assert applied.changes_path == tmp_path / "labels.fixed.changes.csv"
    assert applied.changes_path.read_text() == (
        '"sample_id","from","to","decision","note","reviewer","reviewed_at"\n'
        '"a.png","cat","dog","relabel","blurred, but a dog","Ada","2026-07-01T10:00:00"\n'
        '"d.png","","cat","relabel","","Ada","2026-07-01T10:00:00"\n'
    )
    again = apply_corrections(applied.out, corrections)
    assert again.out == tmp_path / "labels.fixed.fixed.csv"
    assert again.out.read_bytes() == applied.out.read_bytes()
    assert (again.num_verified, again.num_excluded, again.num_unchanged) == (3, 1, 4)


def test_pairs_are_counted(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    applied = apply_corrections(labels, decide(a="=dog", b="=cat", c="=cat"), dry_run=True)
    assert applied.pairs.to_numpy().tolist() == [["dog", "cat", 2], ["cat", "dog", 1]]


def test_corrections_from_a_file_with_suggestions(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    corrections = decide(a="accept", b="keep")
    for name in CORRECTION_COLUMNS:
        if name not in corrections:
            corrections[name] = ""
    write_corrections(corrections, tmp_path / "corrections.csv")
    applied = apply_corrections(
        labels, tmp_path, suggestions={"a.png": "dog"}, out=tmp_path / "new" / "better.csv"
    )
    assert applied.out is not None
    assert applied.out.read_text() == (
        "path,label,verified,first_label\na.png,dog,yes,cat\nb.png,dog,yes,dog\nc.png,dog,,\n"
    )
    assert (tmp_path / "new" / "better.changes.csv").exists()


@pytest.mark.parametrize(
    ("before", "after"),
    [
        # Windows line ends and a byte order mark, no line end after the last row.
        (b"\xef\xbb\xbfpath;label\r\na.png;cat\r\nb.png;dog",
         b"\xef\xbb\xbfpath;label;verified;first_label\r\na.png;dog;yes;cat\r\nb.png;dog;;"),
        # Mixed line ends and blank lines.
        (b"path,label\na.png,cat\r\n\r\nb.png,dog\r\n\n",
         b"path,label,verified,first_label\na.png,dog,yes,cat\r\n\r\nb.png,dog,,\r\n\n"),
        (b"path,label\ra.png,cat\rb.png,dog\r",
         b"path,label,verified,first_label\ra.png,dog,yes,cat\rb.png,dog,,\r"),
        # Everything quoted, or labels alone.
        (b'"path","label"\n"a.png","cat"\n"b.png","dog"\n',
         b'"path","label","verified","first_label"\n"a.png","dog","yes","cat"\n"b.png","dog",,\n'),
        (b'path,label\na.png,"cat"\nb.png,"dog"\n',
         b'path,label,verified,first_label\na.png,"dog","yes","cat"\nb.png,"dog",,\n'),
        # Quoted since it must be, in one cell alone.
        (b'path,label\na.png,"cat, black"\nb.png,dog\n',
         b'path,label,verified,first_label\na.png,dog,yes,"cat, black"\nb.png,dog,,\n'),
        # Rows shorter than the header, and longer by empty cells.
        (b"path,label,note,more\na.png,cat\nb.png,dog,x\n",
         b"path,label,note,more,verified,first_label\na.png,dog,,,yes,cat\nb.png,dog,x,,,\n"),
        (b"path,note,label\na.png\nb.png,,dog\n",
         b"path,note,label,verified,first_label\na.png,,dog,yes,\nb.png,,dog,,\n"),
        (b"path,label\na.png,cat,\nb.png,dog,,,\n",
         b"path,label,verified,first_label\na.png,dog,yes,cat\nb.png,dog,,,\n"),
        # Cells with line ends, quotes and delimiters; a quote within a bare cell.
        (b'note,label,path\n"one\ntwo, ""three""\r\n",cat,a.png\n5"" tall,dog,"b.png"\n',
         b'note,label,path,verified,first_label\n"one\ntwo, ""three""\r\n",dog,a.png,yes,cat\n'
         b'5"" tall,dog,"b.png",,\n'),
        # Spaces, and what looks like numbers or formulas.
        (b"id , path,label,note\n007, a.png ,cat,=1+1\n1e5,b.png,dog,NA\n",
         b"id , path,label,note,verified,first_label\n007, a.png ,dog,=1+1,yes,cat\n"
         b"1e5,b.png,dog,NA,,\n"),
        # A column of verified labels is updated in place, and that of first labels comes after it.
        (b"path,Verified,label\na.png,,cat\nb.png,yes,dog\n",
         b"path,Verified,first_label,label\na.png,yes,cat,dog\nb.png,yes,,dog\n"),
        (b'"path","verified","label"\n"a.png","","cat"\n"b.png","yes","dog"\n',
         b'"path","verified","first_label","label"\n"a.png","yes","cat","dog"\n"b.png","yes",,"dog"\n'),
        (b"path,label,verified\na.png,cat\nb.png,dog,no\n",
         b"path,label,verified,first_label\na.png,dog,yes,cat\nb.png,dog,no,\n"),
        (b"label,path,verified,note\ncat,a.png\ndog,b.png\ndog,c.png,no,x\n",
         b"label,path,verified,first_label,note\ndog,a.png,yes,cat\ndog,b.png\ndog,c.png,no,,x\n"),
        (b"path,label,verified\na.png,cat,False\nb.png,dog,True\n",
         b"path,label,verified,first_label\na.png,dog,True,cat\nb.png,dog,True,\n"),
        (b"path,label,verified\na.png,cat,0\nb.png,dog,1\n",
         b"path,label,verified,first_label\na.png,dog,1,cat\nb.png,dog,1,\n"),
        # What a column of first labels holds stays; it may be called otherwise, or stand elsewhere.
        (b"path,label,verified,first_label\na.png,cat,yes,bird\nb.png,dog,yes,cat\n",
         b"path,label,verified,first_label\na.png,dog,yes,bird\nb.png,dog,yes,cat\n"),
        (b'First_Label,path,label\n"",a.png,cat\n,b.png,dog\n',
         b'First_Label,path,label,verified\n"cat",a.png,dog,yes\n,b.png,dog,\n'),
        (b"path,label,verified,first_label\na.png,cat\nb.png,dog,,x\n",
         b"path,label,verified,first_label\na.png,dog,yes,cat\nb.png,dog,,x\n"),
    ],
)  # fmt: skip
def test_every_other_byte_stays(tmp_path: Path, before: bytes, after: bytes) -> None:
    labels = table(tmp_path, before)
    assert written(labels, decide(a="=dog")) == after
    found = read_table(tmp_path / "labels.fixed.csv", Columns(None, None, None))
    assert set(found.labels) == {"dog"}


def test_tsv(tmp_path: Path) -> None:
    labels = table(tmp_path, "path\tlabel\na.png\tcat, or so\nb.png\tdog\n", "labels.tsv")
    assert written(labels, decide(b="=cat, or so")).decode() == (
        "path\tlabel\tverified\tfirst_label\na.png\tcat, or so\t\t\nb.png\tcat, or so\tyes\tdog\n"
    )


@pytest.mark.parametrize(
    "label", ["a, b", 'a "b"', "a\nb", "a\r\nb", "=1+1", "007", "NA", " x ", "é"]
)
def test_labels_of_any_text_come_back(tmp_path: Path, label: str) -> None:
    data = written(
        table(tmp_path, CSV), decide(a=f"={label}", b=f"={label}"), allow_new_classes=True
    )
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert rows[1:] == [
        ["a.png", label, "yes", "cat"], ["b.png", label, "yes", "dog"], ["c.png", "dog", "", ""]
    ]  # fmt: skip
    for quoted in (",a b,", ",007,", ",NA,", ",=1+1,", ", x ,"):
        if label in quoted:
            assert b'"' not in data


@pytest.mark.parametrize(
    "label", ["a, b", 'a "b"', "a\nb", "a\r\nb", "=1+1", "007", "NA", " x ", "é"]
)
@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_first_labels_of_any_text_come_back(tmp_path: Path, label: str, suffix: str) -> None:
    file = tmp_path / f"labels.{suffix}"
    frame = pd.DataFrame({"path": ["a.png", "b.png", "c.png"], "label": [label, "dog", label]})
    if suffix == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    elif suffix == "parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, sep="\t" if suffix == "tsv" else ",", lineterminator="\n")
    written(file, decide(a="=dog", b="keep"))
    columns = Columns(None, None, None, verified="verified")
    found = read_table(tmp_path / f"labels.fixed.{suffix}", columns)
    assert found.labels == ["dog", "dog", label]
    assert found.first == [label, "dog", ""]


def test_the_first_label_stays_when_a_label_is_corrected_again(tmp_path: Path) -> None:
    labels = table(tmp_path, f"{CSV}d.png,\n")
    once, twice = tmp_path / "1.csv", tmp_path / "2.csv"
    written(labels, decide(a="=dog", b="keep", d="=dog"), out=once)
    second = decide(a="=cat", b="=cat", c="keep", d="=cat")
    data = written(once, second, out=twice, allow_new_classes=True)
    assert data.decode() == (
        "path,label,verified,first_label\na.png,cat,yes,cat\nb.png,cat,yes,dog\nc.png,dog,yes,dog\n"
        "d.png,cat,yes,dog\n"
    )


def test_a_label_that_was_corrected_already_has_no_first_label_unless_it_is_known(
    tmp_path: Path,
) -> None:
    labels = table(tmp_path, CSV)
    header = b"path,label,verified,first_label\n"
    rest = b"b.png,dog,,\nc.png,dog,,\n"
    assert written(labels, decide(a="=cat")) == header + b"a.png,cat,yes,\n" + rest
    known = decided({"a.png": "=cat"}, given_label="dog")
    assert written(labels, known, force=True) == header + b"a.png,cat,yes,dog\n" + rest


def test_columns_of_first_labels_that_hold_something_else(tmp_path: Path) -> None:
    rows = {"path": ["a.png", "b.png"], "label": ["cat", "dog"]}
    for number, values in enumerate([[1, 2], [["cat"], ["dog"]]]):
        file = parquet_table(tmp_path / f"{number}.parquet", {**rows, "first_label": values})
        with pytest.raises(SourceError) as caught:
            apply_corrections(file, decide(a="keep"))
        assert str(caught.value) == (
            f'the column "first_label" of {file} is needed for the first label of verified samples,'
            " but holds something else; rename it"
        )
    for values in (pa.nulls(2), pa.array(["", "x"]).dictionary_encode()):
        file = parquet_table(tmp_path / "text.parquet", {"First_label": values, **rows})
        written(file, decide(a="=dog"), force=True)
        found = pq.read_table(tmp_path / "text.fixed.parquet")
        assert found.column_names == ["First_label", "path", "label", "verified"]
        assert found["First_label"].to_pylist() == ["cat", values[1].as_py()]
    bare = table(tmp_path, "path,first_label\na.png,cat\nb.png,dog\n")
    with pytest.raises(SourceError, match=r'"first_label" of .* holds something else; rename it'):
        apply_corrections(bare, decide(a="keep"), label_column="first_label")
    # What is no text in JSONL is taken as it is.
    text = '{"first_label": %s, "path": "a.png", "label": "cat", "verified": null}\n'
    lines = table(tmp_path, text % "null" + text.replace("a.png", "b.png") % "7", "l.jsonl")
    data = written(lines, decide(a="keep", b="keep")).decode()
    assert [json.loads(line)["first_label"] for line in data.splitlines()] == ["cat", 7]
    # A line need not have the key after which it would come.
    text = '{"verified": "no", "path": "a.png", "label": "x"}\n{"path": "b.png", "label": "y"}\n'
    data = written(table(tmp_path, text, "2.jsonl"), decide(a="=y", b="keep")).decode()
    assert data == (
        '{"verified": "yes", "first_label": "x", "path": "a.png", "label": "y"}\n'
        '{"path": "b.png", "label": "y", "verified": "yes", "first_label": "y"}\n'
    )


def test_a_table_of_labels_alone_goes_by_row(tmp_path: Path) -> None:
    labels = table(tmp_path, "label\ncat\n\ndog\ndog\n")
    assert written(labels, decided({"1": "=cat", "2": "keep"})).decode() == (
        "label,verified,first_label\ncat,,\n\ncat,yes,dog\ndog,yes,dog\n"
    )


def test_cells_are_split_as_by_the_csv_module() -> None:
    random.seed(0)
    agreed = refused = 0
    for _ in range(20_000):
        delimiter = random.choice(",;\t")
        text = "".join(random.choices(f'ab é"{delimiter}\n\r', k=random.randrange(12)))
        try:
            expected = list(
                csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
            )
        except csv.Error:
            with pytest.raises(ValueError, match="broken quotes"):
                list(csv_rows(text, delimiter))
            refused += 1
            continue
        rows, ends = [], [0]
        for spans, end in csv_rows(text, delimiter):
            cells = [text[slice(*span)] for span in spans]
            assert (
                delimiter.join(cells) == text[ends[-1] : end].rstrip("\r\n")
                or not spans
                or (cells[-1].startswith('"'))
            )
            rows.append([c[1:-1].replace('""', '"') if c[:1] == '"' else c for c in cells])
            ends.append(end)
        assert rows == expected, text
        assert ends[-1] == len(text)
        agreed += 1
    assert min(agreed, refused) > 3_000


def test_random_tables_read_the_same_but_for_what_was_corrected(tmp_path: Path) -> None:
    random.seed(1)
    alphabet = 'ab,;"\n\r é='
    for number in range(60):
        names = [f"{i}.png" for i in range(6)]
        rows = [
            [
                "".join(random.choices(alphabet, k=random.randrange(5))),
                random.choice(["cat", "a, b", 'd"o"g', ""]),
                name,
            ]
            for name in names
        ]
        rows[0][1], rows[1][1], rows[2][1] = "cat", "a, b", 'd"o"g'
        out = io.StringIO()
        quoting = random.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        # With other line ends, old versions of `csv` do not quote a cell for its "\r".
        writer = csv.writer(
            out, quoting=quoting, lineterminator="\r\n", delimiter=random.choice(",;\t")
        )
        writer.writerows([["note", "label", "path"], *rows])
        labels = table(tmp_path, out.getvalue(), f"{number}.csv")
        chosen = dict(zip(random.sample(names, 2), ["=cat", '=d"o"g'], strict=True))
        data = written(labels, decided(chosen))
        delimiter = next(sign for sign in ",;\t" if sign in data.decode().splitlines()[0])
        text = io.StringIO(data.decode(), newline="")
        found = list(csv.reader(text, delimiter=delimiter, strict=True))
        expected = [
            [note, chosen[name][1:], name, "yes", label if label != chosen[name][1:] else ""]
            if name in chosen
            else [note, label, name, "", ""]
            for note, label, name in rows
        ]
        assert found == [["note", "label", "path", "verified", "first_label"], *expected]


def test_excluded_rows_can_be_dropped(tmp_path: Path) -> None:
    labels = table(tmp_path, "path,label\r\na.png,cat\r\n\r\nb.png,dog\r\nx/b.png,dog")
    corrections = decide(a="=dog", b="exclude")
    assert written(labels, corrections, drop_excluded=True) == (
        b"path,label,verified,first_label\r\na.png,dog,yes,cat\r\n\r\nx/b.png,dog,,"
    )
    applied = apply_corrections(labels, corrections, drop_excluded=True, dry_run=True)
    assert applied.num_excluded == 1
    everything = decided({"a.png": "exclude", "b.png": "exclude", "x/b.png": "exclude"})
    with pytest.raises(SourceError, match=r"all rows of .* are excluded and would be dropped"):
        apply_corrections(labels, everything, drop_excluded=True)
    only = tmp_path / "only.csv"
    apply_corrections(labels, decide(b="exclude"), only, drop_excluded=True)
    with pytest.raises(SourceError, match=r'no row for 1 of 1 samples: "b.png"'):
        apply_corrections(only, decide(b="exclude"), drop_excluded=True)


# --- which rows --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "ids"),
    [
        (["x/a.png", "x/b.png"], ["x/a.png", "x/b.png"]),
        (["x\\a.png", "./x/b.png"], ["x/a.png", "x/b.png"]),
        ([" x/a.png", "x//b.png "], ["x/a.png", "x/b.png"]),
        (["/data/x/a.png", "/data/x/b.png"], ["x/a.png", "x/b.png"]),
        (["/data/x/a.png", "x/b.png"], ["x/a.png", "x/b.png"]),
        (["C:\\my data\\x\\a.png", "C:\\my data\\x\\b.png"], ["x/a.png", "x/b.png"]),
        (["photos/x/a.png", "photos/x/b.png"], ["x/a.png", "x/b.png"]),
        (["a.png", "b.png"], ["train/a.png", "train/b.png"]),
        (["0001", "0002"], ["0001.jpg", "0002.jpg"]),
        (["0001", "0002.JPG"], ["0001.jpg", "0002.JPG"]),
        (["0001", "0002"], ["train/0001.jpg", "train/0002.jpg"]),
        (["/data/0001", "/data/0002"], ["0001.jpg", "0002.jpg"]),
    ],
)
def test_samples_are_found_by_their_path(tmp_path: Path, cells: list[str], ids: list[str]) -> None:
    labels = table(tmp_path, f"path,label\n{cells[0]},cat\n{cells[1]},dog\n")
    for number, name in enumerate(ids):
        applied = apply_corrections(labels, decided({name: "=dog", ids[1]: "=cat"}), force=True)
        assert applied.out is not None
        rows = applied.out.read_text().splitlines()[1:]
        assert rows[1] == f"{cells[1]},cat,yes,dog"
        assert rows[0] == (f"{cells[0]},cat,," if number else f"{cells[0]},dog,yes,cat")


def test_paths_are_those_that_read_source_gives(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets", "deep/a.png", "deep/b.png", "c.jpg", "d.png")
    labels = table(
        tmp_path,
        f"file_name,label\ndeep\\a.png,cat\n{folder.as_posix()}/deep/b.png,dog\nc,cat\n./d.png,\n",
    )
    ids = read_source(folder, labels).manifest.sample_ids.tolist()
    applied = apply_corrections(labels, decided(dict.fromkeys(ids, "=dog")))
    assert applied.out is not None
    assert applied.num_verified == 4
    apply_corrections(labels, decided({"c.jpg": "=dog", "deep/b.png": "=cat"}), force=True)
    assert labels_of(read_source(folder, applied.out)) == {
        "c.jpg": "dog", "d.png": "", "deep/a.png": "cat", "deep/b.png": "cat"
    }  # fmt: skip


def test_all_rows_of_an_image_are_corrected(tmp_path: Path) -> None:
    labels = table(tmp_path, "path,label\na.png,cat\n./a.png,cat\nb.png,dog\na.png,cat\n")
    assert written(labels, decide(a="=dog")).decode().splitlines()[1:] == [
        "a.png,dog,yes,cat",
        "./a.png,dog,yes,cat",
        "b.png,dog,,",
        "a.png,dog,yes,cat",
    ]


def test_ids_are_taken_before_paths_that_look_like_them(tmp_path: Path) -> None:
    labels = table(tmp_path, "sample_id,path,label\n1,b.png,cat\n0,a.png,dog\n")
    assert written(labels, decided({"0": "=cat"})).decode().splitlines()[1:] == [
        "1,b.png,cat,,",
        "0,a.png,cat,yes,dog",
    ]
    assert b"1,b.png,dog,yes" in written(labels, decide(b="=dog"), force=True)


def test_rows_go_by_number_where_ids_repeat(tmp_path: Path) -> None:
    labels = table(tmp_path, "id,label\n2,cat\n2,dog\n0,dog\n")
    ids = Columns(None, None, None)
    read = read_table(labels, ids, ID_COLUMNS, images_needed=False)
    source = source_from_table(read, by_row=True).source
    assert source.manifest.sample_ids.tolist() == ["0", "1", "2"]
    assert written(labels, decided({"2": "=cat", "0": "keep"})) == (
        b"id,label,verified,first_label\n2,cat,yes,cat\n2,dog,,\n0,cat,yes,dog\n"
    )
    data = written(labels, decided({"0": "=cat"}), id_column="id", out=tmp_path / "x.csv")
    assert data == b"id,label,verified,first_label\n2,cat,,\n2,dog,,\n0,cat,yes,dog\n"
    with pytest.raises(SourceError, match=r'no row for 1 of 1 samples: "1"; its rows .* "2"'):
        apply_corrections(labels, decided({"1": "keep"}), id_column="id")


def test_an_id_column_of_any_name(tmp_path: Path) -> None:
    labels = table(tmp_path, "key,path,label\nk0,a.png,cat\nk1,b.png,dog\n")
    with pytest.raises(SourceError, match=r'"k1"; its rows have ids such as "a.png"; give the lab'):
        apply_corrections(labels, decided({"k1": "=cat"}))
    assert b"k1,b.png,cat,yes" in written(labels, decided({"k1": "=cat"}), id_column="key")
    with pytest.raises(SourceError, match='has no column "keys"'):
        apply_corrections(labels, decided({"k1": "=cat"}), id_column="keys")


def test_columns_of_other_names(tmp_path: Path) -> None:
    labels = table(tmp_path, "photo,label,breed\na.png,0,cat\nb.png,1,dog\n")
    options = {"image_column": "photo", "label_column": "breed"}
    assert written(labels, decide(a="=dog"), **options).decode() == (
        "photo,label,breed,verified,first_label\na.png,0,dog,yes,cat\nb.png,1,dog,,\n"
    )


def test_unknown_samples_are_refused(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    decisions = decided({"a.png": "keep", **{f"n{i}.png": "keep" for i in range(5)}})
    with pytest.raises(SourceError) as caught:
        apply_corrections(labels, decisions)
    assert str(caught.value) == (
        f'{labels} has no row for 5 of 6 samples: "n0.png", "n1.png", "n2.png" and 2 more; its rows'
        ' have ids such as "a.png"; give the labels that were scanned and, if necessary, name their'
        " column of ids with `id_column`"
    )
    with pytest.raises(SourceError, match="its rows have no ids"):
        apply_corrections(table(tmp_path, "label\ncat\n", "bare.csv"), decided({"1": "keep"}))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["bare.csv", "labels.csv"]


@pytest.mark.parametrize(
    ("cells", "name"),
    [
        (["x/a.png", "y/a.png"], "a.png"),
        (["a.png", "x/b.png"], "b.png.png"),
        (["a", "b"], "c/d.png"),
        (["a.png", "a.jpg"], "x/a.gif"),
    ],
)
def test_what_could_be_several_rows_is_not_guessed(
    tmp_path: Path, cells: list[str], name: str
) -> None:
    labels = table(tmp_path, f"path,label\n{cells[0]},cat\n{cells[1]},dog\n")
    with pytest.raises(SourceError, match="has no row for 1 of 1 samples"):
        apply_corrections(labels, decided({name: "keep"}))


def test_two_images_of_one_stem_are_not_guessed(tmp_path: Path) -> None:
    labels = table(tmp_path, "path,label\n0001,cat\n0002,dog\n")
    with pytest.raises(SourceError, match="has no row for"):
        apply_corrections(labels, decided({"0001.jpg": "=dog", "0001.png": "keep"}))


def test_splits(tmp_path: Path) -> None:
    text = "id,split,label\n0,train,cat\n1,train,dog\n0,test,cat\n2,test,dog\n"
    labels = table(tmp_path, text)
    relabel = decided({"0": "=dog"})
    with pytest.raises(SourceError, match=r'"0" is in several splits of .*: test, train; name'):
        apply_corrections(labels, relabel)
    data = written(labels, relabel, split="train")
    assert b"0,train,dog,yes,cat\n1,train,dog,,\n0,test,cat,,\n" in data
    out = tmp_path / "test.csv"
    data = written(labels, relabel, split="test", out=out)
    assert b"0,train,cat,,\n1,train,dog,,\n0,test,dog,yes,cat\n" in data
    # Without being told, the split that has all samples is taken.
    data = written(labels, decided({"2": "=cat"}), force=True)
    assert data.endswith(b"2,test,cat,yes,dog\n")
    # Corrections of several splits at once are taken if each sample is in one of them.
    data = written(labels, decided({"1": "=cat", "2": "=cat"}), force=True)
    assert data.endswith(b"1,train,cat,yes,dog\n0,test,cat,,\n2,test,cat,yes,dog\n")
    more = table(tmp_path, text.replace("train", "a") + "1,test,dog\n", "more.csv")
    for ids in (["0"], ["0", "1"]):
        with pytest.raises(SourceError, match=r'"0" is in several splits of .*: a, test; name'):
            apply_corrections(more, decided(dict.fromkeys(ids, "keep")))
    with pytest.raises(SourceError, match='has no split "val"; its splits are test, train'):
        apply_corrections(labels, relabel, split="val")
    # By number, rows are those of the whole table.
    labels = table(tmp_path, "split,label\ntest,cat\ntrain,dog\ntrain,cat\n", "bare.csv")
    assert written(labels, decided({"1": "=cat"})).endswith(
        b"test,cat,,\ntrain,cat,yes,dog\ntrain,cat,,\n"
    )


# --- beside a run, whose labels are known ------------------------------------------------------


def run_of(folder: Path, samples: dict[str, str], corrections: pd.DataFrame) -> Path:
    """A run folder as far as `apply` reads it: the audited samples with their labels, and decisions."""
    run = folder / "run"
    run.mkdir(exist_ok=True)
    (run / MARKER).write_text("{}")
    texts = dict.fromkeys(("path", "predicted_label", "suggested_label"), "")
    numbers = dict.fromkeys(("suggested_prob", "suspect_score", "label_score", "ambiguity"), 0.5)
    rows = [
        {
            "sample_id": name,
            "given_label": label,
            **texts,
            **numbers,
            "is_label_issue": True,
            "rank": 1,
        }
        for name, label in samples.items()
    ]
    pd.DataFrame(rows).to_parquet(run / "samples.parquet")
    columns = [*CORRECTION_COLUMNS, "given_label"]
    whole = corrections.reindex(columns=columns, fill_value="")
    write_corrections(whole, run / "corrections.csv")
    return run


def test_ids_of_rows_that_look_like_numbers(tmp_path: Path) -> None:
    # The texts had no ids, so that they are numbers; the labels name them in another order.
    labels = table(tmp_path, "id,label\n5,a\n4,a\n3,b\n3,b\n2,b\n1,a\n0,a\n")
    audited = {"0": "a", "1": "a", "2": "b", "3": "b", "4": "a", "5": "a"}
    run = run_of(tmp_path, audited, decided({"2": "=a"}).assign(given_label="b"))
    assert b"3,b,,\n3,b,,\n2,a,yes,b\n1,a,,\n" in written(labels, run)


@pytest.mark.parametrize("numbers", [range(1, 13), [*range(1, 12), 0]])
def test_numbers_of_another_column_are_not_those_of_rows(tmp_path: Path, numbers) -> None:
    names = ["cat", "dog"] * 6
    rows = [f"f{n}.txt,{n},{name}" for n, name in zip(numbers, names, strict=True)]
    labels = table(tmp_path, "path,uid,label\n" + "\n".join(rows) + "\n")
    audited = {str(n): name for n, name in zip(numbers, names, strict=True)}
    run = run_of(tmp_path, audited, decided({"4": "=cat"}).assign(given_label="dog"))
    with pytest.raises(SourceError, match=r"samples go by number, but the rows of .*; give the"):
        apply_corrections(labels, run)
    assert b"f4.txt,4,cat,yes,dog" in written(labels, run, id_column="uid")


def test_the_split_that_was_audited_is_corrected(tmp_path: Path) -> None:
    train = {str(n): ["cat", "dog"][n % 2] for n in range(10)}
    test = train | {"3": "cat", "5": "cat"}
    rows = [
        f"{split},{n},{name}"
        for split, of in (("train", train), ("test", test))
        for n, name in of.items()
    ]
    labels = table(tmp_path, "split,id,label\n" + "\n".join(rows) + "\n")
    run = run_of(tmp_path, test, decided({"1": "=cat"}).assign(given_label="dog"))
    data = written(labels, run)
    assert b"train,1,dog,,\n" in data
    assert b"test,1,cat,yes,dog\n" in data


def test_rows_that_were_added_or_removed_since_the_audit(tmp_path: Path) -> None:
    names = ["cat"] * 20 + ["dog"] * 20
    text = "label\n" + "\n".join(names) + "\n"
    audited = {str(n): name for n, name in enumerate(names)}
    run = run_of(tmp_path, audited, decided({"3": "=dog"}).assign(given_label="cat"))
    labels = table(tmp_path, text)
    assert written(labels, run).decode().splitlines()[4] == "dog,yes,cat"
    # Some labels that were changed meanwhile do not matter, but numbers of other rows do.
    changed = table(tmp_path, text.replace("cat\n", "dog\n", 1))
    assert written(changed, run, force=True).decode().splitlines()[4] == "dog,yes,cat"
    for other in ("label\ncat\n" + text[6:], text.replace("cat\n", "", 1)):
        with pytest.raises(SourceError, match="samples go by number, but the rows of"):
            apply_corrections(table(tmp_path, other, "other.csv"), run)
    # Rows that are named may come and go.
    lines = [f"a{n},{name}" for n, name in enumerate(names)]
    named = table(tmp_path, "id,label\n" + "\n".join(["new,cat", *lines[1:]]) + "\n", "named.csv")
    run = run_of(
        tmp_path,
        {f"a{n}": name for n, name in enumerate(names)},
        decided({"a3": "=dog"}).assign(given_label="cat"),
    )
    assert b"a2,cat,,\na3,dog,yes,cat\n" in written(named, run)


@pytest.mark.parametrize(
    ("cells", "names"),
    [
        (["A.JPG", "b.JPG"], ["a.jpg", "b.jpg"]),
        (["e\u0301.png", "b.png"], ["\u00e9.png", "b.png"]),
        (["x%20y.jpg", "b.jpg"], ["x y.jpg", "b.jpg"]),
        (["C:\\data\\a.jpg", "D:\\more\\b.jpg"], ["a.jpg", "b.jpg"]),
        (["https://h.org/x/a.jpg?s=1", "https://h.org/x/b.jpg?s=2"], ["a.jpg", "b.jpg"]),
    ],
)
def test_names_that_a_scan_matches_with_a_warning_are_found(tmp_path, cells, names) -> None:
    labels = table(tmp_path, f"path,label\n{cells[0]},cat\n{cells[1]},dog\n")
    assert written(labels, decided({names[0]: "=dog"})).decode() == (
        f"path,label,verified,first_label\n{cells[0]},dog,yes,cat\n{cells[1]},dog,,\n"
    )


def test_a_name_that_differs_from_two_in_case_is_not_guessed(tmp_path) -> None:
    labels = table(tmp_path, "path,label\nA.JPG,cat\na.JPG,dog\n")
    with pytest.raises(SourceError, match="has no row for 1 of 1 samples"):
        apply_corrections(labels, decided({"a.jpg": "=dog"}))


# --- what is refused ---------------------------------------------------------------------------


def test_labels_that_changed_since_the_audit_are_refused(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    corrections = decided({"a.png": "=bird"}, given_label="dog")
    with pytest.raises(SourceError) as caught:
        apply_corrections(labels, corrections, allow_new_classes=True)
    assert str(caught.value) == (
        f'"a.png" has the label "cat" in {labels}, and had "dog" in the audit; the table has changed'
        " since then, so scan it again"
    )
    for what in ("keep", "exclude"):
        with pytest.raises(SourceError, match="the table has changed since then"):
            apply_corrections(labels, decided({"a.png": what}, given_label="dog"))
    apply_corrections(labels, decided({"a.png": "unsure"}, given_label="dog"))
    written(labels, decided({"a.png": "=dog"}, given_label="cat"), force=True)
    written(labels, decided({"a.png": "=cat"}, given_label="dog"), force=True)
    written(labels, decided({"a.png": "keep"}, given_label=""), force=True)
    bare = table(tmp_path, "path,label\na.png,\nb.png,dog\n", "bare.csv")
    with pytest.raises(SourceError, match=r'"a.png" has no label in'):
        apply_corrections(bare, decided({"a.png": "keep"}, given_label="dog"))


def test_a_kept_label_that_is_not_there_is_not_verified(tmp_path: Path) -> None:
    bare = table(tmp_path, "path,label\na.png,\nb.png,dog\n")
    data = written(bare, decide(a="keep"))
    assert data == b"path,label,verified,first_label\na.png,,,\nb.png,dog,,\n"
    assert apply_corrections(bare, decide(a="keep"), dry_run=True).num_verified == 0


def test_new_classes_are_refused_unless_allowed(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    with pytest.raises(SourceError) as caught:
        apply_corrections(labels, decide(a="=Dgo", b="=zebra"))
    assert str(caught.value) == (
        f'{labels} has no class "Dgo" (did you mean "dog"?), "zebra"; correct them, or allow new'
        " classes with `allow_new_classes=True`"
    )
    with pytest.raises(SourceError, match='"w", "x", "y" and 1 more; correct them'):
        apply_corrections(
            table(tmp_path, CSV + "d.png,dog\n", "4.csv"), decide(a="=w", b="=x", c="=y", d="=z")
        )
    data = written(labels, decide(a="=zebra"), allow_new_classes=True)
    assert b"a.png,zebra,yes" in data
    # Once the label is there, it is new no longer.
    fixed = tmp_path / "labels.fixed.csv"
    assert apply_corrections(fixed, decide(a="=zebra"), dry_run=True).changes.empty


def test_decisions_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    both = pd.concat([decide(a="keep"), decide(a="exclude")])
    with pytest.raises(SourceError, match=r'has two decisions about "a.png"'):
        apply_corrections(labels, both)
    with pytest.raises(SourceError) as caught:
        apply_corrections(labels, decided({"a.png": "=dog", "./a.png": "keep"}))
    assert str(caught.value) == (
        f'"a.png" and "./a.png" are the same row of {labels}, but their decisions differ:'
        ' label "dog" and keep; keep only one of them'
    )
    applied = apply_corrections(labels, decided({"a.png": "=dog", "./a.png": "=dog"}))
    assert (applied.num_verified, len(applied.changes)) == (1, 2)


def test_nothing_is_written_over(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    corrections = decide(a="=dog")
    for out in (labels, tmp_path / "x" / ".." / "labels.csv"):
        with pytest.raises(OutputError, match="is an input, which is never changed"):
            apply_corrections(labels, corrections, out, force=True)
    (tmp_path / "link.csv").symlink_to(labels)
    os.link(labels, tmp_path / "hard.csv")
    for name in ("link.csv", "hard.csv"):
        with pytest.raises(OutputError, match="is an input, which is never changed"):
            apply_corrections(labels, corrections, tmp_path / name, force=True)
    new = table(tmp_path, "mine", "new.csv")
    with pytest.raises(OutputError) as caught:
        apply_corrections(labels, corrections, new)
    assert str(caught.value) == (
        f"{new} already exists; choose another output with `out`, or overwrite it with `force=True`"
    )
    assert new.read_text() == "mine"
    apply_corrections(labels, corrections, new, force=True)
    assert new.read_text().startswith("path,label,verified")
    table(tmp_path, "mine", "other.changes.csv")
    with pytest.raises(OutputError, match=r"other.changes.csv already exists"):
        apply_corrections(labels, corrections, tmp_path / "other.csv")
    assert not (tmp_path / "other.csv").exists()
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(OutputError, match="is a folder"):
        apply_corrections(labels, corrections, tmp_path / "folder.csv", force=True)
    with pytest.raises(OutputError, match="cannot create the folder"):
        apply_corrections(labels, corrections, new / "below" / "x.csv")
    assert labels.read_text() == CSV


def test_corrections_are_not_written_over(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    corrections = table(tmp_path, "sample_id,decision\na.png,keep\n", "corrections.csv")
    for given in (corrections, tmp_path):
        with pytest.raises(
            OutputError, match=r"corrections.csv is an input, which is never changed"
        ):
            apply_corrections(labels, given, corrections, force=True)


def test_a_dry_run_writes_nothing(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    applied = apply_corrections(labels, decide(a="=dog", b="exclude"), dry_run=True)
    assert (applied.out, applied.changes_path) == (None, None)
    assert (len(applied.changes), applied.num_verified, applied.num_excluded) == (1, 1, 1)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.csv"]
    with pytest.raises(SourceError, match='has no class "bird"'):
        apply_corrections(labels, decide(a="=bird"), dry_run=True)


def test_out_must_have_the_format_of_the_labels(tmp_path: Path) -> None:
    labels = table(tmp_path, CSV)
    with pytest.raises(OptionError) as caught:
        apply_corrections(labels, decide(a="keep"), "new.parquet")
    assert str(caught.value) == (
        f"the labels of {labels} are written as .csv, but new.parquet has another suffix; name it"
        " new.csv"
    )
    lines = table(tmp_path, '{"path": "a.png", "label": "cat"}\n', "labels.jsonl")
    apply_corrections(lines, decide(a="keep"), tmp_path / "new.NDJSON")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column for the labels"),
        ("path,label\n", "is empty"),
        ('path,label\na.png,"cat\n', "is not CSV"),
        ("path,label,verified,verified\na.png,cat,,\n", 'two columns "verified"'),
    ],
)
def test_tables_that_cannot_be_read(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SourceError, match=message) as caught:
        apply_corrections(table(tmp_path, text), decide(a="keep"))
    assert "\n" not in str(caught.value)


def test_labels_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist; check the path of the labels"):
        apply_corrections(tmp_path / "labels.csv", decide(a="keep"))
    with pytest.raises(SourceError, match="contains neither images nor parquet files"):
        apply_corrections(tmp_path, decide(a="keep"))


# --- JSONL -------------------------------------------------------------------------------------


def test_jsonl_keeps_keys_types_and_spelling(tmp_path: Path) -> None:
    labels = table(
        tmp_path,
        b'\xef\xbb\xbf{"path":"a.png","label":3,"x":1.50,"t":"\\u00e9"}\r\n\n'
        b'{ "label" : 10 , "path" : "b.png" }\n{"path": "c.png", "label": null}\n'
        b'{"path": "d.png"}\n{"path": "e.png", "label": 3, "label": 10}',
        "labels.jsonl",
    )
    data = written(labels, decide(a="=10", c="=3", d="=10", e="=3"))
    assert data == (
        b'\xef\xbb\xbf{"path":"a.png","label":10,"x":1.50,"t":"\\u00e9","verified":"yes",'
        b'"first_label":"3"}\r\n\n'
        b'{ "label" : 10 , "path" : "b.png" , "verified" : null , "first_label" : null }\n'
        b'{"path": "c.png", "label": 3, "verified": "yes", "first_label": null}\n'
        b'{"path": "d.png", "label": 10, "verified": "yes", "first_label": null}\n'
        b'{"path": "e.png", "label": 3, "label": 3, "verified": "yes", "first_label": "10"}'
    )


def test_jsonl_new_classes_have_the_type_of_the_others(tmp_path: Path) -> None:
    labels = table(
        tmp_path, '{"path": "a.png", "label": 3}\n{"path": "b.png", "label": 4}\n', "labels.ndjson"
    )
    data = written(labels, decide(a="=12"), allow_new_classes=True)
    assert data.splitlines()[0] == (
        b'{"path": "a.png", "label": 12, "verified": "yes", "first_label": "3"}'
    )
    for label in ("bird", "007", "1.5", "true"):
        with pytest.raises(SourceError, match=f'"{label}" cannot be written into .* type int'):
            apply_corrections(labels, decide(a=f"={label}"), allow_new_classes=True, force=True)


def test_jsonl_texts_are_escaped_as_the_line_has_it(tmp_path: Path) -> None:
    lines = [
        b'{"path": "a.png", "label": "caf\\u00e9"}',
        '{"path": "b.png", "label": "thé"}'.encode(),
        b'{"path": "c.png", "label": "007", "note": "\\u00e9"}',
    ]
    labels = table(tmp_path, b"\n".join(lines), "labels.jsonl")
    data = written(labels, decide(a="=thé", b="=café", c="=café"))
    assert data.splitlines() == [
        b'{"path": "a.png", "label": "th\\u00e9", "verified": "yes", "first_label": "caf\\u00e9"}',
        '{"path": "b.png", "label": "café", "verified": "yes", "first_label": "thé"}'.encode(),
        b'{"path": "c.png", "label": "caf\\u00e9", "note": "\\u00e9", "verified": "yes",'
        b' "first_label": "007"}',
    ]
    plain = table(tmp_path, '{"path": "a.png", "label": "007"}\n', "plain.jsonl")
    data = written(plain, decide(a="=é\u2028"), allow_new_classes=True)
    assert data == (
        b'{"path": "a.png", "label": "\\u00e9\\u2028", "verified": "yes", "first_label": "007"}\n'
    )


@pytest.mark.parametrize(
    ("there", "after"), [("false", "true"), ("0", "1"), ('"no"', '"yes"'), ('"False"', '"True"')]
)
def test_jsonl_verified_is_updated_in_its_type(tmp_path: Path, there: str, after: str) -> None:
    other = '{"path": "b.png", "label": "x"}\n'
    text = f'{{"verified": {there}, "path": "a.png", "label": "cat"}}\n{other}'
    labels = table(tmp_path, text, "labels.jsonl")
    data = written(labels, decide(a="keep"))
    line = '{{"verified": {}, "first_label": {}, "path": "a.png", "label": "cat"}}\n'
    other_after = other.replace("}", ', "first_label": null}')
    assert data.decode() == line.format(after, '"cat"') + other_after
    exclude = decide(a="exclude")
    if there in ("false", "0"):
        with pytest.raises(SourceError, match=r'holds truth values .* cannot hold "excluded"'):
            apply_corrections(labels, exclude, force=True)
        applied = apply_corrections(labels, exclude, drop_excluded=True, force=True)
        assert applied.out is not None
        assert applied.out.read_text() == other_after
    else:
        data = written(labels, exclude, force=True)
        assert data.decode() == line.format('"excluded"', "null") + other_after


def test_random_jsonl_differs_only_in_what_was_corrected(tmp_path: Path) -> None:
    random.seed(2)
    values = [None, 1, -2.5, "", 'é"\\', "\u2028", [1, {"label": "no"}], {"path": "}"}, True]
    for number in range(40):
        rows = []
        for row in range(5):
            record = {"path": f"{row}.png", "label": random.choice(["cat", "thé"])}
            record |= {key: random.choice(values) for key in random.sample("abcdé", 2)}
            rows.append(dict(random.sample(list(record.items()), len(record))))
        lines = []
        for row in rows:
            style = random.choice([(",", ":"), (", ", ": "), (" ,\t", " : ")])
            line = json.dumps(row, separators=style, ensure_ascii=random.random() < 0.5)
            lines.append(f" {line} " if random.random() < 0.2 else line)
        rows[0]["label"], lines[0] = "cat", '{"label": "cat", "path": "0.png"}'
        rows[0] = json.loads(lines[0])
        labels = table(tmp_path, random.choice(["\n", "\r\n"]).join(lines), f"{number}.jsonl")
        data = written(labels, decided({"3.png": "=cat", "1.png": "exclude"})).decode()
        for row, line in enumerate(data.replace("\r", "").split("\n")):
            mark = {3: "yes", 1: "excluded"}.get(row)
            expected = {**rows[row], "verified": mark, "first_label": None}
            if row == 3:
                expected |= {"label": "cat"}
                if rows[row]["label"] != "cat":
                    expected |= {"first_label": rows[row]["label"]}
            assert json.loads(line) == expected
            assert list(json.loads(line)) == list(expected)
            assert line.isascii() == lines[row].isascii() or row == 3


# --- parquet -----------------------------------------------------------------------------------


def parquet_table(file: Path, columns: dict[str, Any], **options: Any) -> Path:
    pq.write_table(pa.table(columns), file, **{"row_group_size": 2, **options})
    return file


@pytest.mark.parametrize("nested", [True, False])
def test_parquet_keeps_types_row_groups_and_compression(tmp_path: Path, nested: bool) -> None:
    labels = tmp_path / "labels.parquet"
    columns = {
        "path": pa.array(["a.png", "b.png", "c.png", "d.png", "e.png"], pa.large_string()),
        "label": pa.array(["cat", None, "dog", "dog", "cat"]).dictionary_encode(),
        "size": pa.array([1, None, 3, 4, 5], pa.int8()),
        "box": pa.array([[1.5], [], None, [2.5, 3.5], [0.0]], pa.list_(pa.float32())),
        "at": pa.array([0, 1, None, 2, 3], pa.timestamp("ns", "UTC")),
    }
    fields = [pa.field(name, values.type, metadata={"k": name}) for name, values in columns.items()]
    schema = pa.schema(fields, metadata={"mine": "kept"})
    pq.write_table(
        pa.table(columns, schema=schema),
        labels,
        row_group_size=2,
        compression={"path": "zstd", "label": "gzip", "size": "none"},
        use_compliant_nested_type=nested,
    )
    before = pq.read_table(labels)
    written(labels, decide(b="=dog", c="exclude", e="=dog"))
    after = pq.read_table(tmp_path / "labels.fixed.parquet")
    new = ["verified", "first_label"]
    assert after.column_names == [*before.column_names, *new]
    assert after.drop_columns(new).schema.equals(before.schema, check_metadata=True)
    assert [after.schema.field(name).type for name in new] == [pa.string()] * 2
    assert after.drop_columns(["label", *new]).equals(before.drop_columns(["label"]))
    assert after["label"].to_pylist() == ["cat", "dog", "dog", "dog", "dog"]
    assert after["verified"].to_pylist() == [None, "yes", "excluded", None, "yes"]
    assert after["first_label"].to_pylist() == [None, None, None, None, "cat"]
    old, now = (pq.ParquetFile(f).metadata for f in (labels, tmp_path / "labels.fixed.parquet"))
    assert [now.row_group(i).num_rows for i in range(now.num_row_groups)] == [2, 2, 1]
    for number in range(old.num_columns):
        column, same = (m.row_group(0).column(number) for m in (old, now))
        assert column.path_in_schema == same.path_in_schema
        assert column.compression == same.compression
        assert column.physical_type == same.physical_type
        assert column.is_stats_set == same.is_stats_set
    for number in (5, 6):
        assert now.row_group(0).column(number).compression == "GZIP"


@pytest.mark.parametrize(
    ("values", "label", "expected"),
    [
        (pa.array([3, 10, 3], pa.int16()), "10", 10),
        (pa.array([3.0, 0.5, None]), "0.5", 0.5),
        (pa.array([True, False, True]), "false", False),
        (pa.array(["007", "7", "NA"], pa.large_string()), "7", "7"),
        (pa.array(["007", "7", "NA"]), "NA", "NA"),
        (pa.array(["1.0", "2.0", "1.0"]).cast(pa.decimal128(5, 1)), "2.0", 2),
        (pa.array([3, 10, 3]).dictionary_encode(), "10", 10),
        (pa.array([b"cat", b"dog", b"cat"]), "dog", b"dog"),
    ],
)
def test_parquet_labels_of_any_type(
    tmp_path: Path, values: pa.Array, label: str, expected: object
) -> None:
    labels = parquet_table(
        tmp_path / "labels.parquet", {"path": ["a.png", "b.png", "c.png"], "label": values}
    )
    written(labels, decide(a=f"={label}"))
    after = pq.read_table(tmp_path / "labels.fixed.parquet")
    # Of dictionaries, parquet keeps those of text alone.
    assert after.schema.field("label").type == pq.read_schema(labels).field("label").type
    assert after["label"].to_pylist() == [expected, *values.to_pylist()[1:]]
    first = values[0].as_py()
    first = first.decode() if isinstance(first, bytes) else as_text(first)
    assert after["first_label"].to_pylist() == [first, None, None]
    assert after.schema.field("first_label").type == pa.string()


def test_parquet_refuses_what_its_type_cannot_hold(tmp_path: Path) -> None:
    labels = parquet_table(
        tmp_path / "labels.parquet",
        {"path": ["a.png", "b.png"], "label": pa.array([3, 10], pa.int8())},
    )
    for label in ("bird", "300", "03", "1.0"):
        with pytest.raises(SourceError, match=f'"{label}" cannot be written into .* holds int8'):
            apply_corrections(labels, decide(a=f"={label}"), allow_new_classes=True)
    assert [file.name for file in tmp_path.iterdir()] == ["labels.parquet"]


def test_parquet_categories_keep_their_order(tmp_path: Path) -> None:
    labels = tmp_path / "labels.parquet"
    kind = pd.CategoricalDtype(["small", "huge", "big"], ordered=True)
    frame = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "label": pd.Series(["big", "small", None], dtype=kind),
        }
    )
    frame.index = [5, 6, 7]
    frame.to_parquet(labels, row_group_size=2)
    written(labels, decide(a="=small", c="=tiny"), allow_new_classes=True)
    after = pd.read_parquet(tmp_path / "labels.fixed.parquet")
    assert after["label"].tolist() == ["small", "small", "tiny"]
    assert after["label"].cat.ordered
    assert after["label"].cat.categories.tolist() == ["small", "huge", "big", "tiny"]
    assert after.index.tolist() == [5, 6, 7]
    written(labels, decide(a="=small", c="exclude"), drop_excluded=True, force=True)
    assert pd.read_parquet(tmp_path / "labels.fixed.parquet").index.tolist() == [5, 6]


@pytest.mark.parametrize(
    ("values", "after"),
    [
        (pa.array([None, None, True]), [True, None, True]),
        (pa.array([0, None, 1], pa.int8()), [1, None, 1]),
        (pa.array([0.0, None, 1.0]), [1.0, None, 1.0]),
        (pa.array(["no", None, ""]), ["yes", None, ""]),
        (pa.array([None, None, "yes"]).dictionary_encode(), ["yes", None, "yes"]),
        (pa.nulls(3), ["yes", None, None]),
    ],
)
def test_parquet_verified_is_updated_in_its_type(
    tmp_path: Path, values: pa.Array, after: list[object]
) -> None:
    columns = {"path": ["a.png", "b.png", "c.png"], "Verified": values, "label": ["x", "y", "z"]}
    labels = parquet_table(tmp_path / "labels.parquet", columns)
    written(labels, decide(a="keep"))
    found = pq.read_table(tmp_path / "labels.fixed.parquet")
    assert found.column_names == ["path", "Verified", "first_label", "label"]
    assert found["Verified"].to_pylist() == after
    assert found["first_label"].to_pylist() == ["x", None, None]
    if not pa.types.is_null(values.type):
        assert found["Verified"].type == values.type
    if after[0] != "yes":
        with pytest.raises(SourceError, match="holds truth values or numbers"):
            apply_corrections(labels, decide(a="exclude"), force=True)
        apply_corrections(labels, decide(a="exclude"), force=True, drop_excluded=True)
        found = pq.read_table(tmp_path / "labels.fixed.parquet")
        assert found["path"].to_pylist() == ["b.png", "c.png"]


def test_a_column_that_only_is_called_verified(tmp_path: Path) -> None:
    days = pa.array([1, 2], pa.date32())
    columns = {"path": ["a.png", "b.png"], "verified": days, "label": ["x", "y"]}
    labels = parquet_table(tmp_path / "labels.parquet", columns)
    with pytest.raises(SourceError, match=r'"verified" of .* holds something else; rename it'):
        apply_corrections(labels, decide(a="keep"))
    codes = {"verified": {"names": ["yes", "no"], "_type": "ClassLabel"}}
    labels = huggingface(tmp_path / "codes.parquet", [0, 1], ["a.png", "b.png"], **codes)
    read = pq.read_table(labels)
    pq.write_table(read.append_column("verified", pa.array([1, 1])), labels)
    with pytest.raises(SourceError, match=r'"verified" of .* holds something else; rename it'):
        apply_corrections(labels, decide(a="keep"))
    labels = table(tmp_path, "path,verified\na.png,cat\nb.png,dog\n")
    with pytest.raises(SourceError, match=r'"verified" of .* holds something else; rename it'):
        apply_corrections(labels, decide(a="keep"), label_column="verified")


def huggingface(
    file: Path, labels: list[int | None], paths: list[str] | None = None, **features: Any
) -> Path:
    """A file as `datasets` writes it, with images in it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cells = []
    for number, path in enumerate(paths or [None] * len(labels)):
        data = io.BytesIO()
        Image.new("L", (2, 2), number).save(data, format="PNG")
        cells.append({"bytes": data.getvalue(), "path": path})
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    told = {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        **features,
    }
    schema = pa.schema(
        [("image", kind), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": told}}), "more": "kept"},
    )
    pq.write_table(pa.table([pa.array(cells, kind), labels], schema=schema), file, row_group_size=2)
    return file


def features_of(file: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(pq.read_schema(file).metadata[b"huggingface"])
    features: dict[str, Any] = told["info"]["features"]
    return features


def test_parquet_with_images_and_class_labels(tmp_path: Path) -> None:
    labels = huggingface(tmp_path / "train.parquet", [0, 1, None, -1, 1])
    before = read_source(labels)
    assert before.manifest.sample_ids.tolist() == ["0", "1", "2", "3", "4"]
    written(labels, decided({"0": "=dog", "2": "=cat", "3": "=dog", "4": "keep"}))
    new = tmp_path / "train.fixed.parquet"
    after = read_source(new)
    assert labels_of(after) == {"0": "dog", "1": "dog", "2": "cat", "3": "dog", "4": "dog"}
    for number in range(5):
        assert after.manifest.images.read(number) == before.manifest.images.read(number)
    found = pq.read_table(new)
    assert found["label"].to_pylist() == [1, 1, 0, 1, 1]
    assert found["verified"].to_pylist() == ["yes", None, "yes", "yes", "yes"]
    assert found["first_label"].to_pylist() == ["cat", None, None, None, "dog"]
    assert found.schema.metadata[b"more"] == b"kept"
    assert features_of(new) == {
        "image": {"_type": "Image"},
        "label": {"names": ["cat", "dog"], "_type": "ClassLabel"},
        "verified": {"dtype": "string", "_type": "Value"},
        "first_label": {"dtype": "string", "_type": "Value"},
    }


def test_new_class_labels_are_declared(tmp_path: Path) -> None:
    labels = huggingface(tmp_path / "train.parquet", [0, 1, 1], ["a.png", "b.png", "c.png"])
    with pytest.raises(SourceError, match='no class "bird"; correct it'):
        apply_corrections(labels, decide(a="=bird"))
    written(labels, decide(a="=bird", b="=emu"), allow_new_classes=True)
    new = tmp_path / "train.fixed.parquet"
    assert features_of(new)["label"]["names"] == ["cat", "dog", "bird", "emu"]
    assert labels_of(read_source(new)) == {"a.png": "bird", "b.png": "emu", "c.png": "dog"}


def test_images_with_an_id_column_go_by_row_as_in_a_scan(tmp_path: Path) -> None:
    cells = [{"bytes": b"x", "path": None}] * 3
    labels = parquet_table(
        tmp_path / "x.parquet", {"image": cells, "id": [2, 1, 0], "label": ["cat", "dog", "dog"]}
    )
    written(labels, decided({"0": "=dog"}))
    assert pq.read_table(tmp_path / "x.fixed.parquet")["label"].to_pylist() == ["dog", "dog", "dog"]
    written(labels, decided({"0": "=cat"}), id_column="id", force=True)
    assert pq.read_table(tmp_path / "x.fixed.parquet")["label"].to_pylist() == ["cat", "dog", "cat"]


def test_damaged_parquet_leaves_nothing_behind(tmp_path: Path) -> None:
    labels = parquet_table(
        tmp_path / "labels.parquet",
        {"path": ["a.png", "b.png"], "label": ["x", "y"], "z": ["q" * 999, "r" * 999]},
        use_dictionary=False,
    )
    data = bytearray(labels.read_bytes())
    at = data.index(b"q" * 20)
    data[at - 90 : at + 60] = b"\xff" * 150
    labels.write_bytes(data)
    with pytest.raises((SourceError, OutputError)):
        apply_corrections(labels, decide(a="=y"))
    assert [file.name for file in tmp_path.iterdir()] == ["labels.parquet"]


# --- shards ------------------------------------------------------------------------------------


def test_a_full_disk_leaves_no_shards_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    for number in range(2):
        huggingface(data / f"train-0000{number}-of-00002.parquet", [0, 1, 0])

    def fail(*_: object) -> None:
        raise OutputError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr("labelaudit.corrections.apply.write_csv", fail)
        with pytest.raises(OutputError, match="full"):
            apply_corrections(data, decided({"train-00000-of-00002:1": "=cat"}))
    assert list((tmp_path / "data.fixed").iterdir()) == []
    assert apply_corrections(data, decided({"train-00000-of-00002:1": "=cat"})).out is not None


def test_shards(tmp_path: Path) -> None:
    data = tmp_path / "data"
    huggingface(data / "train-00000-of-00002.parquet", [0, 1, 0])
    huggingface(data / "train-00001-of-00002.parquet", [1, 0])
    huggingface(data / "test-00000-of-00001.parquet", [1, 0, 0])
    corrections = decided({"train-00000-of-00002:2": "=bird", "train-00001-of-00002:0": "=cat"})
    applied = apply_corrections(data, corrections, allow_new_classes=True)
    new = tmp_path / "data.fixed"
    assert applied.out == new
    assert applied.changes_path == new / "changes.csv"
    assert sorted(file.name for file in new.iterdir()) == [
        "changes.csv",
        "test-00000-of-00001.parquet",
        "train-00000-of-00002.parquet",
        "train-00001-of-00002.parquet",
    ]
    for file in new.glob("*.parquet"):
        assert features_of(file)["label"]["names"] == ["cat", "dog", "bird"]
    source = read_source(new)
    assert source.manifest.sample_ids.tolist() == read_source(data).manifest.sample_ids.tolist()
    assert list(labels_of(source).values()) == ["cat", "dog", "bird", "cat", "cat"]
    source = read_source(new, verified_column="verified")
    assert source.first_labels is not None
    assert source.first_labels.tolist() == ["", "", "cat", "dog", ""]
    again = apply_corrections(new, corrections)
    assert again.changes.empty
    for file in new.glob("*.parquet"):
        assert (tmp_path / "data.fixed.fixed" / file.name).read_bytes() == file.read_bytes()
    # Samples of another split are found by their name.
    applied = apply_corrections(data, decided({"test-00000-of-00001:1": "=dog"}), tmp_path / "t")
    test = read_source(tmp_path / "t", split="test")
    assert list(labels_of(test).values()) == ["dog", "dog", "cat"]
    with pytest.raises(SourceError, match="no row for 1 of 1"):
        apply_corrections(data, decided({"test-00000-of-00001:1": "=dog"}), split="train")


def test_shards_that_name_their_images(tmp_path: Path) -> None:
    data = tmp_path / "data"
    huggingface(data / "a" / "0.parquet", [0, 1], ["x.png", "y.png"])
    huggingface(data / "b" / "0.parquet", [1, 0], ["z.png", "w.png"])
    apply_corrections(data, decide(z="=cat"), tmp_path / "new")
    assert (tmp_path / "new" / "a" / "0.parquet").exists()
    assert labels_of(read_source(tmp_path / "new")) == {
        "x.png": "cat", "y.png": "dog", "z.png": "cat", "w.png": "cat"
    }  # fmt: skip
    huggingface(data / "b" / "0.parquet", [1, 0], ["x.png", "w.png"])
    ids = read_source(data).manifest.sample_ids.tolist()
    assert ids[2] == "b/0:0"
    apply_corrections(data, decided({"b/0:0": "=cat"}), tmp_path / "new", force=True)
    assert labels_of(read_source(tmp_path / "new"))["b/0:0"] == "cat"


def test_where_shards_are_written(tmp_path: Path) -> None:
    data = tmp_path / "data"
    huggingface(data / "0.parquet", [0, 1], ["x.png", "y.png"])
    keep = decide(x="keep")
    for out in (data, data / "new"):
        with pytest.raises(OutputError, match="is never changed"):
            apply_corrections(data, keep, out, force=True)
    with pytest.raises(OptionError, match="give a folder as `out`"):
        apply_corrections(data, keep, tmp_path / "new.parquet")
    table(tmp_path, "mine", "file")
    with pytest.raises(OutputError, match="is a file; choose a folder"):
        apply_corrections(data, keep, tmp_path / "file", force=True)
    table(tmp_path / "full", "mine", "other.txt")
    with pytest.raises(OutputError, match="full already exists"):
        apply_corrections(data, keep, tmp_path / "full")
    assert not (data / "new").exists()


# --- folders of images -------------------------------------------------------------------------


def test_a_folder_of_classes_becomes_a_table(tmp_path: Path) -> None:
    photos = images(tmp_path / "photos", "dog/2.png", "cat/1, 2.png", "dog/=3.png", "loose.png")
    before = sorted(photos.rglob("*"))
    corrections = decided({"dog/2.png": "=cat", "loose.png": "=dog", "dog/=3.png": "keep"})
    data = written(photos, corrections)
    assert (tmp_path / "photos.labels.csv").read_bytes() == data
    assert data.decode() == (
        'path,label,verified,first_label\n"cat/1, 2.png",cat,,\ndog/2.png,cat,yes,dog\n'
        "dog/=3.png,dog,yes,dog\nloose.png,dog,yes,\n"
    )
    assert sorted(photos.rglob("*")) == before
    assert labels_of(read_source(photos, tmp_path / "photos.labels.csv")) == {
        "cat/1, 2.png": "cat", "dog/2.png": "cat", "dog/=3.png": "dog", "loose.png": "dog"
    }  # fmt: skip
    source = read_source(photos, tmp_path / "photos.labels.csv", verified_column="verified")
    assert source.first_labels is not None
    assert source.first_labels.tolist() == ["", "dog", "dog", ""]
    with pytest.raises(OptionError, match=r"written as .csv"):
        apply_corrections(photos, corrections, tmp_path / "new.parquet")
    with pytest.raises(SourceError, match='`label_column` is "x"'):
        apply_corrections(photos, corrections, label_column="x")
    with pytest.raises(SourceError, match='no class "dgo"'):
        apply_corrections(photos, decided({"loose.png": "=dgo"}))


def test_a_folder_of_classes_may_be_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(images(tmp_path / "photos", "dog/2.png", "cat/1.png"))
    applied = apply_corrections(".", decided({"dog/2.png": "=cat"}))
    assert applied.out == tmp_path / "photos.labels.csv"


def test_a_folder_of_classes_with_splits(tmp_path: Path) -> None:
    photos = images(
        tmp_path / "p", "train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "test/dog/4.png"
    )
    out = tmp_path / "p.labels.csv"
    apply_corrections(photos, decided({"test/dog/4.png": "=cat"}))
    header = "path,label,verified,first_label\n"
    assert out.read_text() == f"{header}test/cat/3.png,cat,,\ntest/dog/4.png,cat,yes,dog\n"
    apply_corrections(photos, decided({"train/cat/1.png": "keep"}), split="train", force=True)
    assert out.read_text() == f"{header}train/cat/1.png,cat,yes,cat\ntrain/dog/2.png,dog,,\n"
    with pytest.raises(SourceError, match="no row for"):
        apply_corrections(photos, decided({"train/cat/1.png": "keep"}), split="test", force=True)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_with_metadata(tmp_path: Path, suffix: str) -> None:
    photos = images(tmp_path / "p", "train/1.png", "train/2.png", "test/1.png")
    rows = [{"file_name": "1.png", "label": "cat"}, {"file_name": "2.png", "label": "dog"}]
    file = photos / "train" / f"metadata.{suffix}"
    if suffix == "csv":
        pd.DataFrame(rows).to_csv(file, index=False)
    elif suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    assert read_source(photos).manifest.sample_ids.tolist() == ["train/1.png", "train/2.png"]
    corrections = decided({"train/1.png": "=dog"})
    applied = apply_corrections(photos, corrections)
    new = photos / "train" / f"metadata.fixed.{suffix}"
    assert applied.out == new
    # The table itself can be pointed at too, and a single sample is found by the folder's name.
    same = apply_corrections(file, corrections, tmp_path / f"same.{suffix}")
    assert same.out is not None
    assert same.out.read_bytes() == new.read_bytes()
    file.unlink()
    new.rename(file)
    with pytest.raises(SourceError, match="all 2 labeled images are of one class"):
        read_source(photos)
    assert read_table(file, Columns(None, None, None)).labels == ["dog", "dog"]
    with pytest.raises(OptionError, match=f"written as .{suffix}"):
        apply_corrections(photos, corrections, tmp_path / "new.txt")


def test_the_same_name_in_a_deeper_folder_is_told_apart_by_the_table_s_own(tmp_path: Path) -> None:
    labels = table(
        tmp_path / "train", "file_name,label\na.png,cat\ndeep/a.png,dog\n", "metadata.csv"
    )
    data = written(labels, decided({"train/deep/a.png": "=cat"}))
    assert data == b"file_name,label,verified,first_label\na.png,cat,,\ndeep/a.png,cat,yes,dog\n"


def test_torch_is_not_imported() -> None:
    code = (
        "import sys, labelaudit.corrections.apply; print([n for n in sys.modules if n == 'torch'])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


def test_a_file_that_changes_meanwhile_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = '{"path": "a.png", "label": "cat"}\n{"path": "b.png", "label": "dog"}\n'
    for name, text in (("labels.csv", CSV), ("labels.jsonl", lines)):
        labels = table(tmp_path, text, name)
        for changed in ("", text.replace("cat", "dog"), text + text, text[:30], "\xff", '"'):
            with monkeypatch.context() as patch:
                data = changed.encode("latin-1")
                patch.setattr(Path, "read_bytes", lambda self, data=data: data)
                with pytest.raises(
                    SourceError, match="changed while it was read; run the command again"
                ):
                    apply_corrections(labels, decide(a="=dog"))
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize("there", [None, [False, False, True], [0, 0, 1], ["", "no", "True"]])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_scan_reads_which_labels_are_verified(
    tmp_path: Path, suffix: str, there: list[object] | None
) -> None:
    photos = images(tmp_path / "p", "a.png", "b.png", "c.png")
    rows = {"path": ["a.png", "b.png", "c.png"], "label": ["cat", "dog", "dog"]}
    frame = pd.DataFrame(rows if there is None else {**rows, "verified": there})
    file = tmp_path / f"labels.{suffix}"
    if suffix == "csv":
        frame.to_csv(file, index=False)
    elif suffix == "jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file)
    applied = apply_corrections(file, decide(a="keep"))
    source = read_source(photos, applied.out, verified_column="verified")
    assert source.verified is not None
    assert source.verified.tolist() == [True, False, there is not None]
    assert source.first_labels is not None
    assert source.first_labels.tolist() == ["cat", "", ""]
    if there is None or there[1] == "no":
        applied = apply_corrections(file, decide(a="keep", c="exclude"), force=True)
        source = read_source(photos, applied.out, verified_column="verified")
        assert source.manifest.sample_ids.tolist() == ["a.png", "b.png"]


def test_an_edited_table_of_suspects_is_applied(tmp_path: Path) -> None:
    labels = table(tmp_path, "path,label\na.png,=1+1\nb.png,007\n'c.png,NA\n")
    suspects = pd.DataFrame(
        {
            "rank": [1, 2, 3],
            "sample_id": ["a.png", "b.png", "'c.png"],
            "given_label": ["=1+1", "007", "NA"],
            "suggested_label": ["007", "NA", "=1+1"],
            "decision": ["accept", "relabel", "accept"],
            "corrected_label": [None, "=1+1", None],
        }
    )
    write_csv(suspects, tmp_path / "suspects.csv")
    applied = apply_corrections(labels, tmp_path / "suspects.csv")
    assert applied.out is not None
    assert applied.out.read_text() == (
        "path,label,verified,first_label\na.png,007,yes,=1+1\nb.png,=1+1,yes,007\n"
        "'c.png,=1+1,yes,NA\n"
    )
    assert applied.changes_path is not None
    found = read_csv(applied.changes_path)
    assert found["from"].tolist() == ["=1+1", "007", "NA"]
    assert found["to"].tolist() == ["007", "=1+1", "=1+1"]
