"""Detection in every regime: UMN, cross-validated confident learning and AUM side by side.

    python benchmarks/detection.py MNIST_FOLDER --jobs 2

MNIST_FOLDER holds parquet shards. Each seed draws 10,000 training images, corrupts their labels and
runs every system on the same labels. Finished cells are kept in --out, so that a stopped command can
be continued. At the end benchmarks/detection.md and benchmarks/results/detection.csv are written from
all finished cells.

    python benchmarks/detection.py MNIST_FOLDER --jobs 2 --method umn --seeds 2 \
        --paired benchmarks/results/detection.csv

runs only UMN on fewer seeds, and writes benchmarks/detection_paired.md, which compares its rows with
those of the same seeds in an earlier file.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # cells run side by side

import numpy as np
import pandas as pd
from provenance import commit, hardware
from rich.console import Console

from labelaudit.benchmark.cells import Cell
from labelaudit.benchmark.datasets import Dataset
from labelaudit.benchmark.evaluation import open_dataset
from labelaudit.benchmark.noise import Noise
from labelaudit.benchmark.sweep import Sweep, run_sweep
from labelaudit.progress import ConsoleReporter, Reporter
from labelaudit.reporting.tables import read_csv
from labelaudit.suspects.metrics import expected_calibration_error

HERE = Path(__file__).parent
NUM_IMAGES = 10_000
METHODS = ("umn", "confident-learning", "aum")
COMMITS = "commits.txt"
RIVAL = "confident-learning (best filter)"
COLUMNS = (
    "regime", "noise", "seeds", "UMN F1", "UMN F1 at the true count",
    "confident learning F1, best filter", "AUM F1", "UMN AUROC", "UMN calibration error",
    "estimated wrong, %", "wrong, %", "flagged, %", "interval covers, mean width",
)  # fmt: skip


def draw(mnist: Dataset, seed: int, size: int = NUM_IMAGES) -> Dataset:
    """Draw `size` images with a seed."""
    rows = np.random.default_rng(seed).permutation(len(mnist.inputs))[:size]
    return take(mnist, rows)


def take(mnist: Dataset, rows: np.ndarray) -> Dataset:
    """Return some rows of a data set."""
    return replace(
        mnist,
        inputs=mnist.inputs[rows],
        clean_labels=mnist.clean_labels[rows],
        sample_ids=mnist.sample_ids[rows],
    )


def imbalanced(mnist: Dataset, seed: int) -> Dataset:
    """Draw up to 10,000 images, with class sizes that fall evenly from 100 to 1."""
    shares = 100 ** -np.linspace(0, 1, 10)
    order = np.random.default_rng(seed).permutation(len(mnist.inputs))
    sizes = np.round(shares / shares.sum() * NUM_IMAGES).astype(int)
    classes = np.random.default_rng(seed).permutation(10)  # which class is rare differs by seed
    rows = [
        order[mnist.clean_labels[order] == cls][:size]
        for cls, size in zip(classes, sizes, strict=True)
    ]
    return take(mnist, np.sort(np.concatenate(rows)))


def two_classes(mnist: Dataset, seed: int) -> Dataset:
    """Draw threes and eights."""
    rows = np.flatnonzero(np.isin(mnist.clean_labels, (3, 8)))
    part = take(mnist, np.random.default_rng(seed).permutation(rows)[:NUM_IMAGES])
    labels = (part.clean_labels == 8).astype(np.int64)
    return replace(part, name="mnist 3 and 8", clean_labels=labels, class_names=("3", "8"))


def hundred_classes(mnist: Dataset, seed: int) -> Dataset:
    """Draw numbers from 00 to 99, each as two digits side by side, at half their width."""
    rng = np.random.default_rng(seed)
    left, right = rng.integers(0, len(mnist.inputs), (2, NUM_IMAGES))
    pixels = np.concatenate([mnist.inputs[left], mnist.inputs[right]], axis=3)
    narrow = pixels.reshape(NUM_IMAGES, 1, 28, 28, 2).mean(axis=4).round().astype(np.uint8)
    return replace(
        mnist,
        name="mnist two digits",
        inputs=narrow,
        clean_labels=10 * mnist.clean_labels[left] + mnist.clean_labels[right],
        class_names=tuple(f"{number:02d}" for number in range(100)),
        sample_ids=np.array([f"{a}-{b}" for a, b in zip(left, right, strict=True)], dtype=object),
        noise_name="",
    )


@dataclass(frozen=True)
class Group:
    """Cells that share a way of drawing images and a number of labels."""

    name: str
    draw: Callable[[Dataset, int], Dataset]
    noises: tuple[Noise, ...]
    seeds: int = 5
    num_labeled: int | None = None


def noises(kind: str, *rates: float) -> tuple[Noise, ...]:
    """Return a kind of noise at some rates."""
    return tuple(Noise(kind, rate) for rate in rates)


GROUPS = (
    Group(
        "all labeled",
        draw,
        (
            *noises("symmetric", 0.1, 0.2, 0.4, 0.6),
            *noises("pair", 0.3),
            *noises("instance", 0.3),
            *noises("symmetric", 0.0),
        ),
    ),
    Group("10% labeled", draw, (*noises("symmetric", 0.2), *noises("pair", 0.3)), num_labeled=1000),
    Group("100 labeled", draw, noises("symmetric", 0.1, 0.2, 0.3, 0.4, 0.5), 20, 100),
    Group("imbalanced 100 to 1", imbalanced, noises("symmetric", 0.2)),
    Group("two classes", two_classes, noises("symmetric", 0.2)),
    Group("100 classes", hundred_classes, noises("symmetric", 0.2)),
)


def run(
    mnist: Dataset,
    out: Path,
    jobs: int,
    first_seed: int,
    most: int,
    only: list[str],
    methods: list[str],
) -> None:
    """Run the cells that are not finished."""
    reporter: Reporter = ConsoleReporter(Console(stderr=True))
    for group in GROUPS:
        if only and group.name not in only:
            continue
        for seed in range(first_seed, first_seed + min(group.seeds, most)):
            dataset = group.draw(mnist, seed)
            sweep = Sweep(folder(out, group, seed), {"group": group.name, "seed": seed})
            cells = [
                Cell(method, noise, seed, group.num_labeled)
                for noise in group.noises
                for method in methods or METHODS
            ]
            reporter.say(f"{group.name}, seed {seed}")
            run_sweep(sweep, cells, dataset, jobs=jobs, reporter=reporter)
            note_commit(sweep.folder / COMMITS)


def note_commit(path: Path) -> None:
    """Record the commits with which a seed's cells were run, one per line."""
    known = path.read_text().split() if path.exists() else []
    if commit() not in known:
        path.write_text("\n".join([*known, commit()]) + "\n")


