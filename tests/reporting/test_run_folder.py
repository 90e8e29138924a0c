import json
import os

import pytest

from labelaudit import OutputError
from labelaudit.reporting.run_folder import MARKER, RunFolder

CONFIG = {"seed": 0, "betas": (0.9, 0.99)}


def make_run(path, status="complete"):
    folder = RunFolder(path)
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.write_json("summary.json", {"old": True})
    if status != "running":
        folder.finish(status)
    return folder


def test_nothing_is_written_before_the_claim(tmp_path):
    RunFolder(tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_finished_run_is_marked(tmp_path):
    make_run(tmp_path / "run")
    marker = json.loads((tmp_path / "run" / MARKER).read_text())
    assert marker["status"] == "complete"
    assert marker["labelaudit"] == "0.1"


def test_an_existing_run_is_refused_without_force(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(OutputError, match="`force=True`"):
        RunFolder(tmp_path / "run")
    make_run(tmp_path / "cut", "interrupted")
    with pytest.raises(OutputError, match="`resume=True`"):
        RunFolder(tmp_path / "cut")


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_what_labelaudit_did_not_write_is_never_replaced(tmp_path, options):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.png").write_text("precious")
    (tmp_path / "file.txt").write_text("precious")
    for name in ("photos", "file.txt"):
        with pytest.raises(OutputError, match="not written by labelaudit"):
            RunFolder(tmp_path / name, **options)
    assert (tmp_path / "photos" / "a.png").read_text() == "precious"
    assert (tmp_path / "file.txt").read_text() == "precious"


def test_force_replaces_a_run_when_the_new_one_is_there(tmp_path):
    make_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    assert not (tmp_path / "run" / "summary.json").exists()
    assert len(list(tmp_path.iterdir())) == 2  # the old one waits aside
    folder.finish("complete")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert json.loads((tmp_path / "run" / MARKER).read_text())["labelaudit"] == "0.2"


def test_a_failed_replacement_gives_the_old_run_back(tmp_path):
    make_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    folder.abandon()
    assert [p.name for p in tmp_path.iterdir()] == ["run"]
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"old": True}


def test_a_replacement_that_was_cut_off_removes_the_old_run_when_resumed(tmp_path):
    make_run(tmp_path / "run")
    RunFolder(tmp_path / "run", force=True).claim("0.2", "e" * 64, CONFIG)  # and was killed
    folder = RunFolder(tmp_path / "run", resume=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    folder.finish("complete")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_replacement_that_was_cut_off_is_replaced_with_all_it_had_set_aside(tmp_path):
    make_run(tmp_path / "run")
    for _ in range(2):
        RunFolder(tmp_path / "run", force=True).claim("0.2", "e" * 64, CONFIG)  # and was killed
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    assert len(list(tmp_path.iterdir())) == 4
    folder.finish("complete")
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_a_failed_first_run_leaves_nothing(tmp_path):
    folder = RunFolder(tmp_path / "a" / "run")
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.abandon()
    assert not (tmp_path / "a" / "run").exists()


def test_resume_takes_up_the_same_run_only(tmp_path):
    make_run(tmp_path / "run", "interrupted")
    folder = RunFolder(tmp_path / "run", resume=True)
    assert folder.resuming
    with pytest.raises(OutputError, match="images or labels have changed"):
        folder.claim("0.1", "0" * 64, CONFIG)
    with pytest.raises(OutputError, match=r"other settings \(seed\)"):
        folder.claim("0.1", "f" * 64, {**CONFIG, "seed": 1})
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.abandon()  # a resumed run is never removed
    assert (tmp_path / "run" / "summary.json").exists()


def test_resume_of_a_complete_run_says_so(tmp_path):
    make_run(tmp_path / "run")
    with pytest.raises(OutputError, match="nothing to resume"):
        RunFolder(tmp_path / "run", resume=True)
    with pytest.raises(OutputError, match="one of them"):
        RunFolder(tmp_path / "run", resume=True, force=True)


def test_a_new_folder_may_be_resumed(tmp_path):
    """So that one command line serves a job that is restarted again and again."""
    folder = RunFolder(tmp_path / "run", resume=True)
    assert not folder.resuming
    folder.claim("0.1", "f" * 64, CONFIG)
    assert (tmp_path / "run" / MARKER).exists()


def test_unwritable_places_are_told_before_any_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="`out`"):
        RunFolder(tmp_path / "file" / "run")
    with pytest.raises(OutputError, match="`out`"):
        RunFolder("/proc/run")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_places_are_told_before_any_work(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="`out`"):
        RunFolder(tmp_path / "run")
