"""The review page, used in a real browser as a person would: from disk, and served."""

from __future__ import annotations

import csv
import io
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pandas as pd
import pytest

import labelaudit
from labelaudit.corrections.apply import apply_corrections
from labelaudit.corrections.reading import read_corrections
from labelaudit.corrections.table import CORRECTION_COLUMNS, write_corrections
from labelaudit.errors import OptionError, SourceError
from labelaudit.reporting import blocks, review_data
from labelaudit.reporting.blocks import read_block
from labelaudit.review.server import ReviewServer

KEYS = "aakaxuaakraaaakxaaua"  # twenty decisions, one of them by typing
WORDS = {"a": "accept", "k": "keep", "x": "exclude", "u": "unsure", "r": "relabel"}
HOSTILE_CLASS = "<img src=x onerror=alert(1)>"


def review(tab: Any, keys: str) -> None:
    for key in keys:
        tab.press(key)
        if key == "r":
            tab.page.keyboard.type("brand new")
            tab.press("Enter")


def expected(run: Path, keys: str) -> list[tuple[str, str, str]]:
    """What the keys should have decided about the suspects in their order."""
    suspects = read_block(run, "index")
    columns, classes = suspects["suspects"], suspects["classes"]
    labels = {"a": lambda i: classes[columns["suggested"][i]], "r": lambda _: "brand new"}
    return [
        (columns["id"][i], WORDS[key], labels[key](i) if key in labels else "")
        for i, key in enumerate(keys)
    ]


def decided(text: str) -> list[tuple[str, str, str]]:
    rows = list(csv.reader(io.StringIO(text)))
    assert tuple(rows[0]) == (*CORRECTION_COLUMNS, "given_label")
    for row in rows[1:]:
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", row[5])
    return [(row[0], row[1], row[2]) for row in rows[1:]]


def corrected_csv(labels: Path, decisions: list[tuple[str, str, str]]) -> bytes:
    """The labels as the decisions say, written by the standard library."""
    meant = {sample: (decision, label) for sample, decision, label in decisions}
    with labels.open(newline="") as file:
        header, *rows = csv.reader(file)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*header, "verified", "first_label"])
    place = header.index("label")
    for row in rows:
        decision, label = meant.get(row[0], ("", ""))
        verified = {"exclude": "excluded", "unsure": "", "": ""}.get(decision, "yes")
        first = row[place] if verified == "yes" else ""
        row[place] = label or row[place]
        writer.writerow([*row, verified, first])
    return out.getvalue().encode()


@contextmanager
def serving(run: Path) -> Iterator[ReviewServer]:
    with ReviewServer(run, "Zoë") as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def download(tab: Any) -> str:
    with tab.page.expect_download() as waiting:
        tab.page.click("#download")
    assert waiting.value.suggested_filename == "corrections.csv"
    return Path(waiting.value.path()).read_text(encoding="utf-8")


def test_twenty_suspects_by_keyboard_a_reload_and_corrected_labels_byte_for_byte(
    new_tab: Callable[..., Any], run: Path, photos: Path, tmp_path: Path
) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    review(tab, KEYS[:8])
    tab.page.reload()
    tab.page.wait_for_selector("#review.ready")
    assert tab.page.inner_text("#place") == "9 of 36"
    assert tab.page.inner_text("#looked") == "8 of 36 decided"
    review(tab, KEYS[8:])
    corrections = tmp_path / "corrections.csv"
    corrections.write_text(download(tab), encoding="utf-8")

    assert decided(corrections.read_text(encoding="utf-8")) == expected(run, KEYS)
    applied = apply_corrections(
        photos / "labels.csv", corrections, tmp_path / "fixed.csv", allow_new_classes=True
    )
    assert applied.out is not None
    assert applied.out.read_bytes() == corrected_csv(photos / "labels.csv", expected(run, KEYS))
    assert tab.complaints == []
    assert all(re.match("file:|data:|blob:", address) for address in tab.requests)


