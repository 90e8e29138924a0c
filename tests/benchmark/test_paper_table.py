import pandas as pd
import pytest

from labelaudit.benchmark.paper_table import differences, protocol_table, protocol_title
from labelaudit.benchmark.protocols import PROTOCOLS
from labelaudit.benchmark.sweep import COLUMNS

TABLE3 = PROTOCOLS["table3"]


def results(methods=("umn",), rates=TABLE3.rates, seeds=range(5), **columns):
    """Rows as of a whole run of Table 3, F1 0.9 and a hundredth more for each seed."""
    rows = [
        {
            **dict.fromkeys(COLUMNS, 0.5), "dataset": "mnist", "noise": "symmetric", "rate": rate,
            "seed": seed, "method": method, "f1": 0.9 + 0.01 * seed, "num_labeled": 100,
            "device": "cpu", "encoder": "mlp", "epochs": 350, "num_samples": 50_000, **columns,
        }
        for method in methods for rate in rates for seed in seeds
    ]  # fmt: skip
    return pd.DataFrame(rows)


def lines_of(*frames, protocol=TABLE3):
    return protocol_table(pd.concat(frames, ignore_index=True), protocol)


def test_ours_is_set_beside_the_papers():
    lines = lines_of(results(("umn", "umn: epsilon > 0")))
    assert lines[0] == "# Table 3, MNIST: F1 of finding corrupt labels among 100"
    ours = " | ".join(["0.920 ± 0.016"] * 5)
    assert f"| umn | ours | {ours} |" in lines
    assert f"| umn: epsilon > 0 | ours | {ours} |" in lines
    assert "| | paper | 0.480 | 0.670 | 0.710 | 0.820 | 0.750 |" in lines
    assert "Data: mnist. Device: cpu." in lines


def test_results_that_umn_does_not_trust_are_named_under_the_table():
    trusted = results(rates=(0.1, 0.2), trustworthy=True)
    *_, last = lines_of(trusted)
    assert last == ""
    *_, last = lines_of(trusted, results(rates=(0.3,), trustworthy=False))
    assert "umn does not trust its own result on 5 of 5 seeds: mnist, symmetric 30%" in last


def test_a_shortened_run_says_so_in_its_title_and_in_its_lines():
    lines = lines_of(results(rates=(0.1, 0.2), seeds=(0, 1), epochs=20))
    assert lines[0] == (
        "# Table 3, MNIST: F1 of finding corrupt labels among 100 (not as in the paper: 20 epochs"
        " instead of 350, 2 runs instead of 5, 10% and 20% wrong labels only)"
    )
    assert "| umn | ours, 20 epochs, 2 seeds | 0.905 ± 0.007 | 0.905 ± 0.007 | – | – | – |" in lines


@pytest.mark.parametrize(
    ("columns", "settings", "told"),
    [
        ({}, {}, []),
        ({"num_samples": 1500}, {}, ["1,500 training images instead of 50,000"]),
        ({"num_samples": None}, {}, []),  # of a sweep that did not record it
        ({"num_labeled": 60}, {}, ["60 labels instead of 100"]),
        ({"encoder": "resnet18"}, {}, ["encoder resnet18 instead of mlp"]),
        ({}, {"batch_size": 20}, ["20 images per step instead of 100"]),
        ({}, {"batch_size": 100, "flip": None}, []),
        ({}, {"flip": True}, ["training images are mirrored at random"]),
        ({"epochs": 1}, {}, ["1 epoch instead of 350"]),
        ({"epochs": 0}, {}, []),  # nothing was trained
        ({"seeds": (0,)}, {}, ["1 run instead of 5"]),
        ({"rates": (0.25,)}, {}, ["25% wrong labels only"]),
    ],
)
def test_each_difference_is_told(columns, settings, told):
    assert differences(results(**columns), TABLE3, settings) == told


def test_other_rates_than_the_papers_have_a_column_too():
    lines = lines_of(results(rates=(0.25,)))
    assert "| F1 | | 10% | 20% | 25% | 30% | 40% | 50% |" in lines
    assert "| | paper | 0.480 | 0.670 | – | 0.710 | 0.820 | 0.750 |" in lines


def test_runs_of_different_lengths_are_never_averaged():
    lines = lines_of(results(seeds=(0,)), results(seeds=(5,), epochs=20))
    assert "| umn | ours, 20 epochs, 1 seed | 0.950 | 0.950 | 0.950 | 0.950 | 0.950 |" in lines
    assert "| umn | ours, 1 seed | 0.900 | 0.900 | 0.900 | 0.900 | 0.900 |" in lines
    assert "20 to 350 epochs instead of 350" in lines[0]


def test_what_was_not_run_is_not_left_out():
    protocol = PROTOCOLS["table1-mnist"]
    lines = lines_of(results(), protocol=protocol)
    assert "| mean-teacher | not run | – | – | – | – | – |" in lines
    nothing = pd.DataFrame(columns=list(COLUMNS))
    assert protocol_title(nothing, TABLE3).endswith("(nothing is finished yet)")
    assert "| umn | not run | – | – | – | – | – |" in protocol_table(nothing, TABLE3)


def test_numbers_of_labels_are_columns_where_they_vary():
    protocol = PROTOCOLS["table2-svhn"]
    some = results(rates=(0.2,), num_labeled=1000, num_samples=73_257, encoder="conv13")
    lines = lines_of(some, protocol=protocol)
    assert "(not as in the paper: 1,000 labels only)" in lines[0]
    assert "| test error | | 1,000 | 2,000 | 3,000 | 10,000 | 20,000 |" in lines


@pytest.mark.parametrize("name", PROTOCOLS)
def test_protocols_are_whole(name):
    protocol = PROTOCOLS[name]
    values = protocol.num_labeled if len(protocol.num_labeled) > 1 else protocol.rates
    for method, numbers in protocol.paper.items():
        assert method in protocol.methods
        assert set(numbers) == set(values)
        assert all(0 < number < 1 for number in numbers.values())
