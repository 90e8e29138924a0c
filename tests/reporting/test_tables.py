"""suspects.csv and samples.parquet: exact round trips, safe cells, whole files or none."""

import csv
import random
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pytest

from labelaudit.errors import OutputError, SourceError
from labelaudit.files import atomic_write
from labelaudit.reporting.tables import (
    FORMULA_STARTS,
    SUSPECT_COLUMNS,
    escape,
    read_csv,
    suspects_table,
    write_csv,
    write_parquet,
)

HOSTILE_TEXTS = [
    "",
    " ",
    "NA",
    "nan",
    "null",
    "None",
    "<NA>",
    "001",
    "-1",
    "+1.5e3",
    "1e5",
    "True",
    "cat",
    "a,b",
    'say "cheese"',
    '"',
    '""',
    "two\nlines",
    "windows\r\nlines",
    "\rcarriage",
    "\ttab first",
    "tab\tinside",
    "'already",
    "'=already(1)",
    "''twice",
    "'",
    "=cmd|' /C calc'!A0",
    "=1+1",
    "+SUM(A1)",
    "-2+3",
    "@import",
    "＝１＋１",
    "＋x",
    "－x",
    "＠x",
    "🐈‍⬛ 猫",
    "\u202eright to left שלום",
    "\ufeffmark",
    "\x01\x1b[31mred\x7f\x85\u2028",
    "</script><img src=x onerror=alert(1)>",
    "x" * 5000,
]


