"""Measure the extraction of features beside the bare forward pass of the same network.

    python benchmarks/lite0_weights.py lite0.pth
    python benchmarks/extraction.py --work FOLDER --lite0 lite0.pth --before CHECKOUT
    python benchmarks/extraction.py --work FOLDER --lite0 lite0.pth --quality CIFAR10.parquet
    python benchmarks/extraction.py --work FOLDER --lite0 lite0.pth --runtimes

The second command measures images per second, from encoded images to features, and beside them in the
same run the network alone on random tensors: with the same threads, batch and precision. `--before`
names a checkout of another commit (`git worktree add`), which is measured alternately. CPU milliseconds
of each part are those of one thread. The third measures what precision and reduced decoding cost: the
accuracy of neighbors and of a linear probe on images of CIFAR-10 as camera JPEGs. The fourth measures
the network in ONNX Runtime and OpenVINO, which must be installed.

Finished rows are kept in benchmarks/results/extraction.csv, and benchmarks/extraction.md is written
from them; --again measures them again. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from extraction_quality import QUALITY_HEADER, measure_quality
from extraction_runtimes import RUNTIMES_HEADER, measure_runtimes
from finished_rows import read_rows
from PIL import Image
from provenance import commit, hardware

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "extraction.csv"
# Width, height, format, and number of images.
IMAGES = {
    "224 px JPEG": (224, 224, "JPEG", 400),
    "1600x1200 JPEG": (1600, 1200, "JPEG", 100),
    "32 px PNG": (32, 32, "PNG", 400),
}
NETWORKS = ("timm:tf_efficientnet_lite0", "resnet18")
ROUNDS = 3
PARTS_IMAGES = 24
SPEED_HEADER = (
    "| network, images | before, images/s | now, images/s | bare forward pass, images/s | now / bare |"
    " CPU ms of each image: before | now | of these decoding | resizing | forward pass | bare | load |"
    " commit, hardware |"
)


def write_images(folder: Path, width: int, height: int, kind: str, count: int) -> list[str]:
    """Write colored textures with some grain; they are always the same."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.{kind.lower()}" for number in range(count)]
    for number, path in enumerate(paths):
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        coarse = rng.integers(0, 256, (height // 16 + 1, width // 16 + 1, 3), dtype=np.uint8)
        smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        grain = rng.normal(0, 6, (height, width, 3))
        pixels = (np.asarray(smooth) + grain).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(path, kind, quality=85)
    return [str(path) for path in paths]


def weights_of(name: str, lite0: Path, work: Path) -> Path:
    """Return a file of weights; those of torchvision's networks are random."""
    if name == NETWORKS[0]:
        return lite0.resolve()
    from torchvision.models import get_model

    file = work / f"{name}.pth"
    if not file.exists():
        torch.manual_seed(0)
        torch.save(get_model(name, weights=None).state_dict(), file)
    return file


def timed(work: Callable[[], object], count: int) -> dict[str, float]:
    """Return images per second, and milliseconds of processor time per image."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    seconds = time.perf_counter() - wall
    return {"rate": count / seconds, "cpu_ms": (time.process_time() - cpu) / count * 1e3}


def measure_checkout(job: dict[str, Any]) -> dict[str, Any]:
    """Measure the version of labelaudit that this process imports; runs in its own process."""
    from labelaudit.features.backbones import open_backbone
    from labelaudit.images.containers import ImageFiles

    try:
        from labelaudit.features.extraction import extract_features
    except ImportError:  # an earlier version
        from labelaudit.features.cache import extract_features

    backbone = open_backbone(job["network"], job["weights"], torch.device(job["device"]))
    images = ImageFiles(np.array(job["paths"], dtype=object))

    def extract() -> object:
        with tempfile.TemporaryDirectory() as cache:
            return extract_features(images, backbone, cache_dir=cache)

    extract_features(images.subset(np.arange(16)), backbone, cache_dir=job["warm"])
    if job["before"]:
        return {"now": timed(extract, len(images))}
    bare = [timed(lambda: bare_passes(backbone, len(images)), len(images))]
    now = timed(extract, len(images))
    bare.append(timed(lambda: bare_passes(backbone, len(images)), len(images)))
    mean = {key: statistics.mean(one[key] for one in bare) for key in bare[0]}
    return {"now": now, "bare": mean, "parts": cpu_of_parts(backbone, images)}


def bare_passes(backbone: Any, count: int) -> None:
    """Run the network alone on random tensors, with as many threads as an extraction has."""
    from labelaudit.features.extraction import batch_size, streams_on
    from labelaudit.features.forward import sample_images

    size, threads = batch_size(backbone), torch.get_num_threads()
    streams, each = streams_on(backbone.device)
    noise = sample_images(backbone.image_size, backbone.device)[:1]
    batch = noise.expand(size, -1, -1, -1).contiguous(memory_format=torch.channels_last)
    with ThreadPoolExecutor(streams, initializer=torch.set_num_threads, initargs=(each,)) as pool:
        for done in [
            pool.submit(lambda: backbone.look_at(batch).cpu()) for _ in range(0, count, size)
        ]:
            done.result()
    torch.set_num_threads(threads)


def cpu_of_parts(backbone: Any, images: Any) -> dict[str, float]:
    """Return milliseconds of processor time per image of each part, in one thread."""
    from labelaudit.features.extraction import batch_size
    from labelaudit.images.pillow import load_visited

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    resize = (backbone.preprocess.resize,) * 2
    rows = range(min(PARTS_IMAGES, len(images)))
    encoded = [images.read(row) for row in rows]
    pictures: list[Any] = []
    squares: list[Any] = []

    def decode() -> None:
        pictures.extend(load_visited(data, resize, spare=1) for data in encoded)

    def resize_all() -> None:
        squares.extend(backbone.preprocess(picture).transpose(1, 2, 0) for picture in pictures)

    def forward() -> None:
        for part in torch.from_numpy(np.stack(squares)).split(batch_size(backbone)):
            backbone(part.permute(0, 3, 1, 2)).cpu()

    steps = {"decode": decode, "resize": resize_all, "forward": forward}
    found = {name: timed(step, len(rows))["cpu_ms"] for name, step in steps.items()}
    torch.set_num_threads(threads)
    return found


def run_apart(checkout: Path, job: dict[str, Any]) -> dict[str, Any]:
    """Measure a checkout in its own process."""
    told = subprocess.run(
        [sys.executable, __file__, "--job", json.dumps(job)],
        env={**os.environ, "PYTHONPATH": str(checkout)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, Any] = json.loads(told.stdout.splitlines()[-1])
    return result


def measure_speed(
    network: str, kind: str, options: argparse.Namespace
) -> dict[str, str | float | None]:
    """Return a row of a network and a kind of images: medians of rounds, measured alternately."""
    width, height, suffix, count = IMAGES[kind]
    folder = options.work / kind.replace(" ", "-")
    job = {
        "network": network,
        "weights": str(weights_of(network, options.lite0, options.work)),
        "device": options.device,
        "paths": write_images(folder, width, height, suffix, count)[: options.limit],
    }
    now, before = [], []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as warm:
            now.append(run_apart(HERE.parent, job | {"before": False, "warm": warm}))
        if options.before is not None:
            with tempfile.TemporaryDirectory() as warm:
                before.append(run_apart(options.before, job | {"before": True, "warm": warm}))

    def median(rounds: list[dict[str, Any]], part: str, key: str) -> float | None:
        return statistics.median(one[part][key] for one in rounds) if rounds else None

    shares = [one["now"]["rate"] / one["bare"]["rate"] for one in now]
    return {
        "before_rate": median(before, "now", "rate"),
        "now_rate": median(now, "now", "rate"),
        "bare_rate": median(now, "bare", "rate"),
        "share": statistics.median(shares),
        "before_cpu_ms": median(before, "now", "cpu_ms"),
        "now_cpu_ms": median(now, "now", "cpu_ms"),
        "decode_ms": median(now, "parts", "decode"),
        "resize_ms": median(now, "parts", "resize"),
        "forward_ms": median(now, "parts", "forward"),
        "bare_cpu_ms": median(now, "bare", "cpu_ms"),
    }


def report(done: pd.DataFrame) -> str:
    """Return the results as Markdown."""
    lines = [
        "# Extraction of features",
        "",
        *"\n\n".join(__doc__.split("\n\n")[1:3]).splitlines(),
        "",
    ]
    speed = done[done["section"] == "speed"]
    lines += [SPEED_HEADER, "|" + "---|" * (SPEED_HEADER.count("|") - 1)]
    numbers = ("before_rate", "now_rate", "bare_rate", "share", "before_cpu_ms", "now_cpu_ms")
    numbers += ("decode_ms", "resize_ms", "forward_ms", "bare_cpu_ms", "load")
    for _, row in speed.iterrows():
        cells = [
            f"{row[n]:.2f}" if n == "share" else f"{row[n]:.1f}" if pd.notna(row[n]) else "-"
            for n in numbers
        ]
        lines.append(
            f"| {row['case']} | {' | '.join(cells)} | {row['commit']}, {row['hardware']} |"
        )
    for section, header, names in (
        ("quality", QUALITY_HEADER, ("neighbors", "probe", "same_neighbors", "cosine")),
        ("runtimes", RUNTIMES_HEADER, ("rate", "cpu_ms", "cosine")),
    ):
        rows = done[done["section"] == section]
        if rows.empty:
            continue
        lines += ["", header, "|" + "---|" * (header.count("|") - 1)]
        for _, row in rows.iterrows():
            cells = [f"{row[n]:.1f}" if row[n] > 1.5 else f"{row[n]:.4f}" for n in names]
            lines.append(
                f"| {row['case']} | {' | '.join(cells)} | {row['load']:.1f}"
                f" | {row['commit']}, {row['hardware']} |"
            )
    return "\n".join(lines) + "\n"


def keep(section: str, case: str, row: dict[str, Any], options: argparse.Namespace) -> None:
    """Add a row to the results, in place of an earlier one."""
    facts = {"section": section, "case": case, "load": options.load, "commit": commit()}
    told = {"hardware": hardware(torch.device(options.device))}
    full = pd.DataFrame([facts | row | told])
    print(full.T.to_string(header=False), flush=True)
    if options.limit is not None:
        return
    done = finished()
    rest = done[(done["section"] != section) | (done["case"] != case)]
    done = pd.concat([rest, full]) if len(rest) else full
    done.to_csv(RESULTS, index=False)
    (HERE / "extraction.md").write_text(report(done), encoding="utf-8")


def finished() -> pd.DataFrame:
    """Return all rows so far."""
    return read_rows(RESULTS, "section", "case")


def main() -> None:
    """Parse, run what is not finished, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, help="folder for images")
    parser.add_argument("--lite0", type=Path, help="weights, from benchmarks/lite0_weights.py")
    parser.add_argument("--before", type=Path, help="checkout of another commit to compare with")
    parser.add_argument("--quality", type=Path, help="CIFAR-10's training split as parquet")
    parser.add_argument("--runtimes", action="store_true", help="ONNX Runtime and OpenVINO")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--limit", type=int, help="number of images for a trial, which is not kept")
    parser.add_argument("--again", action="store_true", help="measure finished cases again")
    parser.add_argument("--job", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        print(json.dumps(measure_checkout(json.loads(options.job))))
        return
    if options.work is None or options.lite0 is None:
        parser.error("--work and --lite0 are needed")
    options.work.mkdir(parents=True, exist_ok=True)
    options.load = os.getloadavg()[0]
    done = finished()
    known = set(zip(done["section"], done["case"], strict=True)) if not options.again else set()
    if options.quality is not None:
        for case, row in measure_quality(options.quality, options.lite0, options.limit):
            keep("quality", case, row, options)
        return
    if options.runtimes:
        for case, row in measure_runtimes(options.lite0, options.work):
            keep("runtimes", case, row, options)
        return
    for network in NETWORKS:
        for kind in IMAGES:
            case = f"{network.removeprefix('timm:tf_')}, {kind}"
            if ("speed", case) not in known:
                keep("speed", case, measure_speed(network, kind, options), options)


if __name__ == "__main__":
    main()
