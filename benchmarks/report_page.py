"""Measure size, speed and frame rate of the review page with 20,000 suspects in Chromium.

    python benchmarks/report_page.py [--suspects 20000] [--side 32]

Images and predictions are drawn at random; `labelaudit.scan` itself writes the run folder. Memory is
the proportional set size of the page's process, and tasks are those of the browser's trace. Needs
Chromium and labelaudit[dev]. Results: benchmarks/report_page.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Page, sync_playwright

import labelaudit


def make_run(folder: Path, suspects: int, side: int, classes: int = 10) -> tuple[float, int]:
    """Write a run folder; return the seconds, and the size of the page and its data in bytes."""
    rng = np.random.default_rng(0)
    total = 2 * suspects
    images = rng.integers(0, 256, (total, side, side, 3), dtype=np.uint8)
    labels = rng.integers(0, classes, total)
    probs = rng.dirichlet(np.ones(classes), total)
    probs = (
        0.5 * probs
        + 0.5 * np.eye(classes)[np.where(rng.random(total) < 0.6, labels, (labels + 1) % classes)]
    )
    names = [f"class {number}" for number in range(classes)]
    source = labelaudit.source_from_arrays(images, labels, class_names=names)
    started = time.perf_counter()
    labelaudit.scan(source, pred_probs=probs, out=folder, threshold=f"top:{suspects}")
    seconds = time.perf_counter() - started
    files = [folder / "report.html", *(folder / "report-data").iterdir()]
    return seconds, sum(file.stat().st_size for file in files)


def memory(page: Page) -> float:
    """Return the proportional set size of the page's process, in megabytes."""
    session = page.context.browser.new_browser_cdp_session()
    processes = session.send("SystemInfo.getProcessInfo")["processInfo"]
    found = []
    for process in processes:
        if process["type"] == "renderer":
            text = Path(f"/proc/{process['id']}/smaps_rollup").read_text()
            found.append(int(text.split("Pss:")[1].split()[0]) / 1024)
    return max(found)


def long_tasks(page: Page, what: Any) -> dict[str, float]:
    """Trace the browser during an action; summarize the tasks of the page's main thread."""
    session = page.context.new_cdp_session(page)
    events: list[dict[str, Any]] = []
    session.on("Tracing.dataCollected", lambda data: events.extend(data["value"]))
    done: list[bool] = []
    session.on("Tracing.tracingComplete", lambda _: done.append(True))
    categories = "disabled-by-default-devtools.timeline,devtools.timeline,toplevel,__metadata"
    session.send("Tracing.start", {"categories": categories, "transferMode": "ReportEvents"})
    what()
    session.send("Tracing.end")
    while not done:
        page.wait_for_timeout(50)
    mains = {
        (event["pid"], event["tid"])
        for event in events
        if event.get("name") == "thread_name" and event["args"]["name"] == "CrRendererMain"
    }
    tasks = [
        event["dur"] / 1000
        for event in events
        if event.get("name") in ("RunTask", "ThreadControllerImpl::RunTask")
        and event.get("ph") == "X"
        and (event["pid"], event["tid"]) in mains
    ]
    return {
        "longest_ms": max(tasks, default=0.0),
        "over_50_ms": sum(task > 50 for task in tasks),
        "tasks": len(tasks),
    }


FRAMES = """() => { const at = []; window.__stop = false;
  const tick = (now) => { at.push(now); if (!window.__stop) { requestAnimationFrame(tick); } };
  requestAnimationFrame(tick); window.__frames = at; }"""


def scroll(page: Page) -> dict[str, float]:
    """Scroll the grid by the wheel for 5 seconds; return statistics of the frames."""
    page.evaluate(FRAMES)
    page.mouse.move(640, 500)
    for _ in range(100):
        page.mouse.wheel(0, 700)
        page.wait_for_timeout(40)
    page.evaluate("() => { window.__stop = true; }")
    at = page.evaluate("() => window.__frames")
    gaps = np.diff(at)
    return {
        "frames_per_second": 1000 * len(gaps) / (at[-1] - at[0]),
        "frame_ms_p95": float(np.quantile(gaps, 0.95)),
        "frame_ms_max": float(gaps.max()),
    }


def measure(page: Page, folder: Path) -> dict[str, Any]:
    """Measure opening, scrolling, filtering and deciding."""
    started = time.perf_counter()
    page.goto(f"{(folder / 'report.html').as_uri()}#review")
    page.wait_for_selector("#review.ready")
    page.wait_for_selector("#one-picture img")
    opened = time.perf_counter() - started
    result: dict[str, Any] = {"open_s": opened, "memory_opened_mb": memory(page)}
    page.keyboard.press("g")
    page.wait_for_selector(".card img")
    frames: dict[str, float] = {}
    result["scroll_tasks"] = long_tasks(page, lambda: frames.update(scroll(page)))
    result["scroll"] = frames
    result["memory_scrolled_mb"] = memory(page)

    def choose() -> None:
        for text in ("1", "19", "199", "class 3", ""):
            page.fill("#search", text)
            page.wait_for_timeout(100)
        for order in ("score", "pair", "id", "rank"):
            page.select_option("#sort", order)
            page.wait_for_timeout(100)

    result["filter_tasks"] = long_tasks(page, choose)

    def decide() -> None:
        page.keyboard.press("Escape")
        page.evaluate("document.activeElement.blur()")
        for _ in range(50):
            page.keyboard.press("a")

    result["decide_tasks"] = long_tasks(page, decide)
    result["memory_end_mb"] = memory(page)
    return result


def main() -> None:
    """Measure three times, each in a fresh browser; print medians as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--suspects", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "run"
        seconds, size = make_run(folder, options.suspects, options.side)
        page_size = (folder / "report.html").stat().st_size
        runs = []
        for _ in range(3):
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=options.chromium, args=["--no-sandbox"]
                )
                page = browser.new_page(viewport={"width": 1280, "height": 800})
                runs.append(measure(page, folder))
                browser.close()
    told = {
        "suspects": options.suspects,
        "side": options.side,
        "scan_and_write_s": seconds,
        "page_mb": page_size / 2**20,
        "page_and_data_mb": size / 2**20,
    }
    for key, value in runs[0].items():
        if isinstance(value, dict):
            told[key] = {k: statistics.median(run[key][k] for run in runs) for k in value}
        else:
            told[key] = statistics.median(run[key] for run in runs)
    print(json.dumps(told, indent=2))


if __name__ == "__main__":
    main()
