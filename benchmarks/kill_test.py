"""Kill ``labelaudit`` at random moments, and fill its disk, and compare what is resumed with a twin.

    python benchmarks/kill_test.py --work FOLDER
    python benchmarks/kill_test.py --work FOLDER --kills 500 --seed 1 --write

Each trial starts a command in a process of its own, kills it by SIGKILL at a random moment of a phase,
continues it as the message of labelaudit says, and compares all files with those of a run that nothing
interrupted. The phases are: decoding, training, writing, replacing a run with ``--force``, the few
milliseconds in which its files are moved, and saving decisions in a review. A trial passes if all files
have the same bytes, except for times, and no other file is left.

Then scans write to disks of 15 sizes, of which the last is large enough. On Linux, root mounts a tmpfs
of that size; others limit the size of a file (RLIMIT_FSIZE). Each scan must end in one line and exit
code 2. When there is room, the continued run must be the twin. In every second trial the estimate
before the scan is switched off, as if another program had filled the disk meanwhile.

Last, two scans start at once on one folder: one must succeed, and the other must be told.

Needs Linux or macOS. With ``--write``, benchmarks/kill_test.md is written from the results.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from provenance import commit, hardware

from labelaudit import pipeline
from labelaudit.cli import app
from labelaudit.reporting.run_files import EARLIER, MARKER, UNFINISHED
from labelaudit.training import loop

HERE = Path(__file__).parent
PHASES = ("decoding", "training", "writing", "force", "moving", "review")
SCAN = ["scan", "../data", "--encoder", "mlp", "--epochs", "6", "--out", "out", "--seed"]
# 256 KiB to 32 MiB. A scan needs about 25 MiB, most of it for two checkpoints.
SIZES = [round(2 ** (18 + step / 2)) for step in range(15)]
NOTE = "a file of the user"
TIMES = re.compile(r'"(seconds|reviewed_at)": [^,}\n]*|(?<=<dd>)[\d.]+ s|\d{4}-\d\d-\d\dT[\d:]+Z')


def write_images(folder: Path, each: int = 100) -> None:
    """Write two classes of images of 16x16 pixels, of which a tenth have the wrong label."""
    rng = np.random.default_rng(0)
    for number in range(2 * each):
        label = number % 2
        shown = 1 - label if number % 10 == 0 else label
        pixels = rng.integers(0, 120, (16, 16)) + 100 * label
        place = folder / f"class{shown}"
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(place / f"{number:04d}.png")


# --- processes ---------------------------------------------------------------------------------------


def start(folder: Path, arguments: list[str], prepare: Callable[[], object] = lambda: None) -> int:
    """Run a command in a copy of this process, so that nothing must be imported again."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        os.chdir(folder)
        with Path(f"{folder}.log").open("w") as log:
            for stream in (1, 2):
                os.dup2(log.fileno(), stream)
            loop.CHECKPOINT_SECONDS = -1.0  # after every epoch
            prepare()
            app(arguments)
    except SystemExit as done:
        code = int(done.code or 0)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(folder: Path, arguments: list[str], prepare: Callable[[], object] = lambda: None) -> int:
    return wait(start(folder, arguments, prepare))


def last_line(folder: Path) -> str:
    lines = Path(f"{folder}.log").read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def kill(child: int, ready: Callable[[], bool], delay: float) -> bool:
    """Kill a process some time after a condition holds. Return False if it had ended before."""
    limit = time.monotonic() + 120
    while not ready() and time.monotonic() < limit:
        if os.waitpid(child, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.0002)
    time.sleep(delay)
    if os.waitpid(child, os.WNOHANG) != (0, 0):
        return False
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


