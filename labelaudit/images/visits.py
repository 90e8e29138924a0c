"""Reading many images in parallel threads, with the results in order."""

import os
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from PIL import Image

from labelaudit.images.containers import Images, Pixels, UnreadableImageError
from labelaudit.images.opening import reason_of
from labelaudit.images.pillow import quiet_pillow

T = TypeVar("T")


def visit_images(
    images: Images,
    visit: Callable[[int, bytes | Pixels], T],
    *,
    step: int = 64,
    workers: int | None = None,
) -> Generator[list[T | UnreadableImageError], None, None]:
    """Read all images in parallel threads, and yield what `visit` returns for them, in order.

    Close the generator (`contextlib.closing`) if it may not be exhausted. Each thread then ends after
    its current image.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    visit : callable
        Called in a thread with the index of an image and what `Images.read` returned. Use
        `load_visited` there to decode it.
    step : int
        Largest number of results in each list. At most two lists per thread, and one more, wait to be
        taken.
    workers : int, optional
        Number of threads. By default one per core that the process may use.

    Yields
    ------
    list
        Results of the next images. If reading or `visit` raised an OSError, an UnreadableImageError
        with the reason takes the place of the result. Other exceptions end the iteration.
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

    # Threads get ranges of images, and only a few ranges ahead of the oldest. So a million images
    # do not become a million futures, and results keep their order.
    step = max(1, min(step, total // (4 * workers)))
    pending: deque[Future[list[T | UnreadableImageError]]] = deque()
    with quiet_pillow(), ThreadPoolExecutor(workers) as pool:
        Image.init()  # its lazy loading of formats is not thread-safe
        try:
            for start in range(0, total, step):
                pending.append(pool.submit(visit_range, start, min(start + step, total)))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        except BaseException:
            # Ctrl-C, for example: each thread ends after its current image.
            stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise


class Progress:
    """Calls a function about 200 times at most, and always at the end."""

    def __init__(self, total: int, call: Callable[[int], None] | None) -> None:
        self._total = total
        self._call = call
        self._every = max(1, total // 200)
        self._next = self._every

    def reached(self, done: int) -> None:
        """Report the number of images that are done."""
        if self._call is not None and (done >= self._next or done == self._total):
            self._call(done)
            self._next = done + self._every


def usable_cores() -> int:
    """Return how many cores this process may use."""
    # In a container or under taskset these are fewer than the machine has. macOS and Windows do not
    # say which they are.
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
