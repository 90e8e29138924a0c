import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image

from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections

HOSTILE = "<img src=x onerror=alert(1)>"
QUOTED = 'say "hi", name="label"'
FORMULA = "=1+1"
UNICODE = "Größe 猫"
CLASS_NAMES = [HOSTILE, QUOTED, FORMULA, UNICODE]

# sample_id, given label, suggested label, suspect score; flagged from 0.5 on.
SAMPLES = [
    ("plain.png", HOSTILE, QUOTED, 0.9),
    ("sub/猫.png", QUOTED, FORMULA, 0.1),
    ('a "quoted", name.png', FORMULA, UNICODE, 0.8),
    ("=cmd.png", UNICODE, HOSTILE, 0.7),
    ("100% & more #1?.png", UNICODE, FORMULA, 0.2),
    ("<b>.png", FORMULA, HOSTILE, 0.95),
    ("unlabeled.png", None, None, None),
    ("seven.png", HOSTILE, UNICODE, 0.05),
    ("eight.png", QUOTED, UNICODE, 0.3),
]

RunFolder = Callable[..., Path]


@pytest.fixture
def run_folder(tmp_path: Path) -> RunFolder:
    """Makes small run folders: `run_folder()` is one with images, arguments change it."""

    def make(
        name: str = "run",
        samples: list[tuple[str, str | None, str | None, float | None]] = SAMPLES,
        *,
        paths: str = "absolute",
        class_names: list[str] = CLASS_NAMES,
        corrections: list[dict[str, str]] | None = None,
        trusted: bool = True,
        **summary: Any,
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        images = tmp_path / "images"
        frame = samples_frame(samples, trusted=trusted)
        if paths != "none":
            for sample in frame["sample_id"]:
                file = images / sample
                file.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (4, 3)).save(file)
            root = images if paths == "absolute" else Path("images")
            frame["path"] = [str(root / sample) for sample in frame["sample_id"]]
        frame.to_parquet(folder / "samples.parquet")
        marker = {"labelaudit": "0.1.0", "status": "complete"}
        (folder / "labelaudit.json").write_text(json.dumps(marker))
        labeled = frame["given_label"].notna()
        contents = {
            "name": "small",
            "num_samples": len(frame),
            "num_labeled": int(labeled.sum()),
            "num_unlabeled": int((~labeled).sum()),
            "num_classes": len(class_names),
            "class_names": class_names,
            "num_suspects": int(frame["is_label_issue"].sum()),
            "estimated_noise_rate": 0.5,
            "expected_wrong": 3.5,
            "expected_wrong_interval": [2.0, 5.0],
            "review": {"explanation": "", "to_find": None, "curve": []},
            "threshold": {"value": 0.5, "rule": "auto", "explanation": ""},
            "score": {"name": "neighbors", "explanation": ""},
            "trust": {
                "trustworthy": trusted,
                "reasons": [] if trusted else ["Too few samples per class."],
            },
            "metrics": {},
            "per_class": [],
            "encoder": {"name": "mlp", "reason": "", "image_shape": [1, 8, 8]},
            "columns": {},
            "status": "complete",
            "epochs": 5,
            "seconds": 1.0,
            "device": "cpu",
            "seed": 0,
            "versions": {"labelaudit": "0.1.0"},
            "config": {},
            **summary,
        }
        (folder / "summary.json").write_text(json.dumps(contents))
        if corrections is not None:
            decided = pd.DataFrame(corrections, columns=list(CORRECTION_COLUMNS), dtype="str")
            write_corrections(decided.fillna(""), folder / "corrections.csv")
        return folder

    return make


def samples_frame(
    samples: list[tuple[str, str | None, str | None, float | None]], *, trusted: bool
) -> pd.DataFrame:
    """The table in samples.parquet, as a scan writes it."""
    ids, given, suggested, score = zip(*samples, strict=True)
    scores = pd.Series(score, dtype="float64")
    text = {"given_label": given, "suggested_label": suggested}
    return pd.DataFrame(
        {
            "sample_id": pd.Series(ids, dtype="str"),
            "path": pd.Series([""] * len(ids), dtype="str"),
            **{name: pd.Series(values, dtype="object") for name, values in text.items()},
            "predicted_label": [(s if p and p > 0.5 else g) or HOSTILE for _, g, s, p in samples],
            "predicted_prob": 0.75,
            "suggested_prob": scores * 0.5,
            "suspect_score": scores,
            "label_score": 1 - scores,
            "is_label_issue": scores >= 0.5,
            "rank": scores.rank(method="first", ascending=False).astype("Int64"),
            "ambiguity": scores * 0.25,
            "trusted": trusted,
        }
    )
