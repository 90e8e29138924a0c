"""Make the tutorials' screenshots: the report of ``labelaudit demo`` in headless Chromium.

    python docs/screenshots.py

It needs ``pip install ".[dev]"`` and Chromium, and writes PNG files to ``docs/img``.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

IMAGES = Path(__file__).parent / "img"
SIZE = {"width": 1000, "height": 720}


def capture(page: Page, name: str, wait_for: str) -> None:
    """Save what the page shows once an element is visible."""
    page.wait_for_selector(wait_for)
    page.wait_for_timeout(300)  # pictures
    page.screenshot(path=IMAGES / f"{name}.png")


def main() -> None:
    """Audit the digits, and save the report's overview and its review tab."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = Path(folder) / "run1"
        data = Path(folder) / "digits"
        command = [
            sys.executable,
            "-m",
            "labelaudit",
            "demo",
            "--data",
            str(data),
            "--out",
            str(run),
        ]
        subprocess.run(command, check=True)
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=SIZE, bypass_csp=True)
        page.goto((run / "report.html").as_uri())
        capture(page, "report-overview", "#overview")
        page.goto((run / "report.html").as_uri() + "#review")
        capture(page, "report-review", "#one-picture")
        page.keyboard.press("g")
        capture(page, "report-grid", "#floor li")
        browser.close()


if __name__ == "__main__":
    main()
