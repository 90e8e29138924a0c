"""The paper's experiments, as far as it describes them, and its numbers.

Source: "Is the Label Trustful: Training Better Deep Learning Model via Uncertainty Mining Net", ICLR
2020 submission, Tables 1-3 and Figure 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

RATES = (0.1, 0.2, 0.3, 0.4, 0.5)


@dataclass(frozen=True)
class Protocol:
    """An experiment of the paper.

    Attributes
    ----------
    title
        The paper's name for it, and what is measured.
    dataset
        A name that `load_dataset` knows.
    num_labeled
        Numbers of labels; several where the experiment varies them.
    rates
        Shares of wrong labels.
    batch_size, epochs, runs
        The paper's values.
    num_samples
        The paper's number of training images.
    network
        The paper's encoder, under our name.
    limit
        Number of training images to use; None uses all.
    methods
        Names of `labelaudit.benchmark.systems.METHODS`, in the paper's order.
    measure
        The column of results.csv that the paper reports.
    curves
        Whether to measure the error after each epoch.
    paper
        The paper's number by method and rate (or number of labels), in `measure`'s unit.
    remark
        A note for the reader of the table.
    """

    title: str
    dataset: str
    num_labeled: tuple[int, ...]
    rates: tuple[float, ...]
    batch_size: int
    epochs: int
    runs: int
    num_samples: int
    network: str
    limit: int | None
    methods: tuple[str, ...]
    measure: str
    paper: Mapping[str, Mapping[float, float]]
    curves: bool = False
    remark: str = ""

    @property
    def encoder(self) -> str:
        """The encoder to ask for. "auto" takes the paper's network for MNIST's images anywhere."""
        return "auto" if self.network == "mlp" else self.network


def _by_rate(*percent: float) -> dict[float, float]:
    return {rate: round(value / 100, 4) for rate, value in zip(RATES, percent, strict=True)}


TABLE1_METHODS = (
    "supervised", "supervised-resnet101", "mean-teacher", "mislabeled-vae", "mentornet", "reweight",
    "umn",
)  # fmt: skip
MNIST_METHODS = tuple(name for name in TABLE1_METHODS if name != "reweight")

PROTOCOLS: dict[str, Protocol] = {
    "table1-mnist": Protocol(
        title="Table 1, MNIST: test error with 100 labels",
        dataset="mnist",
        num_labeled=(100,),
        rates=RATES,
        batch_size=100,
        epochs=350,
        runs=5,
        num_samples=50_000,
        network="mlp",
        limit=50_000,
        methods=MNIST_METHODS,
        measure="test_error",
        paper={
            "supervised": _by_rate(29.4, 36.2, 41.1, 51.3, 57.5),
            "supervised-resnet101": _by_rate(29.5, 36.6, 43.0, 49.0, 59.4),
            "mean-teacher": _by_rate(6.6, 11.7, 14.6, 17.9, 34.4),
            "mislabeled-vae": _by_rate(4.3, 2.7, 7.4, 9.9, 28.0),
            "mentornet": _by_rate(25.6, 39.7, 45.8, 57.7, 65.3),
            "umn": _by_rate(2.5, 2.8, 5.3, 5.8, 18.0),
        },
        remark="The paper did not run Reweight on MNIST.",
    ),
    "table1-svhn": Protocol(
        title="Table 1, SVHN: test error with 500 labels",
        dataset="svhn",
        num_labeled=(500,),
        rates=RATES,
        batch_size=100,
        epochs=350,
        runs=5,
        num_samples=73_257,
        network="conv13",
        limit=None,
        methods=TABLE1_METHODS,
        measure="test_error",
        paper={
            "supervised": _by_rate(34.9, 46.3, 61.4, 61.8, 65.1),
            "supervised-resnet101": _by_rate(32.0, 46.0, 58.9, 60.5, 63.3),
            "mean-teacher": _by_rate(18.0, 45.5, 53.0, 63.9, 65.9),
            "mislabeled-vae": _by_rate(26.1, 35.2, 37.2, 40.1, 48.3),
            "mentornet": _by_rate(29.1, 42.1, 53.8, 59.1, 62.0),
            "reweight": _by_rate(27.3, 39.0, 51.9, 53.7, 57.9),
            "umn": _by_rate(23.9, 30.5, 30.9, 37.1, 43.2),
        },
    ),
    "table1-cifar10": Protocol(
        title="Table 1, CIFAR-10: test error with 4,000 labels",
        dataset="cifar10",
        num_labeled=(4000,),
        rates=RATES,
        batch_size=100,
        epochs=350,
        runs=5,
        num_samples=50_000,
        network="conv13",
        limit=None,
        methods=TABLE1_METHODS,
        measure="test_error",
        paper={
            "supervised": _by_rate(43.2, 46.3, 52.9, 57.1, 63.3),
            "supervised-resnet101": _by_rate(41.3, 44.7, 50.0, 56.9, 61.3),
            "mean-teacher": _by_rate(39.2, 42.1, 47.8, 52.2, 65.4),
            "mislabeled-vae": _by_rate(41.2, 43.9, 51.4, 52.1, 56.3),
            "mentornet": _by_rate(41.2, 42.4, 51.6, 54.1, 57.1),
            "reweight": _by_rate(39.4, 41.9, 49.9, 53.9, 58.3),
            "umn": _by_rate(37.8, 39.8, 43.5, 43.5, 51.9),
        },
        remark=(
            "The paper says both 100 labels per class and 4,000 in total. 4,000 is the number in the"
            " protocol that it cites. The batch size for CIFAR-10 is not given; 100 is SVHN's."
        ),
    ),
    "table2-svhn": Protocol(
        title="Table 2, SVHN: test error with varying numbers of labels",
        dataset="svhn",
        num_labeled=(1000, 2000, 3000, 10000, 20000),
        rates=(0.2,),
        batch_size=100,
        epochs=350,
        runs=5,
        num_samples=73_257,
        network="conv13",
        limit=None,
        methods=("umn", "mentornet"),
        measure="test_error",
        paper={
            "umn": {1000: 0.239, 2000: 0.181, 3000: 0.163, 10000: 0.148, 20000: 0.132},
            "mentornet": {1000: 0.305, 2000: 0.279, 3000: 0.251, 10000: 0.183, 20000: 0.112},
        },
        remark=(
            "The paper states no corruption rate for this table; ours is 20%. Its first column"
            " repeats two numbers of UMN in Table 1 (10% and 20% with 500 labels), the second one as"
            " MentorNet's. A comparison with this table therefore proves nothing."
        ),
    ),
    "table3": Protocol(
        title="Table 3, MNIST: F1 of finding corrupt labels among 100",
        dataset="mnist",
        num_labeled=(100,),
        rates=RATES,
        batch_size=100,
        epochs=350,
        runs=5,
        num_samples=50_000,
        network="mlp",
        limit=50_000,
        methods=("umn",),
        measure="f1",
        paper={
            "umn": {0.1: 0.48, 0.2: 0.67, 0.3: 0.71, 0.4: 0.82, 0.5: 0.75},
        },
        remark=(
            "The paper flags a label if its ε in the last epoch is above 0. That rule is the row"
            ' "umn: epsilon > 0"; our rule is the row "umn".'
        ),
    ),
    "figure3": Protocol(
        title="Figure 3, SVHN: test error over epochs with 500 labels",
        dataset="svhn",
        num_labeled=(500,),
        rates=(0.2, 0.3, 0.4),
        batch_size=100,
        epochs=350,
        runs=1,
        num_samples=73_257,
        network="conv13",
        limit=None,
        methods=TABLE1_METHODS,
        measure="test_error",
        paper={},
        curves=True,
        remark="The paper prints only the curves of this figure, without numbers to compare with.",
    ),
}
