"""Plots: files that show something, from any amount of data, without touching global state."""

import threading
import warnings
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import OutputError
from labelaudit.reporting.history import spread_epochs
from labelaudit.reporting.plots.class_pairs import plot_class_pairs
from labelaudit.reporting.plots.detection import plot_precision_recall, plot_review
from labelaudit.reporting.plots.embedding import plot_embedding
from labelaudit.reporting.plots.epsilon import plot_epsilon

HOSTILE_NAMES = ["$x^2$ $\\frac", "_background", "", "a\nb", "W" * 300, "猫🐈\x07", "שלום", "%s {}"]


class FakeHistory:
    """ε that grows for some samples; counts the epochs that are read."""

    def __init__(self, num_labeled: int, num_epochs: int, value: float | None = None) -> None:
        self.epochs = list(range(1, num_epochs + 1))
        self.num_labeled = num_labeled
        self.value = value
        self.reads: list[int] = []

    def read(self, epoch: int) -> dict[str, np.ndarray]:
        self.reads.append(epoch)
        grown = np.linspace(0, 0.3, self.num_labeled) * epoch / len(self.epochs)
        if self.value is not None:
            grown[:] = self.value
        epsilon = grown.astype(np.float32)
        return {"epsilon": epsilon, "learner_prob": epsilon, "guider_prob": 1 - epsilon}


def make_samples(names: list[str], count: int, flagged: int) -> pd.DataFrame:
    codes = np.arange(count)
    array = np.array(names, dtype=object)
    return pd.DataFrame(
        {
            "given_label": array[codes % len(names)],
            "suggested_label": array[(codes + 1) % len(names)],
            "predicted_label": array[(codes + 1) % len(names)],
            "is_label_issue": codes < flagged,
        }
    )


def check_png(path: Path) -> np.ndarray:
    """The file is a picture of some size, on white, with something drawn; return its pixels."""
    with Image.open(path) as image:
        assert image.format == "PNG"
        image = image.convert("RGB")
        colors = image.getcolors(maxcolors=image.width * image.height)
        pixels = np.asarray(image)
    assert min(pixels.shape[:2]) > 200
    assert max(pixels.shape[:2]) < 2500
    assert pixels[2, 2].tolist() == [255, 255, 255]
    assert len(colors) > 5
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    return pixels


