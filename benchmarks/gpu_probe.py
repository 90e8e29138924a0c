"""First run on a GPU: whether it works, how fast it is, and what trains the 13-layer network.

    python benchmarks/gpu_probe.py MNIST.parquet CIFAR10.parquet OUT --seconds 460
    python benchmarks/gpu_probe.py MNIST.parquet CIFAR10.parquet OUT --device cpu --tiny

MNIST.parquet and CIFAR10.parquet are training splits in Hugging Face's schema. In order: the rate of
matrix products, bfloat16 against float32, a scan of MNIST, the steps of each encoder, ways to train
the 13-layer network on CIFAR-10, ResNet-18, a short scan of CIFAR-10, compiled steps.

Each finding is added to OUT/results.jsonl as one line of JSON as soon as it is there. Parts that do
not fit the remaining seconds are left out. An error in one part is written down, and the next part
runs. benchmarks/gpu_first_run.sh runs the GPU tests first.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from gpu_recipes import RECIPES, RESNET_RECIPES, Recipe, VariantUMN
from provenance import commit, hardware

import labelaudit
from labelaudit.audit.fitting import RunFiles
from labelaudit.audit.plan import AuditPlan
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.methods.supervised import CrossEntropy, SupervisedConfig
from labelaudit.methods.task import Task
from labelaudit.methods.umn import UMN
from labelaudit.networks.encoders import EncoderName
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import Source
from labelaudit.suspects.metrics import detection_metrics
from labelaudit.training.batches import epoch_batches
from labelaudit.training.device import wait_for
from labelaudit.training.loop import predict_all

NUM_CLASSES, RATE, SEED = 10, 0.2, 0
MATRIX_SIDE = 8192
TINY_IMAGES, TINY_BATCH = 30, 20
COMPARED_IMAGES = 64
WATCHED_EPOCHS = (1, 2, 4, 8)

Data = Literal["mnist", "cifar10"]


@dataclass
class Probe:
    """What is measured on, and where findings go."""

    mnist: Path
    cifar10: Path
    out: Path
    device: torch.device
    tiny: bool
    began: float

    @cached_property
    def images(self) -> dict[Data, tuple[np.ndarray, np.ndarray]]:
        """Pixels ``(N, C, H, W)`` uint8 and clean labels ``(N,)`` of each data set."""
        return {"mnist": self._read(self.mnist), "cifar10": self._read(self.cifar10)}

    def _read(self, path: Path) -> tuple[np.ndarray, np.ndarray]:
        manifest = labelaudit.read_source(path).manifest
        if self.tiny:
            manifest = manifest.subset(np.arange(min(TINY_IMAGES, manifest.num_samples)))
        pixels = decode_source(manifest.images, plan_images(manifest.images)).pixels
        return pixels, np.asarray(manifest.noisy_labels)

    @property
    def epochs(self) -> int:
        """Epochs of each training."""
        return 1 if self.tiny else 15

    @property
    def batch_size(self) -> int:
        """Images in each step."""
        return TINY_BATCH if self.tiny else 500

    def source(self, name: Data) -> Source:
        """Return a data set, a fifth of its labels wrong."""
        pixels, clean = self.images[name]
        return labelaudit.source_from_arrays(
            pixels.transpose(0, 2, 3, 1),
            corrupt_symmetric(clean, RATE, NUM_CLASSES, SEED),
            class_names=[str(number) for number in range(NUM_CLASSES)],
            clean_labels=clean,
            name=name,
        )

    def auditor(
        self, encoder: EncoderName, batch_size: int, *, flip: bool = False
    ) -> labelaudit.LabelAuditor:
        """Return an auditor."""
        return labelaudit.LabelAuditor(
            encoder=encoder,
            epochs=self.epochs,
            batch_size=batch_size,
            flip=flip,
            device=str(self.device),
            seed=SEED,
        )

    def plan(self, encoder: EncoderName, name: Data, batch_size: int | None = None) -> AuditPlan:
        """Settle everything before the first step."""
        auditor = self.auditor(encoder, batch_size or self.batch_size, flip=name == "cifar10")
        return auditor.prepare(self.source(name), Reporter())

    def tell(self, **finding: Any) -> None:
        """Write a finding down."""
        line = json.dumps(finding | {"at": round(time.monotonic() - self.began, 1)})
        print(line, flush=True)
        with (self.out / "results.jsonl").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    def milliseconds(self, run: Callable[[], object], rounds: int | None = None) -> list[float]:
        """Time a call: until the host is done with it, and until the device is done with it too.

        If both are alike, the GPU waits for Python.
        """
        rounds = rounds or (1 if self.tiny else 20)
        for _ in range(1 if self.tiny else 3):
            run()
        wait_for(self.device)
        started = time.perf_counter()
        for _ in range(rounds):
            run()
        host = time.perf_counter() - started
        wait_for(self.device)
        whole = time.perf_counter() - started
        return [round(1000 * seconds / rounds, 2) for seconds in (host, whole)]


def matrix_rate(probe: Probe) -> None:
    """Measure the rate of large matrix products in bfloat16."""
    left, right = torch.randn(
        2, MATRIX_SIDE, MATRIX_SIDE, device=probe.device, dtype=torch.bfloat16
    )
    _, whole = probe.milliseconds(lambda: left @ right)
    probe.tell(kind="matrix products", tflops=round(2 * MATRIX_SIDE**3 / whole / 1e9))


def agreement(probe: Probe) -> None:
    """Compare predictions on the device with those of the same weights in float32 on the CPU."""
    pairs: tuple[tuple[EncoderName, Data], ...] = (
        ("mlp", "mnist"),
        ("conv13", "cifar10"),
        ("resnet18", "cifar10"),
    )
    for encoder, name in pairs:
        plan = probe.plan(encoder, name)
        seen = []
        reference = UMN(plan.config, torch.device("cpu"))
        for device in (torch.device("cpu"), plan.device):
            method = UMN(plan.config, device)
            method.load_state_dict(reference.state_dict())
            images = replace(plan, device=device).training_images()
            seen.append(method.predict(images.images(np.arange(min(COMPARED_IMAGES, len(images))))))
        here, there = seen
        largest = {
            field: float((getattr(there, field).cpu() - getattr(here, field)).abs().max())
            for field in ("learner_probs", "guider_probs", "embedding")
        }
        probe.tell(kind="largest difference from float32", encoder=encoder, **largest)


def speed(probe: Probe, encoder: EncoderName, name: Data, batch_size: int) -> None:
    """Time UMN's step, without its generative half, a supervised step, and predictions."""
    plan = probe.plan(encoder, name, batch_size)
    images, labels = plan.training_images(), plan.manifest.noisy_labels
    rows = next(epoch_batches(labels, plan.batches, seed=SEED, epoch=1))
    if probe.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    umn = UMN(plan.config, plan.device)
    bare = UMN(plan.config.without_generative_half(), plan.device)
    task = Task(probe.images[name][0], labels, NUM_CLASSES, encoder, plan.device, SEED)
    supervised = CrossEntropy(task, SupervisedConfig())
    some = np.arange(min(umn.images_at_once, len(images)))
    told = umn.step(images.batch(rows))
    assert all(math.isfinite(float(value)) for value in told.values()), told
    timed = {
        "make the batch": probe.milliseconds(lambda: images.batch(rows)),
        "umn": probe.milliseconds(lambda: umn.step(images.batch(rows))),
        "no generative half": probe.milliseconds(lambda: bare.step(images.batch(rows))),
        "supervised": probe.milliseconds(lambda: supervised.step(images.batch(rows))),
        "predict": probe.milliseconds(lambda: umn.predict(images.images(some)), rounds=3),
    }
    probe.tell(
        kind="speed, milliseconds [host, all]",
        encoder=encoder,
        batch=len(rows),
        predicted=len(some),
        gib=peak_gib(probe.device),
        told={key: round(float(value), 2) for key, value in told.items()},
        **timed,
    )