def test_the_served_page_saves_each_decision_at_once(
    new_tab: Callable[..., Any], run: Path, photos: Path, tmp_path: Path
) -> None:
    with serving(run) as server:
        tab = new_tab().open(f"{server.address}#review")
        review(tab, KEYS[:8])
        tab.wait("document.getElementById('looked').textContent.startsWith('8 ')")
        tab.wait("document.documentElement.dataset.unsaved === '0'")
        assert len(read_corrections(run)) == 8
        tab.page.reload()
        tab.page.wait_for_selector("#review.ready")
        assert tab.page.inner_text("#place") == "9 of 36"
        review(tab, f"{KEYS[8:]}az")  # one more, taken back
        tab.wait("document.documentElement.dataset.unsaved === '0'")
        written = (run / "corrections.csv").read_text(encoding="utf-8")
        assert decided(written) == expected(run, KEYS)
        assert set(read_corrections(run)["reviewer"]) == {"Zoë"}
        # The image is the original file, through the server.
        size = tab.page.evaluate("document.querySelector('#one-picture img').naturalWidth")
        assert size == 100
        assert tab.complaints == []
        assert all(
            address.startswith((server.address, "data:", "blob:")) for address in tab.requests
        )
    out = apply_corrections(
        photos / "labels.csv", run, tmp_path / "f.csv", allow_new_classes=True
    ).out
    assert out is not None
    assert out.read_bytes() == corrected_csv(photos / "labels.csv", expected(run, KEYS))


