"""Folders into collections, and the command `ask`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time

import pytest
import stepwell


@pytest.fixture
def guides(tmp_path):
    folder = tmp_path / "guides"
    folder.mkdir()
    (folder / "runs.md").write_text(
        "# Runs\n\nA run is an append-only log.\n\n## Resume\n\n"
        "After a crash the run resumes from its journal: finished steps are not repeated.\n"
    )
    (folder / "bread.html").write_text("<h1>Bread</h1><p>Dough rests for an hour before it goes into the oven.</p>")
    (folder / "notes.txt").write_text("The ledger counts tokens for each tenant.\n")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7\nnothing behind it")
    (folder / "empty.txt").write_bytes(b"")
    return folder


def test_a_folder_is_synced_at_the_cost_of_what_changed(run, guides, tmp_path):
    async def main():
        docs = await stepwell.Collection.open(tmp_path / "index")
        events = []
        report = await docs.sync(guides, progress=events.append)
        assert report.progress.files_added == 3
        assert {skipped.uri.rsplit("/")[-1] for skipped in report.skipped} == {"broken.pdf", "empty.txt"}
        assert all(skipped.reason for skipped in report.skipped)
        kinds = {event.type for event in events}
        assert kinds == {"progress", "skipped"}
        hits = await docs.search("what happens after a crash?", top_k=1)
        assert hits[0].chunk.document_id == "runs.md" and hits[0].chunk.headings == ["Runs"]
        again = await docs.sync([guides])
        assert (again.progress.files_unchanged, again.progress.chunks) == (3, 0)
        (guides / "notes.txt").unlink()
        (guides / "bread.html").write_text("<h1>Bread</h1><p>Sourdough rests over night.</p>")
        third = await docs.sync(guides)
        assert third.removed == ["notes.txt"] and third.progress.files_updated == 1
        return [entry.id for entry in await docs.documents()]

    assert run(main(), timeout=120) == ["bread.html", "runs.md"]
    reopened = stepwell.Collection.open_sync(tmp_path / "index")
    assert reopened.sync_sync(str(guides)).progress.files_unchanged == 2
    with pytest.raises(stepwell.NotFoundError, match="nowhere"):
        reopened.sync_sync(tmp_path / "nowhere")


def ask(folder, *words):
    return subprocess.run(
        [sys.executable, "-m", "stepwell", *words], cwd=folder, capture_output=True, text=True, timeout=120
    )


def test_the_command_answers_with_a_citation_and_does_not_embed_twice(guides, tmp_path):
    first = ask(tmp_path, "ask", "guides", "What happens to a run after a crash?")
    assert first.returncode == 0, first
    assert "resumes from its journal" in first.stdout and "runs.md" in first.stdout
    assert "broken.pdf" in first.stderr
    second = ask(tmp_path, "ask", "guides", "What happens to a run after a crash?", "--json")
    assert second.returncode == 0
    report = json.loads(second.stdout)
    assert report["indexed"]["added"] == 0 and report["indexed"]["unchanged"] == 3
    unknown = ask(tmp_path, "ask", "guides", "Who won the football cup in 1954?")
    assert unknown.returncode == 3 and "not found in these documents" in unknown.stdout
    assert (tmp_path / ".stepwell").is_dir()


def test_the_command_tells_what_is_wrong_with_its_arguments(tmp_path):
    for words, told in [(["ask"], "ask"), (["ask", "nowhere", "q?"], "nowhere"), ([], "usage"), (["what"], "usage")]:
        ended = ask(tmp_path, *words)
        assert ended.returncode == 2 and told in ended.stderr, ended
        assert "Traceback" not in ended.stderr
    assert ask(tmp_path, "--version").stdout.startswith("stepwell ")
    assert ask(tmp_path, "ask", "--help").returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="signals of another kind")
def test_ctrl_c_while_indexing_leaves_a_usable_index(tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for n in range(300):
        (folder / f"{n:03}.md").write_text(f"# Note {n}\n\n" + f"Sentence {n} about nothing in particular. " * 60)
    child = subprocess.Popen(
        [sys.executable, "-m", "stepwell", "ask", "many", "what is it about?"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob(".stepwell/**/meta.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.3)  # it embeds now, and will for a while
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130 and "run the same command to go on" in err, (child.returncode, err)
    assert "Traceback" not in err
    for n in range(3, 300):
        (folder / f"{n:03}.md").unlink()
    again = ask(tmp_path, "ask", "many", "What is note 2 about?", "--json")
    assert again.returncode in (0, 3), again
    assert json.loads(again.stdout)["indexed"]["documents"] == 3
