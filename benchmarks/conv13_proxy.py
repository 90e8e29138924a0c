"""Ways to train a slim 13-layer network on few CIFAR-10 images, on one CPU thread.

    python benchmarks/conv13_proxy.py CIFAR10.parquet --setting default --seed 100

CIFAR10.parquet is the training split in Hugging Face's schema. A GPU is needed to train the whole
13-layer network on all images. This takes minutes for each row, and shows what is worth trying there.
The network has a quarter of the channels. It is trained by `LabelAuditor` on 6,000 images, a fifth of
their labels wrong, for 1,500 steps of 100 images. The seed draws images and wrong labels.

Finished rows are kept in benchmarks/results/conv13_proxy.csv, and benchmarks/conv13_proxy.md is written
from them.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from provenance import commit
from scipy.special import entr
from torch import Tensor

import labelaudit
from labelaudit.audit.fitting import RunFiles
from labelaudit.benchmark.corruptions import corrupt_symmetric
from labelaudit.images.decode import decode_source
from labelaudit.images.plan import plan_images
from labelaudit.methods.umn import UMN
from labelaudit.methods.umn_config import UMNConfig
from labelaudit.networks.conv13 import Conv13Decoder, Conv13Encoder
from labelaudit.networks.encoders import ENCODERS
from labelaudit.progress import Reporter
from labelaudit.sources.manifest import Manifest
from labelaudit.suspects.metrics import detection_metrics, f1_at_true_count
from labelaudit.training.batches import TrainingImages
from labelaudit.training.loop import predict_all
from labelaudit.training.method import Batch

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "conv13_proxy.csv"
NUM_IMAGES, NUM_HELD_OUT, NUM_CLASSES, RATE = 6000, 3000, 10, 0.2
WIDTH, BATCH_SIZE, EPOCHS = 32, 100, 25
# A rate that rises and falls is highest after this share of the steps.
RISE, LOWEST_RATE = 0.15, 0.01


@dataclass(frozen=True)
class Setting:
    """What is different from the default."""

    settings: Mapping[str, Any] = field(default_factory=dict)  # of UMNConfig
    generative: bool | None = None
    weight: float = 1.0  # factor of the labeled term's weight
    first: float = 0.0  # share of the steps with cross-entropy, before the setting's own loss
    schedule: bool = False
    dropout: float | None = None
    flip: bool = False

    def configure(self, config: UMNConfig) -> UMNConfig:
        """Return the settings of UMN with those of this setting."""
        if self.generative is False:
            config = config.without_generative_half()
        config = replace(config, label_weight=config.label_weight * self.weight)
        return replace(config, **self.settings)


BARE: dict[str, Any] = {"generative": False}
CE, GCE, FAST = {"exponent": 0.0}, {"exponent": 0.7}, {"learning_rate": 0.002}
SETTINGS: dict[str, Setting] = {
    "default": Setting(),
    "linear": Setting(**BARE),
    "generalized": Setting(GCE, **BARE),
    "cross-entropy": Setting(CE, **BARE),
    "generalized, schedule, dropout 0.2": Setting(GCE | FAST, schedule=True, dropout=0.2, **BARE),
    "cross-entropy, schedule, dropout 0.2": Setting(CE | FAST, schedule=True, dropout=0.2, **BARE),
    "cross-entropy then linear, schedule, dropout 0.2": Setting(
        FAST, first=1 / 3, schedule=True, dropout=0.2, **BARE
    ),
    "generalized, dropout 0.2": Setting(GCE, dropout=0.2, **BARE),
    "generalized, flip": Setting(GCE, flip=True, **BARE),
    "generalized, schedule, dropout 0.2, flip": Setting(
        GCE | FAST, schedule=True, dropout=0.2, flip=True, **BARE
    ),
    "generative, generalized": Setting(GCE),
    "generative, 8 times the weight": Setting(weight=8.0),
    "generative, 8 times the weight, generalized": Setting(GCE, weight=8.0),
    "exponent 0.4": Setting({"exponent": 0.4}, **BARE),
    "exponent 0.4, schedule, dropout 0.2": Setting(
        {"exponent": 0.4} | FAST, schedule=True, dropout=0.2, **BARE
    ),
}


class VariantUMN(UMN):
    """UMN trained by a setting."""

    def __init__(
        self,
        config: UMNConfig,
        device: torch.device,
        pretrained: Mapping[str, Tensor] | None = None,
        *,
        setting: Setting,
        total_steps: int,
    ) -> None:
        super().__init__(config, device, pretrained)
        self.own, self.setting = config, setting
        self.total_steps, self.steps_done = total_steps, 0

    def step(self, batch: Batch) -> dict[str, Tensor]:
        """See `UMN.step`."""
        share = self.steps_done / self.total_steps
        first = share < self.setting.first
        self.config = replace(self.own, exponent=0.0) if first else self.own
        if self.setting.schedule:
            factor = max(LOWEST_RATE, min(share / RISE, (1 - share) / (1 - RISE)))
            for group in self.optimizer.param_groups:
                group["lr"] = self.own.learning_rate * factor
        told = super().step(batch)
        self.steps_done += 1
        return told


def read(manifest: Manifest, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels ``(N, C, H, W)`` uint8 and labels ``(N,)`` of some rows."""
    some = manifest.subset(rows)
    pixels = decode_source(some.images, plan_images(some.images)).pixels
    return pixels, np.asarray(some.noisy_labels)


