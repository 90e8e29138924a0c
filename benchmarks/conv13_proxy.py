"""Ways to train a slim 13-layer network on few CIFAR-10 images, on one CPU thread.

    python benchmarks/conv13_proxy.py CIFAR10.parquet --seed 100 --seed 101 --seed 102
    python benchmarks/conv13_proxy.py CIFAR10.parquet --small --seed 100 --seed 101 --seed 102

CIFAR10.parquet is the training split in Hugging Face's schema. The whole 13-layer network and all
images want a GPU. This takes minutes for each row, and shows what is worth trying there. The network
has a quarter of the channels. `LabelAuditor` trains it on 6,000 images, a fifth of their labels wrong,
for 1,500 steps of 100 images; with `--small`, on 3,000 images for 1,128 steps of 32, in a third of the
time. The seed draws images, wrong labels and weights.

The recipes are those of benchmarks/gpu_recipes.py. `--recipe` runs only the named ones. Finished rows
are kept in benchmarks/results/conv13_proxy.csv, and benchmarks/conv13_proxy.md is written from them.
Seeds below 100 are for choosing.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from finished_rows import read_rows
from gpu_recipes import RECIPES, VariantUMN
from provenance import commit, hardware

import labelaudit
from labelaudit.audit.fitting import RunFiles
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.methods import umn
from labelaudit.networks.autoencoder import Encoder, ImageShape
from labelaudit.networks.conv13 import Conv13Decoder, Conv13Encoder
from labelaudit.networks.encoders import ENCODERS
from labelaudit.networks.standardize import PixelStatistics
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.metrics import detection_metrics, f1_at_true_count
from labelaudit.training import batches
from labelaudit.training.batches import TrainingImages
from labelaudit.training.loop import predict_all

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "conv13_proxy.csv"
NUM_CLASSES, RATE, WIDTH = 10, 0.2, 32
FIRST_REPORTED_SEED = 100
COLUMNS = ("accuracy", "train_accuracy", "fits_wrong_labels", "f1", "f1_at_true_count", "auroc")


@dataclass(frozen=True)
class Size:
    """How many images are trained on, and for how long."""

    name: str
    images: int
    held_out: int
    batch_size: int
    epochs: int


FULL, SMALL = Size("full", 6000, 3000, 100, 25), Size("small", 3000, 1000, 32, 12)


def read(manifest: Manifest, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels ``(N, C, H, W)`` uint8 and labels ``(N,)`` of some rows."""
    some = manifest.subset(rows)
    pixels = decode_source(some.images, plan_images(some.images)).pixels
    return pixels, np.asarray(some.noisy_labels)


def _slim(shape: ImageShape, statistics: PixelStatistics, _: str) -> Encoder:
    return Conv13Encoder(shape, statistics, WIDTH)


@contextmanager
def slim_and_as_on_a_gpu() -> Iterator[None]:
    """Make the 13-layer network slim, and train in bfloat16 and channels last.

    GPUs train like this, and it is faster on a CPU too. The cache of autocast is off, because the
    weights change within the context.
    """
    spec, usual = ENCODERS["conv13"], batches.memory_format
    ENCODERS["conv13"] = replace(
        spec, build=_slim, build_decoder=partial(Conv13Decoder, width=WIDTH)
    )
    for module in (batches, umn):
        vars(module)["memory_format"] = lambda device: torch.channels_last
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
            yield
    finally:
        ENCODERS["conv13"] = spec
        for module in (batches, umn):
            vars(module)["memory_format"] = usual


