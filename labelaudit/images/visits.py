"""Reading many images in parallel threads, with the results in order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from labelaudit.images.containers import Images, Pixels, UnreadableImageError
from labelaudit.images.pillow import quiet_pillow, reason_of

T = TypeVar("T")


def visit_images(
    images: Images,
    visit: Callable[[int, bytes | Pixels], T],
    *,
    step: int = 64,
    workers: int | None = None,
) -> Generator[list[T | UnreadableImageError], None, None]:
    """Read all images in parallel threads, and yield what `visit` makes of them, in order.

    Close it (`contextlib.closing`) where it may not be exhausted: that ends the threads, each
    after the image in its hands.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    visit : callable
        Called in a thread with an image's index and what `Images.read` returned. For Pillow use
        `load_visited` there.
    step : int
        At most so many results are yielded at once, and at most two such lists for each thread, and
        one more, wait to be taken.
    workers : int, optional
        Threads; by default one for each core that the process may use.

    Yields
    ------
    list
        Results of the next images; in place of a result the UnreadableImageError, with the reason
        in words, where reading or `visit` raised an OSError. Other exceptions end the iteration.
    """
    total = len(images)
    workers = workers or usable_cores()
    stopping = threading.Event()

    def visit_range(start: int, stop: int) -> list[T | UnreadableImageError]:
        results: list[T | UnreadableImageError] = []
        for index in range(start, stop):
            if stopping.is_set():
                break
            try:
                results.append(visit(index, images.read(index)))
            except OSError as error:
                results.append(UnreadableImageError(reason_of(error)))
        return results

    # Ranges, not images, go to the threads, and only a few ahead of the oldest: a million images
    # do not become a million futures, and results come back in order.
    step = max(1, min(step, total // (4 * workers)))
    pending: deque[Future[list[T | UnreadableImageError]]] = deque()
    with quiet_pillow(), ThreadPoolExecutor(workers) as pool:
        Image.init()  # its lazy loading of formats is not made for several threads at once
        try:
            for start in range(0, total, step):
                pending.append(pool.submit(visit_range, start, min(start + step, total)))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            # Ctrl-C among them: each thread ends after the image in its hands.
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Progress:
    """Passes on at most some 200 calls, and always the last one."""

    def __init__(self, total: int, call: Callable[[int], None] | None) -> None:
        self._total = total
        self._call = call
        self._every = max(1, total // 200)
        self._next = self._every

    def reached(self, done: int) -> None:
        """Tell that so many are done."""
        if self._call is not None and (done >= self._next or done == self._total):
            self._call(done)
            self._next = done + self._every


def usable_cores() -> int:
    """Return how many cores this process may use."""
    # In a container or under taskset fewer than the machine has; macOS and Windows cannot tell.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
