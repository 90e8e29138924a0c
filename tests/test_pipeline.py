import json
import re
import shutil
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

import labelaudit
from labelaudit import EpsilonHistory, OptionError, OutputError, SourceError, version
from labelaudit.audit import fitting
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.methods.umn import UMN
from labelaudit.scan_summary import show_scan
from labelaudit.sources.arrays import source_from_arrays
from labelaudit.training.compiled import CompiledLoss
from labelaudit.training.loop import measure_step

FAST = {"epochs": 3, "device": "cpu"}


@pytest.fixture(scope="session")
def run(digit_files, tmp_path_factory):
    """One whole scan of files, shared by the tests that look at what it wrote."""
    out = tmp_path_factory.mktemp("run") / "run"
    return labelaudit.scan(
        digit_files / "images",
        digit_files / "labels.csv",
        clean_label_column="clean",
        out=out,
        epochs=25,
        device="cpu",
        seed=3,
    )


def test_planted_errors_are_found(run):
    metrics = run.summary["metrics"]
    assert metrics["num_wrong"] == 120
    assert metrics["auroc"] > 0.97
    assert metrics["f1"] > 0.85
    assert run.summary["trust"]["trustworthy"]


def test_suggestions_are_mostly_right_for_true_errors(run):
    wrong = run.suspects[run.suspects["clean_label"] != run.suspects["given_label"]]
    assert (wrong["suggested_label"] == wrong["clean_label"]).mean() > 0.85
    assert (run.suspects["suggested_label"] != run.suspects["given_label"]).all()


def test_every_file_is_there_and_agrees(run):
    folder = run.run_dir
    assert {p.name for p in folder.iterdir()} == {
        "suspects.csv", "samples.parquet", "pred_probs.npy", "embeddings.npy", "epsilon",
        "summary.json", "plots", "report.html", "report-data", "model.pt", "labelaudit.json",
    }  # fmt: skip
    samples = pd.read_parquet(folder / "samples.parquet")
    assert samples["sample_id"].tolist() == [f"{row:03d}.png" for row in range(600)]
    probs, embeddings = np.load(folder / "pred_probs.npy"), np.load(folder / "embeddings.npy")
    assert probs.shape == (600, 10)
    assert len(embeddings) == 600
    np.testing.assert_allclose(probs.sum(1), 1, rtol=1e-4)
    names = np.array(run.summary["class_names"])
    assert (names[probs.argmax(1)] == samples["predicted_label"]).all()

    suspects = labelaudit.read_csv(folder / "suspects.csv")
    assert suspects.columns[:11].tolist() == [
        "rank", "sample_id", "path", "given_label", "suggested_label", "decision", "corrected_label",
        "suspect_score", "label_score", "is_label_issue", "ambiguity",
    ]  # fmt: skip
    assert {"suggested_prob", "epsilon_mean"} <= set(suspects.columns)
    assert suspects["rank"].is_monotonic_increasing
    assert suspects["suspect_score"].is_monotonic_decreasing
    assert suspects["is_label_issue"].all()
    assert len(suspects) == run.summary["num_suspects"] == samples["is_label_issue"].sum()
    np.testing.assert_allclose(suspects["label_score"], 1 - suspects["suspect_score"])

    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert summary == run.summary
    assert set(summary) >= {
        "num_samples", "num_labeled", "num_unlabeled", "num_classes", "num_suspects",
        "estimated_noise_rate", "threshold", "metrics", "per_class", "config", "seed", "versions",
        "device", "seconds",
    }  # fmt: skip
    assert set(summary["threshold"]) == {"value", "rule", "explanation"}
    assert sum(c["num_suspects"] for c in summary["per_class"]) == summary["num_suspects"]


def test_metrics_are_those_of_the_samples_written(run):
    samples = run.samples
    wrong = samples["clean_label"] != samples["given_label"]
    assert run.summary["metrics"]["auroc"] == pytest.approx(
        roc_auc_score(wrong, samples["suspect_score"])
    )


def test_history_holds_every_epoch_and_the_last_is_in_the_tables(run):
    history = EpsilonHistory(run.run_dir / "epsilon")
    assert history.epochs == list(range(1, 26))
    assert history.sample_ids() == run.samples["sample_id"].tolist()
    last = history.read(25)
    np.testing.assert_allclose(last["epsilon"], run.samples["epsilon"], rtol=1e-6)
    mean = np.mean([part["epsilon"] for _, part in history], axis=0)
    np.testing.assert_allclose(mean, run.samples["epsilon_mean"], rtol=1e-5)


