"""Memory that is too small is told before the work begins, or in one line when it ends."""

import numpy as np
import pytest
import torch

import labelaudit
from labelaudit import OptionError, SourceError, memory
from labelaudit.memory import row_blocks
from labelaudit.methods.umn import UMN

FEATURES, LABELS = np.random.default_rng(0).normal(size=(60, 4)), np.arange(60) % 3
SETTINGS = {"epochs": 1, "device": "cpu", "verbose": False}


def test_the_free_memory_is_that_of_the_machine_or_of_the_container(tmp_path, monkeypatch):
    info, limit, use = (tmp_path / name for name in ("meminfo", "memory.max", "memory.stat"))
    info.write_text("MemTotal: 9000 kB\nMemAvailable:    5000 kB\nSwapFree: 100 kB\nHugePages: 0\n")
    use.write_text("anon 1000000\nfile 3000000\n")
    monkeypatch.setattr(memory, "MEMORY_INFO", info)
    monkeypatch.setattr(memory, "CONTAINER_FILES", ((limit, use),))
    assert memory.free_bytes() == 5100 * 1024
    limit.write_text("max\n")
    assert memory.free_bytes() == 5100 * 1024
    limit.write_text("4000000\n")
    assert memory.free_bytes() == 3_000_000
    info.unlink()  # as on other systems than Linux
    limit.unlink()
    assert memory.free_bytes() is None
    memory.check_memory(2**60, "samples")


def test_what_does_not_fit_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "free_bytes", lambda: 1000)
    with pytest.raises(
        SourceError,
        match=r"60 samples with 4 features in 3 classes would take at least .* of memory",
    ):
        labelaudit.scan(FEATURES, LABELS, out=tmp_path / "run", **SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 3.00 TiB"),
        RuntimeError(
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can't allocate memory"
        ),
    ],
    ids=["numpy", "torch"],
)
def test_memory_that_ends_during_training_is_told_in_one_line(error, tmp_path, monkeypatch):
    def fail(*_):
        raise error

    monkeypatch.setattr(UMN, "step", fail)
    with pytest.raises(SourceError, match="not have enough free memory"):
        labelaudit.scan(FEATURES, LABELS, out=tmp_path / "run", **SETTINGS)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_of_torch_are_not_hidden(monkeypatch):
    def fail(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(UMN, "step", fail)
    with pytest.raises(RuntimeError, match="a bug"):
        labelaudit.scan(FEATURES, LABELS, **SETTINGS)


def test_a_gpu_that_is_full_for_any_batch_is_told_in_one_line(tmp_path, monkeypatch):
    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(UMN, "step", fail)
    with pytest.raises(OptionError, match="not have enough free memory, even for batches of"):
        labelaudit.scan(FEATURES, LABELS, out=tmp_path / "run", **SETTINGS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("row_values", [1, 3, 10, 11, 1000])
def test_blocks_have_every_row_once_in_order_and_no_more_values_than_they_may(row_values) -> None:
    blocks = list(row_blocks(23, row_values, 10))
    assert np.concatenate([np.arange(23)[block] for block in blocks]).tolist() == list(range(23))
    assert all(1 <= block.stop - block.start <= max(1, 10 // row_values) for block in blocks)
    assert not list(row_blocks(0, row_values, 10))
