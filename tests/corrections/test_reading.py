"""Corrections as people leave them: in spreadsheets, half filled in, in two places at once."""

from __future__ import annotations

import random
from pathlib import Path

import pandas as pd
import pytest

import labelaudit
from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.run import read_run
from labelaudit.corrections.table import write_corrections
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import escape

HEADER = "sample_id,decision,corrected_label,note"


def write(path: Path, *rows: str, header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def test_a_new_label_alone_is_a_decision(tmp_path: Path) -> None:
    found = read_corrections(write(tmp_path / "c.csv", "a,,dog,", "b,,,", "c,Keep ,,"))
    assert found[["sample_id", "decision", "corrected_label"]].to_numpy().tolist() == [
        ["a", "relabel", "dog"],
        ["c", "keep", ""],
    ]


@pytest.mark.parametrize("decision", ["keep", "exclude", "unsure"])
def test_a_label_that_the_decision_would_drop_is_refused(tmp_path: Path, decision: str) -> None:
    with pytest.raises(SourceError, match="write relabel"):
        read_corrections(write(tmp_path / "c.csv", f"a,{decision},dog,"))


def test_keeping_the_label_that_is_written_beside_it_is_no_contradiction(tmp_path: Path) -> None:
    rows = write(tmp_path / "c.csv", "a,keep,cat,,cat", header=f"{HEADER},given_label")
    assert read_corrections(rows)["corrected_label"].tolist() == [""]


@pytest.mark.parametrize("sign", [";", "\t"])
def test_other_separators_are_read(tmp_path: Path, sign: str) -> None:
    path = tmp_path / "c.csv"
    path.write_bytes(f"\ufeffsample_id{sign}decision{sign}corrected_label\r\n".encode()
                     + f"007{sign}relabel{sign}1,5\r\n".encode())  # fmt: skip
    assert read_corrections(path).iloc[0][:3].tolist() == ["007", "relabel", "1,5"]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("sign", [";", "\t"])
def test_any_corrections_read_the_same_with_other_separators(
    tmp_path: Path, sign: str, seed: int
) -> None:
    rng = random.Random(seed)
    texts = [
        "NA",
        "007",
        "1,5",
        "=1+1",
        "-2",
        "'=x",
        'a "b"',
        "two\nlines",
        "a\rb",
        "猫",
        "a;b\tc",
        " ",
    ]
    table = pd.DataFrame(
        {
            "sample_id": [f"{rng.choice(texts)}{number}" for number in range(40)],
            "decision": rng.choices(["keep", "relabel", "unsure"], k=40),
            "corrected_label": "",
            "note": rng.choices([*texts, ""], k=40),
            "reviewer": rng.choices(texts, k=40),
            "reviewed_at": "",
        }
    )
    relabeled = table["decision"] == "relabel"
    table.loc[relabeled, "corrected_label"] = rng.choices(texts, k=int(relabeled.sum()))
    write_corrections(table, tmp_path / "ours.csv")
    saved = table.map(escape).assign(suspect_score="0,97")
    saved.to_csv(tmp_path / "saved.csv", sep=sign, index=False, lineterminator="\r\n")
    ours = read_corrections(tmp_path / "ours.csv")
    pd.testing.assert_frame_equal(ours, table.astype("str"))
    pd.testing.assert_frame_equal(read_corrections(tmp_path / "saved.csv"), ours)


def test_rows_without_their_last_empty_cells_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "c.csv", "a;exclude", header=HEADER.replace(",", ";"))
    assert read_corrections(path)["decision"].tolist() == ["exclude"]


def test_a_run_whose_suspects_were_filled_in_has_these_decisions(
    run_folder, tmp_path: Path
) -> None:
    folder = run_folder()
    samples = read_run(folder).suspects
    with pytest.raises(SourceError, match="has no decisions yet"):
        read_corrections(folder)
    table = samples[["sample_id", "given_label", "suggested_label"]].copy()
    table["decision"] = [*["accept"], *[None] * (len(table) - 1)]
    table["corrected_label"] = None
    table.to_csv(folder / "suspects.csv", index=False)
    run = read_run(folder)
    assert run.corrections["decision"].tolist() == ["accept"]
    assert read_corrections(folder)["corrected_label"].tolist() == [
        table["suggested_label"].iloc[0]
    ]
    pd.DataFrame({"sample_id": ["x"], "decision": ["keep"]}).to_csv(
        folder / "corrections.csv", index=False
    )
    with pytest.raises(SourceError, match=r"both .* hold decisions"):
        read_corrections(folder)


def test_it_is_there_for_python_users(tmp_path: Path) -> None:
    assert labelaudit.read_corrections is read_corrections
