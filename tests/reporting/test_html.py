"""The report page: what it says, how large it may get, and that nothing in the data can harm it."""

import base64
import hashlib
import io
import re
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import OutputError
from labelaudit.reporting.html import PLOT_TEXTS, write_report
from labelaudit.reporting.tables import suspects_table

HOSTILE = [
    "</script><img src=x onerror=alert(1)>",
    '"><svg onload=alert(1)>',
    "' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "--></title><iframe src=https://evil.example>",
    "javascript:alert(1)",
    "\u202egnp.exe שלום",
    "W" * 400,
    "",
]


class FakeHistory:
    def __init__(self, num_labeled: int, num_epochs: int) -> None:
        self.epochs = list(range(1, num_epochs + 1))
        self.num_labeled = num_labeled
        self.reads: list[int] = []

    def read(self, epoch: int) -> dict[str, np.ndarray]:
        """Sample number i has ε = i / L in the last epoch."""
        self.reads.append(epoch)
        epsilon = np.arange(self.num_labeled) / self.num_labeled * epoch / len(self.epochs)
        return dict.fromkeys(("epsilon", "learner_prob", "guider_prob"), epsilon.astype("f4"))


def make_samples(
    count: int,
    flagged: int,
    names: list[str],
    unlabeled_every: int = 0,
    truth: bool = False,
) -> pd.DataFrame:
    """Images whose ids are their rows; the last labeled ones are the worst."""
    rows = np.arange(count)
    array = np.array(names, dtype=object)
    labeled = rows % unlabeled_every != 0 if unlabeled_every else np.ones(count, bool)
    score = np.where(labeled, (rows + 1) / count, np.nan)
    rank = pd.Series(score).rank(ascending=False).astype("Int64")
    given = np.where(labeled, array[rows % len(names)], None)
    suggested = np.where(labeled, array[(rows + 1 + rows // 7) % len(names)], None)
    samples = pd.DataFrame(
        {
            "sample_id": [f"row {row}" for row in rows],
            "path": "",
            "given_label": pd.Series(given, dtype="str"),
            "predicted_label": array[(rows + 1) % len(names)],
            "predicted_prob": 0.9,
            "suggested_label": pd.Series(suggested, dtype="str"),
            "suggested_prob": 0.8,
            "suspect_score": score,
            "label_score": 1 - score,
            "is_label_issue": (rank <= flagged).fillna(False).astype(bool),
            "rank": rank,
            "ambiguity": np.where(labeled, 0.2, np.nan),
            "trusted": True,
            "epsilon": np.where(labeled, 0.25, np.nan),
            "epsilon_mean": np.where(labeled, 0.2, np.nan),
            "guider_prob": np.where(labeled, 0.1, np.nan),
            "learner_prob": np.where(labeled, 0.3, np.nan),
        }
    )
    if truth:
        samples["clean_label"] = pd.Series(array[(rows + 1) % len(names)], dtype="str")
    return samples


def make_summary(samples: pd.DataFrame, names: list[str], **changes: Any) -> dict[str, Any]:
    labeled = samples["given_label"].notna()
    return {
        "name": "digits",
        "num_samples": len(samples),
        "num_labeled": int(labeled.sum()),
        "num_unlabeled": int((~labeled).sum()),
        "num_classes": len(names),
        "class_names": names,
        "num_suspects": int(samples["is_label_issue"].sum()),
        "num_conflicting_duplicates": 0,
        "estimated_noise_rate": 0.12,
        "expected_wrong": 0.12 * int(labeled.sum()),
        "expected_wrong_interval": [0.1 * int(labeled.sum()), 0.14 * int(labeled.sum())],
        "review": {"explanation": "Expect half among the first 3.", "to_find": None, "curve": []},
        "threshold": {"value": 0.5, "rule": "auto", "explanation": "Above 0.5 are flagged."},
        "score": {
            "name": "posterior",
            "explanation": "The probability of a wrong label.",
            "assumption": "",
        },
        "mistakes": None,
        "trust": {"trustworthy": True, "reasons": []},
        "metrics": None,
        "per_class": [
            {
                "class_name": name,
                "num_labeled": int((samples["given_label"] == name).sum()),
                "num_suspects": int(
                    (samples["is_label_issue"] & (samples["given_label"] == name)).sum()
                ),
                "estimated_noise_rate": None,
            }
            for name in names
        ],
        "encoder": {"name": "mlp", "reason": "images are small and gray"},
        "device": "cpu",
        "seed": 7,
        "epochs": 12,
        "seconds": 75.0,
        "status": "complete",
        "versions": {"labelaudit": "0.1.0", "torch": "2.15.0"},
        "warnings": [],
        "config": {"umn": {"ema_decay": 0.99}},
        **changes,
    }


def digit(row: int) -> Image.Image:
    """An 8 x 8 gray image whose first pixels spell its row."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0, :3] = row % 256, row // 256 % 256, 255
    return Image.fromarray(pixels)


def photo(row: int) -> Image.Image:
    """Noise, which no format compresses: the worst case for the size of the page."""
    pixels = np.random.default_rng(row).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((224, 224), Image.Resampling.NEAREST)


class Element:
    def __init__(self, tag: str, attributes: Mapping[str, str | None], place: int) -> None:
        self.tag, self.attributes, self.place = tag, attributes, place
        self.text = ""

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()


VOID = {"meta", "link", "img", "input", "br"}


class Page(HTMLParser):
    """The page as a browser takes it apart: every element with the text inside."""

    def __init__(self, source: str) -> None:
        super().__init__(convert_charrefs=True)
        self.source = source
        self.elements: list[Element] = []
        self._open: list[Element] = []
        self.feed(source)
        self.close()
        assert not self._open, "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), "no attribute is given twice"
        element = Element(tag, dict(attrs), len(self.elements))
        self.elements.append(element)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(Element(tag, dict(attrs), len(self.elements)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        for element in self._open:
            element.text += data

    def find(self, tag: str = "", css: str = "", **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if (not tag or element.tag == tag)
            and (not css or css in element.classes)
            and all(element.attributes.get(key) == value for key, value in attributes.items())
        ]

    @property
    def cards(self) -> list[Element]:
        return self.find("li", "card")

    @property
    def words(self) -> str:
        return " ".join(self.find("body")[0].text.split())


def write_page(
    folder: Path,
    *,
    count: int = 60,
    flagged: int = 10,
    names: list[str] | None = None,
    epochs: int = 12,
    thumbnail: Any = digit,
    plots: Mapping[str, Path] | None = None,
    max_gallery: int = 240,
    unlabeled_every: int = 0,
    truth: bool = False,
    edit: Any = None,
    pictures: Any = "thumbnail",
    neighbors: Any = None,
    details: pd.DataFrame | None = None,
    **changes: Any,
) -> Page:
    names = names or [f"class {number}" for number in range(5)]
    samples = make_samples(count, flagged, names, unlabeled_every, truth)
    if edit:
        edit(samples)
    write_report(
        folder / "report.html",
        samples=samples,
        suspects=suspects_table(samples),
        summary=make_summary(samples, names, **changes),
        history=FakeHistory(int(samples["given_label"].notna().sum()), epochs),
        pictures=(lambda rows: map(thumbnail, rows)) if pictures == "thumbnail" else pictures,
        plots=plots or {},
        neighbors=neighbors,
        details=details,
        max_gallery=max_gallery,
    )
    return Page((folder / "report.html").read_text(encoding="utf-8"))


def decode(element: Element) -> Image.Image:
    source = element.attributes["src"] or ""
    assert source.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


def test_the_verdict_and_the_numbers(tmp_path: Path) -> None:
    page = write_page(tmp_path, count=1000, flagged=21)

    assert page.find("h1")[0].text == "digits"
    assert "About 21 of 1,000 labels look wrong (2.1%)." in page.words
    assert page.find("title")[0].text == "digits · labelaudit"
    for text in ["≈ 120", "Above 0.5 are flagged.", "The probability of a wrong label."]:
        assert text in page.words
    for text in [
        "labelaudit 0.1.0",
        "images are small and gray",
        "1 min 15 s",
        '"ema_decay": 0.99',
    ]:
        assert text in page.find("footer")[0].text
    assert not page.find(id="untrusted")
    assert not page.find(id="unfinished")
    assert not page.find(id="metrics")
    assert not page.find(id="warnings")
    assert not page.find(id="plots")


@pytest.mark.parametrize(
    ("count", "flagged", "verdict"),
    [
        (60, 0, "No label looks wrong among 60 labels."),
        (60, 1, "One of 60 labels looks wrong (1.7%)."),
        (1, 1, "One of 1 label looks wrong (100.0%)."),
    ],
)
def test_the_verdict_counts_in_words(
    tmp_path: Path, count: int, flagged: int, verdict: str
) -> None:
    assert verdict in write_page(tmp_path, count=count, flagged=flagged).words


def test_no_suspects_give_a_page_that_makes_sense(tmp_path: Path) -> None:
    page = write_page(tmp_path, flagged=0)

    assert not page.cards
    assert not page.find(id="filter")
    assert "No label looks wrong by the rule above" in page.words
    assert "no classes are confused" in page.words


def test_a_report_not_to_be_trusted_says_so_before_anything_else(tmp_path: Path) -> None:
    reasons = ["It is near constant.", "More <b>epochs</b> may help."]
    page = write_page(tmp_path, trust={"trustworthy": False, "reasons": reasons})

    first = page.elements[page.find("body")[0].place + 1]
    assert first.attributes["id"] == "untrusted"
    assert all(reason in first.text for reason in reasons)
    assert first.place < page.find("h1")[0].place
    assert "look wrong" not in page.find("p", "verdict")[0].text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("interrupted", "The training was interrupted after epoch 3."),
        ("out of time", "The time limit was reached after epoch 3."),
    ],
)
def test_an_unfinished_run_says_so_above_the_verdict(
    tmp_path: Path, status: str, words: str
) -> None:
    page = write_page(tmp_path, epochs=3, status=status)

    notice = page.find(id="unfinished")[0]
    assert words in notice.text
    assert notice.place < page.find("h1")[0].place


@pytest.mark.parametrize("empty", [False, True])
def test_metrics_are_shown_where_the_truth_is_known(tmp_path: Path, empty: bool) -> None:
    metrics = {
        "precision": 0.875,
        "recall": 0.7,
        "f1": None,
        "auroc": float("nan"),
        "average_precision": 0.5,
        "num_wrong": 1234,
    }
    page = write_page(tmp_path, metrics=dict.fromkeys(metrics) if empty else metrics)

    section = page.find(id="metrics")
    assert len(section) == (not empty)
    if section:
        assert all(text in section[0].text for text in ["87.5%", "70.0%", "0.500", "1,234", "–"])


@pytest.mark.parametrize("thumbnail", [digit, photo])
def test_thousands_of_suspects_give_a_page_of_bounded_size(tmp_path: Path, thumbnail: Any) -> None:
    names = [f"class {number}" for number in range(30)]
    size = (600, 600) if thumbnail is photo else (9, 9)
    plot = tmp_path / "plot.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)).save(plot)

    page = write_page(
        tmp_path,
        count=9000,
        flagged=5000,
        names=names,
        epochs=350,
        thumbnail=thumbnail,
        plots={"epsilon": plot},
        warnings=[f"warning {number}" for number in range(10_000)],
    )

    assert (tmp_path / "report.html").stat().st_size < 6e6
    assert 240 <= len(page.cards) <= 240 + 3 * 60
    more = len(page.cards) - 240
    assert f"The worst 240 of 5,000 are shown, and {more} more" in page.words
    assert "all are in suspects.csv" in page.words
    assert f"showing {len(page.cards)} of {len(page.cards)}" in page.find("output")[0].text
    assert len(page.find("li")) < len(page.cards) + 70
    assert "10,000 warnings" in page.words


def test_the_gallery_shows_the_worst_and_some_of_each_frequent_pair(tmp_path: Path) -> None:
    """The 20 worst are of one pair; of the rarer one the three worst are added."""

    def edit(samples: pd.DataFrame) -> None:
        samples["given_label"], samples["suggested_label"] = "a", "b"
        samples.loc[:9, ["given_label", "suggested_label"]] = "b", "c"

    page = write_page(
        tmp_path, count=40, flagged=40, names=["a", "b", "c"], edit=edit, max_gallery=20
    )

    ranks = [card.attributes["data-text"].split()[1] for card in page.cards]
    assert ranks == [str(row) for row in [*range(39, 19, -1), 9, 8, 7]]
    options = [option.text for option in page.find("option")]
    assert options == ["all pairs (23 images)", "a → b (20)", "b → c (3)"]
    values = [option.attributes["value"] for option in page.find("option")]
    assert [card.attributes["data-pair"] for card in page.cards] == [values[1]] * 20 + [
        values[2]
    ] * 3
    links = [link for link in page.find("a") if "data-pair" in link.attributes]
    assert [(link.attributes["data-pair"], link.text) for link in links] == [
        (values[1], "30"),
        (values[2], "10"),
    ]


@pytest.mark.parametrize("unlabeled_every", [0, 3])
def test_each_card_shows_its_own_image_and_curve(tmp_path: Path, unlabeled_every: int) -> None:
    page = write_page(tmp_path, count=600, flagged=30, unlabeled_every=unlabeled_every, truth=True)

    images = page.find("img")
    curves = [element.attributes["points"] for element in page.find("polyline")]
    assert len(images) == len(curves) == len(page.cards) == 30
    samples = make_samples(600, 30, [f"class {n}" for n in range(5)], unlabeled_every, truth=True)
    labeled = samples.index[samples["given_label"].notna()]
    worst = samples.sort_values("rank").head(30)
    for card, image, curve, (row, sample) in zip(
        page.cards, images, curves, worst.iterrows(), strict=True
    ):
        pixels = np.asarray(decode(image))
        assert pixels[0, :3].tolist() == [row % 256, row // 256, 255]
        assert "tiny" in image.attributes["class"]
        for column in ["sample_id", "given_label", "suggested_label", "clean_label"]:
            assert sample[column] in card.text
        assert f"{sample['suspect_score']:.3f}" in card.text
        last = labeled.get_loc(row) / len(labeled)  # ε of the last epoch, by FakeHistory
        assert curve.split()[-1] == f"100,{23 - 22 * np.sqrt(last):.1f}".removesuffix(".0")
        assert len(curve.split()) == 12
    assert ("have no label" in page.words) == bool(unlabeled_every)


def test_the_history_is_read_once_and_only_as_far_as_can_be_seen(tmp_path: Path) -> None:
    samples = make_samples(50, 5, ["a", "b"])
    history = FakeHistory(50, 350)
    write_report(
        tmp_path / "report.html",
        samples=samples,
        suspects=suspects_table(samples),
        summary=make_summary(samples, ["a", "b"]),
        history=history,
        pictures=lambda rows: map(digit, rows),
        plots={},
    )

    assert len(history.reads) == len(set(history.reads)) <= 48
    assert {1, 350} <= set(history.reads)


@pytest.mark.parametrize("epochs", [0, 1])
def test_too_few_epochs_draw_no_curve(tmp_path: Path, epochs: int) -> None:
    page = write_page(tmp_path, epochs=epochs)

    assert len(page.cards) == 10
    assert not page.find("polyline")


@pytest.mark.parametrize(
    ("mode", "size", "expected"),
    [
        ("RGB", (224, 224), (96, 96)),
        ("L", (28, 28), (28, 28)),
        ("L", (600, 20), (96, 3)),
        ("RGB", (2, 900), (1, 96)),
        ("RGBA", (64, 65), (64, 65)),
        ("1", (64, 64), (64, 64)),
    ],
)
def test_thumbnails_are_small_and_keep_their_shape(
    tmp_path: Path, mode: str, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    original = Image.new(mode, size)
    page = write_page(tmp_path, flagged=1, thumbnail=lambda row: original)

    image = page.find("img")[0]
    assert decode(image).size == expected
    assert ("tiny" in image.classes) == (max(size) <= 64)
    assert original.size == size


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_large_thumbnail_is_reduced_but_still_itself(tmp_path: Path, mode: str) -> None:
    original = photo(0).convert(mode)
    original.info["icc_profile"] = bytes(100_000)
    page = write_page(tmp_path, flagged=1, thumbnail=lambda row: original)

    image = page.find("img")[0]
    assert len(image.attributes["src"] or "") < 12_000
    expected = original.resize((12, 12), Image.Resampling.BOX)
    shown = decode(image).convert(mode).resize((12, 12), Image.Resampling.BOX)
    difference = np.abs(np.asarray(shown, dtype=float) - np.asarray(expected, dtype=float))
    assert difference.mean() < 12


def test_hostile_data_is_shown_and_never_run(tmp_path: Path) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [HOSTILE[row % len(HOSTILE)] + str(row) for row in samples.index]
        samples["path"] = [HOSTILE[row % len(HOSTILE)] for row in samples.index]

    plot = tmp_path / "plot.png"
    Image.new("L", (9, 9)).save(plot)
    hostile = HOSTILE[0]
    arguments: dict[str, Any] = {
        "names": HOSTILE,
        "flagged": 50,
        "truth": True,
        "edit": edit,
        "plots": {hostile: plot},
        "name": hostile,
        "status": hostile,
        "device": hostile,
        "warnings": list(HOSTILE),
        "trust": {"trustworthy": False, "reasons": list(HOSTILE)},
        "score": {"name": hostile, "explanation": hostile, "assumption": hostile},
        "mistakes": {"explanation": hostile},
        "threshold": {"value": 0.5, "rule": hostile, "explanation": hostile},
        "encoder": {"name": hostile, "reason": hostile},
        "versions": {"labelaudit": hostile, hostile: hostile},
        "config": {hostile: hostile},
    }
    page = write_page(tmp_path, **arguments)
    harmless = write_page(
        tmp_path,
        flagged=50,
        truth=True,
        plots={"epsilon": plot},
        status="interrupted",
        warnings=["one"],
        trust={"trustworthy": False, "reasons": ["one"]},
    )

    for text in HOSTILE[:5]:
        assert text in page.words
        assert text not in page.source or not set("<>\"'") & set(text)
    # The same elements and the same script as on a harmless page, and no handler anywhere.
    assert {e.tag for e in page.elements} == {e.tag for e in harmless.elements}
    assert [e.text for e in page.find("script")] == [e.text for e in harmless.find("script")]
    assert len(page.find("script")) == len(page.find("style")) == 1
    for element in page.elements:
        assert not [key for key in element.attributes if key.startswith("on") or key == "style"]
    assert "(empty name)" in page.words
    assert max(len(option.text) for option in page.find("option")) < 80


def test_a_name_that_is_not_unicode_does_not_cost_the_report(tmp_path: Path) -> None:
    page = write_page(tmp_path, name="folder \udcff", warnings=["bad name \udcfe.png"])

    assert "folder ?" in page.words


@pytest.mark.parametrize("flagged", [0, 20])
def test_the_page_needs_and_reaches_no_network(tmp_path: Path, flagged: int) -> None:
    plot = tmp_path / "plot.png"
    Image.new("L", (9, 9)).save(plot)
    page = write_page(tmp_path, flagged=flagged, plots=dict.fromkeys(PLOT_TEXTS, plot))

    assert "http:" not in page.source
    assert "https:" not in page.source
    assert not re.search(r"@import|url\(", page.source)
    for element in page.elements:
        assert element.tag not in {"iframe", "object", "embed", "base", "form", "video", "audio"}
        for key in ("src", "href", "srcset", "action"):
            target = element.attributes.get(key)
            assert target is None or target.startswith(("data:", "#"))
        if element.tag == "a":
            assert page.find(id=(element.attributes["href"] or "")[1:])


def test_the_security_policy_lets_only_the_page_itself_run(tmp_path: Path) -> None:
    page = write_page(tmp_path)

    def source_hash(text: str) -> str:
        return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()

    meta = page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0]
    rules = dict(rule.split(" ", 1) for rule in (meta.attributes["content"] or "").split("; "))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    assert rules["script-src"] == f"'{source_hash(page.find('script')[0].text)}'"
    assert rules["style-src"] == f"'{source_hash(page.find('style')[0].text)}'"
    assert meta.place < page.find("style")[0].place


def test_plots_come_with_captions_in_reading_order(tmp_path: Path) -> None:
    plots = {}
    for number, key in enumerate(["mine", *reversed(PLOT_TEXTS)], start=10):
        plots[key] = tmp_path / f"{number}.png"
        Image.new("L", (number, 10)).save(plots[key])

    page = write_page(tmp_path, flagged=0, plots=plots)

    images = page.find("img")
    assert [decode(image).width for image in images] == [15, 14, 13, 12, 11, 10]
    assert next(iter(PLOT_TEXTS)) == "review"
    assert list(PLOT_TEXTS)[-1] == "epsilon"
    captions = [caption.text for caption in page.find("figcaption")]
    for text, caption in zip(PLOT_TEXTS.values(), captions, strict=False):
        assert text.title in caption
        assert text.caption in caption
    assert all(image.attributes["alt"] for image in images)


def test_a_card_says_how_far_people_would_disagree_and_folds_training_away(tmp_path: Path) -> None:
    page = write_page(tmp_path)
    card = " ".join(page.cards[0].text.split())
    assert re.search(r"people(clear|unsure|disputed) \(", card)
    assert any("in training" in fold.text for fold in page.find("details"))


def test_what_kind_of_mistakes_these_are_and_what_is_assumed_is_said(tmp_path: Path) -> None:
    page = write_page(
        tmp_path,
        mistakes={"explanation": "About half follow the samples."},
        score={"name": "s", "explanation": "Because.", "assumption": "Networks are shy."},
    )
    assert "About half follow the samples." in page.words
    assert "Networks are shy. The interval for the number of wrong labels carries" in page.words


def test_tables_are_cut_with_a_note(tmp_path: Path) -> None:
    names = [f"class {number}" for number in range(130)]
    page = write_page(tmp_path, count=2000, flagged=1500, names=names)

    assert "The 100 of 130 classes with most suspects" in page.words
    assert re.search(r"The 50 most frequent of [\d,]+ pairs", page.words)
    assert len(page.find("tr")) == 1 + 100 + 1 + 50


def test_the_page_is_accessible(tmp_path: Path) -> None:
    page = write_page(tmp_path, truth=True)

    assert page.find("html")[0].attributes["lang"] == "en"
    assert len(page.find("h1")) == len(page.find("main")) == 1
    assert all(image.attributes["alt"] for image in page.find("img"))
    assert all("scope" in header.attributes for header in page.find("th"))
    assert all(curve.attributes["aria-label"] for curve in page.find("svg", "curve"))
    ids = [e.attributes["id"] for e in page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))


def test_nothing_is_left_of_a_page_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        write_page(tmp_path / "no such folder")

    def broken(row: int) -> Image.Image:
        raise RuntimeError("no image")

    with pytest.raises(RuntimeError, match="no image"):
        write_page(tmp_path, thumbnail=broken)
    assert list(tmp_path.iterdir()) == []


# --- evidence beside the suspects --------------------------------------------------------------


def near(rows: np.ndarray) -> np.ndarray:
    """Each row's neighbors are the first rows of the table; the third is missing."""
    return np.stack([rows * 0, rows * 0 + 1, rows * 0 - 1], axis=1)


def test_each_card_shows_its_neighbors_as_small_pictures(tmp_path: Path) -> None:
    asked: list[np.ndarray] = []

    def pictures(rows: np.ndarray) -> Any:
        asked.append(rows)
        return (None if row == 1 else photo(row) for row in rows)

    page = write_page(tmp_path, flagged=10, pictures=pictures, neighbors=near)

    assert [rows.tolist() for rows in asked] == [[0, 1, *range(50, 60)]]
    assert len(page.find("img")) == 10 + 10  # and the second neighbor cannot be read
    for card, beside in zip(page.cards, page.find("div", "near"), strict=True):
        suggested = card.attributes["data-text"].split("class ")[-1]  # type: ignore[union-attr]
        assert f"labeled class {suggested}" in " ".join(beside.text.split())
        assert "row 1" in beside.text
    small = [image for image in page.find("img") if image.attributes["alt"] == "row 0"]
    assert len(small) == 10
    assert max(decode(small[0]).size) == 48
    assert "most like it that carry the suggested label" in page.words


def test_pictures_that_cannot_be_read_leave_a_card_that_makes_sense(tmp_path: Path) -> None:
    page = write_page(tmp_path, flagged=3, pictures=lambda rows: [None for _ in rows])

    assert not page.find("img")
    assert [card.text.count("cannot be read") for card in page.cards] == [1, 1, 1]


def test_without_pictures_cards_show_texts_and_ids(tmp_path: Path) -> None:
    details = pd.DataFrame(
        {f"column {n}": [f"text {n} of {row}" for row in range(60)] for n in range(12)}
    )
    details["column 1"] = ""
    details["column 0"] = HOSTILE[0] + " word" * 200
    page = write_page(tmp_path, flagged=5, pictures=None, neighbors=near, details=details)

    assert not page.find("img")
    assert not page.find("div", "picture")
    for card, row in zip(page.cards, range(59, 54, -1), strict=True):
        assert f"row {row}" in card.text
        assert f"text 2 of {row}" in card.text
        assert f"text 8 of {row}" in card.text
        assert "column 1" not in card.text
        assert "column 9" not in card.text  # at most nine columns
        assert HOSTILE[0] in card.text
        assert "row 0" in card.text  # a neighbor, with what it says
        assert "text 2 of 0" in card.text
        assert f"text 3 of {row}" in (card.attributes["data-text"] or "")  # to be searched
        assert len(card.text) < 1500
    assert "all pairs (5 samples)" in page.words
    assert HOSTILE[0] not in page.source
    assert "image" not in " ".join(page.find("section", id="gallery")[0].text.split())


def test_many_suspects_with_neighbors_give_a_page_of_bounded_size(tmp_path: Path) -> None:
    write_page(
        tmp_path,
        count=3000,
        flagged=1500,
        thumbnail=photo,
        neighbors=lambda rows: np.stack([rows % 1500, (rows + 7) % 1500, (rows + 9) % 1500], 1),
    )
    assert (tmp_path / "report.html").stat().st_size < 8e6


@pytest.mark.parametrize(
    ("count", "words"),
    [(0, ""), (1, "there is one pair of samples"), (1234, "there are 1,234 pairs of samples")],
)
def test_conflicting_duplicates_are_said(tmp_path: Path, count: int, words: str) -> None:
    page = write_page(tmp_path, num_conflicting_duplicates=count)

    assert ("duplicates.csv" in page.words) == bool(count)
    assert words in page.words
