"""Figures 3, 4 and 5 of the paper on MNIST, as pictures in docs/img.

    labelaudit eval MNIST --test test --protocol table1-mnist --curves --rate 0.2,0.3,0.4 --out SWEEP
    python benchmarks/paper_figures.py figure3 SWEEP [SWEEP ...]
    python benchmarks/paper_figures.py figure4a MNIST --work WORK
    python benchmarks/paper_figures.py figure4b MNIST --work WORK
    python benchmarks/paper_figures.py figure5 MNIST --work WORK

MNIST is a folder of parquet shards with a test split. Figure 3 is drawn from sweeps of `labelaudit
eval`, whatever methods, rates and numbers of epochs they hold. For Figures 4 and 5, networks are
trained. What they learned is kept in WORK, so that no finished training is repeated. A stopped one
continues. Each command writes pictures, and its numbers into docs/explanation/paper-figures.md.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from paper_pictures import Space, draw_epsilon, draw_spaces, map_to_plane
from paper_trainings import SUPERVISED_EPOCHS, Approach, Trained, Training, train
from provenance import commit
from sklearn.metrics import f1_score, roc_auc_score, silhouette_score
from sklearn.neighbors import KNeighborsClassifier

from labelaudit.benchmark.comparison import plot_curves
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.evaluation import limited, open_dataset
from labelaudit.benchmark.systems import METHODS
from labelaudit.errors import LabelauditError, SourceError
from labelaudit.files import atomic_write
from labelaudit.progress import Reporter
from labelaudit.reporting.history import spread_epochs
from labelaudit.reporting.tables import read_csv

DOCS = Path(__file__).parents[1] / "docs"
PAGE, PICTURES = DOCS / "explanation" / "paper-figures.md", DOCS / "img"
FIRST_SEED = 100  # smaller seeds chose the settings
POINTS, NEIGHBORS, SHOWN_EPOCHS = 3_000, 10, 5
SPACE_HEADS = (
    "| space | seeds | nearest neighbors right | silhouette | test error | wrong labels believed |"
    " right labels believed |",
    "|---|---|---|---|---|---|---|",
)


@dataclass(frozen=True)
class Request:
    """The size of the trainings, and where they are kept."""

    mnist: Path
    work: Path
    images: int
    epochs: int
    seeds: int

    def dataset(self) -> Dataset:
        """Read the images."""
        return limited(open_dataset(str(self.mnist), test="test"), self.images)

    def trained(self, dataset: Dataset, approach: Approach, rate: float) -> Iterator[Trained]:
        """Yield the result of each seed's training."""
        for seed in range(FIRST_SEED, FIRST_SEED + self.seeds):
            training = Training(approach, rate, self.images, self.epochs, seed)
            print(training.stem, flush=True)
            yield train(training, dataset, self.work, Reporter())

    def words(self, rate: float) -> str:
        """Describe the trainings."""
        return (
            f"MNIST: {self.images:,} training images, 100 labels, {rate:.0%} of them wrong,"
            f" {self.epochs} epochs"
        )


# --- Figure 3 -----------------------------------------------------------------------------------


def figure3(folders: Sequence[Path], rates: Sequence[float]) -> None:
    """Draw test error over epochs from sweeps."""
    curves = read_sweeps(folders)
    curves = curves[np.isclose(curves["rate"].to_numpy()[:, None], rates).any(axis=1)]
    if curves.empty:
        raise SourceError(f"the sweeps hold no curves at the rates {rates}; run them with --curves")
    sizes = [f"{int(size):,}" for size in sorted(curves["images"].dropna().unique())]
    note = f"MNIST: {' or '.join(sizes) or 'all'} training images, 100 labels"
    plot_curves(curves, PICTURES / "paper-figure3.png", note)
    write_numbers("figure 3", curve_table(curves))


def read_sweeps(folders: Iterable[Path]) -> pd.DataFrame:
    """Return the curves of all sweeps, with the number of training images of each.

    Of a method and a rate, only the seeds with the longest curves are kept, so that a mean is over the
    same seeds in every epoch. Raises SourceError if a folder holds no curves.
    """
    longest: dict[tuple[str, float], dict[int, pd.DataFrame]] = {}
    for folder in folders:
        if not (folder / "curves.csv").is_file():
            raise SourceError(f"{folder} holds no curves.csv; run the sweep with --curves")
        settings = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
        curves = read_csv(folder / "curves.csv").assign(images=settings["limit"])
        for (method, rate, seed), curve in curves.groupby(["method", "rate", "seed"]):
            seeds = longest.setdefault((method, rate), {})
            length = max(map(len, seeds.values()), default=0)
            if len(curve) > length:
                seeds.clear()
            if len(curve) >= length:
                seeds[seed] = curve
    order = list(METHODS)  # UMN first, so that methods have the same colors in every picture
    cells = sorted(longest, key=lambda cell: (cell[1], order.index(cell[0])))
    return pd.concat(
        [curve for cell in cells for curve in longest[cell].values()], ignore_index=True
    )