def test_model_reads_with_weights_only_and_predicts_the_same(run):
    saved = torch.load(run.run_dir / "model.pt", weights_only=True)
    assert saved["class_names"] == run.summary["class_names"]
    method = UMN.from_portable(saved)
    pixels = np.stack([np.asarray(Image.open(p)) for p in run.samples["path"].head(20)])
    seen = method.predict(torch.from_numpy(pixels)[:, None].float() / 255)
    np.testing.assert_allclose(seen.guider_probs.numpy(), run.pred_probs[:20], atol=1e-5)


def test_the_same_seed_gives_the_same_suspects(noisy_digits, tmp_path):
    images, labels, _ = noisy_digits
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        labelaudit.scan(images, labels, out=tmp_path / name, seed=seed, threshold="top:50", **FAST)
    texts = [(tmp_path / name / "suspects.csv").read_text() for name in "abc"]
    assert texts[0] == texts[1]
    assert texts[0] != texts[2]


def test_a_killed_run_resumes_to_its_twin(noisy_digits, tmp_path, killed_in_third_epoch):
    images, labels, _ = noisy_digits
    settings = {"epochs": 4, "device": "cpu", "threshold": "top:50"}
    whole = labelaudit.scan(images, labels, out=tmp_path / "whole", **settings)

    with killed_in_third_epoch():
        labelaudit.scan(images, labels, out=tmp_path / "cut", **settings)
    assert not (tmp_path / "cut" / "suspects.csv").exists()
    with pytest.raises(OutputError, match="`resume=True`"):
        labelaudit.scan(images, labels, out=tmp_path / "cut", **settings)
    with pytest.raises(OutputError, match="other settings"):
        labelaudit.scan(images, labels, out=tmp_path / "cut", resume=True, seed=9, **settings)
    resumed = labelaudit.scan(images, labels, out=tmp_path / "cut", resume=True, **settings)

    assert resumed.summary["epochs"] == 4
    pd.testing.assert_frame_equal(resumed.samples, whole.samples)
    pd.testing.assert_frame_equal(resumed.history.frame(), whole.history.frame())


def test_ctrl_c_leaves_the_ranking_so_far(noisy_digits, tmp_path, monkeypatch):
    images, labels, _ = noisy_digits
    step, steps = UMN.step, []

    def impatient_step(self, batch):
        steps.append(1)
        if len(steps) == 7 + 75:
            raise KeyboardInterrupt
        return step(self, batch)

    monkeypatch.setattr(UMN, "step", impatient_step)
    result = labelaudit.scan(images, labels, out=tmp_path / "run", device="cpu", epochs=20)
    assert result.summary["status"] == "interrupted"
    assert result.summary["epochs"] == 2
    assert (tmp_path / "run" / "suspects.csv").exists()
    assert result.samples["suspect_score"].notna().all()


def test_ctrl_c_before_the_first_epoch_leaves_nothing(noisy_digits, tmp_path, monkeypatch):
    images, labels, _ = noisy_digits

    def impatient_step(self, batch):
        raise KeyboardInterrupt

    monkeypatch.setattr(UMN, "step", impatient_step)
    with pytest.raises(KeyboardInterrupt):
        labelaudit.scan(images, labels, out=tmp_path / "run", **FAST)
    assert list(tmp_path.iterdir()) == []


def test_unlabeled_images_get_predictions_and_no_score(noisy_digits):
    images, labels, clean = noisy_digits
    labels = labels.copy()
    labels[100:] = -1
    result = labelaudit.scan(
        source_from_arrays(images, labels, clean_labels=clean), epochs=30, device="cpu"
    )
    samples = result.samples
    assert result.summary["num_unlabeled"] == 500
    assert result.summary["score"]["name"] == "neighbors and label model"
    assert samples["predicted_label"].notna().all()
    assert samples.loc[100:, ["given_label", "suspect_score", "rank"]].isna().all(axis=None)
    assert not samples.loc[100:, "is_label_issue"].any()
    accuracy = (samples["predicted_label"] == samples["clean_label"])[100:].mean()
    assert accuracy > 0.6
    assert result.summary["trust"]["trustworthy"]
    assert result.summary["metrics"]["auroc"] > 0.85


def test_labels_without_meaning_are_not_to_be_trusted():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (300, 8, 8)).astype(np.uint8)
    result = labelaudit.scan(images, rng.integers(0, 3, 300), epochs=8, device="cpu")
    assert not result.summary["trust"]["trustworthy"]
    assert any("chance" in reason for reason in result.summary["trust"]["reasons"])