# --- comparing ---------------------------------------------------------------------------------------


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder, hidden ones as well, without the times in them."""
    found = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else b"a folder"
        if path.suffix in (".json", ".html", ".csv", ".js"):
            data = TIMES.sub("", data.decode()).encode()
        found[path.relative_to(folder).as_posix()] = data
    return found


def difference(folder: Path, twin: dict[str, bytes]) -> str:
    """Return how a folder differs from the twin, in words, "" if it does not."""
    found = contents(folder)
    left = sorted(found.keys() - twin.keys())
    missing = sorted(twin.keys() - found.keys())
    changed = [name for name in found.keys() & twin.keys() if found[name] != twin[name]]
    parts = [("left over", left), ("missing", missing), ("different", sorted(changed))]
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


def status(run_folder: Path) -> str:
    try:
        return str(json.loads((run_folder / MARKER).read_text())["status"])
    except (OSError, ValueError):
        return ""


# --- trials ------------------------------------------------------------------------------------------


@dataclass
class Twins:
    """What uninterrupted commands leave, and how long their phases take in seconds."""

    fresh: dict[str, bytes]
    earlier: Path
    replaced: dict[str, bytes]
    reviewed: dict[str, bytes]
    seconds: dict[str, float]


def prepare_twins(work: Path) -> Twins:
    write_images(work / "data")
    folder = work / "twin"
    folder.mkdir()
    began = time.monotonic()
    child = start(folder, [*SCAN, "0"])
    marks: dict[str, float] = {}
    while os.waitpid(child, os.WNOHANG) == (0, 0):
        now = status(folder / "out")
        marks.setdefault(now, time.monotonic() - began)
        time.sleep(0.001)
    end = time.monotonic() - began
    fresh = contents(folder)
    earlier = work / "earlier"
    earlier.mkdir()
    assert run(earlier, [*SCAN, "1"]) == 0, last_line(earlier)
    (earlier / "out" / "notes.txt").write_text(NOTE)
    (earlier / "out" / "plots" / "mine.png").write_text(NOTE)
    replaced = work / "replaced"
    shutil.copytree(earlier, replaced)
    assert run(replaced, [*SCAN, "0", "--force"]) == 0, last_line(replaced)
    reviewed = work / "reviewed"
    shutil.copytree(earlier, reviewed)
    assert run(reviewed, [], lambda: review(len(suspects(reviewed)))) == 0, last_line(reviewed)
    seconds = {
        "decoding": marks["running"],
        "training": marks["writing"] - marks["running"],
        "writing": end - marks["writing"],
        "force": end,
        "moving": 0.004,
        "review": 0.02 * len(suspects(reviewed)),
    }
    return Twins(fresh, earlier, contents(replaced), contents(reviewed), seconds)


def suspects(folder: Path) -> list[str]:
    from labelaudit.corrections.run import read_run

    return list(read_run(folder / "out").suspects["sample_id"])


def review(count: int) -> None:
    """Save decisions about this many suspects one by one, as the page of a review does."""
    from labelaudit.review.server import ReviewServer

    with ReviewServer("out", "a reviewer") as server:
        for sample in suspects(Path())[:count]:
            change = {"sample_id": sample, "decision": "keep", "corrected_label": "", "note": ""}
            server.corrections.update([change], "a reviewer", server.refuse_if_stale)
    raise SystemExit(0)


def try_kill(phase: str, folder: Path, twins: Twins, rng: random.Random) -> str | None:
    """Kill a command in a phase and continue. Return what is wrong, "" if nothing, None if it ended."""
    out, delay = folder / "out", rng.uniform(0, twins.seconds[phase])
    arguments, twin = [*SCAN, "0"], twins.fresh
    if phase in ("force", "moving", "review"):
        shutil.copytree(twins.earlier, folder)
        twin = twins.reviewed if phase == "review" else twins.replaced
    else:
        folder.mkdir()
    if phase in ("force", "moving"):
        arguments.append("--force")

    def ready() -> bool:
        if phase == "moving":
            return (out / EARLIER).exists()
        wanted = {"training": "running", "writing": "writing"}
        return phase not in wanted or status(out) == wanted[phase]

    def saving() -> None:
        review(len(suspects(folder)))

    child = start(folder, [], saving) if phase == "review" else start(folder, arguments)
    if not kill(child, ready, delay):
        return None
    if phase == "review":
        code = run(folder, [], saving)
        return difference(folder, twin) if code == 0 else last_line(folder)
    if phase in ("force", "moving") and (problem := lost(folder, twins)):
        return problem
    arguments = [one for one in arguments if one != "--force"]
    code = run(folder, [*arguments, "--resume"])
    if code == 2 and phase in ("force", "moving") and status(out) == "complete":
        # The earlier run is still there, or the new one was complete already.
        if "nothing to resume" not in last_line(folder):
            return last_line(folder)
        code = 0 if not difference(folder, twin) else run(folder, [*arguments, "--force"])
    elif code == 2 and status(out) == "complete":
        code = 0
    return difference(folder, twin) if code == 0 else f"exit code {code}: {last_line(folder)}"


def lost(folder: Path, twins: Twins) -> str:
    """Return what is lost of the run that is replaced, right after the kill."""
    out = folder / "out"
    if status(out) == "complete" or status(out) not in UNFINISHED:
        return ""  # the new results are there, or files are being moved and will be moved back
    before = contents(twins.earlier / "out")
    now = contents(out / EARLIER) | contents(out)
    gone = [name for name in before if name not in now]
    return f"lost: {', '.join(gone)}" if gone else ""


# --- full disks --------------------------------------------------------------------------------------


class SmallDisk:
    """A folder that holds a number of bytes: a tmpfs if this process may mount it."""

    def __init__(self, folder: Path, size: int) -> None:
        self.folder, self.size = folder, size
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        self.mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0

    def limit(self) -> None:
        """Limit this process, which writes to the folder."""
        if not self.mounted:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size // 8, resource.RLIM_INFINITY))

    def make_room(self) -> None:
        """Make the disk large."""
        if self.mounted:
            command = ["mount", "-o", "remount,size=64m", str(self.folder)]
            subprocess.run(command, check=True)

    def close(self) -> None:
        """Unmount the disk."""
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


def try_full_disk(number: int, size: int, folder: Path, twins: Twins) -> tuple[str, str, str]:
    """Scan to a small disk; return the kind of disk, the message, and what is wrong, "" if nothing."""
    disk = SmallDisk(folder, size)
    try:

        def prepare() -> None:
            disk.limit()
            if number % 2:
                pipeline.check_room = lambda *_: None

        code = run(folder, [*SCAN, "0"], prepare)
        told = last_line(folder).replace(str(folder), "the disk")
        kind = "tmpfs" if disk.mounted else "RLIMIT_FSIZE"
        if code == 0:
            return kind, "fits", difference(folder, twins.fresh)
        log = Path(f"{folder}.log").read_text()
        if code != 2 or not told.startswith("error: ") or "Traceback" in log:
            return kind, told, f"exit code {code}"
        disk.make_room()
        if run(folder, [*SCAN, "0", "--resume"]) != 0:
            return kind, told, f"not resumed: {last_line(folder)}"
        return kind, told, difference(folder, twins.fresh)
    finally:
        disk.close()


def try_two_at_once(folder: Path, twins: Twins) -> str:
    """Start two scans on one folder; return what is wrong, "" if nothing."""
    folder.mkdir()
    second = folder.with_name("second")
    second.symlink_to(folder)
    children = [start(folder, [*SCAN, "0"]), start(second, [*SCAN, "0"])]
    codes = [wait(child) for child in children]
    lines = [last_line(one) for one in (folder, second)]
    told = [line for line, code in zip(lines, codes, strict=True) if code == 2]
    if sorted(codes) != [0, 2] or "another labelaudit" not in told[0]:
        return f"exit codes {codes}: {lines}"
    return difference(folder, twins.fresh)


# --- all of it ---------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, required=True, help="a new folder")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--sizes", type=int, default=len(SIZES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--write", action="store_true", help="write benchmarks/kill_test.md")
    given = parser.parse_args()
    torch.set_num_threads(1)
    work = given.work.absolute()
    work.mkdir(parents=True)
    rng = random.Random(given.seed)
    twins = prepare_twins(work)
    passed: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    problems = []
    while sum(killed.values()) < given.kills:
        phase = PHASES[sum(killed.values()) % len(PHASES)]
        folder = work / "trial"
        shutil.rmtree(folder, ignore_errors=True)
        problem = try_kill(phase, folder, twins, rng)
        if problem is None:
            continue
        killed[phase] += 1
        passed[phase] += not problem
        if problem:
            problems.append(f"{phase}: {problem}")
        print(f"{sum(killed.values())}/{given.kills} {phase}: {problem or 'identical'}", flush=True)
    disks = []
    for number, size in enumerate(SIZES[: given.sizes]):
        kind, told, problem = try_full_disk(number, size, work / f"disk{number}", twins)
        disks.append((kind, size, told, problem))
        print(f"{size:,} bytes ({kind}): {told}: {problem or 'identical'}", flush=True)
        problems += [f"disk of {size}: {problem}"] if problem else []
    two = try_two_at_once(work / "first", twins)
    print(f"two at once: {two or 'one wins, one is told'}")
    problems += [two] if two else []
    if given.write:
        (HERE / "kill_test.md").write_text(page(killed, passed, disks, two))
    print(f"{sum(passed.values())} of {given.kills} kills", "\n".join(problems), sep="\n")
    sys.exit(bool(problems))


def page(
    killed: Counter[str],
    passed: Counter[str],
    disks: list[tuple[str, int, str, str]],
    two: str,
) -> str:
    lines = [
        "# Killed at random moments",
        "",
        f"`python benchmarks/kill_test.py --work FOLDER --write`, commit {commit()}, {hardware()}. The"
        " files are compared byte by byte with those of a run that nothing interrupted, without the"
        " times in them.",
        "",
        "| killed while | trials | identical, and no file left over |",
        "|---|---|---|",
        *(f"| {phase} | {killed[phase]} | {passed[phase]} |" for phase in PHASES),
        f"| all | {sum(killed.values())} | {sum(passed.values())} |",
        "",
        "| the disk holds | what is told | when there is room |",
        "|---|---|---|",
        *(
            f"| {size / 1024:,.0f} KiB | {told.removeprefix('error: ').partition(';')[0]} |"
            f" {problem or 'identical'} |"
            for _, size, told, problem in disks
        ),
        "",
        f"Two scans at once on one folder: {two or 'one wins, and the other is told'}.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
