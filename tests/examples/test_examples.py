import importlib.util
from pathlib import Path

import torch
from torchvision import models

EXAMPLES = Path(__file__).parents[2] / "examples"


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_your_own_loop_ranks_planted_errors_above_chance(capsys):
    auroc = load("your_own_loop").main(epochs=8)
    assert auroc > 0.9
    assert "8 epochs recorded" in capsys.readouterr().out


def test_arrays_in_a_notebook_finds_planted_errors(capsys):
    result = load("arrays_in_a_notebook").main(epochs=12)
    assert 60 < result.summary["num_suspects"] < 400  # 180 are wrong
    assert "sample_id" in capsys.readouterr().out


def test_photos_with_a_backbone_finds_planted_errors(capsys, tmp_path, monkeypatch):
    """Random weights, for there is no network to fetch others: features are better than none."""
    monkeypatch.setenv("LABELAUDIT_CACHE", str(tmp_path / "cache"))
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), tmp_path / "resnet18.pth")
    main = load("photos_with_a_backbone").main
    found = main("resnet18", tmp_path / "resnet18.pth", image_size=64, epochs=20)
    assert found > 0.4  # 0.125 by chance
    assert "worst suspects are wrong" in capsys.readouterr().out


def test_embeddings_from_elsewhere_finds_planted_errors(capsys):
    result = load("embeddings_from_elsewhere").main(epochs=8)
    assert result.summary["metrics"]["f1"] > 0.8
    assert "digit " in capsys.readouterr().out


def test_texts_finds_planted_errors_and_shows_texts(capsys, tmp_path):
    result = load("texts").main(out=tmp_path / "run", epochs=15)
    assert result.summary["metrics"]["auroc"] > 0.8
    assert "letter-" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "labels flagged" in capsys.readouterr().out


def test_a_table_finds_planted_errors(capsys):
    result = load("a_table").main(epochs=15)
    assert result.summary["metrics"]["f1"] > 0.7
    assert "ward: category" in capsys.readouterr().out


def test_your_own_predictions_find_planted_errors(capsys):
    issues = load("your_own_predictions").main()
    assert 150 < issues["is_label_issue"].sum() < 230  # 180 are wrong
    assert issues.summary["mistakes"]["follow_nothing"] > 0.5
    assert "of the flagged labels are truly wrong" in capsys.readouterr().out


def test_every_example_is_run_by_a_test():
    tested = Path(__file__).read_text()
    for example in EXAMPLES.glob("*.py"):
        assert f'load("{example.stem}")' in tested, example.name


def test_correct_labels_leaves_fewer_wrong_ones(capsys, tmp_path):
    before, after = load("correct_labels").main(tmp_path / "loop")
    assert before == 179
    assert after < 100
    assert "still suspect" in capsys.readouterr().out
