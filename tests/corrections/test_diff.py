import pytest

from labelaudit.corrections.diff import CHANGES, DIFF_COLUMNS, diff_runs, write_diff
from labelaudit.corrections.run import read_run
from labelaudit.errors import SourceError
from labelaudit.reporting.tables import read_csv

A = [
    ("corrected.png", "cat", "dog", 0.9),
    ("fine.png", "cat", "dog", 0.1),
    ("found.png", "dog", "cat", 0.2),
    ("found too.png", "dog", "cat", 0.3),
    ("cleared.png", "dog", "cat", 0.7),
    ("still.png", "dog", "cat", 0.8),
    ("gone.png", "cat", "dog", 0.95),
    ("emptied.png", "cat", "dog", 0.6),
    ("filled.png", None, None, None),
    ("never.png", None, None, None),
    ("wrongly corrected.png", "cat", "dog", 0.5),
]
B = [
    ("filled.png", "dog", "cat", 0.4),
    ("new.png", "dog", "cat", 0.99),
    ("still.png", "dog", "cat", 0.85),
    ("cleared.png", "dog", "cat", 0.05),
    ("found.png", "dog", "cat", 0.6),
    ("found too.png", "dog", "cat", 0.65),
    ("fine.png", "cat", "dog", 0.15),
    ("corrected.png", "dog", "cat", 0.02),
    ("emptied.png", None, None, None),
    ("never.png", None, None, None),
    ("wrongly corrected.png", "dog", "cat", 0.75),
]
NAMES = ["cat", "dog"]


@pytest.fixture
def runs(run_folder):
    return (
        run_folder("a", A, class_names=NAMES, paths="none", expected_wrong=4.5),
        run_folder(
            "b",
            B,
            class_names=NAMES,
            paths="none",
            expected_wrong=2.5,
            expected_wrong_interval=None,
            trusted=False,
        ),
    )


def test_every_change_has_its_samples(runs):
    diff = diff_runs(*runs)
    assert tuple(diff.table.columns) == DIFF_COLUMNS
    assert list(zip(diff.table["change"], diff.table["sample_id"], strict=True)) == [
        ("corrected", "wrongly corrected.png"),
        ("corrected", "corrected.png"),
        ("newly suspect", "found too.png"),
        ("newly suspect", "found.png"),
        ("no longer suspect", "cleared.png"),
        ("left out", "gone.png"),
        ("left out", "emptied.png"),
        ("added", "new.png"),
        ("added", "filled.png"),
    ]
    assert diff.counts == {
        "corrected": 2,
        "newly suspect": 2,
        "no longer suspect": 1,
        "left out": 2,
        "added": 2,
    }
    assert diff.still_suspect == 1
    assert sum(diff.counts.values()) == len(diff.table)


def test_a_row_holds_both_runs(runs):
    table = diff_runs(*runs).table.set_index("sample_id")
    row = table.loc["corrected.png"]
    assert (row["given_label_a"], row["given_label_b"]) == ("cat", "dog")
    assert (row["suspect_score_a"], row["suspect_score_b"]) == (0.9, 0.02)
    assert row["suggested_label_b"] == "cat"
    assert table.loc["gone.png", ["given_label_b", "suspect_score_b"]].isna().all()
    assert table.loc["new.png", ["given_label_a", "suspect_score_a"]].isna().all()


def test_the_numbers_of_both_runs_are_there(runs):
    diff = diff_runs(*runs)
    assert (diff.num_labeled_a, diff.num_labeled_b) == (9, 9)
    assert (diff.num_suspects_a, diff.num_suspects_b) == (6, 5)
    assert (diff.expected_wrong_a, diff.expected_wrong_b) == (4.5, 2.5)
    assert diff.expected_wrong_interval_a == (2.0, 5.0)
    assert diff.expected_wrong_interval_b is None
    assert (diff.trusted_a, diff.trusted_b) == (True, False)


def test_each_row_says_whether_the_runs_can_be_trusted(runs, tmp_path):
    write_diff(diff_runs(*runs), tmp_path / "diff.csv")
    table = read_csv(tmp_path / "diff.csv")
    assert table["trusted_a"].all()
    assert not table["trusted_b"].any()


def test_a_run_does_not_differ_from_itself(runs):
    run = read_run(runs[0])
    diff = diff_runs(run, run)
    assert len(diff.table) == 0
    assert tuple(diff.table.columns) == DIFF_COLUMNS
    assert diff.counts == dict.fromkeys(CHANGES, 0)
    assert diff.still_suspect == 6


def test_the_other_way_round_added_and_left_out_change_places(runs):
    a, b = runs
    forth, back = diff_runs(a, b).counts, diff_runs(b, a).counts
    assert (forth["added"], forth["left out"]) == (back["left out"], back["added"])
    assert (forth["newly suspect"], forth["corrected"]) == (
        back["no longer suspect"],
        back["corrected"],
    )


def test_runs_on_other_data_are_refused(run_folder):
    a = run_folder("a", [("1.png", "cat", "dog", 0.9)], class_names=NAMES, paths="none")
    b = run_folder("b", [("2.png", "cat", "dog", 0.9)], class_names=NAMES, paths="none")
    with pytest.raises(SourceError, match="no sample in common") as error:
        diff_runs(a, b)
    assert "\n" not in str(error.value)


def test_a_run_without_labels_in_common_is_compared(run_folder):
    other = {"paths": "none", "class_names": ["cat", "dog"]}
    a = run_folder("a", [("1", "cat", "dog", 0.9), ("2", None, None, None)], **other)
    b = run_folder("b", [("1", None, None, None), ("2", "dog", "cat", 0.1)], **other)
    assert diff_runs(a, b).table["change"].tolist() == ["left out", "added"]
