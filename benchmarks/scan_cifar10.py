"""Scan CIFAR-10 with planted errors: F1 and seconds of an encoder on a device.

    python benchmarks/scan_cifar10.py CIFAR10.parquet --encoder conv13 --seed 100

CIFAR10.parquet is the training split in Hugging Face's schema. A row is added to
benchmarks/results/scan_cifar10.csv for each run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from provenance import commit
from rich.console import Console

import labelaudit
from labelaudit.benchmark.corruptions import corrupt_pair, corrupt_symmetric
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.progress import ConsoleReporter

RESULTS = Path(__file__).parent / "results" / "scan_cifar10.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--encoder", default="auto")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--noise", choices=("symmetric", "pair"), default="symmetric")
    parser.add_argument("--rate", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="number of images, drawn with the seed")
    parser.add_argument("--flip", action="store_true", help="mirror training images at random")
    parser.add_argument("--out", type=Path, help="keep the run folder here")
    arguments = parser.parse_args()

    manifest = labelaudit.read_source(arguments.parquet).manifest
    if arguments.limit:
        rng = np.random.default_rng(arguments.seed)
        manifest = manifest.subset(rng.permutation(manifest.num_samples)[: arguments.limit])
    pixels = decode_source(manifest.images, plan_images(manifest.images)).pixels
    corrupt = corrupt_pair if arguments.noise == "pair" else corrupt_symmetric
    clean = manifest.noisy_labels
    source = labelaudit.source_from_arrays(
        pixels.transpose(0, 2, 3, 1),
        corrupt(clean, arguments.rate, manifest.num_classes, arguments.seed),
        class_names=manifest.class_names,
        clean_labels=clean,
        name="cifar10",
    )
    started = time.monotonic()
    result = labelaudit.scan(
        source,
        out=arguments.out,
        encoder=arguments.encoder,
        epochs=arguments.epochs,
        flip=arguments.flip,
        device=arguments.device,
        seed=arguments.seed,
        reporter=ConsoleReporter(Console(stderr=True)),
    )
    summary = result.summary
    accuracy = (result.samples["predicted_label"] == result.samples["clean_label"]).mean()
    row = {
        "commit": commit(),
        "device": summary["device"],
        "images": summary["num_samples"],
        "noise": arguments.noise,
        "rate": arguments.rate,
        "seed": arguments.seed,
        "encoder": summary["encoder"]["name"],
        "epochs": summary["epochs"],
        "flip": arguments.flip,
        "seconds": round(time.monotonic() - started, 1),
        "train_accuracy": round(float(accuracy), 4),
        **{k: v if v is None else round(v, 4) for k, v in summary["metrics"].items()},
    }
    print(json.dumps(row))
    RESULTS.parent.mkdir(exist_ok=True)
    frame = pd.DataFrame([row])
    if RESULTS.exists():
        frame = pd.concat([pd.read_csv(RESULTS), frame], ignore_index=True)
    frame.to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
