"""benchmarks/gpu_probe.py on a CPU, so that it still runs when there is a GPU."""

import io
import json
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

# Nothing can be learned from random images.
pytestmark = pytest.mark.filterwarnings("ignore::labelaudit.errors.UntrustedResultWarning")


@pytest.fixture(scope="module")
def gpu_probe():
    import gpu_probe

    return gpu_probe


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Random images in Hugging Face's schema: MNIST's shape and CIFAR-10's."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    paths = []
    for name, shape in (("mnist", (28, 28)), ("cifar10", (32, 32, 3))):
        rows = []
        for _ in range(40):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, shape).astype(np.uint8)).save(file, "png")
            rows.append({"bytes": file.getvalue(), "path": None})
        labels = np.arange(40) % 10
        paths.append(folder / f"{name}.parquet")
        pq.write_table(pa.table({"image": rows, "label": labels}), paths[-1])
    return paths


def findings(out):
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [line for line in lines if "error" in line] == []
    return lines


def tiny_probe(gpu_probe, images, out):
    return gpu_probe.Probe(*images, out, torch.device("cpu"), tiny=True, began=time.monotonic())


def test_parts_run_at_their_tiniest(gpu_probe, images, tmp_path):
    for part in ("scan MNIST", "speed: mlp"):
        arguments = [*map(str, images), str(tmp_path), "--device", "cpu", "--tiny", "--only", part]
        gpu_probe.main(arguments)
    kinds = [line["kind"] for line in findings(tmp_path) if "kind" in line]
    assert kinds == ["scan", "speed, milliseconds [host, all]"]


@pytest.mark.slow
def test_every_recipe_trains(gpu_probe, images, tmp_path):
    probe = tiny_probe(gpu_probe, images, tmp_path)
    for title, recipe in gpu_probe.RECIPES.items():
        gpu_probe.quality(probe, title, recipe, encoder="mlp")
    assert [line["title"] for line in findings(tmp_path)] == list(gpu_probe.RECIPES)


def test_an_error_and_a_lack_of_time_do_not_end_the_run(gpu_probe, images, tmp_path):
    def fail(_):
        raise RuntimeError("no kernel")

    probe = tiny_probe(gpu_probe, images, tmp_path)
    gpu_probe.run_part(probe, gpu_probe.Part("breaks", 0, fail), 60)
    gpu_probe.run_part(probe, gpu_probe.Part("late", 0, fail), -1)
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert lines[0]["error"] == "RuntimeError: no kernel"
    assert lines[-1] | {"at": 0} == {"part": "late", "left_out": True, "at": 0}


@pytest.mark.slow
def test_a_whole_run_at_its_tiniest(gpu_probe, images, tmp_path):
    gpu_probe.main([*map(str, images), str(tmp_path), "--device", "cpu", "--tiny"])
    lines = findings(tmp_path)
    names = [part.name for part in gpu_probe.parts(20) if not part.needs_gpu]
    assert [line["part"] for line in lines if "seconds" in line] == names
    assert lines[-1]["part"] == "end"