def make_samples(count: int = 12, with_truth: bool = False) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    labeled = np.arange(count) % 4 != 3
    score = np.where(labeled, rng.random(count), np.nan)
    given = pd.Series(np.where(labeled, "cat", None), dtype="str")
    samples = pd.DataFrame(
        {
            "sample_id": [f"image {number}" for number in range(count)],
            "path": "",
            "given_label": given,
            "predicted_label": "dog",
            "predicted_prob": rng.random(count),
            "suggested_label": pd.Series(np.where(labeled, "dog", None), dtype="str"),
            "suggested_prob": rng.random(count),
            "suspect_score": score,
            "label_score": 1 - score,
            "is_label_issue": score > 0.5,
            "rank": pd.Series(score).rank(ascending=False).astype("Int64"),
            "ambiguity": np.where(labeled, rng.random(count), np.nan),
            "trusted": True,
            "epsilon": np.where(labeled, rng.random(count), np.nan),
            "epsilon_mean": np.where(labeled, rng.random(count), np.nan),
            "guider_prob": np.where(labeled, rng.random(count), np.nan),
            "learner_prob": np.where(labeled, rng.random(count), np.nan),
        }
    )
    if with_truth:
        samples["clean_label"] = pd.Series(["cat", None] * (count // 2), dtype="str")
    return samples


@pytest.mark.parametrize("with_truth", [False, True])
def test_suspects_are_the_flagged_rows_worst_first(with_truth: bool) -> None:
    samples = make_samples(with_truth=with_truth)

    suspects = suspects_table(samples)

    extra = ["clean_label"] if with_truth else []
    assert list(suspects.columns) == [*SUSPECT_COLUMNS, *extra]
    assert set(suspects["sample_id"]) == set(samples.loc[samples["is_label_issue"], "sample_id"])
    assert suspects["suspect_score"].is_monotonic_decreasing
    assert suspects["rank"].tolist() == list(range(1, len(suspects) + 1))
    assert suspects.index.tolist() == list(range(len(suspects)))


def test_no_suspects_give_an_empty_table_that_survives_a_round_trip(tmp_path: Path) -> None:
    suspects = suspects_table(make_samples().assign(is_label_issue=False))
    write_csv(suspects, tmp_path / "suspects.csv")

    back = read_csv(tmp_path / "suspects.csv")

    pd.testing.assert_frame_equal(back, suspects)


def test_suspects_round_trip_with_their_types(tmp_path: Path) -> None:
    suspects = suspects_table(make_samples(with_truth=True))
    write_csv(suspects, tmp_path / "suspects.csv")

    pd.testing.assert_frame_equal(read_csv(tmp_path / "suspects.csv"), suspects)


@pytest.mark.parametrize("column", ["given_label", "sample_id", "a column of the user's"])
@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: repr(text[:12]))
def test_hostile_text_round_trips(tmp_path: Path, column: str, text: str) -> None:
    frame = pd.DataFrame({column: [text, "between", text], "n": [1, 2, 3]})
    write_csv(frame, tmp_path / "t.csv")

    back = read_csv(tmp_path / "t.csv")

    assert back[column].tolist() == [text, "between", text]
    assert back["n"].tolist() == [1, 2, 3]


def test_all_hostile_texts_in_one_file_and_in_the_header(tmp_path: Path) -> None:
    frame = pd.DataFrame(dict.fromkeys(HOSTILE_TEXTS, HOSTILE_TEXTS))
    write_csv(frame, tmp_path / "t.csv")

    back = read_csv(tmp_path / "t.csv")

    assert back.columns.tolist() == HOSTILE_TEXTS
    assert all(back.iloc[:, i].tolist() == HOSTILE_TEXTS for i in range(len(HOSTILE_TEXTS)))


def nasty_cell(rng: random.Random) -> str | None:
    kind = rng.randrange(4)
    if kind == 0:
        return None
    if kind == 1:
        return rng.choice(HOSTILE_TEXTS)
    return "".join(rng.choices("ab01.,;\"'\n\r\t =+-@＝é猫", k=rng.randrange(8)))


@pytest.mark.parametrize("seed", range(25))
def test_any_table_comes_back_and_other_programs_read_the_same_cells(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    names = ["given_label", "note", "a column of the user's"]
    frame = pd.DataFrame(
        {
            name: pd.Series(["text", *(nasty_cell(rng) for _ in range(60))], dtype="str")
            for name in names
        }
    )
    write_csv(frame, tmp_path / "t.csv")

    pd.testing.assert_frame_equal(read_csv(tmp_path / "t.csv"), frame)

    table = pa.csv.read_csv(
        tmp_path / "t.csv",
        parse_options=pa.csv.ParseOptions(newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(
            column_types=dict.fromkeys(names, pa.string()),
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        ),
    )
    for name in names:
        written = [None if pd.isna(text) else escape(text) for text in frame[name]]
        assert table[name].to_pylist() == written


@pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=lambda text: repr(text[:12]))
def test_no_cell_can_be_a_formula(tmp_path: Path, text: str) -> None:
    write_csv(pd.DataFrame({"given_label": [text]}), tmp_path / "t.csv")

    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        cell = list(csv.reader(file))[1][0]

    assert not cell.startswith(tuple(FORMULA_STARTS)) or isinstance(float(cell), float)


def test_missing_labels_differ_from_empty_ones(tmp_path: Path) -> None:
    frame = pd.DataFrame({"given_label": pd.Series(["", None, "NA"], dtype="str")})
    write_csv(frame, tmp_path / "t.csv")

    back = read_csv(tmp_path / "t.csv")["given_label"]

    assert back.isna().tolist() == [False, True, False]
    assert back[0] == ""
    assert back[2] == "NA"


def test_a_column_without_any_label_stays_text(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"given_label": [None, None], "n": [1, 2]}), tmp_path / "t.csv")

    back = read_csv(tmp_path / "t.csv")

    assert back["given_label"].isna().all()
    assert pd.api.types.is_string_dtype(back["given_label"].dtype)


