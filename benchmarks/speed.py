"""Measure the time of UMN's step, audit and recorder, mostly as ratios within one run.

    python benchmarks/speed.py MNIST_FOLDER
    python benchmarks/speed.py MNIST_FOLDER --section audit --device cuda

Sections:

- steps: UMN's step compared with training the same encoder with cross-entropy
- audit, audit-batches, audit-conv: UMN's audit compared with five-fold confident learning and AUM with
  the same number of epochs; the last two also with the same batches, the last with a ResNet-18
- recorder: recording as a share of an epoch
- compiled: the step compiled by torch.compile compared with the uncompiled step
- classes: the step by the number of classes
- decoding: images per second
- flops: operations per image and step; on a GPU also as a share of the measured rate of bfloat16 matrix
  products
- parts: milliseconds of each part of a step of 100 images on one core (step_parts.py)

All figures are kept in benchmarks/results/speed.csv, and benchmarks/speed.md is written from them. A
section that runs again replaces its figures; `parts` replaces those of its own commit only, and keeps
other commits for comparison. Run it on an idle machine. To measure the package of another commit, check
that commit out elsewhere, and set PYTHONPATH to it and `--of` to its name. benchmarks/scale.py measures
memory by the number of images.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from finished_rows import read_rows
from PIL import Image
from provenance import commit, hardware
from sklearn.metrics import f1_score
from step_parts import parts
from torch.utils.flop_counter import FlopCounterMode

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.evaluation import open_dataset
from labelaudit.benchmark.systems import UncertaintyMining
from labelaudit.images.containers import ImageFiles
from labelaudit.images.decode import decode_images
from labelaudit.methods.aum import AUMAudit
from labelaudit.methods.confident_learning import ConfidentLearning
from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig
from labelaudit.methods.task import AuditResult, Task
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.encoders import EncoderName
from labelaudit.training.batches import TrainingImages, epoch_batches
from labelaudit.training.device import wait_for
from labelaudit.training.loop import fit
from labelaudit.training.method import Method
from labelaudit.training.recorder import look_at_labels, write_part

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "speed.csv"
RATE, SEED = 0.2, 100
TIMED_ROUNDS, STEPS_A_ROUND = 9, 3

MATRIX_SIDE = 8192

Rows = Iterator[tuple[str, float, str]]


@dataclass(frozen=True)
class Bench:
    """The device, and MNIST."""

    mnist: Path
    device: torch.device
    seeds: int

    @cached_property
    def digits(self) -> tuple[np.ndarray, np.ndarray]:
        """MNIST's pixels ``(N, 1, 28, 28)`` uint8 and labels ``(N,)``."""
        data = open_dataset(str(self.mnist), test="test")
        return data.inputs, data.clean_labels

    def task(self, encoder: EncoderName, count: int, seed: int = SEED) -> tuple[Task, np.ndarray]:
        """Return `count` digits, of which a fifth have a wrong label, and the mask of these."""
        pixels, clean = self.digits
        rows = np.random.default_rng(seed).permutation(len(pixels))[:count]
        given = corrupt_symmetric(clean[rows], RATE, 10, seed)
        task = Task(pixels[rows], given, 10, encoder, self.device, seed)
        return task, given != clean[rows]

    def noise(self, encoder: EncoderName, classes: int, count: int) -> Task:
        """Return colored noise of 32x32 pixels with random labels, to measure time only."""
        rng = np.random.default_rng(SEED)
        pixels = rng.integers(0, 256, (count, 3, 32, 32)).astype(np.uint8)
        return Task(pixels, rng.permutation(count) % classes, classes, encoder, self.device, SEED)

    def seconds(self, *steps: Callable[[], object]) -> list[float]:
        """Return the median seconds of each step. They are timed alternately for a fair comparison."""
        times: list[list[float]] = [[] for _ in steps]
        for step in steps:  # warm up
            step()
        for _ in range(TIMED_ROUNDS):
            for step, taken in zip(steps, times, strict=True):
                self.wait()
                start = time.perf_counter()
                for _ in range(STEPS_A_ROUND):
                    step()
                self.wait()
                taken.append((time.perf_counter() - start) / STEPS_A_ROUND)
        return [statistics.median(taken) for taken in times]

    def wait(self) -> None:
        """Wait until the GPU is done."""
        wait_for(self.device)