def curve_table(curves: pd.DataFrame) -> list[str]:
    """Return one row per method: the error at the end, and the lowest one on the way."""
    rates = sorted(curves["rate"].unique())
    heads = [f"{rate:.0%}: last epoch, lowest" for rate in rates]
    lines = [
        f"| method | epochs | images | seeds | {' | '.join(heads)} |",
        "|---" * (4 + len(rates)) + "|",
    ]
    for method, mine in curves.groupby("method", sort=False):
        cells = []
        for rate in rates:
            mean = mine[mine["rate"] == rate].groupby("epoch")["test_error"].mean()
            words = f"{mean.iloc[-1]:.3f}, {mean.min():.3f}" if len(mean) else "–"
            cells.append(words)
        images = ", ".join(f"{int(size):,}" for size in mine["images"].dropna().unique())
        lines.append(
            f"| {method} | {mine['epoch'].max()} | {images or 'all'} | {mine['seed'].nunique()} |"
            f" {' | '.join(cells)} |"
        )
    return lines


# --- Figures 4 and 5 ----------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class View:
    """The images of a picture as a trained network sees them; see `Space`."""

    embeddings: np.ndarray
    classes: np.ndarray
    given: np.ndarray


def explore(
    name: str, trained: Iterable[Trained], dataset: Dataset, view: Callable[[Trained], View]
) -> tuple[Space, str]:
    """Lay out the space of the first seed, and measure the spaces of all seeds for a row of a table."""
    measured, space = [], None
    for seen in trained:
        images = view(seen)
        found = measure_space(images.embeddings, images.classes)
        measured.append({**found, **measure_belief(seen, dataset)})
        if space is None:
            note = (
                f"nearest neighbors right: {found['neighbors']:.1%}; silhouette"
                f" {found['silhouette']:.2f}"
            )
            places = map_to_plane(images.embeddings, FIRST_SEED)
            space = Space(name, note, places, images.classes, images.given)
    assert space is not None
    values = [spread(np.array([one[key] for one in measured]), 3) for key in measured[0]]
    return space, f"| {name} | {len(measured)} | {' | '.join(values)} |"


def figure4a(request: Request) -> None:
    """Draw the test images in z_a with and without ε."""
    dataset = request.dataset()
    assert dataset.test_labels is not None
    total = len(dataset.test_labels)
    rows = np.sort(np.random.default_rng(FIRST_SEED).permutation(total)[:POINTS])
    classes = dataset.test_labels[rows]

    def view(seen: Trained) -> View:
        return View(seen.test_embeddings[rows], classes, np.full(len(rows), -1))

    approaches: dict[Approach, str] = {
        "semi-supervised": "Without ε (ε = 0)", "umn": "With ε (UMN)"
    }  # fmt: skip
    found = [
        explore(name, request.trained(dataset, approach, 0.3), dataset, view)
        for approach, name in approaches.items()
    ]
    title = f"z_a of {len(rows):,} test images (t-SNE)"
    path = PICTURES / "paper-figure4a.png"
    draw_spaces([space for space, _ in found], title, request.words(0.3), path)
    write_numbers("figure 4a", [*SPACE_HEADS, *(line for _, line in found)])


