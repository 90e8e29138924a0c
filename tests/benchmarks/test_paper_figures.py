"""The figures of the paper: sweeps are read, spaces are measured, and pictures are drawn."""

import importlib
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import SourceError


@pytest.fixture(scope="module")
def figures():
    return importlib.import_module("paper_figures")


def write_sweep(folder: Path, epochs: int, seeds: tuple[int, ...], method: str = "umn") -> Path:
    folder.mkdir()
    rows = [
        ("symmetric", rate, seed, method, epoch, 0.5 - 0.01 * epoch)
        for rate in (0.2, 0.3) for seed in seeds for epoch in range(1, epochs + 1)
    ]  # fmt: skip
    columns = ["noise", "rate", "seed", "method", "epoch", "test_error"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "curves.csv", index=False)
    (folder / "settings.json").write_text(json.dumps({"limit": 50_000}))
    return folder


def test_the_longest_curves_of_all_sweeps_are_kept(figures, tmp_path):
    folders = [
        write_sweep(tmp_path / "short", 3, (100, 101)),
        write_sweep(tmp_path / "long", 7, (100,)),
        write_sweep(tmp_path / "again", 3, (102,)),
        write_sweep(tmp_path / "rival", 5, (100, 101), "supervised"),
    ]
    curves = figures.read_sweeps(folders)
    assert curves.groupby("method")["epoch"].max().to_dict() == {"supervised": 5, "umn": 7}
    assert curves.groupby("method")["seed"].unique().map(list).to_dict() == {
        "supervised": [100, 101], "umn": [100],
    }  # fmt: skip
    table = figures.curve_table(curves)
    assert table[2] == "| umn | 7 | 50,000 | 1 | 0.430, 0.430 | 0.430, 0.430 |"
    assert len({line.count("|") for line in table}) == 1


def test_a_folder_without_curves_is_named(figures, tmp_path):
    with pytest.raises(SourceError, match=r"holds no curves\.csv; run the sweep with --curves"):
        figures.read_sweeps([tmp_path])


def test_spaces_are_measured_by_other_images(figures):
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(3), 40)
    apart = figures.measure_space(10 * np.eye(3)[classes] + rng.normal(size=(120, 3)), classes)
    assert apart["neighbors"] == 1
    assert apart["silhouette"] > 0.7
    mixed = figures.measure_space(rng.normal(size=(120, 3)), classes)
    assert mixed["neighbors"] < 0.6  # an image is not its own neighbor
    assert abs(mixed["silhouette"]) < 0.1


def test_pictures_are_drawn(figures, tmp_path, monkeypatch):
    pictures = importlib.import_module("paper_pictures")
    monkeypatch.setattr(pictures, "DPI", 30)  # for speed
    rng = np.random.default_rng(0)
    classes = np.repeat(np.arange(10), 6)
    given = np.where(np.arange(60) % 3, -1, np.where(np.arange(60) % 2, classes, 9 - classes))
    space = pictures.Space("UMN", "a note", rng.uniform(-1, 1, (60, 2)), classes, given)
    assert space.wrong.sum() == 10
    pictures.draw_spaces([space, space], "Spaces", "What was trained", tmp_path / "spaces.png")
    wrong = np.arange(50) < 10
    epsilon = {1: rng.random(50) ** 4, 4: np.zeros(50)}
    pictures.draw_epsilon(epsilon, wrong, np.full(4, 0.7), "A note", tmp_path / "epsilon.png")
    for name in ("spaces.png", "epsilon.png"):
        image = np.asarray(Image.open(tmp_path / name).convert("RGB"))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10


def test_every_epsilon_is_in_a_bin(figures):
    pictures = importlib.import_module("paper_pictures")
    epsilon = np.array([0, 1.5e-45, 1e-44, 0.6, 1], dtype=np.float32)
    shares = pictures.epsilon_shares(epsilon)
    assert shares.sum() == pytest.approx(1)
    assert shares[0] == pytest.approx(0.2)  # only what is exactly 0
    assert shares[1] == pytest.approx(0.4)
    assert shares[-1] == pytest.approx(0.4)


def test_epsilon_is_described_by_right_and_wrong_labels(figures):
    epsilon = np.array([0.4, 0.0, 0.0, 1e-7, 0.2], dtype=np.float32)
    guider_prob = np.array([0.5, 1.0, 0.99, 0.01, 0.2], dtype=np.float32)
    wrong = np.array([False, False, True, True, True])
    words = figures.epsilon_words(epsilon, guider_prob, wrong)
    # Three labels are flagged by the rule, two of them rightly, and one wrong label is missed.
    assert words == ["0.2", "1e-07", "50%", "67%", "0.67", "33%"]


def test_numbers_go_into_their_block_of_the_page(figures, tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    text = "a\n<!-- figure 5 -->\nold\n<!-- end of figure 5 -->\nb\n"
    page.write_text(text)
    monkeypatch.setattr(figures, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["x", "figure5", "/some/mnist", "--work", "/some/work"])
    figures.write_numbers("figure 5", ["| new |"])
    written = page.read_text()
    assert written.startswith("a\n<!-- figure 5 -->\n| new |\n")
    assert "`python benchmarks/paper_figures.py figure5 mnist --work work`, commit " in written
    assert written.endswith("<!-- end of figure 5 -->\nb\n")


def test_the_page_has_a_picture_and_numbers_for_each_figure(figures):
    text = figures.PAGE.read_text(encoding="utf-8")
    for name in ("3", "4a", "4b", "5"):
        picture = figures.PICTURES / f"paper-figure{name}.png"
        assert picture.name in text
        assert picture.stat().st_size < 200_000
        block = re.search(f"<!-- figure {name} -->(.*)<!-- end of figure {name} -->", text, re.S)
        assert block is not None
        assert "`python benchmarks/paper_figures.py figure" in block[1]
