"""LabelAuditor: scikit-learn's checks, what it gives, and that scan and eval are the same object."""

import pickle

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.utils.estimator_checks import estimator_checks_generator

import labelaudit
from labelaudit import LabelAuditor, OptionError, OutputError, SourceError
from labelaudit.benchmark.cells import Cell, run_cell
from labelaudit.benchmark.evaluation import open_dataset
from labelaudit.benchmark.noise import Noise, corrupt
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections
from labelaudit.reporting import blocks

# `score` is an option of the auditor, the name of a ranking; scikit-learn calls a method of that name.
SCORE_IS_AN_OPTION = {
    "check_fit_score_takes_y": "score is an option, not a method",
    "check_n_features_in_after_fitting": "score is an option, not a method",
    "check_pipeline_consistency": "score is an option, not a method",
}


def blobs(size=300, classes=3, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(size) % classes
    features = rng.normal(size=(size, 8)) + 3 * rng.normal(size=(classes, 8))[truth]
    given = truth.copy()
    wrong = rng.choice(size, size // 10, replace=False)
    given[wrong] = (given[wrong] + 1) % classes
    return features.astype(np.float32), given, truth


@pytest.fixture(scope="module")
def fitted():
    features, given, _ = blobs()
    labels = given.copy()
    labels[:20] = -1
    return LabelAuditor(epochs=6, device="cpu").fit(features, labels)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "check"),
    [
        pytest.param(estimator, check, id=str(getattr(check, "func", check).__name__))
        for estimator, check in estimator_checks_generator(
            LabelAuditor(epochs=1, device="cpu"),
            expected_failed_checks=SCORE_IS_AN_OPTION,
            mark="skip",
        )
    ],
)
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


def test_parameters_are_those_of_the_options_and_clone_keeps_them():
    auditor = LabelAuditor(epochs=3, threshold="top:5", seed=4)
    assert clone(auditor).get_params() == auditor.get_params()
    assert auditor.get_params()["threshold"] == "top:5"
    assert auditor.set_params(seed=9).seed == 9
    assert "epochs=3" in repr(auditor)


def test_planted_mistakes_are_found_and_suggestions_have_the_type_of_the_labels():
    features, given, truth = blobs()
    auditor = LabelAuditor(epochs=10, device="cpu").fit(features, given)
    wrong = given != truth
    assert auditor.trust_.trustworthy
    assert (auditor.is_label_issue_ == wrong).mean() > 0.95
    assert (auditor.suggested_label_[wrong] == truth[wrong]).mean() > 0.9
    assert auditor.suggested_label_.dtype == given.dtype
    assert auditor.classes_.tolist() == [0, 1, 2]
    low, high = auditor.expected_wrong_interval_
    assert low <= wrong.sum() <= high

    names = np.array(["ash", "birch", "cedar"], dtype=object)
    named = LabelAuditor(epochs=10, device="cpu").fit(features, names[given])
    np.testing.assert_array_equal(named.suspect_score_, auditor.suspect_score_)
    np.testing.assert_array_equal(named.suggested_label_, names[auditor.suggested_label_])


@pytest.mark.parametrize(
    ("kind", "absent"),
    [
        (lambda one: ["yes", "no"][one], None),
        (lambda one: ["yes", "no"][one], float("nan")),
        (bool, None),
        (float, float("nan")),
        (int, -1),
    ],
)
def test_labels_come_as_people_have_them(kind, absent):
    features, given, _ = blobs(60, classes=2)
    labels = [absent if row < 5 else kind(one) for row, one in enumerate(given)]
    auditor = LabelAuditor(epochs=1, device="cpu", threshold="top:3").fit(features, labels)
    assert np.isnan(auditor.suspect_score_).sum() == 5
    assert {type(one) for one in auditor.classes_.tolist()} == {type(kind(0))}
    other = dict(zip([kind(0), kind(1)], [kind(1), kind(0)], strict=True))
    assert auditor.suggested_label_[5:].tolist() == [other[one] for one in labels[5:]]


def test_options_may_be_numbers_of_numpy(tmp_path):
    numbers = {"seed": np.int64(3), "epochs": np.int32(1), "time_budget": np.float32(5)}
    features, given, _ = blobs(60)
    result = labelaudit.scan(features, given, device="cpu", out=tmp_path / "run", **numbers)
    options = result.summary.config["options"]
    assert {name: options[name] for name in numbers} == {"seed": 3, "epochs": 1, "time_budget": 5.0}
    fitted = LabelAuditor(device="cpu", **numbers).fit(features, given)
    assert fitted.result().summary.seed == 3