def stepper(task: Task, method: Method, batch_size: int) -> Callable[[], object]:
    """Return a function that takes a step on the first batch of an epoch."""
    images = task.training_images()
    rows = next(epoch_batches(task.noisy_labels, task.plan(batch_size), seed=SEED, epoch=1))
    return lambda: method.step(images.batch(rows))


def make_umn(task: Task, batch_size: int, **settings: object) -> UMN:
    """Build UMN as an audit does, with the share of explained images of large batches."""
    config = UMNConfig.for_data(
        task.inputs, task.given, task.num_classes, task.encoder, task.plan(batch_size)
    )
    return UMN(replace(config, **{"min_explained": 1, **settings}), task.device)


def each_encoder(bench: Bench) -> Iterator[tuple[EncoderName, int, Task]]:
    """Yield encoders, batch sizes that suit the device, and tasks to train on."""
    on_gpu = bench.device.type == "cuda"
    yield "mlp", 200, bench.task("mlp", 2000)[0]
    for encoder, on_cpu in (("resnet18", 50), ("conv13", 10)):
        batch_size = 500 if on_gpu else on_cpu
        yield encoder, batch_size, bench.noise(encoder, 10, 20 * batch_size)


def steps(bench: Bench) -> Rows:
    """Time UMN's step against the supervised step."""
    for encoder, batch_size, task in each_encoder(bench):
        umn = stepper(task, make_umn(task, batch_size), batch_size)
        whole = stepper(task, make_umn(task, batch_size, explained_share=1.0), batch_size)
        plain = stepper(task, CrossEntropy(task, SupervisedConfig()), batch_size)
        ours, all_explained, theirs = bench.seconds(umn, whole, plain)
        yield f"{encoder}, batch of {batch_size}: UMN's step / supervised step", ours / theirs, "x"
        yield (
            f"{encoder}: the same, with the bound calculated for every image",
            all_explained / theirs,
            "x",
        )
        yield f"{encoder}: images per second in UMN's step", batch_size / ours, "/s"


def audits(
    bench: Bench, encoder: EncoderName, count: int, epochs: int, batch_size: int | None
) -> Rows:
    """Measure time and F1 of audits with the same epochs, and the same `batch_size` if given."""
    taken: dict[str, list[float]] = {}
    found: dict[str, list[float]] = {}
    for seed in range(SEED, SEED + bench.seeds):
        task, wrong = bench.task(encoder, count, seed)
        task = replace(task, epochs=epochs, batch_size=batch_size)
        for name, system in (("UMN", UncertaintyMining()), ("confident learning",
                             ConfidentLearning()), ("AUM", AUMAudit())):  # fmt: skip
            start = time.perf_counter()
            result = system.audit(task)
            bench.wait()
            taken.setdefault(name, []).append(time.perf_counter() - start)
            found.setdefault(name, []).append(best_f1(result, wrong, name))
    batches = "default batch sizes" if batch_size is None else f"batches of {batch_size}"
    what = f"{encoder}, {count:,} digits, {epochs} epochs, {batches}, {bench.seeds} seeds"
    for rival in ("confident learning", "AUM"):
        yield (
            f"{what}: UMN's audit / {rival}'s",
            sum(taken["UMN"]) / sum(taken[rival]),
            "x",
        )
    for name, values in found.items():
        best = ", best filter" if name == "confident learning" else ""
        yield f"{what}: F1 of {name}{best}", statistics.mean(values), "F1"
    yield f"{what}: UMN's audit", statistics.mean(taken["UMN"]), "s"