def measure(manifest: Manifest, size: Size, name: str, seed: int) -> dict[str, Any]:
    """Train by a recipe, and audit."""
    recipe = RECIPES[name]
    order = np.random.default_rng(seed).permutation(manifest.num_samples)
    pixels, clean = read(manifest, order[: size.images])
    other_pixels, others = read(manifest, order[-size.held_out :])
    given = corrupt_symmetric(clean, RATE, NUM_CLASSES, seed)
    wrong = given != clean
    source = labelaudit.source_from_arrays(
        pixels.transpose(0, 2, 3, 1),
        given,
        class_names=[str(number) for number in range(NUM_CLASSES)],
    )
    auditor = labelaudit.LabelAuditor(
        encoder="conv13",
        epochs=size.epochs,
        batch_size=size.batch_size,
        flip=recipe.flip,
        device="cpu",
        seed=seed,
    )
    plan = auditor.prepare(source, Reporter())
    plan = replace(
        plan,
        config=recipe.configure(plan.config),
        build=partial(VariantUMN, recipe=recipe, total_steps=plan.batches.steps * plan.epochs),
    )
    held_out = TrainingImages(other_pixels, np.full(len(others), -1), plan.device)
    curve: dict[int, float] = {}
    watched = {max(1, size.epochs * part // 6) for part in (1, 2, 3, 4, 6)}

    def watch(auditor: labelaudit.LabelAuditor, epoch: int) -> None:
        if epoch in watched:
            probs, _ = predict_all(auditor.method_, held_out)
            curve[epoch] = round(float((probs.argmax(axis=1) == others).mean()), 4)

    started = time.process_time()
    auditor.fit_plan(plan, RunFiles(), Reporter(), on_epoch=watch)
    seconds = time.process_time() - started
    predicted = auditor.pred_probs_.argmax(axis=1)
    rank = np.empty(len(given))
    rank[auditor.ranking_] = np.arange(len(given), 0, -1)
    found = detection_metrics(rank, auditor.is_label_issue_, wrong)
    return {
        "accuracy": curve[size.epochs],
        "accuracy_by_epoch": json.dumps(curve),
        "train_accuracy": round(float((predicted == clean).mean()), 4),
        "fits_wrong_labels": round(float((predicted[wrong] == given[wrong]).mean()), 4),
        **{key: None if value is None else round(value, 4) for key, value in found.items()},
        "f1_at_true_count": round(f1_at_true_count(rank, wrong) or 0.0, 4),
        "num_flagged": int(auditor.is_label_issue_.sum()),
        "trustworthy": auditor.trust_.trustworthy,
        "cpu_seconds": round(seconds, 1),
    }


def finished() -> pd.DataFrame:
    """Return the rows so far."""
    return read_rows(RESULTS, "size", "recipe", "seed")


def report(table: pd.DataFrame) -> str:
    """Return the results as Markdown."""
    lines = [
        "# The 13-layer network, slim and on few images",
        "",
        "`python benchmarks/conv13_proxy.py CIFAR10.parquet --seed 100 --seed 101 --seed 102`,"
        f" also with `--small`; {hardware()}. Commits: {', '.join(sorted(table['commit'].unique()))}.",
        "",
        f"CIFAR-10, {RATE:.0%} symmetric, a quarter of the channels. Accuracy is on other images."
        " Recipes are described in benchmarks/gpu_recipes.py. Means over seeds. This stands for a"
        " GPU, and is no result of one.",
    ]
    reported = table["seed"] >= FIRST_REPORTED_SEED
    for size in (FULL, SMALL):
        for title, of_seeds in (("chosen on", ~reported), ("reported", reported)):
            rows = table[(table["size"] == size.name) & of_seeds]
            if len(rows):
                seeds = ", ".join(str(seed) for seed in sorted(rows["seed"].unique()))
                heading = f"{size.images:,} images, {title}: seeds {seeds}"
                lines += ["", f"## {heading}", "", *table_of(rows)]
    return "\n".join(lines) + "\n"


def table_of(rows: pd.DataFrame) -> Iterator[str]:
    """Yield a table of the means, and how far the default is from the best."""
    head = ["recipe", "rows", *(name.replace("_", " ") for name in COLUMNS), "CPU seconds"]
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    means = rows.groupby("recipe", sort=False)[[*COLUMNS, "cpu_seconds"]].mean()
    for name, row in means.iterrows():
        cells = [f"{row[column]:.3f}" for column in COLUMNS]
        count = int((rows["recipe"] == name).sum())
        yield f"| {name} | {count} | {' | '.join(cells)} | {row['cpu_seconds']:.0f} |"
    if "default" in means.index:
        short = means["f1"].max() - means.loc["default", "f1"]
        yield ""
        yield f"The default's F1 is {short:.3f} below that of the best: {means['f1'].idxmax()}."


def main() -> None:
    """Parse, run what is missing, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--small", action="store_true", help="3,000 images and fewer steps")
    parser.add_argument("--recipe", action="append", choices=tuple(RECIPES), default=[])
    parser.add_argument("--seed", type=int, action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    manifest = labelaudit.read_source(options.parquet).manifest
    size = SMALL if options.small else FULL
    for seed in options.seed:
        for name in options.recipe or RECIPES:
            table = finished()
            cell = {"size": size.name, "recipe": name, "seed": seed}
            if (table[list(cell)] == pd.Series(cell)).all(axis=1).any():
                continue
            with slim_and_as_on_a_gpu():
                row = cell | {"commit": commit()} | measure(manifest, size, name, seed)
            print(json.dumps(row), flush=True)
            table = pd.concat([table, pd.DataFrame([row])], ignore_index=True)
            table.to_csv(RESULTS, index=False)
    (HERE / "conv13_proxy.md").write_text(report(finished()), encoding="utf-8")


if __name__ == "__main__":
    main()