def test_a_result_that_cannot_be_trusted_says_so():
    features, given, _ = blobs(200)
    shuffled = np.random.default_rng(0).permutation(given)
    with pytest.warns(labelaudit.UntrustedResultWarning, match="do not trust") as told:
        auditor = LabelAuditor(epochs=3, device="cpu").fit(features, shuffled)
    assert told[0].filename == __file__
    assert not auditor.trust_.trustworthy
    assert "DO NOT TRUST THIS" in repr(auditor.result())


def test_a_gpu_that_is_full_is_said_in_words(monkeypatch):
    def full(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("labelaudit.auditor.fit_plan", full)
    with pytest.raises(OptionError, match="smaller `batch_size`"):
        LabelAuditor(device="cpu").fit(*blobs(30)[:2])


def test_every_result_has_a_row_per_sample(fitted):
    unlabeled = np.arange(300) < 20
    for name in ("suspect_score_", "ambiguity_", "epsilon_", "epsilon_mean_"):
        values = getattr(fitted, name)
        assert values.shape == (300,)
        np.testing.assert_array_equal(np.isnan(values), unlabeled)
        assert ((values[~unlabeled] >= 0) & (values[~unlabeled] <= 1)).all()
    assert not fitted.is_label_issue_[unlabeled].any()
    assert (fitted.suggested_label_[unlabeled] == -1).all()
    assert sorted(fitted.ranking_) == list(range(20, 300))
    assert (np.diff(fitted.suspect_score_[fitted.ranking_]) <= 1e-12).all()
    np.testing.assert_allclose(fitted.pred_probs_.sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(fitted.oos_probs_[20:].sum(axis=1), 1, rtol=1e-5)
    assert np.isnan(fitted.oos_probs_[:20]).all()
    assert (fitted.n_iter_, fitted.status_, fitted.n_features_in_) == (6, "complete", 8)


def test_scan_is_the_same_audit(fitted):
    features, given, _ = blobs()
    given[:20] = -1
    scanned = labelaudit.scan(features, given, epochs=6, device="cpu")
    pd.testing.assert_frame_equal(scanned.samples, fitted.result().samples)
    np.testing.assert_array_equal(scanned.pred_probs, fitted.pred_probs_)
    np.testing.assert_array_equal(scanned.samples["suspect_score"], fitted.suspect_score_)


@pytest.mark.filterwarnings("ignore::labelaudit.UntrustedResultWarning")
@pytest.mark.parametrize("num_labeled", [None, 100])
def test_eval_measures_what_scan_finds_to_the_last_digit(num_labeled):
    data = open_dataset("digits")
    cell = Cell(
        "umn", Noise("symmetric", 0.2), seed=3, num_labeled=num_labeled, epochs=2, device="cpu"
    )
    measured = run_cell(cell, data).scores
    corruption = corrupt(data, cell.noise, num_labeled, seed=3)
    images = data.inputs[:, 0]
    scanned = labelaudit.scan(images, corruption.noisy_labels, epochs=2, device="cpu", seed=3)
    labeled = scanned.samples["given_label"].notna().to_numpy()
    found = scanned.samples[labeled]
    if "wrong_prob" in measured:
        np.testing.assert_array_equal(found["suspect_score"], measured["wrong_prob"])
    np.testing.assert_array_equal(
        found["is_label_issue"].to_numpy(dtype=bool), measured["is_label_issue"]
    )
    order = measured["suspect_score"].rank(ascending=False).astype(int)
    np.testing.assert_array_equal(found["rank"].astype(int), order)


def test_images_are_audited_and_shown():
    data = open_dataset("digits")
    images, labels = data.inputs[:200, 0], data.clean_labels[:200]
    auditor = LabelAuditor(epochs=1, device="cpu", threshold="top:7").fit(images, labels)
    page = auditor.result()._repr_html_()
    assert page.count('<img src="data:image/png;base64,') == 7
    assert "7 of 200 labels flagged" in page


def test_epochs_are_recorded_where_asked_for(tmp_path):
    features, given, _ = blobs(60)
    seen = []
    auditor = LabelAuditor(epochs=2, device="cpu").fit(
        features,
        given,
        record_to=tmp_path / "epsilon",
        on_epoch=lambda _, epoch: seen.append(epoch),
    )
    history = auditor.result().history
    assert seen == history.epochs == [1, 2]
    np.testing.assert_array_equal(history.read(2)["epsilon"], auditor.epsilon_.astype(np.float32))
    with pytest.raises(OutputError, match="not empty; choose another record_to"):
        auditor.fit(features, given, record_to=tmp_path / "epsilon")


def test_verified_labels_are_never_flagged():
    features, given, truth = blobs()
    auditor = LabelAuditor(epochs=6, device="cpu").fit(features, given, verified=given != truth)
    assert not auditor.is_label_issue_[given != truth].any()


def test_a_result_is_saved_as_scan_writes_it(fitted, tmp_path):
    saved = fitted.result().save(tmp_path / "run")
    assert saved.run_dir == tmp_path / "run"
    features, given, _ = blobs()
    given[:20] = -1
    labelaudit.scan(features, given, epochs=6, device="cpu", out=tmp_path / "scan")
    same = ("suspects.csv", "samples.parquet", "pred_probs.npy", "embeddings.npy")
    for name in same:
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "scan" / name).read_bytes()
    with pytest.raises(OutputError, match="already exists"):
        fitted.result().save(tmp_path / "run")


def test_a_saved_result_keeps_decisions_and_sets_aside_those_of_other_samples(fitted, tmp_path):
    result = fitted.result()
    result.save(tmp_path / "run")
    rows = [
        (name, "keep", "", "", "", "") for name in (result.suspects["sample_id"].iloc[0], "gone")
    ]
    decided = pd.DataFrame(rows, columns=list(CORRECTION_COLUMNS))
    write_corrections(decided, tmp_path / "run" / "corrections.csv")
    result.save(tmp_path / "run", force=True)
    kept = labelaudit.read_csv(tmp_path / "run" / "corrections.csv")
    before = labelaudit.read_csv(tmp_path / "run" / "corrections.before.csv")
    assert kept["sample_id"].tolist() == [rows[0][0]]
    assert before["sample_id"].tolist() == ["gone"]


def test_a_page_alone_touches_no_other_file(fitted, tmp_path, monkeypatch):
    mine = {
        "plots/review.png": b"my plot",
        "report-data/index.js": b"mine",
        "notes-data/a.js": b"x",
    }
    for name, data in mine.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    page = fitted.result().report(tmp_path / "elsewhere.html")
    assert "<html" in page.read_text()
    found = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {page, *(tmp_path / name for name in mine)}
    assert all((tmp_path / name).read_bytes() == data for name, data in mine.items())
    with pytest.raises(OutputError, match=r"notes-data holds a\.js, which is not of a report"):
        fitted.result().report(tmp_path / "notes.html")
    assert not (tmp_path / "notes.html").exists()
    # Where the page does not hold all data itself, they are in a folder of its own.
    monkeypatch.setattr(blocks, "INLINE_BYTES", 0)
    for name in ("one", "other", "one"):
        page = fitted.result().report(tmp_path / f"{name}.html")
        assert f'data-folder="{name}-data"' in page.read_text()
        assert (tmp_path / f"{name}-data" / "index.js").is_file()


def test_what_cannot_be_used_is_said_in_one_line():
    features, given, _ = blobs(30)
    with pytest.raises(OptionError, match="requires y"):
        LabelAuditor().fit(features)
    with pytest.raises(OptionError, match="epochs"):
        LabelAuditor(epochs=0).fit(features, given)
    with pytest.raises(SourceError, match="30 rows and the source has 29"):
        LabelAuditor().fit(features, given[:-1])
    with pytest.raises(NotFittedError):
        LabelAuditor().result()
    for wrong in (features[:, 0], np.full_like(features, np.nan), features[:0], features * 1j):
        with pytest.raises(SourceError) as caught:
            LabelAuditor().fit(wrong, given[: len(wrong)])
        assert "\n" not in str(caught.value)


def test_a_fitted_auditor_survives_pickle(fitted):
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.suspect_score_, fitted.suspect_score_)
    images = torch.from_numpy(fitted.audited_.plan.inputs.store)
    ours, theirs = fitted.method_.predict(images), copy.method_.predict(images)
    torch.testing.assert_close(ours.guider_probs, theirs.guider_probs, rtol=0, atol=0)