@pytest.fixture(autouse=True)
def _no_warnings() -> object:
    """What Matplotlib, scikit-learn or NumPy warn of is a fault of the plot."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.parametrize("truth", [False, True])
@pytest.mark.parametrize("wrong", [0, 3, 400])
def test_review_plot(tmp_path: Path, wrong: int, truth: bool) -> None:
    looked = [1, 2, 5, 10, 100, 500, 1000]
    found = [min(float(n), float(wrong)) for n in looked]
    curve = [
        {"reviewed": n, "expected_found": f, "expected_share": 1.0}
        for n, f in zip(looked, found, strict=True)
    ]
    to_find = {"0.5": wrong // 2, "0.9": wrong, "0.99": wrong} if wrong else None
    path = tmp_path / "review.png"
    known = np.arange(1000) < wrong if truth else None
    plot_review({"curve": curve, "to_find": to_find}, wrong, path, known)
    check_png(path)


@pytest.mark.parametrize(("epochs", "most"), [(1, 5), (5, 5), (6, 5), (350, 48), (9, 1)])
def test_spread_epochs_keeps_the_ends(epochs: int, most: int) -> None:
    chosen = spread_epochs(range(1, epochs + 1), most)

    assert len(chosen) == min(epochs, most)
    assert chosen == sorted(set(chosen))
    assert chosen[-1] == epochs
    assert chosen[0] == 1 or most == 1


@pytest.mark.parametrize(("epochs", "truth"), [(1, True), (2, False), (9, True), (100, False)])
def test_epsilon_plot(tmp_path: Path, epochs: int, truth: bool) -> None:
    history = FakeHistory(60, epochs)
    mask = np.arange(60) >= 45

    plot_epsilon(history, tmp_path / "p.png", mask if truth else None, mask)

    check_png(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("history", "flagged"),
    [
        pytest.param(FakeHistory(60, 3), np.zeros(60, bool), id="zero suspects"),
        pytest.param(FakeHistory(60, 3), np.ones(60, bool), id="nothing but suspects"),
        pytest.param(FakeHistory(1, 1), np.ones(1, bool), id="one sample"),
        pytest.param(FakeHistory(9, 12, value=0.0), np.arange(9) < 3, id="all zero"),
        pytest.param(FakeHistory(9, 12, value=1.0), np.arange(9) < 3, id="all one"),
        pytest.param(FakeHistory(9, 2, value=np.nan), np.arange(9) < 3, id="not a number"),
        pytest.param(FakeHistory(9, 0), np.arange(9) < 3, id="no epoch"),
        pytest.param(FakeHistory(0, 2), np.zeros(0, bool), id="no label"),
    ],
)
def test_epsilon_plot_of_odd_data(
    tmp_path: Path, history: FakeHistory, flagged: np.ndarray
) -> None:
    plot_epsilon(history, tmp_path / "p.png", None, flagged)

    check_png(tmp_path / "p.png")


def test_epsilon_plot_reads_a_bounded_number_of_epochs_once(tmp_path: Path) -> None:
    history = FakeHistory(20, 350)

    plot_epsilon(history, tmp_path / "p.png", None, np.arange(20) < 5)

    assert len(history.reads) == len(set(history.reads)) == 100
    assert history.reads[-1] == 350


@pytest.mark.parametrize(
    ("num_classes", "flagged"),
    [(2, 1), (2, 0), (10, 150), (10, 0), (30, 150), (100, 0), (100, 150)],
)
def test_class_pairs_plot(tmp_path: Path, num_classes: int, flagged: int) -> None:
    names = [f"class {number}" for number in range(num_classes)]

    plot_class_pairs(make_samples(names, 200, flagged), names, tmp_path / "p.png")

    check_png(tmp_path / "p.png")


def test_class_pairs_plot_of_one_class_and_of_unlabeled_images(tmp_path: Path) -> None:
    samples = make_samples(["only"], 5, 2)
    samples.loc[1:, ["given_label", "suggested_label"]] = None

    plot_class_pairs(samples, ["only"], tmp_path / "p.png")

    check_png(tmp_path / "p.png")


def test_class_pairs_plot_marks_the_frequent_pair(tmp_path: Path) -> None:
    """The one pair that is confused has the darkest color; without suspects there is none."""
    names = ["cat", "dog", "owl"]
    samples = make_samples(names, 90, 90)
    (tmp_path / "some").mkdir()
    (tmp_path / "none").mkdir()

    plot_class_pairs(samples[samples["given_label"] == "cat"], names, tmp_path / "some" / "p.png")
    plot_class_pairs(samples.assign(is_label_issue=False), names, tmp_path / "none" / "p.png")

    darkest = np.array([0x7A, 0x2E, 0x00])
    assert (check_png(tmp_path / "some" / "p.png") == darkest).all(axis=2).mean() > 0.005
    assert not (check_png(tmp_path / "none" / "p.png") == darkest).all(axis=2).any()


@pytest.mark.parametrize(
    ("score", "wrong", "threshold"),
    [
        pytest.param(np.linspace(0, 1, 50), np.arange(50) > 35, 0.5, id="usual"),
        pytest.param(np.linspace(0, 1, 50), np.arange(50) > 35, 1.0, id="nothing flagged"),
        pytest.param(np.full(8, 0.5), np.arange(8) > 3, 0.0, id="all the same"),
        pytest.param(np.linspace(0, 1, 5), np.zeros(5, bool), 0.5, id="none wrong"),
        pytest.param(np.linspace(0, 1, 5), np.ones(5, bool), 0.5, id="all wrong"),
        pytest.param(np.r_[np.nan, 0.1, 0.9], np.array([True, False, True]), 0.5, id="unlabeled"),
        pytest.param(np.zeros(0), np.zeros(0, bool), 0.5, id="no label"),
    ],
)
def test_precision_recall_plot(
    tmp_path: Path, score: np.ndarray, wrong: np.ndarray, threshold: float
) -> None:
    plot_precision_recall(score, wrong, threshold, tmp_path / "p.png")

    check_png(tmp_path / "p.png")


def test_precision_recall_plot_marks_what_was_flagged(tmp_path: Path) -> None:
    """A label on the threshold is flagged by some rules and not by others."""
    score, wrong = np.array([0.0, 0.0, 0.5, 1.0]), np.array([False, False, True, True])
    pictures = []
    for number, flagged in enumerate([None, score > 0.5, score >= 0.5]):
        folder = tmp_path / str(number)
        folder.mkdir()
        plot_precision_recall(score, wrong, 0.5, folder / "p.png", flagged)
        pictures.append(check_png(folder / "p.png"))

    assert np.array_equal(pictures[0], pictures[1])
    assert not np.array_equal(pictures[0], pictures[2])


@pytest.mark.parametrize(
    ("count", "width", "num_classes", "flagged"),
    [(1, 4, 2, 0), (2, 4, 2, 2), (4, 1, 2, 1), (6, 3, 2, 1), (50, 8, 10, 9), (90, 64, 40, 0)],
)
def test_embedding_plot(
    tmp_path: Path, count: int, width: int, num_classes: int, flagged: int
) -> None:
    names = [f"class {number}" for number in range(num_classes)]
    embeddings = np.random.default_rng(0).normal(size=(count, width)).astype(np.float32)

    plot_embedding(embeddings, make_samples(names, count, flagged), tmp_path / "p.png", seed=0)

    check_png(tmp_path / "p.png")


@pytest.mark.parametrize(
    "embeddings",
    [
        pytest.param(np.ones((40, 5), np.float32), id="constant"),
        pytest.param(np.zeros((40, 0), np.float32), id="no width"),
        pytest.param(np.repeat(np.eye(2, 5, dtype=np.float32), 20, axis=0), id="two places"),
        pytest.param(np.full((40, 5), np.nan, np.float32), id="not a number"),
        pytest.param(1e30 * np.eye(40, 5, dtype=np.float32), id="huge"),
    ],
)
def test_embedding_plot_of_odd_embeddings(tmp_path: Path, embeddings: np.ndarray) -> None:
    plot_embedding(embeddings, make_samples(["a", "b"], 40, 3), tmp_path / "p.png", seed=0)

    check_png(tmp_path / "p.png")


@pytest.mark.parametrize(("flagged", "expected"), [(3, 3), (100, 10), (400, 20), (2000, 100)])
def test_embedding_plot_takes_a_fair_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flagged: int, expected: int
) -> None:
    """Suspects get their share of 100 points, but at least a tenth, or all of them."""
    taken: list[np.ndarray] = []

    def keep(points: np.ndarray, seed: int) -> None:
        taken.append(points[:, 0])

    monkeypatch.setattr("labelaudit.reporting.plots.embedding._map_to_plane", keep)
    embeddings = np.stack([np.arange(2000), np.zeros(2000)], axis=1)
    samples = make_samples(["a", "b"], 2000, flagged)

    for seed in (0, 0, 1):
        plot_embedding(embeddings, samples, tmp_path / "p.png", seed=seed, max_points=100)

    assert [len(part) for part in taken] == [100, 100, 100]
    assert [int((part < flagged).sum()) for part in taken] == [expected] * 3
    assert np.array_equal(taken[0], taken[1])
    assert not np.array_equal(taken[0], taken[2])


def test_hostile_names_are_drawn_as_text(tmp_path: Path) -> None:
    samples = make_samples(HOSTILE_NAMES, 80, 60)
    embeddings = np.random.default_rng(0).normal(size=(80, 4))

    plot_class_pairs(samples, HOSTILE_NAMES, tmp_path / "p.png")
    check_png(tmp_path / "p.png")
    plot_embedding(embeddings, samples, tmp_path / "p.png", seed=0)
    check_png(tmp_path / "p.png")


def draw_pairs(path: Path) -> None:
    plot_class_pairs(make_samples(["cat", "dog"], 20, 5), ["cat", "dog"], path)


def draw_epsilon(path: Path) -> None:
    plot_epsilon(FakeHistory(20, 3), path, None, np.arange(20) < 5)


@pytest.mark.parametrize("draw", [draw_pairs, draw_epsilon])
def test_plots_are_the_same_under_a_dark_style_and_leave_it_alone(
    tmp_path: Path, draw: Callable[[Path], None]
) -> None:
    draw(tmp_path / "p.png")
    plain = check_png(tmp_path / "p.png")
    dark = {"figure.facecolor": "k", "axes.facecolor": "k", "text.color": "w", "axes.grid": True}
    dark |= {"axes.labelcolor": "w", "xtick.color": "w", "axes.edgecolor": "w"}
    with mpl.rc_context(dark):
        before = dict(mpl.rcParams)
        draw(tmp_path / "p.png")
        assert dict(mpl.rcParams) == before

    assert np.array_equal(check_png(tmp_path / "p.png"), plain)


def test_plots_can_be_drawn_in_threads(tmp_path: Path) -> None:
    draw_pairs(tmp_path / "alone.png")
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    threads = [threading.Thread(target=draw_pairs, args=(path,)) for path in paths]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {path.read_bytes() for path in paths} == {(tmp_path / "alone.png").read_bytes()}


def test_a_plot_that_cannot_be_written_is_an_error_for_people(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        draw_pairs(tmp_path / "no such folder" / "p.png")