def best_f1(result: AuditResult, wrong: np.ndarray, name: str) -> float:
    """Return F1; for confident learning, that of the filter which the truth chooses."""
    cuts = result.variants.values() if name == "confident learning" else [result.flagged]
    return max(float(f1_score(wrong, cut)) for cut in cuts)


def recorder(bench: Bench) -> Rows:
    """Time recording as a share of the steps of an epoch."""
    for encoder, count, batch_size in (("mlp", 10_000, 200), ("resnet18", 1000, 50)):
        task, _ = bench.task(encoder, count)
        method, plan = make_umn(task, batch_size), task.plan(batch_size)
        images = task.training_images()
        spent: list[float] = []

        def record(epoch: int, method: UMN = method, images: TrainingImages = images,
                   spent: list[float] = spent) -> None:  # fmt: skip
            start = time.perf_counter()
            with tempfile.TemporaryDirectory() as folder:
                ids = np.arange(len(images)).astype(str)
                seen = look_at_labels(method, images)
                write_part(Path(folder), epoch, ids, seen.learner_prob, seen.guider_prob)
            spent.append(time.perf_counter() - start)

        ended = fit(
            method, images, plan, epochs=3, seed=SEED, on_epoch=record, reporter=task.reporter
        )
        yield (
            f"{encoder}, {count:,} digits: recording, as a share of an epoch",
            sum(spent) / ended.seconds,
            "share",
        )


def compiled(bench: Bench) -> Rows:
    """Time UMN's compiled and uncompiled step, and the compilation."""
    for encoder, batch_size, task in each_encoder(bench):
        method = make_umn(task, batch_size)
        method.compile()
        quick = stepper(task, method, batch_size)
        start = time.perf_counter()
        quick()
        bench.wait()
        spent = time.perf_counter() - start
        assert method.compiled is not None
        if method.compiled.failure is not None:
            print(f"compiled: {encoder}: {method.compiled.failure}")
            continue
        ours, plain = bench.seconds(quick, stepper(task, make_umn(task, batch_size), batch_size))
        yield (
            f"{encoder}, batch of {batch_size}: UMN's compiled step / uncompiled step",
            ours / plain,
            "x",
        )
        yield f"{encoder}: time to compile", spent, "s"


def classes(bench: Bench) -> Rows:
    """Time a step with the generative half by the number of classes."""
    for count in (2, 10, 100, 1000):
        task = bench.noise("mlp", count, 4000)
        method = make_umn(task, 200, generative=True, entropy_weight=0.0, explained_share=1.0)
        (seconds,) = bench.seconds(stepper(task, method, 200))
        yield f"mlp, 32x32 color, batch of 200, {count:,} classes: UMN's step", 1000 * seconds, "ms"