def commits(parts: list[tuple[pd.DataFrame, Path]]) -> str:
    """Return the commits with which the seeds of a group were run."""
    files = [place / COMMITS for _, place in parts]
    found = [name for path in files if path.exists() for name in path.read_text().split()]
    return " ".join(dict.fromkeys(found))


def folder(out: Path, group: Group, seed: int) -> Path:
    """Return the folder of a group's cells of a seed."""
    return out / group.name.replace(" ", "-").replace("%", "-percent") / f"seed{seed}"


def results(out: Path, group: Group) -> Iterator[tuple[pd.DataFrame, Path]]:
    """Yield the results of each finished seed, with its folder."""
    for place in sorted(out.glob(f"{folder(out, group, 0).parent.name}/seed*")):
        if (place / "results.csv").exists():
            yield read_csv(place / "results.csv"), place


def places(parts: list[tuple[pd.DataFrame, Path]]) -> list[tuple[int, Path]]:
    """Return each seed with its folder."""
    return [(int(place.name.removeprefix("seed")), place) for _, place in parts]


def share_flagged(place: Path, noise: Noise, seed: int) -> float:
    """Return the share of the labels that UMN flagged, NaN if it has not been run."""
    path = place / "scores" / f"{Cell('umn', noise, seed).stem}-umn.parquet"
    return float(pd.read_parquet(path)["is_label_issue"].mean()) if path.exists() else float("nan")


def spread(values: pd.Series, digits: int = 3) -> str:
    """Return mean ± standard deviation."""
    values = values.dropna()
    if values.empty:
        return "–"
    std = f" ± {values.std():.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{std}"


