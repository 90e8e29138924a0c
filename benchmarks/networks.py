"""Pretrained networks for photos: what an audit of their features finds, and images per second.

    python benchmarks/networks.py --cifar10 CIFAR10_TRAIN.parquet --human-labels HUMAN_LABELS.parquet

Reads 5,000 of CIFAR-10's training images with each network of NETWORKS whose weights are on this
machine, and audits the features with planted mistakes (symmetric, 20%) and with labels of people
(`random_label2` of CIFAR-10N, Wei et al. 2022, https://arxiv.org/abs/2110.12088). Needs
labelaudit[photos] and the packages of weights. Finished rows are kept in
benchmarks/results/networks.csv, and benchmarks/networks.md is written from them. `--no-speed` keeps
the speeds that are there, because they are worth something on an idle machine only.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from finished_rows import is_done, keep_row, read_rows
from provenance import commit, hardware
from sklearn.metrics import f1_score, roc_auc_score

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.features.backbones import cached_weights, open_backbone
from labelaudit.sources.folders import read_source
from labelaudit.sources.manifest import Source

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "networks.csv"
IMAGES, FIRST_SEED = 5000, 100
# Number of images whose extraction is timed, after as many others to warm up.
TIMED = 200
# Each network, and the sides in pixels at which it reads the images, among them that of its weights.
NETWORKS = (
    ("timm:tf_efficientnet_lite0", (128, 224, 160, 96)),
    ("timm:tf_efficientnet_lite2", (128, 260)),
    ("mobilenet_v3_large", (128, 224)),
    ("resnet50", (128, 224)),
    ("convnext_tiny", (128, 224)),
    ("timm:vit_small_patch14_dinov2", (518,)),
    ("timm:vit_small_patch16_dinov3", (256,)),
    ("timm:vit_base_patch16_clip_224.openai", (224,)),
)
Row = dict[str, object]


def chosen_images(cifar10: Path) -> tuple[Source, np.ndarray]:
    """Return the images that are read, and their row numbers."""
    source = read_source(cifar10)
    total = source.manifest.num_samples
    rows = np.sort(np.random.default_rng(FIRST_SEED).permutation(total)[:IMAGES])
    return replace(source, manifest=source.manifest.subset(rows), clean_labels=None), rows


def images_per_second(source: Source, name: str, side: int) -> float:
    """Return the images that `labelaudit.embed` reads in a second, with an empty cache."""
    rates = []
    for start in (0, TIMED):
        part = replace(source, manifest=source.manifest.subset(np.arange(start, start + TIMED)))
        with tempfile.TemporaryDirectory() as cache:
            started = time.perf_counter()
            labelaudit.embed(part, encoder=name, image_size=side, cache_dir=cache)
            rates.append(TIMED / (time.perf_counter() - started))
    return rates[-1]


def audit(features: np.ndarray, given: np.ndarray, wrong: np.ndarray, seed: int) -> Row:
    """Return what an audit of features finds of the wrong labels."""
    started = time.perf_counter()
    auditor = labelaudit.LabelAuditor(device="cpu", seed=seed).fit(features, given)
    return {
        "f1": f1_score(wrong, auditor.is_label_issue_),
        "auroc": roc_auc_score(wrong, auditor.suspect_score_),
        "audit_seconds": time.perf_counter() - started,
    }


def run(source: Source, rows: np.ndarray, people: Path, seeds: int, speed: bool) -> None:
    """Run what has no row yet, for all networks whose weights are here."""
    clean = source.manifest.noisy_labels
    told = pq.read_table(people, columns=["random_label2"])["random_label2"].to_numpy()[rows]
    cache = HERE.parent / ".data"
    cache.mkdir(exist_ok=True)
    for name, sides in NETWORKS:
        if cached_weights(name) is None:
            print(f"{name}: its weights are not on this machine")
            continue
        for side in sides:
            here = {"network": name, "side": side}
            if speed and not is_done(RESULTS, here | {"labels": "speed"}):
                rate = images_per_second(source, name, side)
                keep_row(RESULTS, here | {"labels": "speed", "seed": 0, "images_per_second": rate})
            features = None
            for seed in range(FIRST_SEED, FIRST_SEED + seeds):
                for kind in ("symmetric 0.2", "random_label2"):
                    key = here | {"labels": kind, "seed": seed}
                    if is_done(RESULTS, key):
                        continue
                    if features is None:
                        table = labelaudit.embed(
                            source, encoder=name, image_size=side, cache_dir=cache / "features"
                        )
                        features = np.stack(table["features"].to_list())
                    given = told
                    if kind != "random_label2":
                        given = corrupt_symmetric(clean, 0.2, 10, seed)
                    found = audit(features, given, given != clean, seed)
                    keep_row(RESULTS, key | found | {"commit": commit()})


def size_of(name: str) -> str:
    """Return the number of parameters of a network's trunk, in millions."""
    network = open_backbone(name, None, torch.device("cpu")).network
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}"


def report() -> str:
    """Return the results as Markdown."""
    columns = ("network", "side", "labels", "seed", "images_per_second", "f1", "auroc", "commit")
    done = read_rows(RESULTS, *columns)
    lines = [
        "# Pretrained networks for photos",
        "",
        "`python benchmarks/networks.py --cifar10 CIFAR10_TRAIN.parquet --human-labels"
        f" HUMAN_LABELS.parquet`; {IMAGES:,} of CIFAR-10's training images; seeds from {FIRST_SEED};"
        f" commits: {', '.join(done['commit'].dropna().unique())}; {hardware()},"
        f" {torch.get_num_threads()} threads.",
        "",
        "F1 and AUROC are means over seeds, of the default audit on the network's features: of planted"
        " mistakes (symmetric, 20%) and of those that a person made (`random_label2`). Images per"
        f" second are those of `labelaudit embed`, for {TIMED} images of 32x32 pixels that are"
        " enlarged; decoding takes next to no time. Only networks whose weights were on this machine"
        " have rows.",
        "",
        "| network | parameters, M | pixels | images/s | F1, planted | AUROC | F1, person's | AUROC |",
        "|" + "---|" * 8,
    ]
    for (name, side), rows in done.groupby(["network", "side"], sort=False):
        speed = rows.loc[rows["labels"] == "speed", "images_per_second"]
        cells = [f"{speed.iloc[-1]:.0f}" if len(speed) else "–"]
        for kind in ("symmetric 0.2", "random_label2"):
            of_kind = rows[rows["labels"] == kind]
            cells += [f"{of_kind['f1'].mean():.3f}", f"{of_kind['auroc'].mean():.3f}"]
        lines.append(f"| {name} | {size_of(name)} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cifar10", type=Path, required=True, help="parquet of its training split")
    parser.add_argument("--human-labels", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--no-speed", action="store_true", help="measure no speeds")
    options = parser.parse_args()
    source, rows = chosen_images(options.cifar10)
    run(source, rows, options.human_labels, options.seeds, not options.no_speed)
    (HERE / "networks.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
