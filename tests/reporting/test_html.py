"""The report page: what it says, how large it may get, and that nothing in the data can harm it."""

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import OutputError
from labelaudit.reporting.blocks import read_block, stored_blocks
from labelaudit.reporting.evidence import Evidence
from labelaudit.reporting.html import PLOT_TEXTS, class_pairs, page_script, page_style, render_page
from labelaudit.reporting.html import write_page as save_page
from labelaudit.reporting.review_data import write_review_data
from labelaudit.suspects.checked import ScoreBin

VOID = {"meta", "link", "img", "input", "br"}
HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")


def write_report(path: Path, **options: Any) -> None:
    """Render a page, and write it."""
    save_page(path, render_page(**options))


class Element:
    def __init__(
        self,
        tag: str,
        attributes: Mapping[str, str | None],
        place: int,
        ancestors: list["Element"],
    ) -> None:
        self.tag, self.attributes, self.place = tag, attributes, place
        self.ancestors = ancestors
        self.text = ""

    @property
    def classes(self) -> list[str]:
        return (self.attributes.get("class") or "").split()

    @property
    def visible(self) -> bool:
        """Whether it is, when the page has just been opened and no script has run."""
        some = [self, *self.ancestors]
        return not any("hidden" in e.attributes or e.tag == "dialog" for e in some)

    def inside(self, element: "Element") -> bool:
        return element in self.ancestors


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

    def _begin(self, tag: str, attrs: list[tuple[str, str | None]]) -> Element:
        assert len(dict(attrs)) == len(attrs), "no attribute is given twice"
        element = Element(tag, dict(attrs), len(self.elements), list(self._open))
        self.elements.append(element)
        return element

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = self._begin(tag, attrs)
        if tag not in VOID:
            self._open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._begin(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().tag == tag, "elements are nested"

    def handle_data(self, data: str) -> None:
        # A script is no text of what it lies in.
        code = bool(self._open) and self._open[-1].tag in ("script", "style")
        for element in self._open[-1:] if code else self._open:
            element.text += data

    def find(self, tag: str = "", css: str = "", **attributes: str) -> list[Element]:
        return [
            element
            for element in self.elements
            if (not tag or element.tag == tag)
            and (not css or css in element.classes)
            and all(element.attributes.get(key) == value for key, value in attributes.items())
        ]

    def within(self, identifier: str) -> list[Element]:
        (outer,) = self.find(id=identifier)
        return [element for element in self.elements if element.inside(outer)]

    @property
    def words(self) -> str:
        return " ".join(self.find("body")[0].text.split())

    @property
    def markup(self) -> str:
        """The source without what is inside scripts."""
        return re.sub(r"(<script[^>]*>).*?</script>", r"\1", self.source, flags=re.DOTALL)


WritePage = Callable[..., Page]


@pytest.fixture
def write_page(tmp_path: Path, make_case: Callable[..., Any]) -> WritePage:
    """Write a page and read it.

    With `data` what it shows of suspects as well, which are cut at `num_listed`. Other arguments are
    those of `make_case`.
    """

    def write(
        folder: Path = tmp_path,
        *,
        plots: Mapping[str, Path] | None = None,
        data: bool = False,
        num_listed: int | None = None,
        noun: str = "images",
        details: pd.DataFrame | None = None,
        checked: Any = None,
        **options: Any,
    ) -> Page:
        case = make_case(**options)

        def pictures(rows: Any, look: Callable[[int, Image.Image], Any]) -> Iterator[Any]:
            return (look(int(row), Image.new("L", (8, 8), int(row) % 256)) for row in rows)

        blocks = []
        if data:
            evidence = Evidence(
                pictures if noun == "images" else None,
                lambda rows, wanted: np.tile([0, 1, -1], (len(rows), 1)),
                pd.DataFrame() if details is None else details,
            )
            blocks = write_review_data(
                folder,
                samples=case.samples,
                suspects=case.suspects,
                summary=case.summary,
                history=case.history,
                pred_probs=None,
                evidence=evidence,
                max_suspects=num_listed,
            )
        write_report(
            folder / "report.html",
            suspects=case.suspects,
            summary=case.summary,
            plots=plots or {},
            blocks=blocks,
            epochs=case.history.epochs,
            noun=noun,
            num_listed=num_listed,
            checked=checked,
        )
        return Page((folder / "report.html").read_text(encoding="utf-8"))

    return write


def one_pixel_plot(folder: Path, size: tuple[int, int] = (9, 9)) -> Path:
    path = folder / "plot.png"
    Image.new("L", size).save(path)
    return path


def decode(element: Element) -> Image.Image:
    source = element.attributes["src"] or ""
    assert source.startswith("data:image/png;base64,")
    return Image.open(io.BytesIO(base64.b64decode(source.split(",", 1)[1])))


def source_hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# --- what it says ------------------------------------------------------------------------------


def test_the_verdict_and_the_numbers(write_page: WritePage) -> None:
    page = write_page(count=1000, flagged=21)

    assert page.find("h1")[0].text == "digits"
    assert "About 21 of 1,000 labels look wrong (2.1%)." in page.words
    assert page.find("title")[0].text == "digits · labelaudit"
    for text in [
        "≈ 120",
        "in nine of ten cases 100 to 140",
        "Above 0.5 are flagged.",
        "The probability of a wrong label.",
        "Expect half among the first 3.",
        "Review all 21 suspects",
    ]:
        assert text in page.words
    for text in [
        "labelaudit 0.1.0",
        "they are small and gray",
        "1 min 15 s",
        '"ema_decay": 0.99',
        "torch 2.15.0",
    ]:
        assert text in page.find("footer")[0].text
    for missing in ["untrusted", "unfinished", "metrics", "warnings", "plots", "checked"]:
        assert not page.find(id=missing)


@pytest.mark.parametrize(
    ("count", "flagged", "verdict"),
    [
        (60, 0, "No label looks wrong among 60 labels."),
        (60, 1, "One of 60 labels looks wrong (1.7%)."),
        (1, 1, "One of 1 label looks wrong (100.0%)."),
    ],
)
def test_the_verdict_counts_in_words(
    write_page: WritePage, count: int, flagged: int, verdict: str
) -> None:
    assert verdict in write_page(count=count, flagged=flagged).words


@pytest.mark.parametrize(
    ("flagged", "num_listed", "words"),
    [
        (10, None, "Review all 10 suspects"),
        (10, 4, "Review the worst 4 suspects"),
        (1, None, "Review the 1 suspect"),
        (2500, None, "Review all 2,500 suspects"),
    ],
)
def test_the_way_to_the_review_says_how_many_there_are(
    write_page: WritePage, flagged: int, num_listed: int | None, words: str
) -> None:
    page = write_page(count=max(60, flagged), flagged=flagged, num_listed=num_listed)

    (button,) = page.find("a", "button")
    assert button.text == words
    assert button.attributes["href"] == "#review"
    # Without scripts there is no review, and the page says where suspects are then.
    assert any("needs-script" in outer.classes for outer in button.ancestors)
    assert "suspects.csv" in page.find("noscript")[0].text


@pytest.mark.parametrize(("flagged", "num_listed"), [(0, None), (10, 0)])
def test_nothing_to_review_gives_a_page_that_makes_sense(
    write_page: WritePage, flagged: int, num_listed: int | None
) -> None:
    page = write_page(flagged=flagged, num_listed=num_listed, data=True)

    for tag in ["form", "dialog", "input", "button", "noscript"]:
        assert not page.find(tag)
    assert not page.find("a", "button")
    assert not [link for link in page.find("a") if "data-pair" in link.attributes]
    assert "There is no suspect to review." in page.find(id="review")[0].text
    assert ("No label looks wrong by the rule above" in page.words) == (flagged == 0)
    assert ("there are no pairs to list" in page.words) == (flagged == 0)


def test_a_report_not_to_be_trusted_says_so_before_anything_else(write_page: WritePage) -> None:
    reasons = ["It is near constant.", "More <b>epochs</b> may help."]
    page = write_page(trust={"trustworthy": False, "reasons": reasons})

    (notice,) = page.find(id="untrusted")
    assert all(reason in notice.text for reason in reasons)
    assert notice.visible
    assert notice.place < page.find("h1")[0].place
    for view in ["overview", "review"]:  # it is seen above each of them
        (outer,) = page.find(id=view)
        assert notice.place < outer.place
        assert not notice.inside(outer)
    assert "look wrong" not in page.find("p", "verdict")[0].text
    assert "10 of 60 labels were flagged" in page.find("p", "verdict")[0].text


@pytest.mark.parametrize(
    ("status", "epochs", "words"),
    [
        ("interrupted", 3, "The training was interrupted after epoch 3."),
        ("out of time", 3, "The time limit was reached after epoch 3."),
        ("interrupted", 0, "The training was interrupted before the first epoch was over."),
        ("odd", 1, "The run ended with the status “odd” after epoch 1."),
    ],
)
def test_an_unfinished_run_says_so_above_the_verdict(
    write_page: WritePage, status: str, epochs: int, words: str
) -> None:
    page = write_page(epochs=epochs, status=status)

    (notice,) = page.find(id="unfinished")
    assert words in notice.text
    assert notice.place < page.find("h1")[0].place


@pytest.mark.parametrize("empty", [False, True])
def test_metrics_are_shown_where_the_truth_is_known(write_page: WritePage, empty: bool) -> None:
    metrics = {
        "precision": 0.875,
        "recall": 0.7,
        "f1": None,
        "auroc": float("nan"),
        "average_precision": 0.5,
        "num_wrong": 1234,
    }
    page = write_page(metrics=dict.fromkeys(metrics) if empty else metrics)

    section = page.find(id="metrics")
    assert len(section) == (not empty)
    if section:
        assert all(text in section[0].text for text in ["87.5%", "70.0%", "0.500", "1,234", "–"])


def mistakes(explanation: str) -> dict[str, Any]:
    shares = {"follow_images": 0.5, "between_classes": 0.25, "follow_nothing": 0.25}
    return {**shares, "explanation": explanation}


def test_what_kind_of_mistakes_these_are_and_what_is_assumed_is_said(
    write_page: WritePage,
) -> None:
    page = write_page(
        mistakes=mistakes("About half follow the samples."),
        score={"name": "s", "explanation": "Because.", "assumption": "Networks are shy."},
    )
    assert "About half follow the samples." in page.words
    assert "Networks are shy. The interval for the number of wrong labels takes" in page.words


@pytest.mark.parametrize(
    ("count", "words"),
    [
        (0, ""),
        (1, "1 pair of samples is equal"),
        (999, "999 pairs of samples are equal"),
        (1000, "1,000 or more pairs of samples are"),
    ],
)
def test_conflicting_duplicates_are_said(write_page: WritePage, count: int, words: str) -> None:
    page = write_page(num_conflicting_duplicates=count)

    assert ("duplicates.csv" in page.words) == bool(count)
    assert words in page.words


def test_unlabeled_samples_are_counted(write_page: WritePage) -> None:
    page = write_page(count=60, unlabeled_every=3)

    assert "20 more images have no label and were used for training only" in page.words
    assert "About 10 of 40 labels look wrong (25.0%)." in page.words


def test_without_pictures_nothing_is_called_an_image(write_page: WritePage) -> None:
    details = pd.DataFrame({"text": [f"words of {row}" for row in range(60)]})
    page = write_page(noun="samples", details=details, data=True, unlabeled_every=3)

    assert "image" not in page.words.lower()
    assert "20 more samples have no label" in page.words
    assert "look at the sample before you change its label" in page.words
    assert "Id, text or class contains" in page.words
    assert "Id or class contains" in write_page(data=True).words


def test_scores_against_a_review_are_shown_with_their_intervals(write_page: WritePage) -> None:
    checked = SimpleNamespace(
        explanation="Of 1,234 judged, most were <wrong>.",
        bins=(ScoreBin(0.9, 1.0, 1234, 0.95, 0.875, (0.81, 0.92)),),
    )
    page = write_page(checked=checked)

    (section,) = page.find(id="checked")
    assert "Of 1,234 judged, most were <wrong>." in section.text
    cells = [cell.text for cell in page.within("checked") if cell.tag in ("th", "td")]
    assert cells[-5:] == ["0.900 to 1.000", "1,234", "95.0%", "87.5%", "81.0% to 92.0%"]

    section = write_page(checked=SimpleNamespace(explanation="None was judged.", bins=[])).find(
        id="checked"
    )[0]
    assert " ".join(section.text.split()) == "The scores against the review None was judged."


def test_plots_come_with_captions_in_reading_order(write_page: WritePage, tmp_path: Path) -> None:
    plots = {}
    for number, key in enumerate(["mine", *reversed(PLOT_TEXTS)], start=10):
        plots[key] = tmp_path / f"{number}.png"
        Image.new("L", (number, 10)).save(plots[key])

    page = write_page(flagged=0, plots=plots)

    images = page.find("img")
    assert [decode(image).width for image in images] == [15, 14, 13, 12, 11, 10]
    assert next(iter(PLOT_TEXTS)) == "review"
    assert list(PLOT_TEXTS)[-1] == "epsilon"
    captions = [caption.text for caption in page.find("figcaption")]
    assert len(captions) == 6
    for text, caption in zip(PLOT_TEXTS.values(), captions, strict=False):
        assert text.title in caption
        assert text.caption in caption
    assert captions[-1] == "mine"
    titles = [*(text.title for text in PLOT_TEXTS.values()), "mine"]
    assert [image.attributes["alt"] for image in images] == [f"Plot: {title}" for title in titles]


# --- tables ------------------------------------------------------------------------------------


def test_tables_are_cut_with_a_note(write_page: WritePage) -> None:
    names = [f"class {number}" for number in range(130)]
    page = write_page(count=2000, flagged=1500, names=names)

    assert "The 100 of 130 classes with most suspects" in page.words
    assert re.search(r"The 50 most frequent of [\d,]+ pairs", page.words)
    assert len(page.find("tr")) == 1 + 100 + 1 + 50


def test_the_table_of_classes_has_those_with_most_suspects_first(write_page: WritePage) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples["given_label"] = ["a"] * 10 + ["b"] * 40 + ["c"] * 10

    page = write_page(count=60, flagged=15, names=["a", "b", "c"], edit=edit)

    (table, _) = page.find("table")
    rows = [
        [cell.text for cell in page.elements if cell.tag in ("th", "td") and cell.inside(row)]
        for row in page.find("tr")
        if row.inside(table)
    ]
    assert [row[:4] for row in rows[1:]] == [
        ["c", "10", "10", "100.0%"],
        ["b", "40", "5", "12.5%"],
        ["a", "10", "0", "0.0%"],
    ]


def test_warnings_are_counted_and_cut_with_a_note(write_page: WritePage) -> None:
    page = write_page(warnings=[f"warning {number}" for number in range(10_000)])

    (section,) = page.find(id="warnings")
    assert "10,000 warnings" in section.text
    assert [e.text for e in page.within("warnings") if e.tag == "li"] == [
        f"warning {number}" for number in range(50)
    ]
    assert "The first 50; all are in summary.json." in section.text
    assert "1 warning" in write_page(warnings=["one"]).find("h2")[0].text


def test_links_of_pairs_have_the_review_s_key_and_their_count(
    write_page: WritePage, tmp_path: Path
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples["given_label"], samples["suggested_label"] = "a", ""
        samples.loc[:9, ["given_label", "suggested_label"]] = "", "c"
        samples.loc[10:12, ["given_label", "suggested_label"]] = "c", None

    page = write_page(count=40, flagged=40, names=["a", "", "c"], edit=edit, data=True)

    pairs = [e.text for e in page.find("td", "pair")]
    assert pairs == ["a", "(empty name)", "(empty name)", "c", "c", "(none)"]
    links = [link for link in page.find("a") if "data-pair" in link.attributes]
    assert [(link.attributes["data-pair"], link.text) for link in links] == [
        ("0,1", "27"),
        ("1,2", "10"),
        ("2,-1", "3"),
    ]
    assert {link.attributes["href"] for link in links} == {"#review"}
    suspects = read_block(tmp_path, "index")["suspects"]
    keys = [f"{a},{b}" for a, b in zip(suspects["given"], suspects["suggested"], strict=True)]
    assert {key: keys.count(key) for key in keys} == {"0,1": 27, "1,2": 10, "2,-1": 3}


def test_pairs_that_the_review_does_not_list_have_no_link(write_page: WritePage) -> None:
    """Of the 30 worst all are of one pair, and only 20 are listed."""

    def edit(samples: pd.DataFrame) -> None:
        samples["given_label"], samples["suggested_label"] = "a", "b"
        samples.loc[:9, ["given_label", "suggested_label"]] = "b", "c"

    page = write_page(
        count=40, flagged=40, names=["a", "b", "c"], edit=edit, data=True, num_listed=20
    )

    links = [link for link in page.find("a") if "data-pair" in link.attributes]
    assert [(link.attributes["data-pair"], link.text) for link in links] == [("0,1", "30")]
    counts = [e.text for e in page.within("classes") if e.tag == "td" and "pair" not in e.classes]
    assert counts[-2:] == ["30", "10"]


def test_class_pairs_are_counted_most_frequent_first() -> None:
    suspects = pd.DataFrame(
        {
            "given_label": pd.Series(["b", "a", "a", "b", "a", "new"], dtype="str"),
            "suggested_label": pd.Series(["a", "b", None, "a", None, "a"], dtype="str"),
        }
    )
    pairs = class_pairs(suspects, ["a", "b"], num_listed=2)

    assert [(p.given, p.suggested, p.count, p.key, p.listed) for p in pairs] == [
        ("b", "a", 2, "1,0", True),
        ("a", "(none)", 2, "0,-1", False),
        ("a", "b", 1, "0,1", True),
        ("new", "a", 1, "-1,0", False),
    ]


# --- data that would do harm -------------------------------------------------------------------


def test_hostile_data_is_shown_and_never_run(
    write_page: WritePage, tmp_path: Path, hostile: tuple[str, ...]
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [hostile[row % len(hostile)] + str(row) for row in samples.index]
        samples["path"] = [hostile[row % len(hostile)] + ".png" for row in samples.index]

    plot = one_pixel_plot(tmp_path)
    worst = hostile[0]
    details = pd.DataFrame({name: [name + "."] * 60 for name in hostile})
    arguments: dict[str, Any] = {
        "names": list(hostile),
        "edit": edit,
        "plots": {worst: plot},
        "details": details,
        "name": worst,
        "status": worst,
        "device": worst,
        "warnings": list(hostile),
        "trust": {"trustworthy": False, "reasons": list(hostile)},
        "score": {"name": worst, "explanation": worst, "assumption": worst},
        "mistakes": mistakes(worst),
        "threshold": {"value": 0.5, "rule": worst, "explanation": worst},
        "review": {"explanation": worst, "to_find": None, "curve": []},
        "encoder": {"name": worst, "reason": worst, "image_shape": None},
        "versions": {"labelaudit": worst, worst: worst},
        "config": {worst: worst},
        "checked": SimpleNamespace(explanation=worst, bins=[]),
    }
    common = {"flagged": 50, "truth": True, "data": True}
    page = write_page(**common, **arguments)
    index = json.loads(page.find("script", id="data-index")[0].text)
    harmless = write_page(
        **common,
        plots={"epsilon": plot},
        details=pd.DataFrame({"column": ["."] * 60}),
        status="interrupted",
        warnings=["one"],
        trust={"trustworthy": False, "reasons": ["one"]},
        mistakes=mistakes("one"),
        checked=SimpleNamespace(explanation="one", bins=[]),
    )

    body = page.find("body")[0].text
    for text in filter(None, hostile):
        assert text in body
        if set("<>\"'") & set(text):
            assert text not in page.markup
    assert "(empty name)" in page.words

    # The same kinds of elements and the same script as on a harmless page, and no handler anywhere.
    assert {e.tag for e in page.elements} == {e.tag for e in harmless.elements}
    scripts = page.find("script")
    assert [e.attributes for e in scripts] == [
        {"type": "application/json", "id": "data-index"},
        {"type": "application/json", "id": "data-chunk-00001"},
        {"type": "application/json", "id": "data-chunk-00002"},
        {},
    ]
    assert scripts[-1].text == page_script()
    assert [e.text for e in page.find("style")] == [page_style()]
    for element in page.elements:
        assert not [key for key in element.attributes if key.startswith("on") or key == "style"]
    for link in page.find("a"):
        assert re.fullmatch(r"-?\d+,-?\d+", link.attributes.get("data-pair") or "0,0")

    # Nothing in the blocks can end a script or begin a comment, and the texts are in them.
    for block in scripts[:-1]:
        assert "<" not in block.text
    assert index["classes"] == list(hostile)
    assert index["name"] == worst
    assert index["suspects"]["id"][0] == hostile[59 % len(hostile)] + "59"
    assert all(name in hostile for name in index["details"])
    shown = [text for row in index["suspects"]["details"] for text in row]
    assert {text[:-1] for text in shown if len(text) < 999} <= set(hostile)


def test_blocks_with_hostile_data_are_one_call_each(
    write_page: WritePage, tmp_path: Path, hostile: tuple[str, ...]
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [hostile[row % len(hostile)] + str(row) for row in samples.index]

    write_page(names=list(hostile), flagged=50, edit=edit, data=True)

    files = sorted((tmp_path / "report-data").iterdir())
    assert [file.name for file in files] == ["chunk-00001.js", "chunk-00002.js", "index.js"]
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert "<" not in text
        call = re.fullmatch(r'labelauditData\("([a-z0-9-]+)", (.*)\);\n', text, flags=re.DOTALL)
        assert call
        assert call[1] == file.stem
        assert "\n" not in call[2]
        assert isinstance(json.loads(call[2]), dict)
    ids = read_block(tmp_path, "index")["suspects"]["id"]
    assert ids == [hostile[row % len(hostile)] + str(row) for row in range(59, 9, -1)]
    near = read_block(tmp_path, "chunk-00001")["suspects"][0]["near"]["given"]
    assert [one["id"] for one in near] == [hostile[0] + "0", hostile[1] + "1"]


def test_a_name_that_is_not_unicode_does_not_cost_the_report(
    write_page: WritePage, tmp_path: Path
) -> None:
    page = write_page(name="folder \udcff", warnings=["bad name \udcfe.png"], data=True)

    assert "folder ?" in page.words
    assert "bad name ?.png" in page.words
    index = json.loads(page.find("script", id="data-index")[0].text)
    assert index["name"] == "folder ?"
    assert read_block(tmp_path, "index") == index


def test_ids_and_paths_that_are_not_unicode_do_not_cost_the_report(
    write_page: WritePage, tmp_path: Path
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        ids = samples["sample_id"].astype(object)
        ids[59], ids[0] = "bad \udcff.png", "near \ud800.png"
        samples["sample_id"] = ids
        samples["path"] = pd.Series(["bad \udcff.png"] * 60, dtype=object)

    page = write_page(edit=edit, data=True)

    index = json.loads(page.find("script", id="data-index")[0].text)
    assert index["suspects"]["id"][:2] == ["bad ?.png", "row 58"]
    assert index["suspects"]["link"][0] == ""
    chunk = read_block(tmp_path, "chunk-00001")
    assert chunk["suspects"][0]["near"]["given"][0]["id"] == "near ?.png"


def test_the_script_makes_no_markup_from_text(write_page: WritePage) -> None:
    script = page_script()

    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function"
        r"|createContextualFragment|DOMParser|setAttribute\(\"(on|style|srcdoc)",
        script,
    )
    assert "</" not in script  # in whatever case, it could end the element


@pytest.mark.parametrize(("flagged", "noun"), [(0, "images"), (20, "images"), (20, "samples")])
def test_the_page_needs_and_reaches_no_network(
    write_page: WritePage, tmp_path: Path, flagged: int, noun: str
) -> None:
    plots = dict.fromkeys(PLOT_TEXTS, one_pixel_plot(tmp_path))
    page = write_page(flagged=flagged, plots=plots, data=True, noun=noun)

    blocks = list((tmp_path / "report-data").iterdir())
    assert len(blocks) == (2 if flagged else 1)
    for source in [page.source, *(block.read_text(encoding="utf-8") for block in blocks)]:
        assert not re.search(r"(https?|ftp|wss?):|[\"'(]//", source)
    assert not re.search(r"@import|url\(", page.find("style")[0].text)
    forbidden = {"iframe", "object", "embed", "base", "video", "audio", "frame", "applet"}
    for element in page.elements:
        assert element.tag not in forbidden
        assert not {"action", "formaction", "srcset", "ping"} & set(element.attributes)
        for key in ("src", "href"):
            target = element.attributes.get(key)
            assert target is None or target.startswith(("data:", "#"))
        if element.tag == "a" and "href" in element.attributes:
            assert page.find(id=(element.attributes["href"] or "")[1:])
    assert not [form for form in page.find("dialog form") if form.attributes["method"] != "dialog"]


def test_the_security_policy_lets_only_the_page_itself_run(write_page: WritePage) -> None:
    page = write_page(data=True)

    meta = page.find("meta", **{"http-equiv": "Content-Security-Policy"})[0]
    rules = dict(rule.split(" ", 1) for rule in (meta.attributes["content"] or "").split("; "))
    (script,) = [e for e in page.find("script") if "type" not in e.attributes]
    (style,) = page.find("style")
    # Scripts beside the page are the blocks. "file:" is what browsers call "self" on disk.
    assert rules == {
        "default-src": "'none'",
        "img-src": "data: 'self' file:",
        "script-src": f"'{source_hash(script.text)}' 'self' file:",
        "style-src": f"'{source_hash(style.text)}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert meta.place < min(script.place, style.place)
    assert {e.attributes.get("type") for e in page.find("script")} == {None, "application/json"}
    for element in page.elements:
        assert not [key for key in element.attributes if key.startswith("on") or key == "style"]
    for link in page.find("a", target="_blank"):
        assert link.attributes["rel"] == "noopener noreferrer"
    assert page.find("meta", name="referrer")[0].attributes["content"] == "no-referrer"


# --- the page and its blocks -------------------------------------------------------------------


def test_the_page_carries_blocks_before_its_script(write_page: WritePage, tmp_path: Path) -> None:
    page = write_page(flagged=50, data=True)

    scripts = page.find("script")
    names = ["index", "chunk-00001", "chunk-00002"]
    assert [e.attributes.get("id") for e in scripts] == [*(f"data-{name}" for name in names), None]
    for name, script in zip(names, scripts, strict=False):
        assert json.loads(script.text) == read_block(tmp_path, name)
    assert [block.json for block in stored_blocks(tmp_path, read_block(tmp_path, "index"))] == [
        e.text for e in scripts[:-1]
    ]
    # The page written without blocks is the same but for them.
    assert write_page(flagged=50).markup == re.sub(r"<script type[^>]*>\n", "", page.markup)


def test_everything_that_the_script_asks_for_is_on_the_page(write_page: WritePage) -> None:
    page = write_page(data=True)

    script = page_script()
    wanted = set(re.findall(r'byId\("([\w-]+)"\)', script))
    ids = {e.attributes["id"] for e in page.elements if "id" in e.attributes}
    assert len(wanted) > 40
    # There only where the run folder holds decisions.
    assert wanted - {"data-decisions"} <= ids
    actions = {e.attributes.get("data-decision") for e in page.find("button")} - {None}
    assert actions == {"accept", "keep", "relabel", "exclude", "unsure"}
    states = {e.attributes["value"] for e in page.find("option")}
    assert actions < states


def test_thousands_of_suspects_give_a_page_of_bounded_size(
    write_page: WritePage, tmp_path: Path
) -> None:
    plot = tmp_path / "plot.png"
    noise = np.random.default_rng(0).integers(0, 256, (600, 600), dtype=np.uint8)
    Image.fromarray(noise).save(plot)

    page = write_page(
        count=9000,
        flagged=5000,
        names=[f"class {number}" for number in range(300)],
        epochs=350,
        plots={"epsilon": plot},
        warnings=[f"warning {number}" for number in range(10_000)],
        data=True,
    )

    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert len(list((tmp_path / "report-data").iterdir())) == 126
    assert len(page.elements) < 4000
    assert "Review all 5,000 suspects" in page.words


def test_nothing_is_left_of_a_page_that_cannot_be_written(
    write_page: WritePage, tmp_path: Path
) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*report\.html"):
        write_page(tmp_path / "no such folder")
    with pytest.raises(FileNotFoundError):
        write_page(plots={"epsilon": tmp_path / "no such plot.png"})
    assert list(tmp_path.iterdir()) == []


def test_a_page_that_cannot_be_replaced_stays_as_it_was(
    write_page: WritePage, tmp_path: Path
) -> None:
    page = write_page()
    with pytest.raises(FileNotFoundError):
        write_page(plots={"epsilon": tmp_path / "no such plot.png"}, name="other")
    assert (tmp_path / "report.html").read_text(encoding="utf-8") == page.source
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


# --- for everybody -----------------------------------------------------------------------------


@pytest.fixture
def full_page(write_page: WritePage, tmp_path: Path) -> Page:
    """A page with all that a page can have."""
    bins = (ScoreBin(0.5, 1.0, 9, 0.9, 0.8, (0.7, 0.9)),)
    return write_page(
        truth=True,
        data=True,
        plots={"epsilon": one_pixel_plot(tmp_path)},
        status="interrupted",
        warnings=["one"],
        trust={"trustworthy": False, "reasons": ["one"]},
        metrics={"num_wrong": 3, "precision": 0.5},
        checked=SimpleNamespace(explanation="one", bins=bins),
    )


def test_the_page_has_a_language_one_title_and_one_main_part(full_page: Page) -> None:
    assert full_page.find("html")[0].attributes["lang"] == "en"
    assert len([e for e in full_page.find("h1") if e.visible]) == 1
    assert len([e for e in full_page.find("main") if e.visible]) == 1
    assert not full_page.find(id="review")[0].visible  # until it is asked for
    ids = [e.attributes["id"] for e in full_page.elements if "id" in e.attributes]
    assert len(ids) == len(set(ids))
    (current,) = full_page.find("a", **{"aria-current": "page"})
    assert current.attributes["href"] == "#overview"


@pytest.mark.parametrize("view", ["overview", "review"])
def test_headings_of_a_view_are_in_order(full_page: Page, view: str) -> None:
    """One h1 first, and no level left out on the way down. Dialogs stand for themselves."""
    headings = [
        element
        for element in full_page.within(view)
        if element.tag in HEADINGS and not any(e.tag == "dialog" for e in element.ancestors)
    ]
    levels = [int(heading.tag[1]) for heading in headings]
    assert levels[0] == 1
    assert levels.count(1) == 1
    for above, level in pairwise(levels):
        assert level <= above + 1, levels


def test_every_field_and_button_has_a_name(full_page: Page) -> None:
    fields = [e for e in full_page.elements if e.tag in ("input", "select", "textarea")]
    assert len(fields) == 8
    for field in fields:
        labels = [e.text for e in field.ancestors if e.tag == "label"]
        assert len(labels) == 1
        assert labels[0].replace(field.text, "").strip()  # without a field's own options
    buttons = full_page.find("button")
    assert len(buttons) > 15
    for button in buttons:
        assert button.attributes.get("aria-label") or re.search(r"\w", button.text)
        # Outside of dialogs one without a type would send the form.
        dialog = any(e.tag == "dialog" for e in button.ancestors)
        assert dialog or button.attributes["type"] == "button"
    for tag in ["progress", "nav", "article"]:
        assert all(e.attributes["aria-label"] for e in full_page.find(tag))
    for element in full_page.elements:
        if element.tag == "dialog" or element.attributes.get("role") in ("region", "group"):
            assert element.attributes.get("aria-label") or "aria-labelledby" in element.attributes


def test_references_of_attributes_lead_somewhere(full_page: Page) -> None:
    found = [
        name
        for element in full_page.elements
        for key in ("aria-labelledby", "aria-controls", "aria-describedby", "for")
        for name in (element.attributes.get(key) or "").split()
    ]
    assert {"help-title", "picker-list"} <= set(found)
    assert all(full_page.find(id=name) for name in found)


def test_pictures_have_words_and_drawings_are_named_or_passed_over(full_page: Page) -> None:
    images = full_page.find("img")
    assert len(images) == 2
    assert images[0].attributes["alt"] == "Plot: Label uncertainty ε over the epochs"
    # The enlarged picture gets its words with its address.
    assert any(e.attributes.get("id") == "large" for e in images[1].ancestors)
    assert "src" not in images[1].attributes
    drawings = full_page.find("svg")
    assert len(drawings) == 6  # a bar for each class, and the curve
    for drawing in drawings:
        titled = [e for e in full_page.find("title") if e.inside(drawing)]
        assert drawing.attributes.get("aria-hidden") == "true" or titled


def test_tables_have_headers_and_what_scrolls_can_be_reached(full_page: Page) -> None:
    assert len(full_page.find("th")) > 10
    assert all(e.attributes["scope"] in ("col", "row") for e in full_page.find("th"))
    parts = [*full_page.find(css="scroll"), *full_page.find(css="plot")]
    assert len(parts) == 4
    for part in parts:
        assert part.attributes.get("tabindex") == "0"
        assert part.attributes.get("role") == "region"
        assert part.attributes.get("aria-label")


def test_what_changes_is_said(full_page: Page) -> None:
    assert full_page.find(id="untrusted")[0].attributes["role"] == "alert"
    assert full_page.find(id="trouble")[0].attributes["role"] == "alert"
    assert full_page.find(id="said")[0].attributes["aria-live"] == "polite"
    assert full_page.find(id="one-state")[0].attributes["aria-live"] == "polite"