def peak_gib(device: torch.device) -> float | None:
    """Return the most GPU memory that was taken, in GiB."""
    if device.type != "cuda":
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


def tuned_speed(probe: Probe) -> None:
    """Time steps with cuDNN's choice of kernels by trial."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        speed(probe, "conv13", "cifar10", probe.batch_size)
    finally:
        torch.backends.cudnn.benchmark = before


def compiled_speed(probe: Probe, encoder: EncoderName, name: Data) -> None:
    """Time UMN's compiled step, and how long compiling takes."""
    plan = probe.plan(encoder, name)
    images, labels = plan.training_images(), plan.manifest.noisy_labels
    rows = next(epoch_batches(labels, plan.batches, seed=SEED, epoch=1))
    umn = UMN(plan.config, plan.device)
    umn.compile()
    assert umn.compiled is not None
    started = time.monotonic()
    umn.step(images.batch(rows))
    wait_for(plan.device)
    probe.tell(
        kind="compiled",
        encoder=encoder,
        batch=len(rows),
        first_step_s=round(time.monotonic() - started, 1),
        umn=probe.milliseconds(lambda: umn.step(images.batch(rows))),
        failure=umn.compiled.failure,
    )


def quality(probe: Probe, title: str, recipe: Recipe, encoder: EncoderName = "conv13") -> None:
    """Audit CIFAR-10 by a recipe: accuracy on the training images by epoch, F1 and AUROC."""
    started = time.monotonic()
    auditor = probe.auditor(encoder, probe.batch_size, flip=recipe.flip)
    plan = auditor.prepare(probe.source("cifar10"), Reporter())
    steps = plan.batches.steps * plan.epochs
    plan = replace(
        plan,
        config=recipe.configure(plan.config),
        build=partial(VariantUMN, recipe=recipe, total_steps=steps),
    )
    images, clean = plan.training_images(), probe.images["cifar10"][1]
    accuracy: dict[int, float] = {}

    def watch(auditor: labelaudit.LabelAuditor, epoch: int) -> None:
        if epoch in WATCHED_EPOCHS or epoch == plan.epochs:
            probs, _ = predict_all(auditor.method_, images)
            accuracy[epoch] = round(float((probs.argmax(axis=1) == clean).mean()), 4)

    auditor.fit_plan(plan, RunFiles(), Reporter(), on_epoch=watch)
    wrong = plan.manifest.noisy_labels != clean
    found = detection_metrics(auditor.suspect_score_, auditor.is_label_issue_, wrong)
    probe.tell(
        kind="quality",
        title=title,
        encoder=encoder,
        recipe=asdict(recipe),
        epochs=plan.epochs,
        batch=plan.batch_size,
        audit_s=round(time.monotonic() - started, 1),
        accuracy_by_epoch=accuracy,
        num_flagged=int(auditor.is_label_issue_.sum()),
        **rounded(found),
    )


