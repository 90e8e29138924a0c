"""The blocks beside the page: what they say of each suspect, how large they get, and their pictures."""

import base64
import errno
import io
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import url2pathname

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from labelaudit.errors import OutputError, SourceError
from labelaudit.progress import Reporter
from labelaudit.reporting import blocks as blocks_module
from labelaudit.reporting import review_data
from labelaudit.reporting.blocks import Block, block_json, read_block, stored_blocks
from labelaudit.reporting.evidence import Evidence
from labelaudit.reporting.html import render_page, write_page
from labelaudit.reporting.pictures import encode_picture
from labelaudit.reporting.review_data import columns_that_matter, write_review_data
from labelaudit.reporting.tables import suspects_table

NO_DETAILS = pd.DataFrame()


def stored(folder: Path) -> list[Block]:
    """The blocks that a page of the folder carries, read back."""
    return stored_blocks(folder, read_block(folder, "index"))


def write_report(path: Path, **options: Any) -> None:
    """Render a page, and write it."""
    write_page(path, render_page(**options))


def digit(row: int) -> Image.Image:
    """An 8 x 8 gray image whose first pixels spell its row."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[0, :3] = row % 256, row // 256 % 256, 255
    return Image.fromarray(pixels)


def photo(row: int) -> Image.Image:
    """400 x 300 pixels of one color, which tells the row."""
    return Image.new("RGB", (400, 300), (row % 256, 100, 255 - row % 256))


class Album:
    """Shows images made from rows, and remembers which were asked for."""

    def __init__(self, make: Callable[[int], Image.Image | None]) -> None:
        self.make = make
        self.calls: list[list[int]] = []

    def __call__(self, rows: np.ndarray, look: Callable[[int, Image.Image], Any]) -> Iterator[Any]:
        self.calls.append(rows.tolist())
        for row in rows.tolist():
            image = self.make(row)
            yield None if image is None else look(row, image)


def write(
    folder: Path,
    case: Any,
    *,
    pictures: Any = digit,
    neighbors: Any = None,
    details: pd.DataFrame = NO_DETAILS,
    pred_probs: np.ndarray | None = None,
    **options: Any,
) -> list[Block]:
    if pictures is not None and not isinstance(pictures, Album):
        pictures = Album(pictures)
    return write_review_data(
        folder,
        samples=case.samples,
        suspects=case.suspects,
        summary=case.summary,
        history=case.history,
        pred_probs=pred_probs,
        evidence=Evidence(pictures, neighbors, details),
        **options,
    )


def chunks(folder: Path) -> list[dict[str, Any]]:
    names = sorted(path.stem for path in (folder / "report-data").glob("chunk-*.js"))
    return [read_block(folder, name) for name in names]


def seen_of(folder: Path) -> list[dict[str, Any]]:
    """What the chunks hold of each suspect, in order."""
    return [seen for chunk in chunks(folder) for seen in chunk["suspects"]]


def decode(uri: str) -> Image.Image:
    start, content = uri.split(",", 1)
    assert start in ("data:image/png;base64", "data:image/webp;base64")
    image = Image.open(io.BytesIO(base64.b64decode(content)))
    assert image.format == ("PNG" if "png" in start else "WEBP")
    return image


def row_of(uri: str) -> int:
    """The row of a picture that `digit` made."""
    pixels = np.asarray(decode(uri))
    assert pixels.shape == (8, 8)
    assert pixels[0, 2] == 255
    return int(pixels[0, 0]) + 256 * int(pixels[0, 1])


@pytest.fixture
def case(make_case: Callable[..., Any]) -> Any:
    """60 samples, all labeled, of which the last ten are suspects."""
    return make_case()


# --- the index ---------------------------------------------------------------------------------


@pytest.mark.parametrize("unlabeled_every", [0, 3])
def test_all_suspects_are_in_the_index_worst_first(
    make_case: Callable[..., Any], tmp_path: Path, unlabeled_every: int
) -> None:
    case = make_case(count=600, flagged=130, unlabeled_every=unlabeled_every, truth=True)
    write(tmp_path, case)

    index = read_block(tmp_path, "index")
    suspects = index["suspects"]
    worst = case.samples[case.samples["is_label_issue"]].sort_values("rank")
    assert len(worst) == 130
    assert suspects["rank"] == list(range(1, 131))
    assert suspects["id"] == worst["sample_id"].tolist()
    for key, column in (
        ("given", "given_label"),
        ("suggested", "suggested_label"),
        ("truth", "clean_label"),
    ):
        assert [index["classes"][code] for code in suspects[key]] == worst[column].tolist()
    assert suspects["score"] == pytest.approx(worst["suspect_score"].tolist(), abs=1e-6)
    assert suspects["suggested_prob"] == [0.8] * 130
    assert suspects["ambiguity"] == [0.2] * 130
    assert suspects["details"] is None
    assert {len(column) for column in suspects.values() if column is not None} == {130}
    told = {key: value for key, value in index.items() if key not in ("run", "suspects")}
    assert told == {
        "name": "digits",
        "noun": "images",
        "classes": [f"class {number}" for number in range(5)],
        "num_classes": 5,
        "num_suspects": 130,
        "chunk": 40,
        "expected_wrong": case.summary["expected_wrong"],
        "probability": True,
        "trained": True,
        "epochs": list(range(1, 13)),
        "clear": 0.1,
        "disputed": 0.35,
        "details": [],
    }
    assert [len(chunk["suspects"]) for chunk in chunks(tmp_path)] == [40, 40, 40, 10]


def test_what_is_missing_is_told_apart_from_zero(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples.loc[59, ["suggested_label", "clean_label"]] = None
        samples.loc[59, ["ambiguity", "suggested_prob"]] = np.nan
        samples.loc[58, ["ambiguity", "suggested_prob", "epsilon"]] = 0.0

    case = make_case(
        truth=True, edit=edit, expected_wrong_interval=None, expected_wrong=0.0, epochs=0
    )
    write(tmp_path, case)

    index = read_block(tmp_path, "index")
    suspects = index["suspects"]
    assert suspects["suggested"][0] == suspects["truth"][0] == -1
    assert -1 not in suspects["suggested"][1:]
    assert suspects["ambiguity"][:3] == [None, 0.0, 0.2]
    assert suspects["suggested_prob"][:3] == [None, 0.0, 0.8]
    assert not index["probability"]  # the score is none where its sum is not known
    assert not index["trained"]
    assert [seen["epsilon"] for seen in seen_of(tmp_path)][:2] == [0.9833, 0.0]


def test_columns_that_a_run_does_not_have_are_null(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    gone = ["ambiguity", "epsilon", "epsilon_mean", "guider_prob", "learner_prob"]
    case = make_case()
    case.samples = case.samples.drop(columns=gone)
    case.suspects = suspects_table(case.samples)
    case.history = None
    write(tmp_path, case)

    suspects = read_block(tmp_path, "index")["suspects"]
    assert suspects["ambiguity"] == [None] * 10
    assert suspects["truth"] is None
    assert read_block(tmp_path, "index")["epochs"] == []
    assert [(seen["epsilon"], seen["curve"]) for seen in seen_of(tmp_path)] == [(None, None)] * 10


@pytest.mark.parametrize(("most", "listed"), [(None, 130), (0, 0), (1, 1), (50, 50), (999, 130)])
def test_no_more_than_the_worst_so_many_are_written(
    make_case: Callable[..., Any], tmp_path: Path, most: int | None, listed: int
) -> None:
    case = make_case(count=600, flagged=130)
    album = Album(digit)
    write(tmp_path, case, max_suspects=most, pictures=album)

    index = read_block(tmp_path, "index")
    assert index["suspects"]["rank"] == list(range(1, listed + 1))
    assert index["num_suspects"] == 130
    assert len(seen_of(tmp_path)) == listed
    assert [row for rows in album.calls for row in rows] == list(range(600 - listed, 600))
    assert len(chunks(tmp_path)) == -(-listed // 40)


def test_no_suspects_leave_an_index_that_can_be_read(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    case = make_case(flagged=0)
    blocks = write(tmp_path, case, neighbors=lambda rows, wanted: 1 / 0)

    assert [block.name for block in blocks] == ["index"]
    assert read_block(tmp_path, "index")["suspects"]["id"] == []
    assert [path.name for path in (tmp_path / "report-data").iterdir()] == ["index.js"]
    assert case.history.reads == []


def test_classes_that_only_the_truth_knows_have_codes_of_their_own(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples.loc[59, "clean_label"] = "zebra"
        samples.loc[58, "clean_label"] = None
        samples.loc[57, "clean_label"] = "class 1"
        samples.loc[56, "clean_label"] = "yak"
        samples.loc[0, "clean_label"] = "not flagged, so not needed"

    case = make_case(truth=True, edit=edit)
    write(tmp_path, case)

    index = read_block(tmp_path, "index")
    names = [f"class {number}" for number in range(5)]
    assert index["classes"] == [*names, "zebra", "yak"]
    assert index["num_classes"] == 5  # those that can be given
    assert index["suspects"]["truth"][:4] == [5, -1, 1, 6]


def test_ids_that_are_not_unique_do_not_mix_up_samples(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    case = make_case(edit=lambda samples: samples.__setitem__("sample_id", "same"))
    write(tmp_path, case)

    assert read_block(tmp_path, "index")["suspects"]["id"] == ["same"] * 10
    assert [row_of(seen["picture"]) for seen in seen_of(tmp_path)] == list(range(59, 49, -1))


# --- the id of a run ---------------------------------------------------------------------------


def run_of(folder: Path, case: Any, **options: Any) -> str:
    write(folder, case, **options)
    run = read_block(folder, "index")["run"]
    assert len(run) == 24
    return str(run)


def test_the_id_of_a_run_stays_where_the_ranking_does(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    run = run_of(tmp_path, make_case())

    assert run_of(tmp_path, make_case()) == run
    other_folder = tmp_path / "moved"
    other_folder.mkdir()
    assert run_of(other_folder, make_case()) == run
    assert run_of(tmp_path, make_case(), pictures=None) == run
    assert run_of(tmp_path, make_case(truth=True, epochs=3)) == run
    details = pd.DataFrame({"text": ["some"] * 60})
    probs = np.full((60, 5), 0.2)
    assert run_of(tmp_path, make_case(), details=details, pred_probs=probs) == run
    changed = {"seconds": 1.0, "warnings": ["one"], "expected_wrong": 3.0}
    assert run_of(tmp_path, make_case(**changed)) == run


@pytest.mark.parametrize(
    ("column", "row", "value"),
    [
        ("sample_id", 59, "other"),
        ("given_label", 55, "class 4"),
        ("suggested_label", 55, "class 4"),
        ("suspect_score", 55, 0.123),
        ("is_label_issue", 50, False),
        ("is_label_issue", 49, True),
    ],
)
def test_the_id_of_a_run_changes_with_the_ranking(
    make_case: Callable[..., Any], tmp_path: Path, column: str, row: int, value: Any
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        assert samples.loc[row, column] != value
        samples.loc[row, column] = value

    run = run_of(tmp_path, make_case())
    assert run_of(tmp_path, make_case(edit=edit)) != run


def test_the_id_of_a_run_changes_with_its_name_and_the_order(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        samples.loc[[58, 59], "rank"] = [1, 2]

    runs = {
        run_of(tmp_path, make_case()),
        run_of(tmp_path, make_case(name="other")),
        run_of(tmp_path, make_case(edit=edit)),
        run_of(tmp_path, make_case(names=[f"class {number}" for number in range(6)])),
    }
    assert len(runs) == 4


# --- pictures and curves -----------------------------------------------------------------------


@pytest.mark.parametrize("unlabeled_every", [0, 3])
def test_each_suspect_has_its_own_picture_and_curve(
    make_case: Callable[..., Any], tmp_path: Path, unlabeled_every: int
) -> None:
    case = make_case(count=600, flagged=90, unlabeled_every=unlabeled_every)
    album = Album(digit)
    probs = np.random.default_rng(0).dirichlet(np.full(5, 0.2), 600)
    write(tmp_path, case, pictures=album, pred_probs=probs)

    rows = case.samples[case.samples["is_label_issue"]].sort_values("rank").index.tolist()
    labeled = case.samples.index[case.samples["given_label"].notna()]
    found = seen_of(tmp_path)
    assert len(found) == len(rows) == 90
    # Each is read once, in the data set's order.
    assert album.calls == [sorted(rows)]
    for row, seen in zip(rows, found, strict=True):
        np.testing.assert_array_equal(np.asarray(decode(seen["picture"])), np.asarray(digit(row)))
        assert seen["tiny"]
        last = labeled.get_loc(row) / len(labeled)  # ε of the last epoch, by FakeHistory
        assert seen["curve"] == pytest.approx([last * e / 12 for e in range(1, 13)], abs=6e-4)
        assert seen["epsilon"] == pytest.approx(row / 600, abs=1e-4)
        best = np.argsort(-probs[row])[:4]
        assert [code for code, _ in seen["probs"]] == [c for c in best if probs[row, c] >= 0.001]
        for code, share in seen["probs"]:
            assert share == pytest.approx(probs[row, code], abs=1e-4)
    assert all(chunk["pictures"] == {} for chunk in chunks(tmp_path))


def test_the_history_is_read_once_and_only_as_far_as_can_be_seen(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    case = make_case(epochs=350)
    write(tmp_path, case)

    reads = case.history.reads
    assert len(reads) == len(set(reads)) == 48
    assert {1, 350} <= set(reads)
    assert read_block(tmp_path, "index")["epochs"] == reads == sorted(reads)
    assert {len(seen["curve"]) for seen in seen_of(tmp_path)} == {48}


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_a_curve_has_a_point_for_each_epoch(
    make_case: Callable[..., Any], tmp_path: Path, epochs: int
) -> None:
    case = make_case(epochs=epochs)
    write(tmp_path, case)

    first = seen_of(tmp_path)[0]["curve"]
    assert first == (None if not epochs else [0.983] if epochs == 1 else [0.492, 0.983])
    assert case.history.reads == list(range(1, epochs + 1))


def test_numbers_that_are_not_known_do_not_cost_the_report(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    """A network that diverged says NaN, and its labels are looked at all the same."""

    def edit(samples: pd.DataFrame) -> None:
        samples.loc[59, "epsilon"] = np.nan

    case = make_case(edit=edit)
    read = case.history.read

    def with_a_gap(epoch: int) -> dict[str, np.ndarray]:
        values = {key: value.copy() for key, value in read(epoch).items()}
        values["epsilon"][59] = np.nan
        return values

    case.history.read = with_a_gap
    probs = np.full((60, 5), 0.2)
    probs[59] = np.nan
    write(tmp_path, case, pred_probs=probs)

    worst, second = seen_of(tmp_path)[:2]
    assert worst["epsilon"] is None
    assert worst["probs"] == []
    assert worst["curve"] == [0.0] * 12  # a curve has numbers only
    assert second["curve"][-1] == pytest.approx(58 / 60, abs=6e-4)


def test_pictures_that_cannot_be_read_leave_the_others_as_they_are(
    case: Any, tmp_path: Path
) -> None:
    write(tmp_path, case, pictures=lambda row: None if row in (59, 55) else digit(row))

    found = seen_of(tmp_path)
    assert [seen["picture"] == "" for seen in found] == [
        row in (59, 55) for row in range(59, 49, -1)
    ]
    assert row_of(found[1]["picture"]) == 58
    assert not found[0]["tiny"]
    assert read_block(tmp_path, "index")["noun"] == "images"


def test_a_picture_that_fails_otherwise_is_not_swallowed(case: Any, tmp_path: Path) -> None:
    def broken(row: int) -> Image.Image:
        raise RuntimeError("no image")

    with pytest.raises(RuntimeError, match="no image"):
        write(tmp_path, case, pictures=broken)
    left = [path.name for path in (tmp_path / "report-data").iterdir()]
    assert not [name for name in left if "partial" in name or "chunk" in name]


def test_reading_pictures_shows_progress(case: Any, tmp_path: Path) -> None:
    class Watcher(Reporter):
        def __init__(self) -> None:
            self.totals: dict[str, int | None] = {}
            self.steps = self.written = 0

        @contextmanager
        def bar(
            self, text: str, total: int | None = None, done: int = 0, rest: Any = None
        ) -> Iterator[Any]:
            self.totals[text] = total
            yield self

        def advance(self, steps: int = 1) -> None:
            self.steps += steps

        def reach(self, done: int) -> None:
            self.written = done

    watcher = Watcher()
    write(tmp_path, case, reporter=watcher, pictures=lambda row: None if row == 59 else digit(row))
    assert (watcher.totals["pictures for the report"], watcher.steps) == (10, 10)
    assert watcher.totals["writing suspects"] == watcher.written > 0


def test_originals_at_hand_spare_the_block_a_large_picture(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    """One that a browser can show itself is carried small."""

    def edit(samples: pd.DataFrame) -> None:
        samples["path"] = [
            str(tmp_path / f"{row}.{'png' if row % 2 else 'tif'}") for row in range(60)
        ]

    near = np.array([3])
    case = make_case(edit=edit)
    write(
        tmp_path,
        case,
        pictures=photo,
        neighbors=lambda rows, wanted: near.repeat(len(rows))[:, None],
    )

    for row, seen in zip(range(59, 49, -1), seen_of(tmp_path), strict=True):
        image = decode(seen["picture"])
        assert image.format == "WEBP"
        assert image.size == ((160, 120) if row % 2 else (320, 240))
        assert not seen["tiny"]
        difference = np.asarray(image, int) - np.asarray(photo(row).resize(image.size), int)
        assert np.abs(difference).max() < 6
        assert [one["picture"] for one in seen["near"]["given"]] == ["3"]
    (small,) = chunks(tmp_path)[0]["pictures"].values()
    assert decode(small).size == (96, 72)


# --- links -------------------------------------------------------------------------------------

ODD_NAMES = [
    "plain.png",
    "a b.PNG",
    "#1.jpg",
    "100%.jpeg",
    "100%25.webp",
    "what?.gif",
    'it\'s "so".bmp',
    "é 猫 🐈.png",
    "c:x.png",
    "javascript:alert(1).png",
    "a&b=c;d+e.png",
    "<img src=x onerror=alert(1)>.png",
    "..png",
    "back\\slash.png",
]


@pytest.mark.parametrize("place", ["", "photos of #1 & 100%? 'é'"])
def test_links_lead_from_the_page_to_the_images(
    make_case: Callable[..., Any], tmp_path: Path, place: str
) -> None:
    folder = tmp_path / "run of #2?"
    images = tmp_path / place if place else folder
    for path in (folder, images):
        path.mkdir(exist_ok=True)

    def edit(samples: pd.DataFrame) -> None:
        samples["path"] = [str(images / ODD_NAMES[row % len(ODD_NAMES)]) for row in range(60)]

    write(folder, make_case(flagged=30, edit=edit))

    links = read_block(folder, "index")["suspects"]["link"]
    page = (folder / "report.html").as_uri()
    for row, link in zip(range(59, 29, -1), links, strict=True):
        name = ODD_NAMES[row % len(ODD_NAMES)]
        parts = urlsplit(link)
        assert (parts.scheme, parts.netloc, parts.query, parts.fragment) == ("", "", "", "")
        assert link.isascii()
        assert not set("\"'<>\\ :?#") & set(link)
        assert unquote(link) == (f"../{place}/{name}" if place else name)
        target = url2pathname(urlsplit(urljoin(page, link)).path)
        assert Path(target) == images / name


def test_relative_paths_are_those_of_the_working_directory(
    make_case: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("work", "out"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "work")
    case = make_case(flagged=2, edit=lambda samples: samples.__setitem__("path", "images/1.png"))
    write(Path("../out"), case)

    links = read_block(tmp_path / "out", "index")["suspects"]["link"]
    assert links == ["../work/images/1.png"] * 2


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        *((f"x.{suffix}", True) for suffix in ["png", "JPG", "jpeg", "gif", "webp", "avif", "bmp"]),
        *((f"x.{suffix}", False) for suffix in ["tif", "tiff", "npy", "jp2", "html", "svg", "js"]),
        ("png", False),
        ("folder.png/x", False),
        ("x.png.exe", False),
        ("", False),
        (None, False),
        ("nul\0.png", False),
    ],
)
def test_only_formats_that_browsers_show_have_a_link(
    make_case: Callable[..., Any], tmp_path: Path, path: str | None, shown: bool
) -> None:
    def edit(samples: pd.DataFrame) -> None:
        full = path if not path else str(tmp_path / path)
        samples["path"] = pd.Series([full] * 60, dtype="str")

    write(tmp_path, make_case(flagged=1, edit=edit))

    assert read_block(tmp_path, "index")["suspects"]["link"] == [path if shown else ""]


def test_a_path_that_goes_round_in_circles_does_not_cost_the_report(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    loop = tmp_path / "loop.png"
    loop.symlink_to(loop)
    case = make_case(flagged=2, edit=lambda samples: samples.__setitem__("path", str(loop)))
    write(tmp_path, case, pictures=lambda row: None)

    assert len(read_block(tmp_path, "index")["suspects"]["link"]) == 2


def test_without_pictures_there_are_no_links(make_case: Callable[..., Any], tmp_path: Path) -> None:
    case = make_case(edit=lambda samples: samples.__setitem__("path", "x.png"))
    write(tmp_path, case, pictures=None)

    index = read_block(tmp_path, "index")
    assert index["suspects"]["link"] is None
    assert index["noun"] == "samples"
    assert [seen["picture"] for seen in seen_of(tmp_path)] == [""] * 10


# --- neighbors ---------------------------------------------------------------------------------


class Near:
    """Of each class number c, the neighbors are the rows c and c + 5; the third is missing."""

    def __init__(self, names: list[str]) -> None:
        self.names = names
        self.asked: list[tuple[list[int], list[str]]] = []

    def __call__(self, rows: np.ndarray, wanted: pd.Series) -> np.ndarray:
        self.asked.append((rows.tolist(), wanted.tolist()))
        codes = np.array([self.names.index(name) for name in wanted])
        return np.stack([codes, codes + 5, codes * 0 - 1], axis=1)


@pytest.mark.parametrize("unlabeled_every", [0, 7])
def test_neighbors_of_both_classes_come_with_their_pictures(
    make_case: Callable[..., Any], tmp_path: Path, unlabeled_every: int
) -> None:
    case = make_case(count=600, flagged=50, unlabeled_every=unlabeled_every)
    names = case.summary["class_names"]
    near, album = Near(names), Album(digit)
    write(tmp_path, case, pictures=album, neighbors=near)

    worst = case.samples[case.samples["is_label_issue"]].sort_values("rank")
    rows = worst.index.tolist()
    assert near.asked == [
        (rows, worst["suggested_label"].tolist()),
        (rows, worst["given_label"].tolist()),
    ]
    assert album.calls == [[*range(10), *sorted(rows)]]
    found = iter(worst.to_dict("records"))
    for chunk in chunks(tmp_path):
        used = set()
        for seen in chunk["suspects"]:
            sample = next(found)
            assert set(seen["near"]) == {"suggested", "given"}
            for kind, some in seen["near"].items():
                code = names.index(sample[f"{kind}_label"])
                assert some == [
                    {"id": f"row {row}", "picture": str(row), "tiny": True}
                    for row in (code, code + 5)
                ]
                used |= {one["picture"] for one in some}
        # Each once a chunk, however often it is shown, and no others.
        assert set(chunk["pictures"]) == used
        for row, uri in chunk["pictures"].items():
            assert row_of(uri) == int(row)
    assert next(found, None) is None


def test_neighbors_that_cannot_be_seen_are_told_in_words(case: Any, tmp_path: Path) -> None:
    details = pd.DataFrame(
        {
            "empty": [""] * 60,
            "text": [f"text {row}" for row in range(60)],
            "long": ["word " * 200] * 60,
        }
    )
    near = Near(case.summary["class_names"])
    write(
        tmp_path,
        case,
        pictures=lambda row: None if row < 5 else digit(row),
        neighbors=near,
        details=details,
    )

    for seen, code in zip(seen_of(tmp_path), [4, 3, 2, 1, 0] * 2, strict=True):
        unseen, pictured = seen["near"]["given"]
        assert set(unseen) == {"id", "words"}
        assert unseen["id"] == f"row {code}"
        assert unseen["words"].startswith("word word")  # prose before the rest
        assert len(unseen["words"]) == 160
        assert unseen["words"].endswith("…")
        assert pictured == {"id": f"row {code + 5}", "picture": str(code + 5), "tiny": True}
    assert "<" not in (tmp_path / "report-data" / "chunk-00001.js").read_text()


def test_neighbors_without_anything_to_show_have_their_ids(case: Any, tmp_path: Path) -> None:
    write(tmp_path, case, pictures=None, neighbors=Near(case.summary["class_names"]))

    assert seen_of(tmp_path)[0]["near"]["given"] == [{"id": "row 4"}, {"id": "row 9"}]


def test_neighbors_are_looked_for_of_the_worst_two_thousand(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    case = make_case(count=2100, flagged=2050)
    near = Near(case.summary["class_names"])
    write(tmp_path, case, pictures=None, neighbors=near)

    assert [len(rows) for rows, _ in near.asked] == [2000, 2000]
    assert near.asked[0][0] == list(range(2099, 99, -1))
    found = seen_of(tmp_path)
    assert len(found) == 2050
    told = [[len(seen["near"].get(kind, [])) for kind in ("suggested", "given")] for seen in found]
    assert told == [[2, 2]] * 2000 + [[0, 0]] * 50


def test_where_nothing_tells_what_lies_near_no_neighbor_is_shown(case: Any, tmp_path: Path) -> None:
    write(tmp_path, case, neighbors=None)

    found = seen_of(tmp_path)
    assert len(found) == 10
    assert not any(some for seen in found for some in seen["near"].values())


# --- details -----------------------------------------------------------------------------------


def test_without_pictures_suspects_have_their_details(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    case = make_case(count=60, flagged=45, unlabeled_every=7)
    details = pd.DataFrame(
        {
            "id": [f"number {row}" for row in range(60)],
            "text": [f"{row} " + "word " * 300 for row in range(60)],
            "empty": "",
            "<b>": "</script>",
        }
    )
    write(tmp_path, case, pictures=None, details=details)

    index = read_block(tmp_path, "index")
    rows = case.samples[case.samples["is_label_issue"]].sort_values("rank").index.tolist()
    assert index["details"][0] == "text"
    assert index["details"][-1] == "id"
    assert set(index["details"]) == set(details.columns)
    for row, values in zip(rows, index["suspects"]["details"], strict=True):
        told = dict(zip(index["details"], values, strict=True))
        assert told.pop("text") == (f"{row} " + "word " * 300)[:999] + "…"
        assert told == {"id": f"number {row}", "empty": "", "<b>": "</script>"}


def test_details_are_shown_beside_pictures_as_well(case: Any, tmp_path: Path) -> None:
    write(tmp_path, case, details=pd.DataFrame({"camera": [f"camera {n}" for n in range(60)]}))

    index = read_block(tmp_path, "index")
    assert index["details"] == ["camera"]
    assert index["suspects"]["details"] == [[f"camera {row}"] for row in range(59, 49, -1)]


def informative_table(count: int = 400) -> tuple[pd.DataFrame, pd.Series]:
    rng = np.random.default_rng(0)
    given = pd.Series(rng.choice(["a", "b", "c"], count), dtype="str")
    code = given.map({"a": 0, "b": 1, "c": 2}).to_numpy()
    kept = rng.random(count) < 0.8
    columns = {
        "id": [f"id-{row}" for row in range(count)],
        "row": [str(row) for row in range(count)],
        "constant": ["x"] * count,
        "empty": [""] * count,
        "noise": [str(value) for value in rng.choice(["p", "q", "r"], count)],
        "noisy number": [f"{value:.6f}" for value in rng.normal(size=count)],
        "number": [f"{value:.6f}" for value in code + rng.normal(0, 0.4, count)],
        "category": [f"k{value}" for value in np.where(kept, code, 0)],
        "short text": [f"{value} tiny words of prose" for value in rng.integers(0, 99, count)],
        "long text": ["so many more words that it reads like a story"] * count,
        "more noise": [str(value) for value in rng.choice(["u", "v"], count)],
        "uuid": [f"{value:032x}" for value in rng.integers(0, 2**63, count)],
    }
    return pd.DataFrame(columns, dtype="str"), given


def test_prose_comes_first_and_what_tells_about_labels_before_noise_and_ids() -> None:
    details, given = informative_table()
    chosen = columns_that_matter(details, given)

    names = chosen.columns.tolist()
    assert names[:2] == ["long text", "short text"]
    assert set(names[2:4]) == {"number", "category"}
    assert len(names) == 9
    assert not {"id", "uuid"} & set(names)
    pd.testing.assert_frame_equal(chosen, details[names])


def test_the_order_of_columns_does_not_depend_on_chance_or_on_their_order() -> None:
    details, given = informative_table()
    names = columns_that_matter(details, given).columns.tolist()

    assert columns_that_matter(details.copy(), given.copy()).columns.tolist() == names
    turned = columns_that_matter(details[details.columns[::-1]], given).columns.tolist()
    assert turned[:4] == names[:4]
    equal = pd.DataFrame({name: ["x", "x", "y", "y"] for name in "bca"}, dtype="str")
    assert columns_that_matter(equal, given[:4]).columns.tolist() == ["b", "c", "a"]


def test_columns_are_weighed_by_labeled_samples_alone() -> None:
    """Where nothing is labeled a column says nothing, whatever it holds."""
    given = pd.Series(["a", "b", None, None] * 100, dtype="str")
    tells = ["x", "y", "n", "m"] * 100
    hides = ["x", "x", "y", "z"] * 100
    details = pd.DataFrame({"hides": hides, "tells": tells}, dtype="str")

    assert columns_that_matter(details, given).columns.tolist() == ["tells", "hides"]


def test_many_samples_are_weighed_by_some_that_are_spread_evenly() -> None:
    count = 40_000
    given = pd.Series(np.where(np.arange(count) < count // 2, "a", "b"), dtype="str")
    details = pd.DataFrame(
        {
            "noise": np.random.default_rng(0).choice(["p", "q"], count),
            "tells": np.where(np.arange(count) < count // 2, "x", "y"),
        },
        dtype="str",
    )
    assert columns_that_matter(details, given).columns.tolist() == ["tells", "noise"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_few_samples_or_columns_are_shown_as_they_are(count: int) -> None:
    given = pd.Series(["a", "b", None][:count], dtype="str")
    one = pd.DataFrame({"one": ["x"] * count}, dtype="str")
    assert columns_that_matter(one, given).columns.tolist() == ["one"]
    if count:
        two = one.assign(two="y")
        assert set(columns_that_matter(two, given).columns) == {"one", "two"}
    none = columns_that_matter(pd.DataFrame(index=range(count)), given)
    assert none.shape == (count, 0)


@pytest.mark.parametrize("odd", ["inf", "-inf", "nan", "1e400", str(10**25), "0x1f", "1_000", ""])
def test_odd_numbers_are_weighed_without_a_warning(odd: str) -> None:
    given = pd.Series(["a", "b"] * 100, dtype="str")
    numbers = [f"{row / 7:.3f}" for row in range(190)] + [odd] * 10
    details = pd.DataFrame({"number": numbers, "tells": ["x", "y"] * 100}, dtype="str")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert columns_that_matter(details, given).columns.tolist() == ["tells", "number"]


# --- blocks ------------------------------------------------------------------------------------


def test_blocks_can_be_read_back_and_are_those_of_the_page(
    make_case: Callable[..., Any], tmp_path: Path, hostile: tuple[str, ...]
) -> None:
    names = list(hostile)

    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [names[row % len(names)] + str(row) for row in samples.index]

    case = make_case(flagged=50, names=names, name=names[0], edit=edit)
    blocks = write(tmp_path, case)

    assert [block.name for block in blocks] == ["index", "chunk-00001", "chunk-00002"]
    for block in blocks:
        assert block_json(tmp_path, block.name) == block.json
        assert json.loads(block.json) == read_block(tmp_path, block.name)
        assert "<" not in block.json
        text = (tmp_path / "report-data" / f"{block.name}.js").read_text(encoding="utf-8")
        assert text == f'labelauditData("{block.name}", {block.json});\n'
    assert stored(tmp_path) == blocks
    assert read_block(tmp_path, "index")["classes"] == names


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:-20],
        lambda content: content[1:],
        lambda content: content.replace(b'"index"', b'"chunk-00001"', 1),
        lambda content: content.replace(b"[", b"(", 1),
        lambda content: content.replace(b"digits", b"\xff\xfe"),
        lambda content: b"alert(1);\n",
    ],
)
def test_a_damaged_block_is_named(
    case: Any, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write(tmp_path, case)
    path = tmp_path / "report-data" / "index.js"
    path.write_bytes(damage(path.read_bytes()))

    for read in (read_block, block_json):
        with pytest.raises(SourceError, match=r"report-data/index\.js cannot be read"):
            read(tmp_path, "index")


def test_a_block_that_is_not_there_is_named(case: Any, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"report-data/index\.js cannot be read"):
        read_block(tmp_path, "index")
    write(tmp_path, case)
    with pytest.raises(SourceError, match=r"chunk-00009\.js"):
        read_block(tmp_path, "chunk-00009")


def test_blocks_of_an_earlier_run_are_removed(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    write(tmp_path, make_case(count=600, flagged=130))
    other = tmp_path / "report-data" / "notes.txt"
    other.write_text("mine")
    blocks = write(tmp_path, make_case(flagged=10))

    left = sorted(path.name for path in (tmp_path / "report-data").iterdir())
    assert left == ["chunk-00001.js", "index.js", "notes.txt"]
    assert [block.name for block in stored(tmp_path)] == [
        "index",
        "chunk-00001",
    ]
    assert stored(tmp_path) == blocks


def test_a_big_set_of_suspects_has_a_small_page_and_its_blocks_beside_it(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    case = make_case(count=700, flagged=600, epochs=100)
    blocks = write(
        tmp_path, case, pictures=lambda row: image, neighbors=Near(case.summary["class_names"])
    )
    write_report(
        tmp_path / "report.html",
        suspects=case.suspects,
        summary=case.summary,
        plots={},
        blocks=blocks,
        epochs=case.history.epochs,
    )

    names = [block.name for block in blocks]
    assert names == ["index", *(f"chunk-{number:05d}" for number in range(1, len(names)))]
    assert 2 <= len(names) < 16
    assert sum(len(block.json.encode()) for block in blocks) <= blocks_module.INLINE_BYTES
    assert stored(tmp_path) == blocks
    files = sorted(path.name for path in (tmp_path / "report-data").iterdir())
    assert files == [*(f"chunk-{number:05d}.js" for number in range(1, 16)), "index.js"]
    assert sum(path.stat().st_size for path in (tmp_path / "report-data").iterdir()) > 4e6
    assert (tmp_path / "report.html").stat().st_size < 3e6
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report-data", "report.html"]


def test_an_index_too_large_for_the_page_is_only_beside_it(
    make_case: Callable[..., Any], tmp_path: Path
) -> None:
    """No chunk is carried then either: the first ones, without gaps."""

    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [f"{row} " + "x" * 1500 for row in samples.index]

    case = make_case(count=1100, flagged=1050, edit=edit)
    assert write(tmp_path, case) == []
    assert stored(tmp_path) == []
    assert len(read_block(tmp_path, "index")["suspects"]["id"]) == 1050


@pytest.mark.parametrize("letter", ["x", "猫", "🐈", "<"])
def test_what_the_page_carries_is_bounded_in_bytes(
    make_case: Callable[..., Any], tmp_path: Path, letter: str
) -> None:
    """Letters of most languages are several bytes each."""

    def edit(samples: pd.DataFrame) -> None:
        samples["sample_id"] = [f"{row} " + letter * 1200 for row in samples.index]

    case = make_case(count=1100, flagged=1050, edit=edit)
    blocks = write(tmp_path, case)
    assert sum(len(block.json.encode()) for block in blocks) <= blocks_module.INLINE_BYTES
    assert (len(blocks) > 1) == (letter == "x")  # of the others the index alone is too large


def test_inline_blocks_have_no_gap(
    case: Any, make_case: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A later chunk that would fit is not carried where an earlier one did not."""
    monkeypatch.setattr(review_data, "CHUNK", 4)
    blocks = write(tmp_path, case)
    assert [block.name for block in blocks] == ["index", *(f"chunk-0000{n}" for n in (1, 2, 3))]
    assert read_block(tmp_path, "index")["chunk"] == 4
    sizes = [len(block.json) for block in blocks]
    assert sizes[3] < sizes[2]  # two suspects, not four

    monkeypatch.setattr(blocks_module, "INLINE_BYTES", sizes[0] + sizes[1] + sizes[3])
    assert [block.name for block in write(tmp_path, case)] == ["index", "chunk-00001"]
    assert [block.name for block in stored(tmp_path)] == [
        "index",
        "chunk-00001",
    ]
    monkeypatch.setattr(blocks_module, "INLINE_BYTES", sum(sizes))
    assert write(tmp_path, case) == blocks