def report(out: Path, command: str) -> str:
    """Return the finished results as Markdown."""
    rows, margins, regrets, probabilities, covered, made_by = [], [], [], [], [], []
    for group in GROUPS:
        parts = list(results(out, group))
        if not parts:
            continue
        made_by.append(f"{group.name} {commits(parts)}")
        frame = pd.concat([part for part, _ in parts])
        for noise in group.noises:
            cell = frame[(frame["noise"] == noise.kind) & np.isclose(frame["rate"], noise.rate)]
            by = {name: cell[cell["method"] == name] for name in ("umn", RIVAL, "aum")}
            umn = by["umn"]
            if umn.empty:
                continue
            wrong, labels = umn["num_wrong"], umn["num_labeled"]
            width = (umn["expected_high"] - umn["expected_low"]) / labels
            inside = umn["expected_low"].le(wrong) & umn["expected_high"].ge(wrong)
            flagged = pd.Series(
                [share_flagged(place, noise, seed) for seed, place in places(parts)]
            )
            interval = ""
            if len(umn) >= 10:
                half = 1.96 * umn["f1"].std() / np.sqrt(len(umn))
                interval = f" (95% interval ± {half:.3f})"
            rows.append(
                f"| {group.name} | {noise.kind} {noise.rate:g} | {len(umn)}"
                f" | {spread(umn['f1'])}{interval} | {spread(umn['f1_at_true_count'])}"
                f" | {spread(by[RIVAL]['f1'])} | {spread(by['aum']['f1'])}"
                f" | {spread(umn['auroc'])} | {spread(umn['calibration_error'])}"
                f" | {spread(100 * umn['expected_wrong'] / labels, 1)}"
                f" | {spread(100 * wrong / labels, 1)} | {spread(100 * flagged, 1)}"
                f" | {int(inside.sum())} of {len(umn)}, {100 * width.mean():.1f} points |"
            )
            covered.append(inside)
            if noise.rate:
                regrets.append((group.name, noise, (umn["f1_at_true_count"] - umn["f1"]).mean()))
                if group.num_labeled != 100 and not by[RIVAL].empty:
                    margins.append((group.name, noise, umn["f1"].mean() - by[RIVAL]["f1"].mean()))
        if group.num_labeled is None:
            for _, place in parts:
                for path in sorted((place / "scores").glob("*-umn.parquet")):
                    probabilities.append(pd.read_parquet(path)[["wrong_prob", "is_wrong"]])
    lines = [
        "# Detection in every regime",
        "",
        f"`{command}`; UMN's commits: {', '.join(made_by)}; {hardware()}.",
        "",
        "Each seed draws 10,000 images of MNIST, or fewer if there are not as many. The seeds, from 100"
        " on, were not used to choose anything. All systems get the same images, labels and encoder,"
        " each with its own defaults. Confident learning uses five folds and the best of cleanlab's"
        " filters, which the truth chooses. AUM uses its own threshold samples. Numbers are mean ±"
        " standard deviation over seeds. Times are in [speed.md](speed.md)."
        " UMN's rows are of an earlier rule. [detection_paired.md](detection_paired.md) compares it"
        " with the label model on two seeds, and [pixels.md](pixels.md) shows what the classifier of"
        " the pixels changes.",
        "",
        f"| {' | '.join(COLUMNS)} |",
        "|" + "---|" * len(COLUMNS),
        *rows,
        "",
    ]
    if margins:
        worst = min(margins, key=lambda item: item[2])
        mean = np.mean([margin for *_, margin in margins])
        lines += [
            f"- F1 above confident learning's best filter, all and 10% labeled: by {mean:.3f} on"
            f" average, least {worst[2]:+.3f} ({worst[0]}, {worst[1].kind} {worst[1].rate:g}).",
        ]
    if regrets:
        worst = max(regrets, key=lambda item: item[2])
        lines += [
            f"- Threshold regret (F1 at the true count less F1): at most {worst[2]:.3f}"
            f" ({worst[0]}, {worst[1].kind} {worst[1].rate:g})."
        ]
    if probabilities:
        pooled = pd.concat(probabilities)
        prob, wrong = pooled["wrong_prob"].to_numpy(), pooled["is_wrong"].to_numpy()
        whole = expected_calibration_error(prob, wrong)
        middle = expected_calibration_error(prob, wrong, between=(0.1, 0.9))
        share = ((prob >= 0.1) & (prob <= 0.9)).mean()
        lines += [
            f"- Expected calibration error over the all-labeled cells, pooled: {whole:.3f}; over the"
            f" scores from 0.1 to 0.9 ({share:.1%} of them): {middle:.3f}.",
        ]
    if covered:
        inside = pd.concat(covered)
        lines += [
            f"- The 90% interval for the number of wrong labels covers it in {inside.mean():.0%} of"
            f" {len(inside)} runs."
        ]
    return "\n".join(lines) + "\n"


