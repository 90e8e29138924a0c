"""Scan CIFAR-10 with planted errors or labels of people: F1 and seconds of an encoder on a device.

    python benchmarks/scan_cifar10.py CIFAR10.parquet --encoder conv13 --seed 100
    python benchmarks/scan_cifar10.py CIFAR10.parquet --human-labels HUMAN_LABELS.parquet \
        --encoder timm:NAME --weights FILE --image-size 128 --fine-tune

CIFAR10.parquet is the training split in Hugging Face's schema. HUMAN_LABELS.parquet has a row for each
of its images (see benchmarks/people.py). A row is added to benchmarks/results/scan_cifar10.csv for each
run.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import pandas as pd
from finished_rows import read_rows
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
    parser.add_argument(
        "--human-labels", type=Path, help="audit labels of people in place of noise"
    )
    parser.add_argument("--column", default="random_label2", help="of the labels of people")
    parser.add_argument("--weights", type=Path, help="of a pretrained network")
    parser.add_argument("--image-size", type=int, help="side at which a pretrained network reads")
    parser.add_argument("--fine-tune", action="store_true", help="train the pretrained network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=int, help="number of images, drawn with the seed")
    parser.add_argument("--flip", action="store_true", help="mirror training images at random")
    parser.add_argument("--out", type=Path, help="keep the run folder here")
    arguments = parser.parse_args()

    manifest = labelaudit.read_source(arguments.parquet).manifest
    rows = np.arange(manifest.num_samples)
    if arguments.limit:
        rows = np.random.default_rng(arguments.seed).permutation(rows)[: arguments.limit]
        manifest = manifest.subset(rows)
    pixels = decode_source(manifest.images, plan_images(manifest.images)).pixels
    clean = manifest.noisy_labels
    if arguments.human_labels:
        people = pd.read_parquet(arguments.human_labels)[arguments.column]
        given, noise, rate = people.to_numpy(dtype=np.int64)[rows], arguments.column, None
    else:
        corrupt = corrupt_pair if arguments.noise == "pair" else corrupt_symmetric
        noise, rate = arguments.noise, arguments.rate
        given = corrupt(clean, rate, manifest.num_classes, arguments.seed)
    source = labelaudit.source_from_arrays(
        pixels.transpose(0, 2, 3, 1),
        given,
        class_names=manifest.class_names,
        clean_labels=clean,
        name="cifar10",
    )
    started = time.monotonic()
    result = labelaudit.scan(
        source,
        out=arguments.out,
        encoder=arguments.encoder,
        weights=arguments.weights,
        image_size=arguments.image_size,
        fine_tune=arguments.fine_tune,
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
        "noise": noise,
        "rate": rate,
        "seed": arguments.seed,
        "encoder": summary["encoder"]["name"],
        "fine_tune": arguments.fine_tune,
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
        frame = pd.concat([read_rows(RESULTS), frame], ignore_index=True)
    frame.to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