@pytest.mark.filterwarnings("ignore::labelaudit.UntrustedResultWarning")
def test_a_scan_from_the_source_tree_needs_no_installation(noisy_digits, tmp_path, monkeypatch):
    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr(version, "version", missing)
    images, labels, _ = noisy_digits
    result = labelaudit.scan(images, labels, out=tmp_path / "run", **FAST)
    assert result.summary["versions"]["labelaudit"] == "unknown"
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["status"] == "complete"


def test_a_network_that_did_not_learn_says_so_first_of_all(noisy_digits, tmp_path, capsys):
    images, labels, _ = noisy_digits
    with pytest.warns(labelaudit.UntrustedResultWarning, match="The network did not learn"):
        result = labelaudit.scan(images, labels, epochs=2, device="cpu", out=tmp_path / "run")
    assert result.summary["trust"]["reasons"][0].startswith("The network did not learn")
    assert not pd.read_csv(tmp_path / "run" / "suspects.csv")["trusted"].any()
    show_scan(result)
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("Do not trust this ranking. The network did not learn the classes")
    assert "The network did not learn" in (tmp_path / "run" / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_many_wrong_labels_are_no_reason_for_distrust(noisy_digits):
    images, _, clean = noisy_digits
    result = labelaudit.scan(images, corrupt_symmetric(clean, 0.6, 10, 0), device="cpu")
    assert result.summary["trust"]["trustworthy"]


def test_the_papers_rule_is_there(noisy_digits):
    images, labels, _ = noisy_digits
    result = labelaudit.scan(images, labels, score="epsilon", threshold="0", **FAST)
    np.testing.assert_allclose(result.samples["suspect_score"], result.samples["epsilon"])
    assert result.summary["num_suspects"] == (result.samples["epsilon"] > 0).sum()


def test_clean_labels_do_not_change_training(noisy_digits):
    images, labels, clean = noisy_digits
    given = [f"digit {label}" for label in labels]
    seen = labelaudit.scan(source_from_arrays(images, given), **FAST)
    truth = [f"digit {label}" for label in clean]
    truth[0] = "a class that no given label names"
    scored = labelaudit.scan(source_from_arrays(images, given, clean_labels=truth), **FAST)
    np.testing.assert_array_equal(seen.pred_probs, scored.pred_probs)
    assert scored.summary["num_classes"] == 10
    assert scored.samples["clean_label"][0] == "a class that no given label names"


def test_unreadable_images_are_skipped_and_listed(digit_files, tmp_path):
    source = tmp_path / "source"
    shutil.copytree(digit_files, source)
    good = (source / "images" / "007.png").read_bytes()
    (source / "images" / "007.png").write_bytes(good[: len(good) // 2])
    result = labelaudit.scan(source / "images", source / "labels.csv", out=tmp_path / "run", **FAST)
    assert result.summary["num_samples"] == 599
    assert "007.png" not in set(result.samples["sample_id"])
    skipped = labelaudit.read_csv(tmp_path / "run" / "skipped.csv")
    assert skipped["sample_id"].tolist() == ["007.png"]
    assert skipped["reason"][0]
    assert any("could not be read" in warning for warning in result.summary["warnings"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "`epochs`"),
        ({"batch_size": 1}, "`batch_size`"),
        ({"seed": -1}, "`seed`"),
        ({"time_budget": 0}, "`time_budget`"),
        ({"threshold": "most"}, "threshold"),
        ({"score": "margin"}, "score"),
        ({"encoder": "vgg"}, "unknown encoder"),
        ({"weights": "w.pth"}, "name the pretrained network with `encoder`"),
        ({"encoder": "mlp", "weights": "w.pth"}, "`encoder` is mlp"),
        ({"encoder": "resnet18", "weights": "none.pth"}, "does not exist"),
        ({"encoder": "resnet18", "weights": "w.pth", "flip": True}, "`flip`"),
        ({"id_column": "id"}, "`id_column`"),
        ({"encoder": "conv13"}, "conv13"),
        ({"device": "tpu0"}, "`device='auto'`"),
    ],
)
def test_bad_options_are_told_and_nothing_is_written(noisy_digits, tmp_path, settings, message):
    images, labels, _ = noisy_digits
    with pytest.raises(OptionError, match=message):
        labelaudit.scan(images, labels, out=tmp_path / "run", **settings)
    assert list(tmp_path.iterdir()) == []


def test_features_are_not_mirrored():
    features, labels = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
    with pytest.raises(OptionError, match="`flip` is for images"):
        labelaudit.scan(features, labels, flip=True)


def test_images_that_are_mirrored_in_training_are_audited(noisy_digits):
    images, labels, _ = noisy_digits
    plain, flipped = (labelaudit.scan(images, labels, flip=flip, **FAST) for flip in (False, True))
    assert flipped.summary["config"]["flip"]
    assert not np.allclose(plain.pred_probs, flipped.pred_probs)


def test_one_class_is_refused_and_nothing_is_written(noisy_digits, tmp_path):
    images, _, _ = noisy_digits
    with pytest.raises(SourceError, match="one class"):
        labelaudit.scan(images, np.zeros(len(images), int), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("encoder", [pytest.param("conv13", marks=pytest.mark.slow), "resnet18"])
def test_convolutional_encoders_train(encoder):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (24, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(24) % 2
    images[labels == 1, :16] //= 4  # something to learn
    result = labelaudit.scan(images, labels, encoder=encoder, epochs=1, device="cpu")
    assert np.isfinite(result.pred_probs).all()
    assert result.summary["encoder"]["name"] == encoder


def no_compiler(*_: object) -> None:
    raise RuntimeError("no compiler here")


@pytest.mark.parametrize(
    ("backend", "slower", "said"),
    [
        ("eager", False, "training uses it"),
        ("eager", True, "training does not use it"),
        (no_compiler, False, "the step is not compiled: .*no compiler here"),
    ],
)
def test_a_step_is_compiled_where_that_works_and_pays(
    noisy_digits, monkeypatch, lines, backend, slower, said
):
    images, labels, _ = noisy_digits
    plain = labelaudit.scan(images, labels, **FAST)
    compiled: list[UMN] = []

    def compile_by_backend(method: UMN) -> None:
        compiled.append(method)
        method.compiled = CompiledLoss(method.loss, {"backend": backend})

    def measure(method: UMN, *settings: object, **more: object) -> float:
        measure_step(method, *settings, **more)
        return float(slower == (method.compiled is not None))

    monkeypatch.setattr(UMN, "compile", compile_by_backend)
    monkeypatch.setattr(fitting, "measure_step", measure)
    result = labelaudit.scan(images, labels, compile=True, reporter=lines, **FAST)
    assert re.search(said, "\n".join(lines.said + lines.warned))
    assert len(compiled) == (2 if said == "training uses it" else 1)
    pd.testing.assert_frame_equal(result.samples, plain.samples)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for CPUs by g++")
def test_a_compiled_scan_finds_planted_errors(noisy_digits, monkeypatch, lines):
    images, labels, clean = noisy_digits
    monkeypatch.setattr(fitting, "measure_step", always_faster())
    source = source_from_arrays(images, labels, clean_labels=clean)
    result = labelaudit.scan(source, device="cpu", compile=True, reporter=lines)
    assert "training uses it" in "\n".join(lines.said)
    assert result.summary["metrics"]["auroc"] > 0.97


def always_faster() -> Callable[..., float]:
    """Give a `measure_step` that does its steps and says of each method that it is faster."""
    times = iter((2.0, 1.0))

    def measure(*settings: object, **more: object) -> float:
        measure_step(*settings, **more)
        return next(times)

    return measure


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_compiled_scan_on_a_gpu_finds_planted_errors(noisy_digits, lines):
    images, labels, clean = noisy_digits
    source = source_from_arrays(images, labels, clean_labels=clean)
    result = labelaudit.scan(source, device="cuda", compile=True, reporter=lines)
    assert "Compiled in" in "\n".join(lines.said)
    assert result.summary["metrics"]["auroc"] > 0.97


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_a_scan_on_a_gpu_finds_planted_errors(noisy_digits):
    images, labels, clean = noisy_digits
    result = labelaudit.scan(source_from_arrays(images, labels, clean_labels=clean), device="cuda")
    assert result.summary["metrics"]["auroc"] > 0.97


def test_a_result_that_cannot_be_trusted_warns_and_says_so(noisy_digits):
    images, labels, _ = noisy_digits
    shuffled = np.random.default_rng(0).permutation(labels)
    with pytest.warns(labelaudit.UntrustedResultWarning, match="do not trust this result"):
        result = labelaudit.scan(images, shuffled, epochs=2, device="cpu")
    assert not result.summary["trust"]["trustworthy"]
    assert "DO NOT TRUST THIS" in repr(result)
    assert not result.suspects["trusted"].any()