def test_a_folder_that_cannot_be_written_is_an_error_in_words(case: Any, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path / "no such folder", case)
    (tmp_path / "report-data").write_text("a file")
    with pytest.raises(OutputError, match="cannot write"):
        write(tmp_path, case)
    assert [path.name for path in tmp_path.iterdir()] == ["report-data"]


def test_a_full_disk_is_an_error_in_words(
    case: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("labelaudit.files.os.fsync", full)
    with pytest.raises(OutputError, match=r"cannot write .*index\.js: No space left on device"):
        write(tmp_path, case)
    assert list((tmp_path / "report-data").iterdir()) == []


# --- pictures ----------------------------------------------------------------------------------


def gradient(mode: str, size: tuple[int, int]) -> Image.Image:
    """From red on the left to white on the right, in any mode."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[..., 1:] = np.linspace(0, 255, width).astype(np.uint8)[None, :, None]
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "LA", "1", "YCbCr"])
@pytest.mark.parametrize("size", [(1, 1), (28, 28), (64, 64), (64, 3)])
def test_a_tiny_picture_is_kept_pixel_by_pixel(mode: str, size: tuple[int, int]) -> None:
    image = gradient(mode, size)
    picture = encode_picture(image, 32)

    assert picture.tiny
    assert picture.data_uri.startswith("data:image/png;base64,")
    shown = decode(picture.data_uri)
    assert shown.size == size
    assert shown.mode == ("L" if mode == "L" else "RGB")
    np.testing.assert_array_equal(np.asarray(shown), np.asarray(image.convert(shown.mode)))
    assert image.mode == mode


@pytest.mark.parametrize(
    ("size", "side", "expected"),
    [
        ((224, 224), 96, (96, 96)),
        ((224, 224), 320, (224, 224)),
        ((65, 64), 96, (65, 64)),
        ((65, 65), 32, (32, 32)),
        ((600, 20), 96, (96, 3)),
        ((2, 900), 320, (1, 320)),
        ((1, 20_000), 160, (1, 160)),
        ((1000, 750), 320, (320, 240)),
    ],
)
def test_sides_of_larger_pictures_are_bounded(
    size: tuple[int, int], side: int, expected: tuple[int, int]
) -> None:
    image = Image.new("RGB", size)
    picture = encode_picture(image, side)

    assert decode(picture.data_uri).size == expected
    assert not picture.tiny
    assert image.size == size  # the caller's is left as it was


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P", "CMYK", "LA"])
def test_a_larger_picture_is_still_itself(mode: str) -> None:
    image = gradient(mode, (400, 300))
    shown = decode(encode_picture(image, 320).data_uri).convert("RGB")

    assert shown.size == (320, 240)
    expected = image.convert("RGB").resize((40, 30), Image.Resampling.BOX)
    small = shown.resize((40, 30), Image.Resampling.BOX)
    difference = np.asarray(small, dtype=float) - np.asarray(expected, dtype=float)
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("size", [(32, 32), (256, 256)])
def test_16_bits_are_scaled_to_what_can_be_shown(size: tuple[int, int]) -> None:
    width, height = size
    values = np.tile(np.linspace(0, 65535, width).astype(np.uint16), (height, 1))
    image = Image.fromarray(values)
    assert image.mode == "I;16"
    shown = np.asarray(decode(encode_picture(image, 160).data_uri).convert("L"), dtype=float)

    expected = np.linspace(0, 255, shown.shape[1])
    assert np.abs(shown - expected).mean() < 4


@pytest.mark.parametrize("size", [(20, 20), (200, 100)])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "P"])
def test_color_profiles_and_other_notes_are_dropped(mode: str, size: tuple[int, int]) -> None:
    image = gradient(mode, size)
    plain = encode_picture(image, 160).content
    image.info |= {"icc_profile": bytes(100_000), "xmp": b"x" * 50_000, "comment": b"x" * 50_000}
    image.info["exif"] = b"Exif\0\0" + bytes(50_000)

    assert encode_picture(image, 160).content == plain
    assert len(plain) < 10_000


def test_photographs_are_small_even_where_nothing_compresses_them() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (500, 500, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    assert len(encode_picture(image, 320).data_uri) < 130_000
    assert len(encode_picture(image, 160).data_uri) < 35_000
    assert len(encode_picture(image, 96).data_uri) < 14_000