def figure4b(request: Request) -> None:
    """Draw the distribution of ε of right and of wrong labels over the epochs."""
    trained = list(request.trained(request.dataset(), "umn", 0.2))
    wrong = np.concatenate([seen.corruption.wrong for seen in trained])
    epochs = trained[0].history.epochs
    auroc = np.array([[roc_auc_score(seen.corruption.wrong, seen.history.read(epoch)["epsilon"])
                       for epoch in epochs] for seen in trained])  # fmt: skip
    shown = {
        epoch: {
            name: np.concatenate([seen.history.read(epoch)[name] for seen in trained])
            for name in ("epsilon", "guider_prob")
        }
        for epoch in spread_epochs(epochs, SHOWN_EPOCHS)
    }
    seeds = "1 seed" if len(trained) == 1 else f"{len(trained)} seeds"
    note = f"{request.words(0.2)}, {seeds}"
    epsilon = {epoch: values["epsilon"] for epoch, values in shown.items()}
    draw_epsilon(epsilon, wrong, auroc.mean(axis=0), note, PICTURES / "paper-figure4b.png")
    lines = [
        "| epoch | AUROC of ε | median ε, right labels | median ε, wrong labels |"
        " ε > 0, right labels | ε > 0, wrong labels | F1 of the rule ε > 0 |"
        " the guider believes, wrong labels |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for epoch, values in shown.items():
        lines.append(
            f"| {epoch} | {spread(auroc[:, epochs.index(epoch)], 2)}"
            f" | {' | '.join(epsilon_words(**values, wrong=wrong))} |"
        )
    write_numbers("figure 4b", lines)


def epsilon_words(epsilon: np.ndarray, guider_prob: np.ndarray, wrong: np.ndarray) -> list[str]:
    """Describe ε of right and of wrong labels after an epoch, ``(L,)`` each, for a row of a table."""
    return [
        *(f"{np.median(epsilon[mask]):.1g}" for mask in (~wrong, wrong)),
        *(f"{(epsilon[mask] > 0).mean():.0%}" for mask in (~wrong, wrong)),
        f"{f1_score(wrong, epsilon > 0):.2f}",
        f"{(guider_prob[wrong] > 0.5).mean():.0%}",
    ]


def figure5(request: Request) -> None:
    """Draw training images in the spaces of three approaches."""
    dataset = request.dataset()

    def view(seen: Trained) -> View:
        unlabeled = np.flatnonzero(seen.corruption.noisy_labels < 0)
        others = np.random.default_rng(FIRST_SEED).permutation(unlabeled)
        labeled = seen.corruption.labeled
        rows = np.concatenate([labeled, others[: POINTS - len(labeled)]])
        labels = dataset.clean_labels[rows], seen.corruption.noisy_labels[rows]
        return View(seen.train_embeddings[rows], *labels)

    approaches: dict[Approach, str] = {
        "supervised": "Supervised", "semi-supervised": "Semi-supervised (ε = 0)", "umn": "UMN"
    }  # fmt: skip
    found = [
        explore(name, request.trained(dataset, approach, 0.5), dataset, view)
        for approach, name in approaches.items()
    ]
    title = f"Learned spaces of {POINTS:,} training images (t-SNE)"
    note = f"{request.words(0.5)} (supervised: {SUPERVISED_EPOCHS} epochs of the labeled images)"
    path = PICTURES / "paper-figure5.png"
    draw_spaces([space for space, _ in found], title, note, path)
    write_numbers("figure 5", [*SPACE_HEADS, *(line for _, line in found)])


def measure_space(embeddings: np.ndarray, classes: np.ndarray) -> dict[str, float]:
    """Measure, in the space itself, how well ``(P, d)`` embeddings separate ``(P,)`` classes.

    Returns
    -------
    dict
        "neighbors": share of images whose class most of their ten nearest others have. "silhouette": of
        the right classes, in [-1, 1].
    """
    vote = KNeighborsClassifier(NEIGHBORS).fit(embeddings, classes)
    near = classes[vote.kneighbors(return_distance=False)]  # of the others, (P, K)
    counts = (near[:, :, None] == np.arange(classes.max() + 1)).sum(axis=1)
    return {
        "neighbors": float((counts.argmax(axis=1) == classes).mean()),
        "silhouette": float(silhouette_score(embeddings, classes)),
    }


def measure_belief(seen: Trained, dataset: Dataset) -> dict[str, float]:
    """Return the test error, and the shares of wrong and of right labels that the network predicts."""
    rows, wrong = seen.corruption.labeled, seen.corruption.wrong
    believed = seen.train_probs[rows].argmax(axis=1) == seen.corruption.noisy_labels[rows]
    return {
        "test error": float((seen.test_probs.argmax(axis=1) != dataset.test_labels).mean()),
        "wrong labels believed": float(believed[wrong].mean()),
        "right labels believed": float(believed[~wrong].mean()),
    }


# --- numbers ------------------------------------------------------------------------------------


def spread(values: np.ndarray, digits: int) -> str:
    """Return "mean (least to most)", or the value if there is one."""
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{values.mean():.{digits}f} ({values.min():.{digits}f} to {values.max():.{digits}f})"


def write_numbers(name: str, lines: Sequence[str]) -> None:
    """Replace a block of the page by new lines, and the command and the commit that made them."""
    command = shlex.join(["python", "benchmarks/paper_figures.py", *map(short, sys.argv[1:])])
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    block = "\n".join([*lines, "", f"`{command}`, commit {commit()}.", ""])
    with atomic_write(PAGE) as partial:
        partial.write_text(f"{head}{begin}{block}{end}{tail}", encoding="utf-8")


def short(argument: str) -> str:
    """Leave out the folder of a path, which is another one on every machine."""
    return Path(argument).name if "/" in argument else argument


TRAINED = {"figure4a": figure4a, "figure4b": figure4b, "figure5": figure5}


def main() -> None:
    """Draw one of the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="figure", required=True)
    third = commands.add_parser("figure3", help="test error over epochs")
    third.add_argument("sweeps", type=Path, nargs="+", help="folders that labelaudit eval wrote")
    third.add_argument("--rates", type=float, nargs="+", default=[0.2, 0.3, 0.4])
    for name, draw in TRAINED.items():
        trained = commands.add_parser(name, help=(draw.__doc__ or "").rstrip("."))
        trained.add_argument("mnist", type=Path)
        trained.add_argument("--work", type=Path, required=True, help="folder of the trainings")
        trained.add_argument("--images", type=int, default=10_000, help="the paper: 50,000")
        trained.add_argument("--epochs", type=int, default=40, help="the paper: 350")
        trained.add_argument("--seeds", type=int, default=1, help="number of seeds, from 100")
    options = vars(parser.parse_args())
    figure = options.pop("figure")
    try:
        if figure == "figure3":
            figure3(options["sweeps"], options["rates"])
        else:
            TRAINED[figure](Request(**options))
    except LabelauditError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