def test_numbers_read_back_exactly(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    wide = rng.standard_normal(200) * 10.0 ** rng.integers(-300, 300, 200)
    frame = pd.DataFrame(
        {
            "epsilon": wide,
            "mine": np.r_[wide[:-4], np.inf, -np.inf, np.nan, -0.0],
            "single": wide.clip(-1e30, 1e30).astype(np.float32),
            "whole": np.arange(200.0),
            "count": np.arange(200) - 100,
            "maybe": pd.array([None, *range(199)], dtype="Int64"),
            "yes": np.arange(200) % 2 == 0,
            "unsure": pd.array([None, *[True] * 199], dtype="boolean"),
        }
    )
    write_csv(frame, tmp_path / "t.csv")

    back = read_csv(tmp_path / "t.csv")

    expected = frame.astype({"single": "float64"})  # every 32-bit float is a 64-bit one
    pd.testing.assert_frame_equal(back, expected, check_exact=True)


def test_numbers_stay_numbers_for_a_spreadsheet(tmp_path: Path) -> None:
    write_csv(pd.DataFrame({"epsilon": [-1.5], "n": [-3], "ok": [True]}), tmp_path / "t.csv")

    assert (tmp_path / "t.csv").read_bytes() == b'"epsilon","n","ok"\n-1.5,-3,True\n'


def test_a_file_saved_again_by_a_spreadsheet_program_reads_the_same(tmp_path: Path) -> None:
    """Such programs drop needless quotes, end lines with CR LF and may add a byte order mark."""
    samples = make_samples(with_truth=True)
    samples.loc[samples["rank"] == 1, "sample_id"] = "=SUM(A1)"
    samples.loc[samples["rank"] == 2, "given_label"] = "00,7"
    suspects = suspects_table(samples)
    write_csv(suspects, tmp_path / "written.csv")
    with (tmp_path / "written.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    with (tmp_path / "saved.csv").open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file, lineterminator="\r\n").writerows([*rows, []])

    pd.testing.assert_frame_equal(read_csv(tmp_path / "saved.csv"), suspects)


def test_a_column_of_codes_typed_by_a_person_keeps_its_zeros(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("code,word,n\n007,'tis,1\n010,so,2\n", encoding="utf-8")

    back = read_csv(tmp_path / "t.csv")

    assert back["code"].tolist() == ["007", "010"]
    assert back["word"].tolist() == ["'tis", "so"]
    assert back["n"].dtype == "int64"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "empty"),
        (b'"a","b"\n1\n', "row 2 .* has 1 cells, the header has 2"),
        (b'"a"\n"open\n', "broken quotes"),
        (b'"a"\n"x"y\n', "broken quotes"),
        (b'"a"\n\xff\xfe\n', "not UTF-8"),
        (b'"rank"\nfirst\n', "row 2 .* 'rank' holds 'first'"),
        (b'"epsilon","n"\n0.5,1\n"0,5",2\n', "row 3 .* 'epsilon' holds '0,5'"),
        (b'"is_label_issue"\nmaybe\n', "expected True or False"),
    ],
)
def test_a_broken_file_is_named_with_its_row(
    tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "t.csv").write_bytes(content)

    with pytest.raises(SourceError, match=complaint) as caught:
        read_csv(tmp_path / "t.csv")

    assert "t.csv" in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"none\.csv"):
        read_csv(tmp_path / "none.csv")


def test_parquet_round_trips_with_null_labels(tmp_path: Path) -> None:
    samples = make_samples(with_truth=True)
    write_parquet(samples, tmp_path / "samples.parquet")

    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "samples.parquet"), samples)


def test_parquet_without_any_label_keeps_text_columns(tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    samples = make_samples().assign(given_label=None)
    write_parquet(samples, tmp_path / "samples.parquet")

    table = pq.read_table(tmp_path / "samples.parquet")

    assert "string" in str(table.schema.field("given_label").type)
    assert table.column("given_label").null_count == len(samples)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "summary.json"
    target.write_text("old")

    def write_half() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_half()

    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_write_replaces_the_old_file_with_ordinary_permissions(tmp_path: Path) -> None:
    target = tmp_path / "array.npy"
    target.write_text("old")
    plain = tmp_path / "plain"
    plain.touch()

    with atomic_write(target) as temporary:
        np.save(temporary, np.arange(3))

    assert np.load(target).tolist() == [0, 1, 2]
    assert stat.S_IMODE(target.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)
    assert sorted(tmp_path.iterdir()) == [target, plain]


@pytest.mark.parametrize("place", ["no such folder/t.csv", "a file/t.csv", "a folder"])
def test_an_impossible_place_is_an_error_for_people(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    before = sorted(tmp_path.iterdir())

    with pytest.raises(OutputError, match="cannot write"):
        write_csv(pd.DataFrame({"n": [1]}), tmp_path / place)

    assert sorted(tmp_path.iterdir()) == before