def measure(manifest: Manifest, name: str, seed: int) -> dict[str, Any]:
    """Train by a setting, and audit."""
    setting = SETTINGS[name]
    order = np.random.default_rng(seed).permutation(manifest.num_samples)
    pixels, clean = read(manifest, order[:NUM_IMAGES])
    other_pixels, others = read(manifest, order[-NUM_HELD_OUT:])
    given = corrupt_symmetric(clean, RATE, NUM_CLASSES, seed)
    wrong = given != clean
    more = {} if setting.dropout is None else {"dropout": setting.dropout}
    spec = ENCODERS["conv13"]
    ENCODERS["conv13"] = replace(
        spec,
        build=lambda shape, statistics, _: Conv13Encoder(shape, statistics, width=WIDTH, **more),
        build_decoder=partial(Conv13Decoder, width=WIDTH),
    )
    source = labelaudit.source_from_arrays(
        pixels.transpose(0, 2, 3, 1),
        given,
        class_names=[str(number) for number in range(NUM_CLASSES)],
    )
    auditor = labelaudit.LabelAuditor(
        encoder="conv13",
        epochs=EPOCHS,
        batch_size=BATCH_SIZE,
        flip=setting.flip,
        device="cpu",
        seed=seed,
    )
    plan = auditor.prepare(source, Reporter())
    steps = plan.batches.steps * plan.epochs
    plan = replace(
        plan,
        config=setting.configure(plan.config),
        build=partial(VariantUMN, setting=setting, total_steps=steps),
    )
    held_out = TrainingImages(other_pixels, np.full(len(others), -1), plan.device)
    curve: dict[int, float] = {}

    def watch(auditor: labelaudit.LabelAuditor, epoch: int) -> None:
        if epoch in (2, 5, 10, 17, EPOCHS):
            probs, _ = predict_all(auditor.method_, held_out)
            curve[epoch] = round(float((probs.argmax(axis=1) == others).mean()), 4)
            print(name, seed, epoch, curve[epoch], flush=True)

    started = time.process_time()
    # Without its cache, because the weights change while it is on.
    with torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False):
        auditor.fit_plan(plan, RunFiles(), Reporter(), on_epoch=watch)
    seconds = time.process_time() - started
    predicted = auditor.pred_probs_.argmax(axis=1)
    rank = np.empty(len(given))
    rank[auditor.ranking_] = np.arange(len(given), 0, -1)
    found = detection_metrics(rank, auditor.is_label_issue_, wrong)
    ENCODERS["conv13"] = spec
    uncertainty = auditor.audited_.assessment.scores.class_uncertainty
    return {
        "accuracy": curve[EPOCHS],
        "accuracy_by_epoch": json.dumps(curve),
        "train_accuracy": round(float((predicted == clean).mean()), 4),
        "fits_wrong_labels": round(float((predicted[wrong] == given[wrong]).mean()), 4),
        **{key: None if value is None else round(value, 4) for key, value in found.items()},
        "f1_at_true_count": round(f1_at_true_count(rank, wrong) or 0.0, 4),
        "num_flagged": int(auditor.is_label_issue_.sum()),
        "class_uncertainty": round(float(uncertainty.mean()), 4),
        "information": round(information(auditor.pred_probs_), 4),
        "trustworthy": auditor.trust_.trustworthy,
        "cpu_seconds": round(seconds, 1),
    }


def information(probs: np.ndarray) -> float:
    """Return what predictions ``(N, C)`` tell about the class, as a share of log C."""
    each = entr(probs).sum(axis=1).mean()
    return float(entr(probs.mean(axis=0)).sum() - each) / float(np.log(probs.shape[1]))


def main() -> None:
    """Parse, run what is missing, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("parquet", type=Path)
    parser.add_argument("--setting", action="append", choices=tuple(SETTINGS), default=[])
    parser.add_argument("--seed", type=int, action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    # As on a GPU. It is also faster on a CPU.
    for module in (labelaudit.methods.umn, labelaudit.training.batches):
        vars(module)["memory_format"] = lambda device: torch.channels_last
    manifest = labelaudit.read_source(options.parquet).manifest
    for seed in options.seed:
        for name in options.setting:
            table = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame()
            if len(table) and ((table["setting"] == name) & (table["seed"] == seed)).any():
                continue
            row = {"setting": name, "seed": seed, "commit": commit()}
            row |= measure(manifest, name, seed)
            print(json.dumps(row), flush=True)
            table = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame()
            pd.concat([table, pd.DataFrame([row])]).to_csv(RESULTS, index=False)


if __name__ == "__main__":
    main()