def whole_scan(probe: Probe, encoder: EncoderName, name: Data, epochs: int | None) -> None:
    """Scan a data set into a run folder, with its report."""
    started = time.monotonic()
    summary = labelaudit.scan(
        probe.source(name),
        out=probe.out / f"scan-{name}",
        force=True,
        encoder=encoder,
        epochs=1 if probe.tiny else epochs,
        device=str(probe.device),
        seed=SEED,
        verbose=False,
    ).summary
    assert summary.metrics is not None  # the clean labels are known
    probe.tell(
        kind="scan",
        data=name,
        encoder=encoder,
        epochs=summary.epochs,
        scan_s=round(time.monotonic() - started, 1),
        **rounded(asdict(summary.metrics)),
    )


def rounded(metrics: Mapping[str, float | None]) -> dict[str, float | None]:
    """Round metrics to four digits."""
    return {key: None if value is None else round(value, 4) for key, value in metrics.items()}


@dataclass(frozen=True)
class Part:
    """A part of the run.

    Attributes
    ----------
    name
        What it is called in the results.
    seconds
        How long it takes on a GPU, estimated.
    run
        Measures, and tells what it found.
    needs_gpu
        Whether it is left out on a CPU.
    """

    name: str
    seconds: float
    run: Callable[[Probe], None]
    needs_gpu: bool = False