def ask(address: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    request = Request(
        address, data, {name.replace("_", "-"): text for name, text in headers.items()}
    )
    try:
        with urlopen(request, timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def test_who_lacks_the_token_or_comes_from_elsewhere_gets_nothing(run: Path) -> None:
    with serving(run) as server:
        root = f"http://127.0.0.1:{server.server_port}"
        wrong = server.address.replace(server.token, "x" * len(server.token))
        nothing = (404, b"")
        assert ask(server.address)[0] == 200
        for address in (root, f"{root}/", wrong, f"{wrong}decisions", f"{root}/report.html"):
            assert ask(address) == nothing
        assert ask(server.address, Host=f"evil.example:{server.server_port}") == nothing
        assert ask(server.address, Origin="http://evil.example") == nothing
        assert ask(server.address, Sec_Fetch_Site="cross-site") == nothing
        for path in ("../summary.json", "summary.json", "report-data/../../x.json", "image/99999",
                     "report-data/%2e%2e/summary.json", "labelaudit.json"):  # fmt: skip
            assert ask(server.address + path) == nothing
        own = f"http://127.0.0.1:{server.server_port}"
        first = read_block(run, "index")["suspects"]["id"][0]
        body = json.dumps(
            [{"sample_id": first, "decision": "keep", "corrected_label": "", "note": ""}]
        )
        target = f"{server.address}decisions"
        kind = "application/json"
        assert ask(target, body.encode(), Content_Type=kind) == nothing  # no origin
        assert ask(target, body.encode(), Content_Type=kind, Origin="null") == nothing
        assert ask(target, body.encode(), Content_Type="text/plain", Origin=own) == nothing
        assert not (run / "corrections.csv").exists()
        assert ask(target, body.encode(), Content_Type=kind, Origin=own) == (
            200,
            b'{"saved": 1, "refused": []}',
        )
        for change in (
            {"sample_id": "no such"},
            {"sample_id": first, "decision": "delete"},
            {"sample_id": first, "decision": "relabel", "corrected_label": ""},
            {"sample_id": first, "note": 7},
        ):
            told = ask(target, json.dumps([change]).encode(), Content_Type=kind, Origin=own)[1]
            saved = json.loads(told)
            assert saved["saved"] == 1
            assert len(saved["refused"]) == 1
        assert ask(target, b"[", Content_Type=kind, Origin=own)[0] == 400
        assert read_corrections(run)["decision"].tolist() == ["keep"]
        # The server listens to this machine alone.
        assert server.server_address[0] == "127.0.0.1"


def test_a_page_of_another_origin_learns_nothing_and_changes_nothing(
    new_tab: Callable[..., Any], run: Path
) -> None:
    with serving(run) as server:
        script = """async (address) => {
          const tries = {
            read: fetch(address + 'decisions').then((a) => a.text()),
            write: fetch(address + 'decisions', {method: 'POST', mode: 'no-cors',
              body: JSON.stringify([{sample_id: '001.png', decision: 'keep'}])}).then((a) => a.text()),
            image: new Promise((yes, no) => { const i = new Image(); i.onload = () => yes('seen');
              i.onerror = no; i.src = address + 'image/1'; }),
            frame: new Promise((yes) => { const f = document.createElement('iframe');
              f.onload = () => { try { yes(f.contentDocument.title) } catch (e) { yes('') } };
              f.src = address; document.body.append(f); }),
          };
          const got = {};
          for (const [name, one] of Object.entries(tries)) {
            try { got[name] = await one } catch (error) { got[name] = '' }
          }
          return got;
        }"""

        class Elsewhere(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<!DOCTYPE html><title>elsewhere</title><body>")

            def log_message(self, *args: Any) -> None:
                pass

        other = HTTPServer(("127.0.0.1", 0), Elsewhere)
        threading.Thread(target=other.serve_forever, daemon=True).start()
        tab = new_tab()
        tab.page.goto(f"http://127.0.0.1:{other.server_port}/")
        got = tab.page.evaluate(script, server.address)
        other.shutdown()
        assert set(got.values()) == {""}
        assert not (run / "corrections.csv").exists()


def test_the_page_is_this_packages_whatever_the_folder_holds(run: Path) -> None:
    (run / "report.html").write_text(
        '<meta name="referrer" content="unsafe-url"><script>1</script>'
    )
    with serving(run) as server:
        status, page = ask(server.address)
    assert status == 200
    assert b"unsafe-url" not in page
    assert b"<script>1</script>" not in page
    assert b'data-review="live"' in page


def test_a_damaged_list_of_suspects_is_one_line(run: Path) -> None:
    (run / "report-data" / "index.js").write_text('labelauditData("index", {"suspects": 7});\n')
    with pytest.raises(SourceError, match="damaged"):
        ReviewServer(run, "me")


def test_a_run_that_is_replaced_meanwhile_takes_no_more_decisions(run: Path, photos: Path) -> None:
    with serving(run) as server:
        own = f"http://127.0.0.1:{server.server_port}"
        first = read_block(run, "index")["suspects"]["id"][0]
        body = json.dumps([{"sample_id": first, "decision": "keep"}]).encode()
        target, kind = f"{server.address}decisions", "application/json"
        assert ask(target, body, Content_Type=kind, Origin=own)[0] == 200
        labelaudit.scan(photos / "labels.csv", pred_probs=photos.parent / "probs.parquet", out=run,
                        threshold="top:30", force=True)  # fmt: skip
        status, words = ask(target, body, Content_Type=kind, Origin=own)
        assert status == 400
        assert b"replaced" in words
    assert read_corrections(run)["decision"].tolist() == ["keep"]  # carried over


def test_a_port_that_is_taken_is_said(run: Path) -> None:
    with serving(run) as server, pytest.raises(OptionError, match=str(server.server_port)):
        ReviewServer(run, "me", server.server_port)


def test_decisions_written_by_somebody_else_meanwhile_stay(run: Path) -> None:
    with ReviewServer(run, "me") as server:
        ids = read_block(run, "index")["suspects"]["id"]
        with ReviewServer(run, "you") as second:
            server.corrections.update([{"sample_id": ids[0], "decision": "keep"}], "me")
            second.corrections.update([{"sample_id": ids[1], "decision": "unsure"}], "you")
            server.corrections.update([{"sample_id": ids[2], "decision": "exclude"}], "me")
    found = read_corrections(run)
    assert found["decision"].tolist() == ["keep", "unsure", "exclude"]
    assert found["reviewer"].tolist() == ["me", "you", "me"]


def test_hostile_names_are_shown_and_never_run(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    page = tab.page
    page.select_option("#sort", "id")
    seen = set()
    for _ in range(36):
        seen |= {page.inner_text("#one-given"), page.inner_text("#one-suggested")}
        tab.wait("document.querySelector('#one-picture img').complete")
        assert page.evaluate("document.querySelector('#one-picture img').naturalWidth") == 100
        tab.press("j")
    tab.press("g")
    page.wait_for_selector(".card img")
    tab.press("r")
    assert HOSTILE_CLASS in page.inner_text("#picker-list")
    assert HOSTILE_CLASS in seen
    assert page.evaluate("document.querySelectorAll('img[onerror], img[src=\"x\"]').length") == 0
    assert tab.complaints == []


def test_filters_counts_and_search_agree(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#overview")
    page = tab.page
    index = read_block(run, "index")
    columns = index["suspects"]
    pairs = list(zip(columns["given"], columns["suggested"], strict=True))
    links = page.query_selector_all("a[data-pair]")
    assert len(links) == len(set(pairs))
    for number in range(len(links)):
        page.evaluate("location.hash = '#overview'")
        link = page.locator("a[data-pair]").nth(number)
        key, count = link.get_attribute("data-pair"), link.inner_text()
        link.click()
        given, suggested = map(int, key.split(","))
        assert int(count) == pairs.count((given, suggested))
        assert page.inner_text("#matches") in (f"{count} of 36", "36 suspects")
    page.click("#reset")
    page.fill("#search", "it's #")
    matching = [name for name in columns["id"] if "it's #" in name]
    assert page.inner_text("#matches") == f"{len(matching)} of 36"
    page.fill("#search", "n3")  # a value of another column
    texts = [details for details in columns["details"] if any("n3" in text for text in details)]
    assert page.inner_text("#matches") == f"{len(texts)} of 36"
    page.click("#reset")
    page.fill("#least", "0.5")
    above = sum(score >= 0.5 for score in columns["score"])
    assert page.inner_text("#matches") in (f"{above} of 36", "36 suspects")
    page.click("#reset")
    tab.press("Escape", "a", "k")
    page.select_option("#state", "open")
    assert page.inner_text("#matches") == "34 of 36"
    page.select_option("#state", "keep")
    assert page.inner_text("#matches") == "1 of 36"
    page.click("#reset")
    page.select_option("#sort", "score")
    page.evaluate("document.activeElement.blur()")
    page.click('[data-mode="one"]')
    tab.press("g", "Home", "Enter")
    assert page.inner_text("#one-rank") == "#36"
    page.select_option("#state", "unsure")
    assert page.is_visible("#nothing")
    assert tab.complaints == []


def test_several_in_the_grid_are_decided_and_undone_at_once(
    new_tab: Callable[..., Any], run: Path
) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    page = tab.page
    tab.press("g")
    page.locator(".card .pick").first.check()
    assert page.inner_text("#selected-count").startswith("1 selected")
    page.click("#select-none")
    page.evaluate("document.activeElement.blur()")
    tab.press("Shift+ArrowRight", "Shift+ArrowRight", "Shift+ArrowRight")
    assert page.inner_text("#selected-count").startswith("4 selected")
    tab.press("a")
    assert tab.complaints == ["Apply this decision to 4 suspects?"]
    assert page.inner_text("#looked") == "4 of 36 decided"
    assert page.locator('.card[data-decision="accept"]').count() == 4
    tab.press("z")
    assert page.inner_text("#looked") == "0 of 36 decided"
    tab.press("k")
    page.click("#select-all")
    assert page.inner_text("#selected-count").startswith("35 selected")  # not what is decided
    page.click('#selection-acts [data-decision="exclude"]')
    tab.wait("document.querySelectorAll('.card[data-decision=\"keep\"]').length === 1")
    assert page.inner_text("#looked") == "36 of 36 decided"
    assert "Review" in page.inner_text("nav.tabs")
    assert "left" not in page.inner_text("nav.tabs")


def test_it_works_by_touch_on_a_small_screen(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab(400, 800, has_touch=True, is_mobile=True)
    page = tab.open(f"{(run / 'report.html').as_uri()}#review").page
    page.tap("#acts .accept")
    page.tap("#acts .keep")
    page.tap("#acts .relabel")
    page.locator("#picker-list li", has_text="dog").tap()
    page.tap("#undo")
    assert page.inner_text("#looked") == "2 of 36 decided"
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.tap('[data-mode="grid"]')
    page.wait_for_selector(".card img")
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    page.locator(".card[data-decision=''] .quick .accept").first.tap()
    assert page.inner_text("#looked") == "3 of 36 decided"


def test_notes_stay_and_are_downloaded(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    tab.press("n")
    tab.page.keyboard.type('=SUM(1) "odd", but a cat')
    tab.press("Enter", "Escape", "k")
    text = download(tab)
    note = list(csv.reader(io.StringIO(text)))[1][3]
    assert note == '\'=SUM(1) "odd", but a cat'  # guarded against spreadsheets, as everywhere
    path = run / "corrections.csv"
    path.write_text(text)
    assert read_corrections(path)["note"].tolist() == ['=SUM(1) "odd", but a cat']


def test_blocks_that_the_page_does_not_carry_are_read_beside_it(
    new_tab: Callable[..., Any], run: Path, photos: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(blocks, "INLINE_BYTES", 0)
    monkeypatch.setattr(review_data, "CHUNK", 5)
    out = tmp_path / "apart"
    labelaudit.scan(photos / "labels.csv", pred_probs=photos.parent / "probs.parquet", out=out,
                    threshold="top:36")  # fmt: skip
    page_address = f"{(out / 'report.html').as_uri()}#review"
    tab = new_tab().open(page_address)
    tab.press("g")
    for _ in range(6):
        tab.press("PageDown")
    tab.wait(
        "[...document.querySelectorAll('.card .picture')].every((p) => p.querySelector('img'))"
    )
    assert tab.complaints == []
    alone = tmp_path / "alone.html"
    alone.write_bytes((out / "report.html").read_bytes())
    lost = new_tab()
    lost.page.goto(f"{alone.as_uri()}#review")
    lost.page.wait_for_selector("#trouble:not([hidden])")
    assert "report-data" in lost.page.inner_text("#trouble")


def test_texts_are_reviewed_as_well(new_tab: Callable[..., Any], tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    topics = ("sport", "money", "weather")
    truth = rng.integers(0, 3, 90)
    given = np.where(np.arange(90) % 9 == 0, (truth + 1) % 3, truth)
    table = pd.DataFrame(
        {
            "id": [f"t{i}" for i in range(90)],
            "noise": rng.integers(0, 9, 90),
            "text": [
                f"This is a long sentence about {topics[t]}, number {i}."
                for i, t in enumerate(truth)
            ],
            "label": [topics[g] for g in given],
        }
    )
    table.to_csv(tmp_path / "texts.csv", index=False)
    np.save(tmp_path / "p.npy", np.eye(3)[truth][:, [1, 0, 2]] * 0.91 + 0.03)
    labelaudit.scan(tmp_path / "texts.csv", pred_probs=tmp_path / "p.npy", out=tmp_path / "run")
    tab = new_tab().open(f"{(tmp_path / 'run' / 'report.html').as_uri()}#review")
    shown = tab.page.inner_text("#one-details")
    assert shown.index("This is a long sentence") < shown.index("noise")
    assert not tab.page.is_visible("#one-picture")
    tab.press("a", "g")
    assert "This is a long sentence" in tab.page.inner_text(".card >> nth=1")
    assert decided(download(tab))[0][1:] == (
        "accept",
        topics[truth[int(decided(download(tab))[0][0][1:])]],
    )
    assert tab.complaints == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_ground(
    new_tab: Callable[..., Any], run: Path, scheme: str
) -> None:
    tab = new_tab(color_scheme=scheme).open(f"{(run / 'report.html').as_uri()}#review")
    tab.press("a", "k", "p")
    measure = """() => {
      const parse = (c) => c.match(/[\\d.]+/g).map(Number);
      const linear = (v) => (v <= 10 ? v / 3295 : ((v / 255 + 0.055) / 1.055) ** 2.4);
      const light = (c) => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
      const ground = (e) => {
        for (; e; e = e.parentElement) {
          const c = parse(getComputedStyle(e).backgroundColor);
          if (c.length < 4 || c[3] > 0.99) { return c; }
        }
        return [255, 255, 255];
      };
      const found = [];
      for (const e of document.querySelectorAll('body *')) {
        const own = [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
        if (!own || !e.checkVisibility() || e.closest('select, button:disabled')) { continue; }
        const a = light(parse(getComputedStyle(e).color)), b = light(ground(e));
        const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        if (ratio < 4.5) { found.push([e.tagName, e.className, e.textContent, ratio]); }
      }
      return found;
    }"""
    assert tab.page.evaluate(measure) == []
    tab.press("g")
    tab.page.wait_for_selector(".card img")
    assert tab.page.evaluate(measure) == []
    tab.page.evaluate("location.hash = '#overview'")
    assert tab.page.evaluate(measure) == []


def test_every_control_has_a_name_and_the_keyboard_reaches_it(
    new_tab: Callable[..., Any], run: Path
) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    nameless = tab.page.evaluate(
        """() => [...document.querySelectorAll('#review :is(button, input, select, a[href])')]
          .filter((e) => e.checkVisibility() && !e.getAttribute('aria-label'))
          .filter((e) => !(e.textContent.trim() || (e.labels && e.labels.length)))
          .map((e) => e.outerHTML)"""
    )
    assert nameless == []
    reached = set()
    for _ in range(40):
        tab.press("Tab")
        reached.add(tab.page.evaluate("document.activeElement.id"))
    assert {"pair", "state", "least", "search", "sort", "download", "next", "note"} - reached <= {
        "download"
    }
    tab.page.evaluate("document.activeElement.blur()")
    tab.press("?")
    assert tab.page.is_visible("#help")
    tab.press("Escape")
    assert not tab.page.is_visible("#help")


def test_two_tabs_of_one_page_keep_each_others_decisions(
    browser: Any, new_tab: Callable[..., Any], run: Path
) -> None:
    address = f"{(run / 'report.html').as_uri()}#review"
    first = new_tab().open(address)
    second = type(first)(first.page.context.new_page()).open(address)
    first.press("a", "a", "a")
    first.page.wait_for_timeout(200)
    second.page.keyboard.press("End")
    second.press("j", "j", "j", "j", "j", "k")
    second.page.wait_for_timeout(200)
    first.page.reload()
    first.page.wait_for_selector("#review.ready")
    assert first.page.inner_text("#looked") == "4 of 36 decided"


def test_a_held_key_decides_once(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    for _ in range(5):
        tab.page.keyboard.down("a")  # all but the first are repeats
    tab.page.keyboard.up("a")
    assert tab.page.inner_text("#looked") == "1 of 36 decided"


def test_the_page_begins_with_what_the_run_folder_holds(
    new_tab: Callable[..., Any], run: Path
) -> None:
    with serving(run) as server:
        tab = new_tab().open(f"{server.address}#review")
        review(tab, "akx")
        tab.wait("document.documentElement.dataset.unsaved === '0'")
    labelaudit.render_report(run)
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    assert tab.page.inner_text("#looked") == "3 of 36 decided"
    tab.press("p", "Backspace")  # one is taken back, here
    tab.page.wait_for_timeout(200)
    tab.page.reload()
    tab.page.wait_for_selector("#review.ready")
    assert tab.page.inner_text("#looked") == "2 of 36 decided"


def test_what_the_page_does_not_list_is_downloaded_as_it_was(
    new_tab: Callable[..., Any], run: Path, photos: Path
) -> None:
    suspects = read_block(run, "index")["suspects"]["id"]
    unlisted = next(f"{n:03d}.png" for n in range(120) if f"{n:03d}.png" not in suspects and n % 5)
    rows = [(suspects[0], "keep", "", "", "ann", "2026-01-02T00:00:00Z", "an earlier label")]
    rows.append((unlisted, "exclude", "", "torn", "ann", "2026-01-01T00:00:00Z", "cat"))
    columns = [*CORRECTION_COLUMNS, "given_label"]
    write_corrections(pd.DataFrame(rows, columns=columns), run / "corrections.csv")
    labelaudit.render_report(run)
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    text = download(tab)
    assert [tuple(row) for row in csv.reader(io.StringIO(text))][1:] == rows
    # A later decision in this browser holds, and an earlier one does not.
    tab.press("Home", "p", "x")
    tab.page.wait_for_timeout(200)
    rows[0] = (suspects[0], "keep", "", "", "bob", "2999-01-01T00:00:00Z", rows[0][6])
    for row, now in ((rows[0], "keep"), ((*rows[0][:5], "2026-01-01T00:00:00Z", ""), "exclude")):
        write_corrections(pd.DataFrame([row], columns=columns), run / "corrections.csv")
        labelaudit.render_report(run)
        tab.page.reload()
        tab.page.wait_for_selector("#review.ready")
        assert decided(download(tab))[0][:2] == (suspects[0], now)


def test_a_page_of_a_new_run_holds_the_decisions_that_it_took_over(
    new_tab: Callable[..., Any], run: Path, photos: Path, tmp_path: Path
) -> None:
    name = read_block(run, "index")["suspects"]["id"][0]
    kept = pd.DataFrame([(name, "keep", "", "", "", "2026-01-02T00:00:00Z")],
                        columns=list(CORRECTION_COLUMNS))  # fmt: skip
    write_corrections(kept, run / "corrections.csv")
    second = labelaudit.scan(
        photos / "labels.csv",
        pred_probs=photos.parent / "probs.parquet",
        reviewed=run,
        out=tmp_path / "second",
        threshold="top:10",
    )
    assert name not in second.suspects["sample_id"].tolist()
    tab = new_tab().open(f"{(tmp_path / 'second' / 'report.html').as_uri()}#review")
    tab.press("a")
    assert [row[:2] for row in decided(download(tab))] == [
        (second.suspects["sample_id"].iloc[0], "accept"),
        (name, "keep"),
    ]


def test_an_undone_note_is_gone_from_its_field(new_tab: Callable[..., Any], run: Path) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    tab.press("n")
    tab.page.keyboard.type("odd")
    tab.press("Enter", "Escape", "z")
    tab.wait("document.querySelector('#note').value === ''")
    assert tab.page.is_disabled("#download")  # there is nothing


def test_keys_in_a_grid_without_suspects_decide_nothing(
    new_tab: Callable[..., Any], run: Path
) -> None:
    tab = new_tab().open(f"{(run / 'report.html').as_uri()}#review")
    tab.press("g", "/")
    tab.page.keyboard.type("no such suspect")
    assert tab.page.input_value("#search") == "no such suspect"
    tab.wait("!document.querySelector('#cards .card, #grid .card')")
    tab.page.evaluate("document.activeElement.blur()")
    tab.press("Shift+ArrowRight", "ArrowDown", "k")
    assert tab.page.is_disabled("#download")  # nothing is decided
    assert tab.complaints == []


def test_decisions_in_suspects_csv_are_taken_over(run: Path) -> None:
    edited = labelaudit.read_csv(run / "suspects.csv")
    edited["decision"] = ["keep", "accept"] + [None] * (len(edited) - 2)
    edited.to_csv(run / "suspects.csv", index=False)
    data = (run / "suspects.csv").read_bytes()
    meant = read_corrections(run / "suspects.csv")
    with ReviewServer(run, "Zoë") as server:
        rows = server.corrections.rows()
        assert server.taken_over == run / "suspects.kept.csv"
    assert server.taken_over.read_bytes() == data
    assert [row["decision"] for row in rows] == ["keep", "accept"]
    assert [row["given_label"] for row in rows] == edited["given_label"].head(2).tolist()
    columns = list(CORRECTION_COLUMNS)
    pd.testing.assert_frame_equal(read_corrections(run)[columns], meant[columns])
    with ReviewServer(run, "Zoë") as server:
        assert server.taken_over is None