def paired(out: Path, earlier: Path, command: str) -> str:
    """Compare UMN's rows with those of the same seeds in an earlier file, as Markdown."""
    before = pd.read_csv(earlier)
    before = before[before["method"] == "umn"]
    keys = ["group", "noise", "rate", "seed"]
    lines, made_by = [], []
    for group in GROUPS:
        parts = list(results(out, group))
        if not parts:
            continue
        made_by.append(f"{group.name} {commits(parts)}")
        now = pd.concat([part for part, _ in parts]).assign(group=group.name)
        both = now[now["method"] == "umn"].merge(before, on=keys, suffixes=("", "_before"))
        for (noise, rate), rows in both.groupby(["noise", "rate"], sort=False):
            change = (rows["f1"] - rows["f1_before"]).mean()
            measure = [
                f"{rows['f1_before'].mean():.3f}",
                f"{rows['f1'].mean():.3f}",
                f"{change:+.3f}",
            ]
            flagged = [
                share_flagged(place, Noise(noise, rate), seed)
                for seed, place in places(parts)
                if seed in set(rows["seed"])
            ]
            if not rate:
                measure = ["–"] * 3
            expected = [
                f"{100 * (rows[name] / rows['num_labeled']).mean():.1f}"
                for name in ("expected_wrong_before", "expected_wrong", "num_wrong")
            ]
            inside = rows["expected_low"].le(rows["num_wrong"]) & rows["expected_high"].ge(
                rows["num_wrong"]
            )
            lines.append(
                f"| {group.name} | {noise} {rate:g} | {len(rows)} | {' | '.join(measure)}"
                f" | {' | '.join(expected)} | {100 * np.mean(flagged):.1f}"
                f" | {int(inside.sum())} of {len(rows)} |"
            )
    head = [
        "# Detection: the label model compared with the rule before it",
        "",
        f"`{command}`; commits: {', '.join(made_by)}; {hardware()}.",
        "",
        "UMN on MNIST as in [detection.md](detection.md), with the same seeds. “Before” is the rule"
        " with only a transition matrix; the other columns are for the label model"
        " ([how a score is computed](../docs/explanation/scores.md)).",
        "",
        "| regime | noise | seeds | F1 before | F1 | change | estimated wrong before, % | estimated, %"
        " | wrong, % | flagged, % | interval covers |",
        "|" + "---|" * 11,
    ]
    foot = [
        "",
        "With 100 labels the rule did not change: probabilities of neighbors among the unlabeled images"
        " are sharpened, without a model of the labels.",
    ]
    return "\n".join([*head, *lines, *foot]) + "\n"


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path, help="folder of MNIST's parquet shards")
    parser.add_argument("--out", type=Path, default=HERE.parent / ".data" / "detection")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--seeds", type=int, default=20, help="largest number of seeds per group")
    parser.add_argument("--group", action="append", default=[], help="run only this group")
    parser.add_argument("--method", action="append", default=[], choices=METHODS)
    parser.add_argument("--paired", type=Path, help="results of earlier rows to compare with")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    if not options.report_only:
        mnist = open_dataset(str(options.mnist), test="test")
        mnist = replace(mnist, name="mnist", test_inputs=None, test_labels=None)
        run(
            mnist,
            options.out,
            options.jobs,
            options.first_seed,
            options.seeds,
            options.group,
            options.method,
        )
    if options.paired:
        command = (
            "python benchmarks/detection.py MNIST_FOLDER --jobs 2 --method umn --seeds 2 --paired"
            " benchmarks/results/detection.csv"
        ) + "".join(f' --group "{group}"' for group in options.group)
        text = paired(options.out, options.paired, command)
        (HERE / "detection_paired.md").write_text(text, encoding="utf-8")
        print(text)
        return
    text = report(options.out, "python benchmarks/detection.py MNIST_FOLDER --jobs 2")
    (HERE / "detection.md").write_text(text, encoding="utf-8")
    frames = [
        part.assign(group=group.name) for group in GROUPS for part, _ in results(options.out, group)
    ]
    pd.concat(frames).to_csv(HERE / "results" / "detection.csv", index=False)
    print(text)


if __name__ == "__main__":
    main()