def parts(batch_size: int) -> Iterator[Part]:
    """Yield all parts, the most deciding first."""
    yield Part("matrix products", 3, matrix_rate, needs_gpu=True)
    yield Part("bfloat16 against float32", 8, agreement)
    yield Part("scan MNIST", 25, partial(whole_scan, encoder="mlp", name="mnist", epochs=None))
    speeds: tuple[tuple[EncoderName, Data, int], ...] = (
        ("mlp", "mnist", batch_size),
        ("conv13", "cifar10", batch_size),
        ("resnet18", "cifar10", batch_size),
        ("conv13", "cifar10", batch_size // 2),
    )
    for encoder, name, size in speeds:
        timing = partial(speed, encoder=encoder, name=name, batch_size=size)
        yield Part(f"speed: {encoder}, {size}", 8, timing)
    yield Part("speed: cuDNN tuned", 12, tuned_speed, needs_gpu=True)
    for title, recipe in RECIPES.items():
        yield Part(f"quality: {title}", 35, partial(quality, title=title, recipe=recipe))
    for title, recipe in RESNET_RECIPES.items():
        resnet = partial(quality, title=title, recipe=recipe, encoder="resnet18")
        yield Part(f"quality: {title}", 30, resnet)
    # Of two epochs most of the time is not training.
    short = partial(whole_scan, encoder="conv13", name="cifar10", epochs=2)
    yield Part("scan CIFAR-10, 2 epochs", 30, short)
    for encoder, name, seconds in (("mlp", "mnist", 60), ("conv13", "cifar10", 90)):
        quick = partial(compiled_speed, encoder=encoder, name=name)
        yield Part(f"compiled: {encoder}", seconds, quick, needs_gpu=True)


def run_part(probe: Probe, part: Part, seconds: float) -> None:
    """Run a part if it fits the seconds; an error is written down and does not end the run."""
    started = time.monotonic()
    expected = 0 if probe.tiny else part.seconds
    if started - probe.began + expected > seconds:
        probe.tell(part=part.name, left_out=True)
        return
    try:
        part.run(probe)
    except Exception as error:
        where = traceback.format_exc()[-900:]
        probe.tell(part=part.name, error=f"{type(error).__name__}: {error}"[:400], where=where)
    probe.tell(part=part.name, seconds=round(time.monotonic() - started, 1))
    if probe.device.type == "cuda":
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, and run part after part."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", type=Path, help="MNIST's training split, a parquet file")
    parser.add_argument("cifar10", type=Path, help="CIFAR-10's training split, a parquet file")
    parser.add_argument("out", type=Path, help="folder of results.jsonl and the runs")
    parser.add_argument(
        "--seconds", type=float, default=460, help="start no part that would end later"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="a rehearsal on a few images")
    parser.add_argument("--only", default="", help="run the parts whose name contains this")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    device = torch.device(options.device)
    probe = Probe(options.mnist, options.cifar10, options.out, device, options.tiny, began)
    shapes = {name: pixels.shape for name, (pixels, _) in probe.images.items()}
    probe.tell(commit=commit(), hardware=hardware(device), torch=torch.__version__, images=shapes)
    for part in parts(probe.batch_size):
        if options.only in part.name and (device.type == "cuda" or not part.needs_gpu):
            run_part(probe, part, options.seconds)
    probe.tell(part="end")


if __name__ == "__main__":
    main()
