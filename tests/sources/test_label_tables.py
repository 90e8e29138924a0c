"""Reading tables of labels: text kept exactly, columns found, and files that are no tables."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from labelaudit.errors import SourceError
from labelaudit.sources.cells import ID_COLUMNS, Columns
from labelaudit.sources.folders import read_source
from labelaudit.sources.label_tables import concatenate, read_table
from labelaudit.sources.splits import rows_of_split

# --- columns besides ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_the_first_other_columns_are_read_where_wanted(
    tmp_path: Path, kind: str, write: Any
) -> None:
    rows: list[dict[str, object]] = [
        {"a": i, "b": f"b{i}", "label": "x", "vector": [1, 2], "c": "c", "sample_id": f"s{i}"}
        for i in range(3)
    ]
    if kind == "csv":
        rows = [{k: v for k, v in row.items() if k != "vector"} for row in rows]
    file = write.table(tmp_path / f"l.{kind}", rows)
    nothing = read_table(file, Columns(None, None, None), images_needed=False)
    assert nothing.others == {}
    assert nothing.images == [""] * 3
    columns = Columns(None, None, None, others=3)
    some = read_table(file, columns, ID_COLUMNS, images_needed=False)
    assert some.images == ["s0", "s1", "s2"]
    assert {name: some.others[name] for name in ("a", "b")} == {
        "a": ["0", "1", "2"],
        "b": ["b0", "b1", "b2"],
    }
    with pytest.raises(SourceError, match="no column for the images"):
        read_table(file, columns)


# --- cells as text -----------------------------------------------------------------------------


TRICKY = ["NA", "null", "001", "1", "None", "nan", "True", " cat", "cat", 'a "q", b', "é", "-5"]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_label_text_is_kept_exactly(tmp_path: Path, kind: str, write: Any, labels_of: Any) -> None:
    names = [f"{i}.png" for i in range(len(TRICKY))]
    folder = write.images(tmp_path / "images", *names)
    rows: list[dict[str, object]] = [
        {"file": name, "label": label} for name, label in zip(names, TRICKY, strict=True)
    ]
    source = read_source(folder, write.table(tmp_path / f"labels.{kind}", rows))
    assert labels_of(source) == dict(zip(names, TRICKY, strict=True))
    assert source.manifest.class_names == tuple(sorted(TRICKY))


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_integers_with_empty_cells_stay_integers(
    folder: Path, tmp_path: Path, kind: str, write: Any, labels_of: Any
) -> None:
    table = write.table(
        tmp_path / f"labels.{kind}",
        [
            {"path": "a.png", "label": 3.0},
            {"path": "b.png", "label": None},
            {"path": "c.png", "label": float("nan")},
            {"path": "deep/d.png", "label": 10.0},
        ],
    )
    source = read_source(folder, table)
    assert source.manifest.class_names == ("3", "10")
    assert list(labels_of(source).values()) == ["3", "", "", "10"]


def test_integer_labels_sort_as_numbers_and_keep_leading_zeros(
    folder: Path, tmp_path: Path, write: Any
) -> None:
    table = write.text(
        tmp_path / "l.csv", "path,label\na.png,10\nb.png,9\nc.png,09\ndeep/d.png,-1\n"
    )
    source = read_source(folder, table)
    assert source.manifest.class_names == ("-1", "09", "9", "10")
    (warning,) = source.warnings
    assert '"-1" is taken as a class' in warning


def test_byte_order_mark_semicolons_and_spaces_in_the_header(
    folder: Path, tmp_path: Path, labels_of: Any
) -> None:
    table = tmp_path / "l.csv"
    table.write_bytes("\ufeffPath; Label\r\na.png;cat\r\n\r\nb.png;dog\r\n".encode())
    assert labels_of(read_source(folder, table))["b.png"] == "dog"


def test_labels_that_are_not_there(folder: Path) -> None:
    with pytest.raises(SourceError, match=r"l\.csv does not exist"):
        read_source(folder, folder / "l.csv")
    with pytest.raises(SourceError, match=r"is not a table.*csv, tsv"):
        read_source(folder, folder / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"\x89PNG\xff\xfe\x00garbage", "not a text table in UTF-8"),
        ("l.csv", b"\x00\x00\x00", "not a text table"),
        ("l.csv", b"", "no column for the labels.*its columns: none"),
        ("l.csv", b"path,label\n", "is empty"),
        ("l.csv", b"path,label\na.png,a,b\n", "line 2 has 3 cells and the header has 2; quote"),
        ("l.csv", b'path,label\na.png,"a\n', "not CSV"),
        ("l.csv", b"path,label,label\na.png,a,b\n", 'two columns "label"'),
        ("l.jsonl", b'{"path": "a.png", "label": 1}\n\n{"path":\n', "line 3 is not JSON"),
        ("l.jsonl", b"[1]\n", "line 1 is not a JSON object"),
        ("l.jsonl", b'{"path": "a.png", "label": [1]}\n', 'line 1: "label" is a list'),
        ("l.jsonl", b"\n", "its columns: none"),
        ("l.parquet", b"no parquet at all", "is not a parquet file"),
        ("l.xlsx", b"PK", "is not a table that can be read"),
    ],
)
def test_files_that_are_no_tables(
    folder: Path, tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    table = tmp_path / name
    table.write_bytes(content)
    with pytest.raises(SourceError, match=message) as error:
        read_source(folder, table)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


# --- columns by name ---------------------------------------------------------------------------


def test_column_order_of_preference_and_columns_by_name(
    folder: Path, tmp_path: Path, write: Any, labels_of: Any
) -> None:
    table = write.text(
        tmp_path / "l.csv",
        "id,pic,filename,category,class,mine\n1,b.png,a.png,x,cat,p\n2,a.png,b.png,y,dog,q\n",
    )
    assert labels_of(read_source(folder, table))["a.png"] == "cat"
    chosen = read_source(folder, table, image_column="pic", label_column="mine")
    assert labels_of(chosen)["a.png"] == "q"


def test_image_and_label_columns_of_other_names(tmp_path: Path, write: Any) -> None:
    file = write.parquet(
        tmp_path / "c.parquet", [0, 1], image="img", fine=["x", "y"], file_name=["1", "2"]
    )
    assert read_source(file, label_column="fine").manifest.class_names == ("x", "y")
    assert read_source(file).manifest.images.read(0) == b"c0"  # not the files "1" and "2"


@pytest.mark.parametrize(
    ("header", "missing"), [("name,label", "the images"), ("path,kind", "the labels")]
)
def test_missing_columns_are_listed(
    folder: Path, tmp_path: Path, header: str, missing: str, write: Any
) -> None:
    table = write.text(tmp_path / "l.csv", f"{header}\na.png,cat\n")
    with pytest.raises(SourceError, match=missing) as error:
        read_source(folder, table)
    assert f"its columns: {header.replace(',', ', ')}" in str(error.value)
    assert "_column`" in str(error.value)
    with pytest.raises(SourceError, match=r'lacks 2 columns: "klass" .*, "what" .*; its columns: '):
        read_source(folder, table, label_column="klass", image_column="what")


def test_labels_that_are_lists(folder: Path, tmp_path: Path) -> None:
    pq.write_table(pa.table({"path": ["a.png"], "label": [["x"]]}), tmp_path / "l.parquet")
    with pytest.raises(SourceError, match=r'"label" of .* holds neither text nor numbers'):
        read_source(folder, tmp_path / "l.parquet")


# --- parquet -----------------------------------------------------------------------------------


def test_a_parquet_file_with_class_names_in_its_schema(tmp_path: Path, write: Any) -> None:
    file = write.parquet(
        tmp_path / "mine.parquet", [1, 0, -1, None, 1], class_names=["zebra", "ape", "none"]
    )
    source = read_source(file)
    assert source.manifest.class_names == ("zebra", "ape", "none")
    assert source.manifest.noisy_labels.tolist() == [1, 0, -1, -1, 1]
    assert source.manifest.sample_ids.tolist() == ["0", "1", "2", "3", "4"]
    assert set(source.manifest.paths) == {""}
    assert [source.manifest.images.read(i) for i in (4, 0)] == [b"mine4", b"mine0"]
    assert source.warnings == ()
    part = source.manifest.subset(np.array([False, False, True, False, True]))
    assert part.images.read(0) == b"mine2"


def test_clean_labels_with_class_names_of_their_own(tmp_path: Path, write: Any) -> None:
    file = write.parquet(
        tmp_path / "t.parquet", [0, 1, 1], class_names=["b", "a"], true=["a", "c", None]
    )
    source = read_source(file, clean_label_column="true")
    assert source.manifest.class_names == ("b", "a")  # none that only the truth names
    assert source.clean_labels.tolist() == ["a", "c", ""]


def test_a_label_outside_the_class_names(tmp_path: Path, write: Any) -> None:
    file = write.parquet(tmp_path / "m.parquet", [1, 2], class_names=["a", "b"])
    with pytest.raises(SourceError, match=r'm\.parquet row 1: "label" is 2.*2 class names'):
        read_source(file)


def test_several_columns_of_images(tmp_path: Path) -> None:
    table = pa.table(
        {
            "left": [{"bytes": b"l0"}, {"bytes": b"l1"}],
            "right": [{"bytes": b"r0"}, {"bytes": b"r1"}],
            "label": ["a", "b"],
        }
    )
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(SourceError, match=r"left, right; choose one with `image_column`"):
        read_source(tmp_path / "t.parquet")
    chosen = read_source(tmp_path / "t.parquet", image_column="right")
    assert chosen.manifest.images.read(1) == b"r1"


def test_plain_binary_images(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [b"x", b"y"], "label": ["a", "b"]}), tmp_path / "t.parquet")
    assert read_source(tmp_path / "t.parquet").manifest.images.read(1) == b"y"


def test_a_parquet_file_of_paths(folder: Path, labels_of: Any) -> None:
    table = pa.table({"path": ["b.png", "deep/d.png"], "label": pa.array(["x", "y"])})
    pq.write_table(
        table.set_column(1, "label", table["label"].dictionary_encode()), folder / "t.parquet"
    )
    source = read_source(folder / "t.parquet")
    assert labels_of(source) == {"b.png": "x", "deep/d.png": "y"}
    assert source.manifest.images.read(0) == (folder / "b.png").read_bytes()


def test_cells_without_bytes_name_files(folder: Path, write: Any) -> None:
    file = write.parquet(
        folder / "t.parquet", ["x", "y"], data=[None, None], paths=["a.png", "deep/d.png"]
    )
    source = read_source(file)
    assert source.manifest.paths.tolist() == [str(folder / "a.png"), str(folder / "deep/d.png")]
    mixed = write.parquet(
        folder / "m.parquet",
        ["x", "y", "x", "y"],
        data=[None, b"here", None, None],
        paths=["a.png", "b.png", "../secret", None],
    )
    images = read_source(mixed).manifest.images
    assert images.read(0) == (folder / "a.png").read_bytes()
    assert images.read(1) == b"here"
    with pytest.raises(OSError, match="leaves the folder"):
        images.read(2)
    with pytest.raises(OSError, match="holds no image"):
        images.read(3)


def test_an_empty_parquet_file(tmp_path: Path, write: Any) -> None:
    with pytest.raises(SourceError, match="is empty"):
        read_source(write.parquet(tmp_path / "e.parquet", []))


def test_reading_a_parquet_source_reads_no_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    file = write.parquet(tmp_path / "t.parquet", ["a", "b"] * 8, row_group_size=2)
    read = []
    original = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile,
        "iter_batches",
        lambda self, *rows, columns=None: (
            read.append(columns) or original(self, *rows, columns=columns)
        ),
    )
    read_source(file)
    assert sorted(read) == [["image.path"], ["label"]]


# --- verified labels ---------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_cells_say_which_labels_are_verified_and_which_rows_are_left_out(
    tmp_path: Path, kind: str, write: Any
) -> None:
    cells = [
        "yes",
        "TRUE",
        "1",
        " y ",
        "Verified",
        "",
        "no",
        "false",
        "0",
        "n",
        "excluded",
        "Exclude",
    ]
    rows = [{"id": f"s{i}", "label": "ab"[i % 2], "done": cell} for i, cell in enumerate(cells)]
    file = write.table(tmp_path / f"l.{kind}", rows)
    columns = Columns(None, None, None, others=5, verified="done")
    table = read_table(file, columns, ID_COLUMNS, images_needed=False)
    assert table.marks == ["verified"] * 5 + [""] * 5 + ["excluded"] * 2
    assert table.others == {}
    # Unless it is asked for, it is a column like any other.
    plain = read_table(file, Columns(None, None, None, others=5), ID_COLUMNS, images_needed=False)
    assert plain.marks is None
    assert plain.others["done"][0] == "yes"


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_truth_values_and_numbers_are_marks(tmp_path: Path, kind: str, write: Any) -> None:
    for cells in ([True, False, None], [1, 0, None], [1.0, 0.0, None]):
        rows = [{"id": f"s{i}", "label": "a", "done": cell} for i, cell in enumerate(cells)]
        file = write.table(tmp_path / f"l.{kind}", rows)
        columns = Columns(None, None, None, verified="done")
        assert read_table(file, columns, images_needed=False).marks == ["verified", "", ""]


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
@pytest.mark.parametrize("name", ["first_label", "First_Label"])
def test_beside_marks_a_column_says_what_verified_labels_were_at_first(
    tmp_path: Path, kind: str, name: str, write: Any
) -> None:
    cells = [("yes", "b"), ("yes", ""), ("no", "b"), ("excluded", "b")]
    rows = [{"id": f"s{i}", "label": "a", "done": m, name: f} for i, (m, f) in enumerate(cells)]
    file = write.table(tmp_path / f"l.{kind}", rows)
    columns = Columns(None, None, None, verified="done")
    table = read_table(file, columns, ID_COLUMNS, images_needed=False)
    assert table.first == ["b", "", "", ""]  # of labels that are not verified it says nothing
    # It is shown only where it is not read as that.
    for verified, others in (("done", {}), (None, {"done", name})):
        columns = Columns(None, None, None, others=5, verified=verified)
        table = read_table(file, columns, ID_COLUMNS, images_needed=False)
        assert table.others.keys() == set(others)
        assert (table.first is None) == (verified is None)


def test_first_labels_are_text_whatever_their_type(tmp_path: Path, write: Any) -> None:
    rows = [{"id": f"s{i}", "label": 1, "done": True, "first_label": i or None} for i in range(3)]
    for kind in ("jsonl", "parquet"):
        file = write.table(tmp_path / f"l.{kind}", rows)
        columns = Columns(None, None, None, verified="done")
        assert read_table(file, columns, images_needed=False).first == ["", "1", "2"]
        # A column that is read as something else says nothing of first labels.
        columns = Columns(None, "first_label", None, verified="done")
        table = read_table(file, columns, images_needed=False)
        assert (table.labels, table.first) == (["", "1", "2"], None)


def test_tables_of_which_some_say_what_labels_were_at_first(tmp_path: Path, write: Any) -> None:
    columns = Columns(None, None, None, verified="done")
    rows = [{"id": "x", "label": "a", "done": "yes"}] * 2
    plain = read_table(write.table(tmp_path / "a.csv", rows), columns)
    assert concatenate([plain, plain]).first is None
    told = [{**row, "first_label": "b"} for row in rows]
    table = concatenate([plain, read_table(write.table(tmp_path / "b.csv", told), columns)])
    assert table.first == ["", "", "b", "b"]


def test_other_marks_are_refused_with_their_place(tmp_path: Path, write: Any) -> None:
    file = write.text(tmp_path / "l.csv", "id,label,done\nx,a,yes\ny,b,maybe\n")
    with pytest.raises(SourceError, match=r'l.csv line 3: "done" is "maybe"; write yes .*excluded'):
        read_table(file, Columns(None, None, None, verified="done"), images_needed=False)
    with pytest.raises(SourceError, match='no column "gone" for verified labels'):
        read_table(file, Columns(None, None, None, verified="gone"), images_needed=False)


def test_marks_that_nobody_asked_for_are_told(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("id,label,verified,first_label\na,x,yes,y\nb,y,,\n")
    told: list[str] = []
    rows_of_split(read_table(path, Columns(None, None, None), images_needed=False), None, told)
    assert "`verified_column=" in told[0]
    asked = Columns(None, None, None, verified="verified")
    told.clear()
    rows_of_split(read_table(path, asked, images_needed=False), None, told)
    assert told == []


def test_a_column_is_found_in_another_unicode_form(tmp_path):
    (tmp_path / "labels.csv").write_text("path,e\u0301tiquette\na.png,cat\nb.png,dog\n", "utf-8")
    columns = Columns(None, "\u00e9tiquette", None)
    read = read_table(tmp_path / "labels.csv", columns, images_needed=False)
    assert read.labels == ["cat", "dog"]
