"""Where the time of UMN's step of 100 MNIST images goes on one core.

`benchmarks/speed.py` runs this as its section "parts". All times are CPU seconds of the one thread that
runs, so other programs disturb them little.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import islice
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.training.batches import TrainingImages, epoch_batches, plan_batches

# The paper's protocol: 100 labels among 50,000 images, 5 of them in each batch of 100.
NUM_IMAGES, NUM_LABELED, BATCH_SIZE = 50_000, 100, 100
EPOCHS = 350
WARM_UP, TIMED = 20, 180  # twice, from the 526 batches of one epoch
REPETITIONS = 30
PRODUCTS = (torch.ops.aten.mm.default, torch.ops.aten.addmm.default)

Rows = Iterator[tuple[str, float, str]]


class Stopwatch:
    """Seconds by part of each step. A part within another part counts for itself only."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self._step: dict[str, float] = {}
        self._open: list[str] = []
        self._since = 0.0

    def _turn(self) -> None:
        now = time.thread_time()
        if self._open:
            self._step[self._open[-1]] = self._step.get(self._open[-1], 0.0) + now - self._since
        self._since = now

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count the time within for a part."""
        self._turn()
        self._open.append(name)
        try:
            yield
        finally:
            self._turn()
            self._open.pop()

    def end_step(self) -> None:
        """Keep the times of a step."""
        for name, seconds in self._step.items():
            self.seconds[name].append(seconds)
        self.seconds["the whole step"].append(sum(self._step.values()))
        self._step = {}

    def watch(self, owner: object, method: str, name: str) -> AbstractContextManager[object]:
        """Count the time of a method for a part, in the context that is returned."""
        plain: Callable[..., Any] = getattr(owner, method)

        def timed(*args: Any, **settings: Any) -> Any:
            with self.part(name):
                return plain(*args, **settings)

        return patch.object(owner, method, timed)


class Products(TorchDispatchMode):
    """Keeps operands of the shape and layout of every matrix product that runs within."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Tensor], list[Tensor]]] = []

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run an operation; note it if it is a matrix product."""
        if function in PRODUCTS:
            alike = [
                torch.empty_strided(a.shape, a.stride()).copy_(torch.rand(a.shape)) for a in args
            ]
            self.calls.append((function, alike))
        return function(*args, **(kwargs or {}))


def protocol(
    pixels: np.ndarray, labels: np.ndarray
) -> tuple[UMN, TrainingImages, Iterator[np.ndarray]]:
    """Return UMN with the bound for every image, the images, and the rows of batches of 100."""
    pixels = pixels[:NUM_IMAGES]
    given = np.full(len(pixels), -1)
    given[:NUM_LABELED] = labels[:NUM_LABELED]
    plan = plan_batches(NUM_LABELED, len(pixels) - NUM_LABELED, BATCH_SIZE)
    torch.manual_seed(0)
    config = UMNConfig.for_data(pixels, given[:NUM_LABELED], 10, "mlp", plan)
    assert config.generative
    assert config.explained_share == 1
    device = torch.device("cpu")
    images = TrainingImages(pixels, given, device)
    return UMN(config, device), images, epoch_batches(given, plan, seed=0, epoch=1)


def time_parts(
    umn: UMN, images: TrainingImages, batches: Iterable[np.ndarray], count: int
) -> dict[str, float]:
    """Return the median milliseconds of each part of `count` steps; the last is the whole step."""
    watch, network = Stopwatch(), umn.network
    parts: tuple[tuple[object, str, str], ...] = (
        (images, "batch", "batch"),
        (network.encoder, "forward", "encoder, forward"),
        (network.classifier, "forward", "classifier, forward"),
        (network.conditional, "encode", "conditional networks, forward"),
        (network.conditional, "decode", "conditional networks, forward"),
        (network.decoder, "forward", "decoder, forward"),
        (umn.guider, "forward", "guider, forward"),
        (umn, "loss", "bound and labeled term, forward, without the networks"),
        (Tensor, "backward", "backward"),
        (umn.optimizer, "step", "Adam"),
        (umn.guider, "update_parameters", "moving average"),
    )
    with ExitStack() as stack:
        for owner, method, name in parts:
            stack.enter_context(watch.watch(owner, method, name))
        for rows in islice(batches, count):
            with watch.part("rest"):
                umn.step(images.batch(rows))
            watch.end_step()
    return {name: 1000 * statistics.median(seconds) for name, seconds in watch.seconds.items()}


def time_steps(
    umn: UMN, images: TrainingImages, batches: Iterable[np.ndarray], count: int
) -> float:
    """Return the median milliseconds of `count` steps, whose parts are not timed."""
    times = []
    for rows in islice(batches, count):
        start = time.thread_time()
        umn.step(images.batch(rows))
        times.append(time.thread_time() - start)
    return 1000 * statistics.median(times)


def time_products(umn: UMN, images: TrainingImages, rows: np.ndarray) -> float:
    """Return the milliseconds that the matrix products of a step need, each repeated alone."""
    with Products() as products:
        umn.step(images.batch(rows))
    total = 0.0
    for product, operands in products.calls:
        times = []
        for _ in range(REPETITIONS):
            start = time.thread_time()
            product(*operands)
            times.append(time.thread_time() - start)
        total += statistics.median(times)
    return 1000 * total


def parts(pixels: np.ndarray, labels: np.ndarray) -> Rows:
    """Time the parts of a step on one core, and the matrix products of a step alone.

    The step is timed once more, compiled by torch.compile.

    Parameters
    ----------
    pixels, labels
        MNIST's, ``(N, 1, 28, 28)`` uint8 and ``(N,)``.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    umn, images, batches = protocol(pixels, labels)
    time_parts(umn, images, batches, WARM_UP)
    taken = time_parts(umn, images, batches, TIMED)
    rows = next(batches)
    with FlopCounterMode(display=False) as counter:
        umn.step(images.batch(rows))
    floor = time_products(umn, images, rows)
    whole = taken.pop("the whole step")
    for name, milliseconds in taken.items():
        yield name, milliseconds, "ms"
        yield f"{name}: share", milliseconds / whole, "share"
    yield "the whole step", whole, "ms"
    yield "the step's matrix products alone", floor, "ms"
    yield "the step's matrix products alone: share", floor / whole, "share"
    yield "the step's matrix products", counter.get_total_flops() / 1e9, "GFLOP"
    steps = -(-(NUM_IMAGES - NUM_LABELED) // (BATCH_SIZE - BATCH_SIZE // 20))
    yield f"{EPOCHS} epochs of {steps} steps", EPOCHS * steps * whole / 60_000, "min"
    umn.compile()
    time_steps(umn, images, batches, WARM_UP)
    quick = time_steps(umn, images, batches, TIMED)
    torch.set_num_threads(threads)
    yield "the whole step, compiled", quick, "ms"
    yield f"{EPOCHS} epochs of {steps} steps, compiled", EPOCHS * steps * quick / 60_000, "min"
