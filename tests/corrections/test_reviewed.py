"""Decisions of earlier runs in a new one: labels, marks, what is left out, what scores were worth."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import softmax
from sklearn.metrics import f1_score

import labelaudit
from labelaudit import SourceError, source_from_arrays
from labelaudit.corrections.apply import apply_corrections
from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.reviewed import (
    Decisions,
    Review,
    check_run,
    open_review,
    take_review,
)
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections
from labelaudit.sources.feature_tables import features_of_rows
from labelaudit.sources.prediction_files import join_predictions

CLASSES = ["a", "b", "c", "d"]


def table(*rows):
    """Corrections from (sample_id, decision) or (sample_id, decision, corrected_label)."""
    cells = [(*row, *[""] * (6 - len(row))) for row in rows]
    return pd.DataFrame(cells, columns=list(CORRECTION_COLUMNS), dtype="str")


def decide_all(samples, truth):
    """What somebody decides who knows the truth, a mapping of ids to labels."""
    rows = []
    for sample in samples.itertuples():
        right = truth[sample.sample_id]
        if right == sample.given_label:
            rows.append((sample.sample_id, "keep"))
        elif right == sample.suggested_label:
            rows.append((sample.sample_id, "accept", right))
        else:
            rows.append((sample.sample_id, "relabel", right))
    return table(*rows)


def source(labels=("a", "b", "a", "b", "", "a"), **more):
    ids = [f"s{i}" for i in range(len(labels))]
    return source_from_arrays(None, list(labels), sample_ids=ids, **more)


def review(*rows, given=None, first=None):
    given = (
        {f"s{i}": name for i, name in enumerate(["a", "b", "a", "b"])} if given is None else given
    )
    return Review(Decisions(table(*rows), given, first or {}))


def named(data, numbers):
    names = [*data.manifest.class_names, None]
    return [names[number] for number in numbers]


# --- labels --------------------------------------------------------------------------------------


def test_every_decision_does_what_it_says() -> None:
    taken = take_review(
        source(clean_labels=["b"] * 6),
        review(
            ("s0", "accept", "b"),
            ("s1", "keep"),
            ("s2", "exclude"),
            ("s3", "unsure"),
            ("s4", "relabel", "z"),
        ),
    )
    assert taken.manifest.sample_ids.tolist() == ["s0", "s1", "s3", "s4", "s5"]
    assert taken.manifest.class_names == ("a", "b", "z")  # a new class comes last
    assert named(taken, taken.manifest.noisy_labels) == ["b", "b", "b", "z", "a"]
    assert taken.verified.tolist() == [True, True, False, True, False]
    # Of an unlabeled sample nothing was given at first.
    assert named(taken, taken.first_given) == ["a", "b", None, None, None]
    assert taken.clean_labels.tolist() == ["b"] * 5
    assert taken.num_excluded == 1
    assert taken.skipped["sample_id"].tolist() == ["s2"]
    assert taken.skipped["reason"].tolist() == ["excluded by a reviewer"]
    assert taken.warnings == ('1 sample excluded by a reviewer and left out: "s2"',)


def test_a_source_that_holds_the_corrected_labels_already_is_the_same() -> None:
    decided = review(("s0", "accept", "b"), ("s1", "keep"))
    once = take_review(source(), decided)
    again = take_review(source(("b", "b", "a", "b", "", "a")), decided)
    np.testing.assert_array_equal(once.manifest.noisy_labels, again.manifest.noisy_labels)
    np.testing.assert_array_equal(once.verified, again.verified)
    np.testing.assert_array_equal(once.first_given, again.first_given)


def test_what_was_first_given_is_remembered_over_rounds() -> None:
    decided = review(
        ("s0", "relabel", "b"),
        ("s1", "keep"),
        given={"s0": "c", "s1": "b"},
        first={"s0": "d", "s1": "a"},
    )
    taken = take_review(source(("c", "b", "d", "a")), decided)
    assert named(taken, taken.first_given[:2]) == ["d", "a"]


def test_what_the_source_says_was_first_given_holds_before_what_runs_say() -> None:
    said = np.array(["c", "", "", "gone", "", ""], dtype=object)
    marked = source(
        ("a", "b", "a", "b", "c", "d"), verified=[True, True, False, True, False, False]
    )
    decided = review(
        ("s0", "relabel", "b"),
        ("s1", "keep"),
        ("s2", "relabel", "d"),
        ("s3", "relabel", "a"),
        first={"s0": "d", "s1": "c"},
    )
    taken = take_review(replace(marked, first_labels=said), decided)
    assert taken.first_labels.tolist() == ["c", "c", "a", "gone", "", ""]
    # Of a class that is gone nothing can be learned.
    assert named(taken, taken.first_given) == ["c", "c", "a", None, None, None]


def test_a_label_that_was_kept_and_has_changed_since_is_not_verified() -> None:
    taken = take_review(source(), review(("s0", "keep"), ("s1", "keep"), given={"s0": "b"}))
    assert taken.verified is None
    assert taken.warnings == (
        '2 reviewed labels have changed since the review: "s0", "s1"; these decisions are ignored',
    )


def test_samples_that_are_gone_are_told_unless_they_were_to_go() -> None:
    taken = take_review(
        source(), review(("s9", "accept", "a"), ("s8", "exclude"), ("s7", "unsure"))
    )
    assert taken.warnings == ('1 reviewed sample is not in the source: "s9"',)
    assert taken.manifest.num_samples == 6


def test_marks_of_a_column_stay_and_decisions_come_on_top() -> None:
    marked = source(verified=[False, False, False, True, True, False])
    assert "1 sample is marked as verified without a label" in marked.warnings[0]
    taken = take_review(marked, review(("s3", "unsure"), ("s0", "keep")))
    assert taken.verified.tolist() == [True, False, False, True, False, False]


def test_features_stay_with_their_samples() -> None:
    features = np.arange(12, dtype=np.float32).reshape(6, 2)
    taken = take_review(features_of_rows(source(), features), review(("s1", "exclude")))
    np.testing.assert_array_equal(taken.features, np.delete(features, 1, axis=0))
    assert taken.source.num_excluded == 1
    assert len(taken.details) == 5


def test_predictions_have_fixed_classes() -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(2), 6)
    joined = join_predictions(source(), [probs])
    taken = take_review(
        joined, review(("s0", "relabel", "z"), ("s1", "exclude"), ("s2", "accept", "b"))
    )
    assert taken.source.manifest.class_names == ("a", "b")
    assert taken.source.manifest.noisy_labels.tolist() == [-1, 1, 1, -1, 0]
    assert taken.source.verified.tolist() == [False, True, False, False, False]
    missing = "corrected to a class that the predictions do not have"
    assert any(missing in warning for warning in taken.source.warnings)
    np.testing.assert_array_equal(taken.models[0], np.delete(probs, 1, axis=0))


def test_excluded_samples_need_no_predictions_by_id(tmp_path) -> None:
    probs = pd.DataFrame({"sample_id": [f"s{i}" for i in range(5)], "a": 0.5, "b": 0.5})
    probs.to_parquet(tmp_path / "p.parquet")
    with pytest.raises(SourceError, match="1 of 6 samples have no predictions"):
        join_predictions(source(), [tmp_path / "p.parquet"])
    joined = join_predictions(source(), [tmp_path / "p.parquet"], unneeded={"s5"})
    assert take_review(joined, review(("s5", "exclude"))).source.manifest.num_samples == 5


# --- run folders ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    """A table of 600 labels, 120 of them wrong, and predictions: folder, truth by id."""
    folder = tmp_path_factory.mktemp("labels")
    rng = np.random.default_rng(0)
    right = rng.integers(0, 4, 600)
    given = right.copy()
    given[:120] = (right[:120] + 1 + rng.integers(0, 3, 120)) % 4
    ids = [f"r{i:03d}" for i in range(600)]
    names = np.array(CLASSES)
    frame = pd.DataFrame({"sample_id": ids, "label": names[given], "truth": names[right]})
    frame.to_csv(folder / "labels.csv", index=False)
    logits = 2.6 * np.eye(4)[right] + rng.normal(size=(600, 4))
    np.save(folder / "p.npy", softmax(logits, axis=1).astype(np.float32))
    return folder, dict(zip(ids, names[right], strict=True))


def audit(labels, out, **options):
    folder, _ = labels
    return labelaudit.scan(folder / "labels.csv", pred_probs=folder / "p.npy", out=out, **options)


@pytest.fixture
def first(labels, tmp_path):
    """A run of these, and half of its suspects decided about rightly."""
    run = audit(labels, tmp_path / "first")
    decided = decide_all(run.suspects.head(len(run.suspects) // 2), labels[1])
    write_corrections(decided, run.run_dir / "corrections.csv")
    return run


def test_a_reviewed_scan_trusts_what_was_decided(labels, first, tmp_path) -> None:
    decided = read_corrections(first.run_dir)
    again = audit(labels, tmp_path / "again", reviewed=first.run_dir)
    assert again.summary["num_verified"] == len(decided)
    looked_at = again.samples["sample_id"].isin(decided["sample_id"])
    np.testing.assert_array_equal(again.samples["verified"], looked_at)
    verified = again.samples[looked_at]
    assert verified["given_label"].tolist() == [labels[1][name] for name in verified["sample_id"]]
    before = first.samples.loc[looked_at, "given_label"]
    assert verified["first_label"].tolist() == before.tolist()
    assert again.samples.loc[~looked_at, "first_label"].isna().all()
    assert (verified["suspect_score"] == 0).all()
    assert not verified["is_label_issue"].any()
    assert verified["rank"].min() > 600 - len(verified)
    assert again.summary["expected_wrong"] == pytest.approx(again.samples["suspect_score"].sum())
    assert json.loads((again.run_dir / "summary.json").read_text()) == again.summary

    checked = again.summary["checked"]
    told = first.samples.loc[looked_at, "suspect_score"]
    wrong = (decided["decision"] != "keep").sum()
    assert (checked["looked_at"], checked["wrong"]) == (len(decided), wrong)
    assert checked["expected"] == pytest.approx(told.sum())
    assert checked["num_remaining"] == 600 - len(decided)
    assert checked["expected_remaining"] == pytest.approx(again.summary["expected_wrong"])
    assert checked["explanation"].startswith(
        f"Of {len(decided)} reviewed labels, {wrong} were wrong"
    )
    # Nothing of that by itself.
    assert first.summary["checked"] is None
    assert "verified" not in first.samples
    assert (first.summary["num_verified"], first.summary["num_excluded"]) == (0, 0)


def test_decisions_are_carried_over_so_that_the_last_run_is_enough(labels, first, tmp_path) -> None:
    kept = read_corrections(first.run_dir)
    second = audit(labels, tmp_path / "second", reviewed=[first.run_dir])
    carried = read_corrections(second.run_dir)
    pd.testing.assert_frame_equal(carried[list(CORRECTION_COLUMNS)], kept)
    # What each was decided about is written beside it.
    given = first.samples.set_index("sample_id")["given_label"]
    assert carried["given_label"].tolist() == given[carried["sample_id"]].tolist()
    assert check_run(second.run_dir) is None  # they were decided before its scores
    more = decide_all(second.suspects, labels[1])
    write_corrections(pd.concat([kept, more]), second.run_dir / "corrections.csv")
    checked = check_run(second.run_dir)
    assert checked.looked_at == len(more)
    third = audit(labels, tmp_path / "third", reviewed=second.run_dir)
    assert third.summary["num_verified"] == len(kept) + len(more)
    assert third.summary["checked"]["looked_at"] == len(more)
    assert len(read_corrections(third.run_dir)) == len(kept) + len(more)
    # Also where the labels were corrected in between.
    names = third.samples.set_index("sample_id")["given_label"]
    folder = tmp_path / "corrected"
    folder.mkdir()
    names.rename("label").to_csv(folder / "labels.csv")
    (folder / "p.npy").symlink_to(labels[0] / "p.npy")
    applied = audit((folder, labels[1]), tmp_path / "applied", reviewed=second.run_dir)
    pd.testing.assert_frame_equal(applied.samples, third.samples)


@pytest.mark.parametrize("kind", ["predictions", "features", "tabular"])
def test_applied_labels_are_judged_as_in_a_reviewed_run(
    kind, labels, first, tmp_path, lines
) -> None:
    folder = labels[0]
    data = {"pred_probs": folder / "p.npy"}
    if kind != "predictions":
        features = np.log(np.load(folder / "p.npy")) + np.random.default_rng(1).normal(
            size=(600, 4)
        )
        np.save(tmp_path / "x.npy", features)
        data = {"features": tmp_path / "x.npy", "epochs": 5, "device": "cpu"}
    table = pd.read_csv(folder / "labels.csv", dtype=str).drop(columns="truth")
    if kind == "tabular":
        data = {"tabular": True, "epochs": 5, "device": "cpu"}
        table = table.join(pd.DataFrame(features, columns=[f"x{i}" for i in range(4)]))
    table.to_csv(tmp_path / "labels.csv", index=False)
    reviewed = labelaudit.scan(tmp_path / "labels.csv", reviewed=first.run_dir, **data)
    fixed = apply_corrections(tmp_path / "labels.csv", first.run_dir).out
    for more in ({}, {"reviewed": first.run_dir}):
        applied = labelaudit.scan(fixed, verified_column="verified", reporter=lines, **data, **more)
        pd.testing.assert_frame_equal(applied.samples, reviewed.samples, check_exact=True)
        assert applied.summary["expected_wrong"] == reviewed.summary["expected_wrong"]
    assert applied.samples["first_label"].notna().sum() == len(read_corrections(first.run_dir))
    assert not any("the first labels of" in line for line in lines.warned)
    # Without the first labels they are judged otherwise.
    bare = pd.read_csv(fixed, dtype=str).drop(columns="first_label")
    bare.to_csv(tmp_path / "bare.csv", index=False)
    other = labelaudit.scan(
        tmp_path / "bare.csv", verified_column="verified", reporter=lines, **data
    )
    assert not np.allclose(other.samples["suspect_score"], reviewed.samples["suspect_score"])
    assert any("the first labels of" in line for line in lines.warned)


def test_of_two_runs_the_later_one_holds(labels, first, tmp_path) -> None:
    second = audit(labels, tmp_path / "second")
    name = read_corrections(first.run_dir)["sample_id"][0]
    write_corrections(table((name, "exclude")), second.run_dir / "corrections.csv")
    both = audit(labels, None, reviewed=[first.run_dir, second.run_dir])
    assert both.summary["num_excluded"] == 1
    assert both.summary["num_verified"] == len(read_corrections(first.run_dir)) - 1
    assert both.summary["checked"] is None  # about the second run no label was decided
    other = audit(labels, None, reviewed=[second.run_dir, first.run_dir])
    assert other.summary["num_excluded"] == 0


def test_a_run_that_is_replaced_keeps_its_decisions(labels, first) -> None:
    kept = read_corrections(first.run_dir)
    again = audit(labels, first.run_dir, force=True)
    assert again.summary["num_verified"] == 0  # they are not taken unasked
    columns = list(CORRECTION_COLUMNS)
    pd.testing.assert_frame_equal(read_corrections(first.run_dir)[columns], kept)
    taken = audit(labels, first.run_dir, force=True, reviewed=first.run_dir)
    assert taken.summary["num_verified"] == len(kept)
    pd.testing.assert_frame_equal(read_corrections(first.run_dir)[columns], kept)


def test_a_run_that_is_replaced_keeps_what_people_have_added_to_its_decisions(
    labels, first
) -> None:
    file = first.run_dir / "corrections.csv"
    decided = labelaudit.read_csv(file, as_text=True)
    open_one, gone = first.suspects["sample_id"].tolist()[-1], "no such sample"
    notes = table((open_one, ""), (gone, "")).assign(note="ask Ada")
    mine = pd.concat([decided.assign(ticket="17", size="=1+1"), notes]).fillna("")
    write_corrections(mine, file)
    audit(labels, first.run_dir, force=True)
    kept = labelaudit.read_csv(file, as_text=True).set_index("sample_id")
    assert kept.columns[-2:].tolist() == ["ticket", "size"]
    assert (kept.loc[decided["sample_id"], "ticket"] == "17").all()
    assert (kept.loc[decided["sample_id"], "size"] == "=1+1").all()
    assert kept.loc[open_one, ["decision", "note", "ticket"]].tolist() == ["", "ask Ada", ""]
    assert len(kept) == len(decided) + 1
    aside = labelaudit.read_csv(first.run_dir / "corrections.before.csv", as_text=True)
    assert aside[["sample_id", "note"]].to_numpy().tolist() == [[gone, "ask Ada"]]
    # They count as before, and a second time changes nothing.
    assert len(read_corrections(file)) == len(decided)
    before = file.read_bytes()
    audit(labels, first.run_dir, force=True)
    assert file.read_bytes() == before


def test_columns_of_a_spreadsheet_with_semicolons_are_kept(labels, first) -> None:
    file = first.run_dir / "corrections.csv"
    sheet = labelaudit.read_csv(file, as_text=True).assign(ticket="1,5")
    sheet.to_csv(file, sep=";", index=False)
    audit(labels, first.run_dir, force=True)
    kept = labelaudit.read_csv(file, as_text=True)
    assert (kept["ticket"] == "1,5").all()
    assert kept["decision"].tolist() == sheet["decision"].tolist()


def test_a_replaced_run_that_was_killed_is_gone_on_with_and_keeps_its_decisions(
    gaussians, tmp_path, killed_in_third_epoch
) -> None:
    features, noisy, _ = gaussians
    settings = {"out": tmp_path / "run", "epochs": 4, "device": "cpu"}
    run = labelaudit.scan(features, noisy, out=tmp_path / "run", epochs=1, device="cpu")
    ids = run.suspects["sample_id"].head(3)
    write_corrections(table(*((name, "keep") for name in ids)), run.run_dir / "corrections.csv")
    with killed_in_third_epoch():
        labelaudit.scan(features, noisy, force=True, **settings)
    labelaudit.scan(features, noisy, resume=True, **settings)
    assert read_corrections(run.run_dir)["sample_id"].tolist() == ids.tolist()


def test_an_edited_suspects_csv_outlives_a_run_that_is_replaced(labels, tmp_path) -> None:
    run = audit(labels, tmp_path / "run")
    edited = labelaudit.read_csv(run.run_dir / "suspects.csv")
    edited["decision"] = ["keep"] * 4 + [None] * (len(edited) - 4)
    edited.to_csv(run.run_dir / "suspects.csv", index=False)
    audit(labels, run.run_dir, force=True)
    kept = read_corrections(run.run_dir)
    assert kept["sample_id"].tolist() == edited["sample_id"].head(4).tolist()
    assert set(kept["decision"]) == {"keep"}


def test_decisions_about_samples_that_are_gone_are_set_aside(labels, first, lines) -> None:
    kept = read_corrections(first.run_dir)
    gone = kept["sample_id"][:5].tolist()
    table_of_labels = pd.read_csv(labels[0] / "labels.csv", dtype=str)
    probs = np.load(labels[0] / "p.npy")
    name = table_of_labels.columns[0]
    left = ~table_of_labels[name].isin(gone)
    folder = first.run_dir.parent / "fewer"
    folder.mkdir()
    table_of_labels[left].to_csv(folder / "labels.csv", index=False)
    np.save(folder / "p.npy", probs[left.to_numpy()])
    audit((folder, labels[1]), first.run_dir, force=True, reporter=lines)
    assert len(read_corrections(first.run_dir)) == len(kept) - 5
    aside = read_corrections(first.run_dir / "corrections.before.csv")
    assert aside["sample_id"].tolist() == gone
    assert any("corrections.before.csv" in line for line in lines.warned)


def test_a_label_that_has_changed_since_is_not_corrected() -> None:
    now = take_review(source(), review(("s0", "relabel", "c"), given={"s0": "c"}))
    before = named(source(), source().manifest.noisy_labels)
    assert named(now, now.manifest.noisy_labels) == before
    assert "are ignored" in now.warnings[-1]


def test_decisions_that_hold_no_more_are_not_kept() -> None:
    given = {"x": "a", "y": "a", "z": "a"}
    standing = Decisions(
        table(("x", "keep"), ("y", "keep"), ("z", "exclude"), ("w", "unsure")), given
    )
    samples = pd.DataFrame({"sample_id": ["x", "y", "z"], "given_label": ["a", "b", "b"]})
    left, gone = standing.still_about(samples)
    assert left.corrections["sample_id"].tolist() == ["x", "z"]
    assert gone.corrections["sample_id"].tolist() == ["y", "w"]


def test_a_run_is_checked_against_its_own_review(labels, tmp_path) -> None:
    run = audit(labels, tmp_path / "run")
    assert check_run(run.run_dir) is None
    suspects = run.suspects["sample_id"].tolist()
    decided = decide_all(run.suspects.head(30), labels[1])
    more = table((suspects[30], "exclude"), (suspects[31], "unsure"))
    write_corrections(pd.concat([decided, more]), run.run_dir / "corrections.csv")
    checked = check_run(run.run_dir)
    scores = run.samples.set_index("sample_id")["suspect_score"]
    assert checked.looked_at == 30
    assert checked.num_remaining == 600 - 31
    assert checked.expected == pytest.approx(scores[suspects[:30]].sum())
    assert checked.expected_remaining == pytest.approx(scores.drop(suspects[:31]).sum())


def test_a_label_set_to_what_it_was_is_not_wrong(labels, tmp_path) -> None:
    run = audit(labels, tmp_path / "run")
    worst = run.suspects.iloc[0]
    decided = table((worst["sample_id"], "relabel", worst["given_label"]))
    write_corrections(decided, run.run_dir / "corrections.csv")
    assert check_run(run.run_dir).wrong == 0


def test_scores_that_are_no_probabilities_are_not_checked(gaussians, tmp_path) -> None:
    features, noisy, clean = gaussians
    run = labelaudit.scan(
        features, noisy, out=tmp_path / "run", score="epsilon", epochs=1, device="cpu"
    )
    truth = dict(zip(run.samples["sample_id"], map(str, clean), strict=True))
    write_corrections(decide_all(run.suspects.head(30), truth), run.run_dir / "corrections.csv")
    assert check_run(run.run_dir) is None
    again = labelaudit.scan(features, noisy, reviewed=run.run_dir, epochs=1, device="cpu")
    assert again.summary["checked"] is None
    assert again.summary["num_verified"] == 30


def test_runs_without_decisions_are_refused_with_what_to_do(labels, first, tmp_path) -> None:
    run = audit(labels, tmp_path / "run")
    with pytest.raises(SourceError, match=r"has no decisions yet.*labelaudit review"):
        audit(labels, tmp_path / "other", reviewed=run.run_dir)
    with pytest.raises(SourceError, match="does not exist"):
        audit(labels, tmp_path / "other", reviewed=tmp_path / "nowhere")
    assert not (tmp_path / "other").exists()
    (first.run_dir / "samples.parquet").unlink()
    with pytest.raises(SourceError, match=r"decisions would be lost, so move corrections\.csv"):
        open_review(None, first.run_dir)


# --- what it brings ------------------------------------------------------------------------------


def people(seed):
    """Features of 800 samples, labels by people who see little of them, and the truth."""
    rng = np.random.default_rng(seed)
    clean = rng.permutation(np.arange(800) % 4)
    centers = rng.normal(0, 0.8, (4, 24))
    features = (centers[clean] + rng.normal(size=(800, 24))).astype(np.float32)
    seen = softmax(-((features[:, None] - centers) ** 2).sum(2) / 8, axis=1)
    said = (seen.cumsum(1) > rng.random((800, 1))).argmax(1)
    return features, said, clean


@pytest.mark.slow
def test_verified_suspects_help_to_find_the_others(tmp_path) -> None:
    gains = []
    for seed in range(3):
        features, said, clean = people(seed)
        settings = {"epochs": 5, "device": "cpu", "seed": seed}
        run = labelaudit.scan(features, said, out=tmp_path / f"run{seed}", **settings)
        truth = dict(zip(run.samples["sample_id"], map(str, clean), strict=True))
        decided = decide_all(run.suspects.head(len(run.suspects) // 2), truth)
        write_corrections(decided, run.run_dir / "corrections.csv")
        again = labelaudit.scan(features, said, reviewed=run.run_dir, **settings)
        rest = ~again.samples["verified"].to_numpy()
        wrong = (said != clean)[rest]
        f1 = [f1_score(wrong, one.samples["suspect_score"][rest] > 0.5) for one in (run, again)]
        gains.append(f1[1] - f1[0])
    assert np.mean(gains) > 0.0


@pytest.mark.parametrize("kind", [pytest.param("pixels", marks=pytest.mark.slow), "features"])
def test_a_killed_run_resumes_to_its_twin_and_keeps_its_decisions(
    kind, noisy_digits, gaussians, tmp_path, killed_in_third_epoch
) -> None:
    samples, noisy, clean = noisy_digits if kind == "pixels" else gaussians
    settings = {"epochs": 4, "device": "cpu"}
    run = labelaudit.scan(samples, noisy, out=tmp_path / "run", epochs=2, device="cpu")
    truth = dict(zip(run.samples["sample_id"], map(str, clean), strict=True))
    decided = decide_all(run.suspects.head(20), truth)
    gone = run.suspects["sample_id"][20]
    write_corrections(
        pd.concat([decided, table((gone, "exclude"))]), run.run_dir / "corrections.csv"
    )
    settings["reviewed"] = run.run_dir
    whole = labelaudit.scan(samples, noisy, out=tmp_path / "whole", **settings)
    with killed_in_third_epoch():
        labelaudit.scan(samples, noisy, out=tmp_path / "cut", **settings)
    with pytest.raises(labelaudit.OutputError, match="labels have changed"):
        labelaudit.scan(samples, noisy, out=tmp_path / "cut", resume=True, epochs=4, device="cpu")
    resumed = labelaudit.scan(samples, noisy, out=tmp_path / "cut", resume=True, **settings)
    pd.testing.assert_frame_equal(resumed.samples, whole.samples)
    pd.testing.assert_frame_equal(resumed.history.frame(), whole.history.frame())
    assert resumed.summary["checked"] == whole.summary["checked"]
    assert (resumed.summary["num_verified"], resumed.summary["num_excluded"]) == (20, 1)
    assert len(read_corrections(tmp_path / "cut")) == 21


def test_images_sorted_into_folders_need_no_table(noisy_digits, tmp_path) -> None:
    images, noisy, clean = noisy_digits
    for row, (image, label) in enumerate(zip(images[:200], noisy, strict=False)):
        folder = tmp_path / "digits" / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{row:03d}.png")
    settings = {"epochs": 2, "device": "cpu", "threshold": "top:30"}
    run = labelaudit.scan(tmp_path / "digits", out=tmp_path / "run", **settings)
    truth = {name: str(clean[int(name[2:5])]) for name in run.samples["sample_id"]}
    decided = decide_all(run.suspects.head(20), truth)
    write_corrections(decided, run.run_dir / "corrections.csv")
    again = labelaudit.scan(tmp_path / "digits", reviewed=run.run_dir, **settings)
    verified = again.samples[again.samples["verified"]]
    assert sorted(verified["sample_id"]) == sorted(decided["sample_id"])
    assert verified["given_label"].tolist() == [truth[name] for name in verified["sample_id"]]
    assert verified["first_label"].tolist() == [name[0] for name in verified["sample_id"]]
    assert not verified["is_label_issue"].any()
    assert again.summary["num_suspects"] == 30
