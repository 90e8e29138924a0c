import json
import os
import subprocess
import sys
import threading

import pytest

from labelaudit import OutputError
from labelaudit.corrections.run import read_run
from labelaudit.errors import SourceError, WriteError
from labelaudit.files import atomic_write, check_room, locked, remove_partial_files
from labelaudit.progress import Reporter
from labelaudit.reporting import run_files
from labelaudit.reporting.run_files import EARLIER, own_files
from labelaudit.reporting.run_folder import MARKER, RunFolder

CONFIG = {"seed": 0, "betas": (0.9, 0.99)}


def make_run(path, status="complete"):
    folder = RunFolder(path)
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.write_json("summary.json", {"old": True})
    if status == "running":
        folder.close()  # as the system does for a process that was killed
    else:
        folder.finish(status)
    return folder


def replace_until(path, error):
    """Replace a run, until an error ends it."""
    with RunFolder(path, force=True) as folder:
        folder.claim("0.2", "e" * 64, CONFIG)
        raise error


def kill(folder):
    """Leave a folder as it is after a SIGKILL: the system releases the lock."""
    folder._lock._held.release()


def names(folder):
    """All files and folders below a folder, with slashes."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_nothing_is_written_before_the_claim(tmp_path):
    with RunFolder(tmp_path / "a" / "run"):
        assert names(tmp_path) == ["a", "a/.run.lock"]
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
    assert json.loads((tmp_path / "run" / EARLIER / "summary.json").read_text()) == {"old": True}
    folder.finish("complete")
    assert names(tmp_path) == ["run", f"run/{MARKER}"]
    assert json.loads((tmp_path / "run" / MARKER).read_text())["labelaudit"] == "0.2"


def test_a_failed_replacement_gives_the_old_run_back(tmp_path):
    make_run(tmp_path / "run")
    before = (tmp_path / "run" / MARKER).read_text()
    with pytest.raises(WriteError, match="full"):
        replace_until(tmp_path / "run", WriteError("the disk is full"))
    assert names(tmp_path) == ["run", f"run/{MARKER}", "run/summary.json"]
    assert (tmp_path / "run" / MARKER).read_text() == before
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"old": True}


def test_a_replacement_that_was_killed_is_told_and_removes_the_old_run_when_resumed(tmp_path):
    make_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    kill(folder)
    with pytest.raises(OutputError, match=f"the results that it replaces are in .*{EARLIER}"):
        RunFolder(tmp_path / "run")
    with pytest.raises(SourceError, match=f"unfinished.*`resume=True`.*{EARLIER}"):
        read_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", resume=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    folder.finish("complete")
    assert names(tmp_path) == ["run", f"run/{MARKER}"]


def test_the_last_finished_run_is_kept_until_another_is_finished(tmp_path):
    make_run(tmp_path / "run")
    for _ in range(2):
        folder = RunFolder(tmp_path / "run", force=True)
        folder.claim("0.2", "e" * 64, CONFIG)
        folder.write_json("summary.json", {"half": True})
        kill(folder)
    with pytest.raises(KeyboardInterrupt):
        replace_until(tmp_path / "run", KeyboardInterrupt())
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == {"old": True}
    assert names(tmp_path) == ["run", f"run/{MARKER}", "run/summary.json"]


@pytest.mark.parametrize("moved", range(4))
def test_a_kill_while_files_are_moved_leaves_the_old_run(tmp_path, moved, monkeypatch):
    folder = make_run(tmp_path / "run")
    (tmp_path / "run" / "plots").mkdir()
    for name in ("model.pt", "plots/review.png"):
        (tmp_path / "run" / name).write_text("old")
    marker = tmp_path / "run" / MARKER
    listed = json.loads(marker.read_text())
    listed["files"] |= {"model.pt": None, "plots/review.png": None}
    marker.write_text(json.dumps(listed))
    whole = {name: (tmp_path / "run" / name).read_text() for name in own_files(tmp_path / "run")}
    left = [moved]
    replace = run_files.Path.replace

    def replace_until_killed(path, target):
        if path.parent.name != EARLIER and path.parent.parent.name != EARLIER:
            if not left[0]:
                raise SystemExit
            left[0] -= 1
        return replace(path, target)

    folder = RunFolder(tmp_path / "run", force=True)
    monkeypatch.setattr(run_files.Path, "replace", replace_until_killed)
    monkeypatch.setattr(folder, "_put_back", lambda: None)
    with pytest.raises(SystemExit):
        folder.claim("0.2", "e" * 64, CONFIG)
    kill(folder)
    monkeypatch.undo()
    with pytest.raises(OutputError, match="`force=True`"):
        RunFolder(tmp_path / "run")
    found = {name: (tmp_path / "run" / name).read_text() for name in own_files(tmp_path / "run")}
    assert found == whole
    assert json.loads(marker.read_text()) == listed
    assert not (tmp_path / "run" / EARLIER).exists()


def test_a_kill_at_the_very_end_leaves_a_complete_run_and_what_is_left_is_deleted(tmp_path):
    make_run(tmp_path / "run")
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    (tmp_path / "run" / "checkpoint.pt").write_text("state")
    folder._drop_earlier = lambda: sys.exit()  # killed after the marker was written
    with pytest.raises(SystemExit):
        folder.finish("complete")
    kill(folder)
    assert (tmp_path / "run" / EARLIER).exists()
    with pytest.raises(OutputError, match="complete"):
        RunFolder(tmp_path / "run", resume=True)
    assert names(tmp_path) == ["run", f"run/{MARKER}"]


# --- nothing of others is touched ------------------------------------------------------------------


@pytest.mark.parametrize("replaces", ["sibling", "..", "../..", "/", ".", "a/../../sibling", 5, []])
@pytest.mark.parametrize("resume", [False, True])
def test_no_marker_leads_to_another_folder(tmp_path, replaces, resume):
    (tmp_path / "work" / "sibling").mkdir(parents=True)
    (tmp_path / "work" / "sibling" / "thesis.tex").write_text("precious")
    run = tmp_path / "work" / "run"
    make_run(run, "running")
    marker = json.loads((run / MARKER).read_text())
    files = {"../sibling/thesis.tex": None, str(run.parent / "sibling" / "thesis.tex"): None}
    (run / MARKER).write_text(json.dumps(marker | {"replaces": replaces, "files": files}))
    folder = RunFolder(run, force=not resume, resume=resume)
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.finish("complete")
    assert (tmp_path / "work" / "sibling" / "thesis.tex").read_text() == "precious"
    assert run.exists()


@pytest.mark.parametrize("name", ["plots", "epsilon", "report-data", EARLIER])
@pytest.mark.parametrize("status", ["complete", "running"])
def test_links_in_a_run_folder_are_not_followed(tmp_path, name, status):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for file in ("review.png", "epoch-00001.parquet", "index.js", "summary.json", MARKER):
        (pictures / file).write_text('{"labelaudit": "0.1"}')
    before = {path: path.read_text() for path in pictures.iterdir()}
    make_run(tmp_path / "run", status)
    (tmp_path / "run" / name).symlink_to(pictures)
    folder = RunFolder(tmp_path / "run", force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    with folder.file("plots/review.png") as path:
        path.write_text("new")
    folder.finish("complete")
    assert {path: path.read_text() for path in pictures.iterdir()} == before
    assert (tmp_path / "run" / f"{name}.kept").is_symlink()


def test_resume_does_not_write_through_a_link(tmp_path):
    make_run(tmp_path / "run", "running")
    (tmp_path / "run" / "epsilon").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="epsilon is a link"):
        RunFolder(tmp_path / "run", resume=True).claim("0.1", "f" * 64, CONFIG)


def test_force_keeps_the_files_of_the_user(tmp_path):
    run = tmp_path / "run"
    folder = RunFolder(run)
    folder.claim("0.1", "f" * 64, CONFIG)
    folder.write_json("summary.json", {"old": True})
    with folder.file("suspects.csv") as path:
        path.write_text("rank\n1\n")
    folder.finish("complete")
    (run / "images" / "cat").mkdir(parents=True)
    (run / "plots").mkdir()
    theirs = (
        "notes.txt",
        "images/cat/0.png",
        "plots/mine.png",
        "corrections.csv",
        "thesis.parquet",
    )
    for name in theirs:
        (run / name).write_text("precious")
    (run / "model.pt").write_text("a model that the user put there")
    (run / "suspects.csv").write_text("rank,my notes\n1,precious\n")

    told = []
    reporter = Reporter()
    reporter.warn = told.append
    folder = RunFolder(run, force=True)
    folder.claim("0.2", "e" * 64, CONFIG, reporter)
    assert (run / "images" / "cat" / "0.png").exists(), "images stay readable during the run"
    folder.finish("complete", reporter)

    for name in theirs:
        assert (run / name).read_text() == "precious"
    assert (run / "model.kept.pt").read_text() == "a model that the user put there"
    assert "precious" in (run / "suspects.kept.csv").read_text()
    assert not (run / "suspects.csv").exists()
    assert [" ".join(line.split()[:1]) for line in told] == ["model.pt", "suspects.csv"]


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "thesis.tex").write_text("precious")
        with pytest.raises(OutputError, match="not written by labelaudit"):
            folder.claim("0.1", "f" * 64, CONFIG)
    assert names(tmp_path) == ["run", "run/thesis.tex"]


def test_an_empty_folder_may_be_used_and_stays(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".0123456789abcdef.partial.json").write_text("{")  # of a killed process
    with RunFolder(tmp_path / "run") as folder:
        folder.claim("0.1", "f" * 64, CONFIG)
        folder.abandon()
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize(
    "text", ["", "{", "[1]", "null", '{"labelaudit": 5}', '{"status": "complete"}', "[" * 100_000]
)
@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_a_damaged_marker_is_told(tmp_path, text, options):
    make_run(tmp_path / "run")
    (tmp_path / "run" / MARKER).write_text(text)
    before = names(tmp_path)
    with pytest.raises(OutputError, match=r"is damaged.*move the folder away"):
        RunFolder(tmp_path / "run", **options)
    assert names(tmp_path) == before


# --- one at a time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"force": True}, {"resume": True}])
def test_of_two_at_once_one_is_told(tmp_path, options):
    first = RunFolder(tmp_path / "run")
    with pytest.raises(OutputError, match="another labelaudit is writing"):
        RunFolder(tmp_path / "run", **options)
    (tmp_path / "link").symlink_to(tmp_path / "run")
    with pytest.raises(OutputError, match="another labelaudit is writing"):
        RunFolder(tmp_path / "link", **options)
    first.claim("0.1", "f" * 64, CONFIG)
    with pytest.raises(OutputError):
        RunFolder(tmp_path / "run", **options)
    first.finish("complete")
    assert names(tmp_path) == ["link", "run", f"run/{MARKER}"]


def test_the_lock_of_a_dead_process_does_not_count(tmp_path):
    script = (
        "import os, signal, sys; from labelaudit.reporting.run_folder import RunFolder;"
        "held = RunFolder(sys.argv[1]); print(1); sys.stdout.flush();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script, tmp_path / "run"], check=False)
    assert names(tmp_path) == [".run.lock"]
    with RunFolder(tmp_path / "run"):
        pass
    assert names(tmp_path) == []


def test_only_one_of_many_threads_has_the_lock_and_no_lock_file_is_left(tmp_path):
    file = tmp_path / "count"
    file.write_text("0")

    def count():
        for _ in range(20):
            with locked(file):
                file.write_text(str(int(file.read_text()) + 1))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read_text() == "80"
    assert names(tmp_path) == ["count"]


def test_a_folder_whose_parent_is_read_only_is_locked_too(tmp_path, monkeypatch):
    (tmp_path / "volume").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    with RunFolder(tmp_path / "volume") as folder:
        assert names(tmp_path) == ["volume", "volume/.labelaudit.lock"]
        with pytest.raises(OutputError, match="another labelaudit"):
            RunFolder(tmp_path / "volume")
        folder.claim("0.1", "f" * 64, CONFIG)
        folder.finish("complete")
    assert names(tmp_path) == ["volume", f"volume/{MARKER}"]


def test_an_edited_table_that_is_a_link_to_a_device_is_not_read(tmp_path):
    run = tmp_path / "run"
    make_run(run)
    marker = json.loads((run / MARKER).read_text())
    (run / MARKER).write_text(json.dumps(marker | {"files": {"suspects.csv": "0"}}))
    (run / "suspects.csv").symlink_to("/dev/zero")
    folder = RunFolder(run, force=True)
    folder.claim("0.2", "e" * 64, CONFIG)
    folder.finish("complete")
    assert (run / "suspects.kept.csv").is_symlink()


def test_a_lock_is_never_a_link_to_a_file_of_the_user(tmp_path):
    (tmp_path / "precious").write_text("precious")
    (tmp_path / ".run.lock").symlink_to(tmp_path / "precious")
    (tmp_path / ".file.lock").symlink_to(tmp_path / "precious")
    with pytest.raises(OutputError, match="link"):
        RunFolder(tmp_path / "run")
    with pytest.raises(OutputError, match="link"), locked(tmp_path / "file"):
        pass
    assert (tmp_path / "precious").read_text() == "precious"


# --- a full disk --------------------------------------------------------------------------------------


def test_unfinished_files_of_dead_processes_are_deleted_and_those_of_others_stay(tmp_path):
    dead = tmp_path / ".0123456789abcdef.partial.npy"
    dead.write_text("half")
    theirs = [tmp_path / ".partial", tmp_path / "x.partial.npy", tmp_path / ".0123.partial"]
    for path in theirs:
        path.write_text("precious")
    with atomic_write(tmp_path / "array.npy") as living:
        remove_partial_files(tmp_path)
        assert not dead.exists()
        living.write_text("whole")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "array.npy", *theirs])


def test_the_error_of_torch_on_a_full_disk_is_one_for_people(tmp_path):
    def write(error):
        with atomic_write(tmp_path / "model.pt") as path:
            path.write_text("half")
            raise error

    full = RuntimeError("[enforce fail at inline_container.cc:671] . unexpected pos 576 vs 534")
    with pytest.raises(WriteError, match=r"model\.pt.*make room"):
        write(full)
    with pytest.raises(WriteError, match="completely"):
        write(OSError("1000000 requested and 38384 written"))
    with pytest.raises(RuntimeError, match="another"):
        write(RuntimeError("another"))
    assert names(tmp_path) == []


def test_a_full_disk_says_how_to_go_on(tmp_path):
    def run(**options):
        with RunFolder(tmp_path / "run", **options) as folder:
            folder.claim("0.1", "f" * 64, CONFIG)
            with folder.file("checkpoint.pt") as path:
                path.write_text("state")
            raise OSError(28, "No space left on device")

    with pytest.raises(WriteError, match=r"No space left on device.*`resume=True` continues it"):
        run()
    assert (tmp_path / "run" / "checkpoint.pt").exists()
    with pytest.raises(WriteError, match="`resume=True` continues it"):
        run(resume=True)


def test_ctrl_c_promises_to_continue_only_where_that_is_possible(tmp_path):
    def run(checkpoint):
        with RunFolder(tmp_path / "run") as folder:
            folder.claim("0.1", "f" * 64, CONFIG)
            if checkpoint:
                with folder.file("checkpoint.pt") as path:
                    path.write_text("state")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stopped:
        run(checkpoint=False)
    assert str(stopped.value) == ""
    assert names(tmp_path) == []
    with pytest.raises(KeyboardInterrupt, match="`resume=True` continues it"):
        run(checkpoint=True)


def test_too_small_a_disk_is_told_before_work(tmp_path):
    check_room(tmp_path / "no" / "such" / "folder", 1)
    with pytest.raises(WriteError, match=r"at least 1,048,576.0 GiB .* has only .* left"):
        check_room(tmp_path / "no" / "such" / "folder", 2**50)


def test_results_that_are_being_written_are_not_read(tmp_path):
    with RunFolder(tmp_path / "run") as folder:
        folder.claim("0.1", "f" * 64, CONFIG)
        folder.begin_results()
        for name in ("summary.json", "samples.parquet"):
            (tmp_path / "run" / name).write_text("{}")
        with pytest.raises(SourceError, match="its files are being written"):
            read_run(tmp_path / "run")


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
    folder.close()
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
