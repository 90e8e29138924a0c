"""A real browser through Playwright: Debian's Chromium, or what LABELAUDIT_CHROMIUM names."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import labelaudit

HOSTILE_CLASS = "<img src=x onerror=alert(1)>"
CLASSES = ("cat", "dog", HOSTILE_CLASS)


def chromium() -> str | None:
    names = (
        os.environ.get("LABELAUDIT_CHROMIUM", ""),
        "chromium",
        "chromium-browser",
        "google-chrome",
    )
    return next((path for name in names if name and (path := shutil.which(name))), None)


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    executable = chromium()
    if executable is None:
        pytest.skip("no Chromium on this machine; Debian's package is called chromium")
    with sync_api.sync_playwright() as playwright:
        # Without a sandbox, for tests may run as root; all pages are our own.
        started = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox"])
        yield started
        started.close()


class Tab:
    """A page, and everything that it asked for or complained of."""

    def __init__(self, page: Any) -> None:
        self.page = page
        self.requests: list[str] = []
        self.complaints: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(message.text))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.accept()))

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)

    def wait(self, expression: str) -> None:
        """Wait until JavaScript is true. Playwright's own way to wait needs a laxer policy."""
        for _ in range(200):
            if self.page.evaluate(expression):
                return
            self.page.wait_for_timeout(25)
        raise AssertionError(f"never true: {expression}")

    def open(self, address: str) -> Tab:
        self.page.goto(address)
        self.page.wait_for_selector("#review.ready", state="attached")
        return self


@pytest.fixture
def new_tab(browser: Any) -> Iterator[Callable[..., Tab]]:
    contexts = []

    def make(width: int = 1280, height: int = 800, **options: Any) -> Tab:
        size = {"width": width, "height": height}
        context = browser.new_context(viewport=size, accept_downloads=True, **options)
        contexts.append(context)
        return Tab(context.new_page())

    yield make
    for context in contexts:
        context.close()


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in a folder: 120 images with hostile names, `labels.csv`, and predictions for them.

    Every third label is wrong, and the predictions know it.
    """
    folder = tmp_path_factory.mktemp("data")
    images = folder / 'photos of "us" & them'
    images.mkdir()
    rng = np.random.default_rng(7)
    names, labels, truth = [], [], []
    for number in range(120):
        name = f'it\'s #{number}% "so".png' if number % 5 == 0 else f"{number:03d}.png"
        right = number % 3
        Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(images / name)
        names.append(name)
        truth.append(CLASSES[right])
        labels.append(
            CLASSES[(right + 1) % 3] if number % 3 == 1 and number % 2 else CLASSES[right]
        )
    table = pd.DataFrame({"path": names, "label": labels, "extra": [f"n{i}" for i in range(120)]})
    table.to_csv(images / "labels.csv", index=False)
    probs = pd.DataFrame({"sample_id": names})
    for column in CLASSES:
        sure = rng.uniform(0.9, 0.97, 120)
        probs[column] = np.where(np.array(truth) == column, sure, 0.0)
    known = probs[list(CLASSES)].sum(axis=1)
    for column in CLASSES:
        probs[column] = probs[column].where(probs[column] > 0, (1 - known) / 2)
    probs.to_parquet(folder / "probs.parquet")
    pd.DataFrame({"path": names, "truth": truth}).to_parquet(folder / "truth.parquet")
    return images


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Path:
    """A run folder of `photos`, all of whose suspects are truly wrong."""
    result = labelaudit.scan(
        photos / "labels.csv",
        pred_probs=photos.parent / "probs.parquet",
        out=tmp_path / "run",
        threshold="top:36",
    )
    assert len(result.suspects) == 36
    return tmp_path / "run"
