import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.benchmark.comparison import (
    comparison_tables,
    distrust_notes,
    plot_by_rate,
    plot_curves,
    plot_precision_recall_of,
    summarize,
    write_markdown,
)
from labelaudit.benchmark.sweep import COLUMNS
from labelaudit.reporting.tables import read_csv, write_csv


def results(methods=("umn", "aum", "umn: epsilon > 0"), rates=(0.1, 0.2), seeds=(0, 1, 2)):
    rows = []
    for m, method in enumerate(methods):
        for rate in rates:
            for seed in seeds:
                row = dict.fromkeys(COLUMNS, 0.5)
                row |= {
                    "dataset": "toy", "noise": "symmetric", "rate": rate, "seed": seed,
                    "method": method, "f1": 0.9 - 0.1 * m + 0.01 * seed, "test_error": None,
                    "num_labeled": 1000, "device": "cpu", "encoder": "mlp",
                }  # fmt: skip
                rows.append(row)
    return pd.DataFrame(rows)


def test_means_deviations_and_intervals_by_hand():
    summary = summarize(results())
    row = summary[(summary["method"] == "umn") & (summary["rate"] == 0.1)].iloc[0]
    assert row["seeds"] == 3
    assert row["f1"] == pytest.approx(0.91)
    assert row["f1_std"] == pytest.approx(0.01)
    half = 4.302652729911275 * 0.01 / np.sqrt(3)  # Student's t, 2 degrees of freedom, 97.5%
    assert row["f1_low"] == pytest.approx(0.91 - half)
    assert row["f1_high"] == pytest.approx(0.91 + half)
    assert np.isnan(row["test_error"])


def test_one_seed_has_no_interval():
    row = summarize(results(seeds=(0,))).iloc[0]
    assert row["f1"] == pytest.approx(0.9)
    assert np.isnan(row["f1_std"])
    assert np.isnan(row["f1_low"])


def test_noise_without_a_rate_is_a_cell_of_its_own():
    frame = results(rates=(None,))
    summary = summarize(frame)
    assert len(summary) == 3
    assert summary["seeds"].tolist() == [3, 3, 3]


def test_terminal_tables_leave_variants_out_and_sort_by_f1():
    tables = comparison_tables(summarize(results(("aum", "umn", "umn: x"))), ("f1", "test_error"))
    assert [str(t.title) for t in tables] == [
        "toy, symmetric 10%, 1,000 labeled",
        "toy, symmetric 20%, 1,000 labeled",
    ]
    assert list(tables[0].columns[0].cells) == ["aum", "umn"]
    assert next(iter(tables[0].columns[1].cells)) == "0.910 ± 0.010"
    assert list(tables[0].columns[2].cells) == ["–", "–"]


def test_markdown_has_every_method_and_the_interval(tmp_path):
    write_markdown(tmp_path / "r.md", summarize(results()), "Title", ["A note."])
    text = (tmp_path / "r.md").read_text(encoding="utf-8")
    assert "| umn: epsilon > 0 |" in text
    assert "0.910 ± 0.010" in text
    assert "0.885 to 0.935" in text
    assert "test error" not in text  # nothing was measured
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in rows}) == 1


def test_results_that_a_method_does_not_trust_are_marked_wherever_they_are_read(tmp_path):
    frame = results(("umn", "aum", "umn: epsilon > 0"), rates=(0.2, 0.4))
    frame["trustworthy"] = None  # aum does not judge its results
    umn = frame["method"].str.startswith("umn")
    frame.loc[umn, "trustworthy"] = ~(frame[umn]["rate"].eq(0.4) & frame[umn]["seed"].gt(0))
    told = "umn does not trust its own result on 2 of 3 seeds: toy, symmetric 40%, 1,000 labeled."
    write_csv(frame, tmp_path / "results.csv")
    for rows in (frame, read_csv(tmp_path / "results.csv")):
        summary = summarize(rows)
        assert distrust_notes(summary) == [told]
        assert [table.caption for table in comparison_tables(summary, ("f1",))] == [None, told]
        write_markdown(tmp_path / "r.md", summary, "Title", [])
        assert f"**{told}**" in (tmp_path / "r.md").read_text(encoding="utf-8")
    before = frame.drop(columns="trustworthy")  # of a sweep that did not record it
    assert distrust_notes(summarize(before)) == []


def test_plots_are_drawn(tmp_path):
    plot_by_rate(
        summarize(results()), tmp_path / "rate.png", note="Table 1, 20 epochs of 350. " * 9
    )
    curves = pd.DataFrame(
        [
            {"noise": "pair", "rate": rate, "seed": s, "method": m, "epoch": e, "test_error": 1 / e}
            for rate in (0.2, 0.3) for m, epochs in (("umn", 6), ("aum", 9)) for s in (0, 1)
            for e in range(1, epochs)
        ]
    )  # fmt: skip
    plot_curves(curves, tmp_path / "deep" / "curves.png")
    rng = np.random.default_rng(0)
    wrong = rng.random(200) < 0.2
    frame = pd.DataFrame(
        {"suspect_score": wrong + rng.normal(size=200), "is_label_issue": wrong, "is_wrong": wrong}
    )
    plot_precision_recall_of({"umn": frame}, "toy", tmp_path / "pr.png")
    for path in ("rate.png", "deep/curves.png", "pr.png"):
        image = np.asarray(Image.open(tmp_path / path).convert("RGB"))
        assert len(np.unique(image.reshape(-1, 3), axis=0)) > 10
