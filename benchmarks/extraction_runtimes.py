"""EfficientNet-Lite0 in ONNX Runtime and OpenVINO, for benchmarks/extraction.py.

They are not among the extras: pip install onnx onnxscript onnxruntime openvino
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

RUNTIMES_HEADER = (
    "| forward pass of EfficientNet-Lite0 | images/s | CPU ms of each image | mean cosine with float32"
    " | load | commit, hardware |"
)
BATCH, ROUNDS, PASSES = 8, 5, 4

Pass = Callable[[np.ndarray], np.ndarray]


def measure_runtimes(weights: Path, work: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the name and the measures of each runtime; all are timed alternately."""
    images = noise()
    passes = dict(all_passes(weights, work, images))
    expected = passes["torch, float32"](images)
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in passes}
    for one in passes.values():
        one(images)
    for _ in range(ROUNDS):
        for name, one in passes.items():
            wall, cpu = time.perf_counter(), time.process_time()
            for _ in range(PASSES):
                one(images)
            times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    for name, one in passes.items():
        found = one(images)
        norms = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
        wall, cpu = np.median(times[name], axis=0) / (PASSES * len(images))
        yield (
            name,
            {
                "rate": 1 / wall,
                "cpu_ms": cpu * 1e3,
                "cosine": float(((found * expected).sum(1) / norms).mean()),
            },
        )


def noise() -> np.ndarray:
    """Return smooth colored noise, normalized, ``(BATCH, 3, 224, 224)`` float32."""
    rng = np.random.default_rng(0)
    coarse = torch.from_numpy(rng.normal(size=(BATCH, 3, 14, 14)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=224, mode="bicubic")
    return smooth.clamp(-1, 1).numpy()


def all_passes(weights: Path, work: Path, images: np.ndarray) -> Iterator[tuple[str, Pass]]:
    """Yield forward passes with as many threads as torch has."""
    import onnxruntime
    import openvino
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

    from labelaudit.features.backbones import open_backbone

    threads = torch.get_num_threads()
    cpu = torch.device("cpu")
    for precision in (torch.float32, torch.bfloat16):
        backbone = open_backbone("timm:tf_efficientnet_lite0", weights, cpu, precision=precision)

        def by_torch(values: np.ndarray, backbone: Any = backbone) -> np.ndarray:
            tensor = torch.from_numpy(values).contiguous(memory_format=torch.channels_last)
            return backbone.look_at(tensor).numpy()

        yield f"torch, {str(precision).removeprefix('torch.')}", by_torch

    plain, quantized = work / "lite0.onnx", work / "lite0-int8.onnx"
    torch.onnx.export(
        backbone.network, (torch.from_numpy(images),), plain, input_names=["images"], dynamo=True
    )

    class Calibration(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter([{"images": images}])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rest, None)

    quantize_static(plain, quantized, Calibration(), quant_format=QuantFormat.QDQ, per_channel=True)
    for name, file in (("float32", plain), ("int8", quantized)):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
        yield (
            f"ONNX Runtime, {name}",
            lambda values, session=session: session.run(None, {"images": values})[0],
        )
    for name, file, hint in (
        ("float32", plain, "f32"),
        ("bfloat16", plain, "bf16"),
        ("int8", quantized, "f32"),
    ):
        compiled = openvino.compile_model(
            str(file),
            "CPU",
            {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": hint},
        )
        yield (
            f"OpenVINO, {name}",
            lambda values, compiled=compiled: compiled(values)[compiled.output(0)],
        )
