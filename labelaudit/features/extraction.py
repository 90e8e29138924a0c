"""Features of images from a frozen backbone, at the speed of its forward pass.

Another audit of the same images computes nothing, even if their order or their names have changed.
Features from elsewhere are read by `labelaudit.sources.feature_tables`.

Some threads read, hash and decode images, and others run forward passes. On a CPU each forward pass
has a core to itself, because the parts of one that is divided among cores would wait for whichever
part shares its core with a decoder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from labelaudit.errors import OptionError
from labelaudit.features.backbones import Backbone
from labelaudit.features.cache import (
    HASH_BYTES,
    FeatureStore,
    Floats,
    Hashes,
    content_key,
    default_cache_dir,
)
from labelaudit.images.containers import Images, Pixels, UnreadableImageError
from labelaudit.images.gray_range import GrayRange, GrayRanges
from labelaudit.images.pillow import load_visited
from labelaudit.images.visits import Progress, visit_images
from labelaudit.training.device import free_memory

# Number of pixels in each forward pass, which bounds its memory. A CPU is faster if they fit its cache.
CPU_BATCH_PIXELS = 8 * 224**2
DEVICE_BATCH_PIXELS = 256 * 224**2
LARGEST_BATCH = 256
# Number of forward passes at the same time. On a GPU the second is prepared while the first is running.
LARGEST_CPU_STREAMS = 8
GPU_STREAMS = 2
# Number of batches per stream that run or wait. It bounds the memory.
BATCHES_PER_STREAM = 2


@dataclass(frozen=True, eq=False)
class ExtractedFeatures:
    """The features of all images of a source.

    Attributes
    ----------
    features : array (N, d) float32
        In the order of the images; zero where an image is unreadable.
    unreadable : dict of int to str
        Index of each image that could not be decoded, in order, and the reason in words.
    content_hashes : array (N,) of 16 bytes each
        Equal for files, or arrays of pixels, with the same content; zero where unreadable.
    num_computed : int
        Number of images whose features were computed; the others were in the cache.
    gray_ranges : dict of str to GrayRange
        See `labelaudit.images.decode.DecodedImages`.
    damaged : tuple of Path
        Files of the cache that have changed since they were written. They were deleted, and the
        features of their images computed again.
    halved_to : int or None
        Number of images per batch for which the GPU had enough memory, if it was too full for more.
    """

    features: Floats
    unreadable: dict[int, str]
    content_hashes: Hashes
    num_computed: int
    gray_ranges: dict[str, GrayRange] = field(default_factory=dict)
    damaged: tuple[Path, ...] = ()
    halved_to: int | None = None


def extract_features(
    images: Images,
    backbone: Backbone,
    *,
    cache_dir: str | Path | None = None,
    workers: int | None = None,
    allocate: Callable[[tuple[int, int]], Floats] | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ExtractedFeatures:
    """Return the features of each image, and compute only those that are not in the cache.

    Images are recognized by their content. After an interruption, the next call continues at the same
    point. Concurrent calls are safe, but may compute the same features. Each image is read and hashed
    once, and decoded only if its features are not in the cache.

    Parameters
    ----------
    images : Images
        The source's images, N of them.
    backbone : Backbone
        Gives d features per image.
    cache_dir : str or Path, optional
        Folder of the cache; by default `default_cache_dir`.
    workers : int, optional
        Number of threads that read and decode; by default one per core that the process may use.
    allocate : callable, optional
        Makes the array (N, d) float32 of zeros for the result. It can be memory-mapped if memory is
        too small.
    on_progress : callable, optional
        Called in this thread with the number of images done, at most some 200 times.

    Raises
    ------
    OptionError
        The backbone gives features that are not finite.
    OutputError
        The cache cannot be written.
    """
    store = FeatureStore(
        (default_cache_dir() if cache_dir is None else Path(cache_dir)) / "features",
        backbone.identity,
        backbone.feature_size,
    )
    added: set[bytes] = set()
    resize = (backbone.preprocess.resize,) * 2
    ranges = GrayRanges(images)

    def visit(index: int, data: bytes | Pixels) -> tuple[bytes, Pixels | None]:
        key = content_key(data, ranges.range_of_encoded(data))
        if key in added or store.holds(key):
            return key, None
        return key, backbone.preprocess(load_visited(data, resize, ranges, spare=1))

    keys = np.zeros(len(images), f"V{HASH_BYTES}")
    unreadable: dict[int, str] = {}
    progress = Progress(len(images), on_progress)
    done = 0
    with (
        closing(visit_images(images, visit, step=16, workers=workers)) as visits,
        store,
        ForwardPasses(backbone, store) as passes,
    ):
        for visited in visits:
            for index, seen in enumerate(visited, done):
                if isinstance(seen, UnreadableImageError):
                    unreadable[index] = str(seen)
                    continue
                keys[index], pixels = seen
                # The same image may be decoded twice, but its features are computed once.
                if pixels is not None and seen[0] not in added:
                    added.add(seen[0])
                    passes.add(seen[0], pixels)
            done += len(visited)
            progress.reached(done - passes.waiting)
        passes.finish(lambda waiting: progress.reached(done - waiting))
    shape = (len(images), backbone.feature_size)
    features = np.zeros(shape, np.float32) if allocate is None else allocate(shape)
    store.fetch(keys, np.setdiff1d(np.arange(len(images)), list(unreadable)), features)
    return ExtractedFeatures(
        features,
        unreadable,
        keys,
        len(added),
        ranges.measured,
        tuple(store.damaged),
        passes.halved_to,
    )


class ForwardPasses:
    """Forward passes of batches of images, some at the same time, whose features go to a store.

    The batches and the order in which they are stored do not depend on the threads. As a context
    manager it ends the threads. After an error the features of finished batches are stored.

    Parameters
    ----------
    backbone : Backbone
        Gives the features.
    store : FeatureStore
        Gets them.

    Attributes
    ----------
    waiting : int
        Number of images that were added and whose features are not yet in the store.
    halved_to : int or None
        Number of images per batch for which the GPU had enough memory, if it was too full for more.
    """

    def __init__(self, backbone: Backbone, store: FeatureStore) -> None:
        self.halved_to: int | None = None
        self.waiting = 0
        self._backbone, self._store = backbone, store
        self._size = batch_size(backbone)
        self._batch: dict[bytes, Pixels] = {}
        self._running: deque[tuple[list[bytes], Future[Floats]]] = deque()
        self._threads = torch.get_num_threads()
        self._streams, each = streams_on(backbone.device)
        # In torch the number of threads belongs to the thread that sets it.
        self._pool = ThreadPoolExecutor(
            self._streams, "forward", initializer=torch.set_num_threads, initargs=(each,)
        )

    def __enter__(self) -> ForwardPasses:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for keys, features in self._running:
            if not features.cancel() and features.exception() is None:
                self._store.add(keys, features.result())
        self._pool.shutdown()
        # New threads would have the number that a stream has.
        torch.set_num_threads(self._threads)

    def add(self, key: bytes, pixels: Pixels) -> None:
        """Add a preprocessed image (3, S, S) uint8; wait if enough batches are running."""
        self._batch[key] = pixels
        self.waiting += 1
        if len(self._batch) >= self._size:
            self._start()
            while len(self._running) > BATCHES_PER_STREAM * self._streams:
                self._store_oldest()

    def finish(self, on_progress: Callable[[int], None]) -> None:
        """Wait for all features. `on_progress` is called with the number of images still waiting."""
        if self._batch:
            self._start()
        while self._running:
            self._store_oldest()
            on_progress(self.waiting)

    def _start(self) -> None:
        # With the channels last, which is how they lie in memory.
        pixels = np.stack([image.transpose(1, 2, 0) for image in self._batch.values()])
        started = self._pool.submit(self._features, torch.from_numpy(pixels).permute(0, 3, 1, 2))
        self._running.append((list(self._batch), started))
        self._batch.clear()

    def _store_oldest(self) -> None:
        keys, features = self._running[0]
        computed = features.result()
        self._running.popleft()
        self._store.add(keys, computed)
        self.waiting -= len(keys)

    def _features(self, pixels: torch.Tensor) -> Floats:
        """Return the features (B, d) of preprocessed images. Runs in a thread of the pool.

        Raises OptionError if they are not finite, or the GPU lacks memory even for one image.
        """
        backbone = self._backbone
        if backbone.device.type == "cuda":
            pixels = pixels.pin_memory()
        while True:
            size = min(len(pixels), self.halved_to or len(pixels))
            try:
                parts = [backbone(part).cpu().numpy() for part in torch.split(pixels, size)]
            except torch.OutOfMemoryError as error:
                if size == 1:
                    raise OptionError(
                        "the GPU does not have enough free memory, even for one image at a time; use"
                        " a smaller `image_size`, or `device='cpu'`"
                    ) from error
            else:
                break
            # The error, which is gone here, held the tensors.
            self.halved_to = min(self.halved_to or size, size // 2)
            free_memory(backbone.device)
        features: Floats = np.concatenate(parts)
        if not np.isfinite(features).all():
            raise OptionError(
                f"{backbone.name} gives features that are not finite; "
                "its weights may be damaged, or not those of this network"
            )
        return features


def batch_size(backbone: Backbone) -> int:
    """Return the number of images in each forward pass.

    It does not depend on measurements, because other batches round the features differently.
    """
    pixels = CPU_BATCH_PIXELS if backbone.device.type == "cpu" else DEVICE_BATCH_PIXELS
    return max(1, min(LARGEST_BATCH, pixels // backbone.image_size**2))


def streams_on(device: torch.device) -> tuple[int, int]:
    """Return how many forward passes run at the same time, and the threads of torch in each."""
    threads = torch.get_num_threads()
    if device.type == "cpu":
        streams = min(LARGEST_CPU_STREAMS, threads)
        return streams, threads // streams
    return (GPU_STREAMS if device.type == "cuda" else 1), threads