def decoding(bench: Bench) -> Rows:
    """Time decoding of PNG files of 28x28 pixels and JPEG files of 224x224, on all cores."""
    pixels, _ = bench.digits
    rng = np.random.default_rng(SEED)
    photo = Image.fromarray(rng.integers(0, 256, (14, 14, 3)).astype(np.uint8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for number in range(5000):
            Image.fromarray(pixels[number, 0]).save(folder / f"{number}.png")
        for number in range(1000):
            turned = photo.rotate(number % 360).resize((224, 224), Image.Resampling.BICUBIC)
            turned.save(folder / f"{number}.jpg", quality=90)
        for kind, count, side, channels in (("png", 5000, 28, 1), ("jpg", 1000, 224, 3)):
            files = np.array([str(folder / f"{n}.{kind}") for n in range(count)], dtype=object)
            start = time.perf_counter()
            decode_images(ImageFiles(files), height=side, width=side, channels=channels)
            yield f"{kind}, {side}x{side}: decoded", count / (time.perf_counter() - start), "/s"


def flops(bench: Bench) -> Rows:
    """Count the floating-point operations of a step; on a GPU, return the achieved share as well."""
    on_gpu = bench.device.type == "cuda"
    rate = matrix_rate(bench) if on_gpu else None
    if rate is not None:
        yield "bfloat16 matrix products", rate / 1e12, "TFLOP/s"
    for encoder, batch_size in (("mlp", 200), ("resnet18", 20), ("conv13", 20)):
        task = bench.noise(encoder, 10, 200)
        method = make_umn(task, batch_size)
        step = stepper(task, method, batch_size)
        with FlopCounterMode(display=False) as counter:
            step()
        an_image = counter.get_total_flops() / batch_size
        yield f"{encoder}, 32x32 color: UMN's step, per image", an_image / 1e9, "GFLOP"
        if rate is not None:
            task = bench.noise(encoder, 10, 2000)
            (seconds,) = bench.seconds(stepper(task, make_umn(task, 500), 500))
            achieved = 500 * an_image / seconds
            yield f"{encoder}: achieved share of the matrix rate", achieved / rate, "share"


def matrix_rate(bench: Bench) -> float:
    """Return the floating-point operations per second of a large matrix product in bfloat16."""
    left = torch.randn(MATRIX_SIDE, MATRIX_SIDE, device=bench.device, dtype=torch.bfloat16)
    (seconds,) = bench.seconds(lambda: left @ left)
    return 2 * MATRIX_SIDE**3 / seconds


SECTIONS: dict[str, Callable[[Bench], Rows]] = {
    "steps": steps,
    "audit": partial(audits, encoder="mlp", count=10_000, epochs=30, batch_size=None),
    "audit-batches": partial(audits, encoder="mlp", count=10_000, epochs=30, batch_size=200),
    "audit-conv": partial(audits, encoder="resnet18", count=1200, epochs=8, batch_size=50),
    "recorder": recorder,
    "compiled": compiled,
    "classes": classes,
    "decoding": decoding,
    "flops": flops,
    "parts": lambda bench: parts(*bench.digits),
}
# Their figures of other commits are kept.
COMPARED = ("parts",)


def report() -> str:
    """Return the results as Markdown."""
    done = read_rows(RESULTS)
    lines = [
        "# Speed",
        "",
        f"`python benchmarks/speed.py MNIST_FOLDER`. Digits are MNIST's, with {RATE:.0%} of the labels"
        f" wrong, seeds from {SEED} on. Ratios are from one run. Steps are medians, timed alternately."
        " [scale.md](scale.md) has memory, disk and time by the number of images.",
        "",
    ]
    for (section, revision, where), rows in done.groupby(
        ["section", "commit", "hardware"], sort=False
    ):
        title = f"{section}, at {revision}" if section in COMPARED else section
        lines += [f"## {title}", "", f"Commit {revision}; {where}.", ""]
        lines += ["| what | figure |", "|---|---|"]
        lines += [f"| {row.what} | {row.figure:.3g} {row.unit} |" for row in rows.itertuples()]
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Parse, run, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path, help="folder of MNIST's parquet shards")
    parser.add_argument("--section", action="append", choices=list(SECTIONS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=3, help="number of audits of each system")
    parser.add_argument("--of", default=commit(), help="commit of the package that is measured")
    parser.add_argument("--report-only", action="store_true")
    options = parser.parse_args()
    bench = Bench(options.mnist, torch.device(options.device), options.seeds)
    where = hardware(bench.device)
    for section in [] if options.report_only else options.section or list(SECTIONS):
        rows = []
        for what, figure, unit in SECTIONS[section](bench):
            print(f"{section}: {what}: {figure:.3g} {unit}", flush=True)
            rows.append({"section": section, "what": what, "figure": figure, "unit": unit,
                         "commit": options.of, "hardware": where})  # fmt: skip
        done = read_rows(RESULTS) if RESULTS.exists() else pd.DataFrame(rows[:0])
        if len(done):
            kept = (done["section"] != section) | (done["hardware"] != where)
            if section in COMPARED:
                kept |= done["commit"] != options.of
            done = done[kept]
        pd.concat([done, pd.DataFrame(rows)]).to_csv(RESULTS, index=False)
    (HERE / "speed.md").write_text(report(), encoding="utf-8")


if __name__ == "__main__":
    main()
