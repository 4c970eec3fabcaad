"""The downloader against a hub on this machine: only what is needed, whole, resumed, checked."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from videopainter import weights
from videopainter.cli import weights as command
from videopainter.weights import FileSet, Network, Part, download

ALL_PARTS = dict(weights.PARTS)
ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(Path(__file__).parent))
from local_hub import COMMIT, Hub  # noqa: E402


def safetensors(count, fill=7):
    """A whole file with one tensor of `count` bytes."""
    header = json.dumps({"w": {"dtype": "U8", "shape": [count], "data_offsets": [0, count]}}).encode()
    return len(header).to_bytes(8, "little") + header + bytes([fill]) * count


TINY = Part(
    name="tiny",
    what="a tiny network",
    folder="tiny",
    size=4000,
    repo="us/tiny",
    patterns=("*/*.json", "unet/*.safetensors"),
    sets=(FileSet(("tiny/unet/config.json",), (Network("tiny/unet/model.safetensors"),)),),
)
FILES = {
    "README.md": b"words",
    "unet/config.json": b"{}",
    "unet/model.safetensors": safetensors(300_000),
    "unet/model.fp16.bin": bytes(100),  # the same once more, as others keep it
    "all_in_one.safetensors": safetensors(500_000),
}


@pytest.fixture
def parts(monkeypatch):
    """The table, which a test may add to."""
    table = {"tiny": TINY}
    monkeypatch.setattr(weights.catalogue, "PARTS", table)
    monkeypatch.setattr(weights, "PARTS", table)
    monkeypatch.setattr(download, "PARTS", table)
    monkeypatch.setattr(weights.catalogue, "NEEDED", {"engine": ("tiny",)})
    monkeypatch.setattr(command, "PARTS", table)
    monkeypatch.setattr(weights, "NEEDED", {"engine": ("tiny",)})
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", weights.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    return table


@pytest.fixture
def hub(parts, monkeypatch):
    with Hub({"us/tiny": dict(FILES)}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def run(capsys, root, *arguments):
    """(exit status, what was printed, the last line of stderr)."""
    status = command.main([*arguments, "--folder", str(root)])
    out, err = capsys.readouterr()
    return status, out, (err.strip().splitlines() or [""])[-1]


def test_only_what_is_needed_sizes_first_and_nothing_twice(hub, tmp_path, capsys):
    status, out, _ = run(capsys, tmp_path, "--only", "tiny")
    assert status == 0 and "Everything is there and whole." in out
    assert out.index("300.1 kB to download") < out.index("Everything")
    kept = {str(p.relative_to(tmp_path / "tiny")) for p in (tmp_path / "tiny").rglob("*") if p.is_file()}
    assert {name for name in kept if not name.startswith(".cache")} == {
        "unet/config.json",
        "unet/model.safetensors",
    }
    assert (tmp_path / "tiny/unet/model.safetensors").read_bytes() == FILES["unet/model.safetensors"]
    record = json.loads((tmp_path / weights.RECORDS / "tiny.json").read_text())
    assert record["revision"] == COMMIT and len(record["files"]) == 2
    fetched = hub.bodies()
    status, out, _ = run(capsys, tmp_path, "--only", "tiny")
    assert status == 0 and "0 B to download" in out and hub.bodies() == fetched


def test_a_broken_connection_is_mended(hub, tmp_path, capsys):
    hub.break_after = 100_000
    assert run(capsys, tmp_path, "--only", "tiny")[0] == 0
    assert (tmp_path / "tiny/unet/model.safetensors").read_bytes() == FILES["unet/model.safetensors"]
    assert "bytes=100000-" in [wanted for _, _, wanted in hub.seen]


def test_killed_it_goes_on_where_it_was(hub, tmp_path, capsys):
    whole = safetensors(6_000_000)
    hub.repos["us/tiny"]["unet/model.safetensors"] = whole
    hub.stall_after = 5_000_000
    code = (
        f"import sys; sys.path[:0] = {[str(ROOT), str(Path(__file__).parent)]}; import test_download as t; "
        "t.weights.PARTS.update(tiny=t.TINY); t.command.main(sys.argv[1:])"
    )
    full = [sys.executable, "-c", code, "--only", "tiny", "--folder", str(tmp_path)]
    process = subprocess.Popen(full, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    partial = tmp_path / "tiny/unet/model.safetensors.part"
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if partial.exists() and partial.stat().st_size >= 4 * 2**20:
            break
        time.sleep(0.02)
    process.kill()
    process.wait()
    hub.go_on.set()
    done = partial.stat().st_size
    assert 4 * 2**20 <= done <= 5_000_000 and not (tmp_path / "tiny/unet/model.safetensors").exists()
    status, out, _ = run(capsys, tmp_path, "--only", "tiny")
    assert status == 0 and f"{download.gigabytes(len(whole) - done)} to download" in out
    assert hub.seen[-1][2] == f"bytes={done}-"
    assert (tmp_path / "tiny/unet/model.safetensors").read_bytes() == whole


def test_a_damaged_file_is_fetched_again(hub, tmp_path, capsys):
    run(capsys, tmp_path, "--only", "tiny")
    path = tmp_path / "tiny/unet/model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    status, out, _ = run(capsys, tmp_path, "--check")
    assert status == 1 and "damaged, cut off" in out and "engine        no" in out
    status, _, _ = run(capsys, tmp_path, "--only", "tiny")
    assert status == 0 and path.read_bytes() == FILES["unet/model.safetensors"]
    assert run(capsys, tmp_path, "--check")[0] == 0


def test_what_arrives_with_other_contents_is_not_kept(hub, tmp_path, capsys, monkeypatch):
    real = Hub._list

    def other_hash(self, request, repo):
        whole = self.repos
        self.repos = {repo: {**whole[repo], "unet/model.safetensors": safetensors(300_000, fill=8)}}
        real(self, request, repo)
        self.repos = whole

    monkeypatch.setattr(Hub, "_list", other_hash)
    status, _, err = run(capsys, tmp_path, "--only", "tiny")
    assert status == 2 and "was not what is published and was deleted" in err
    assert not (tmp_path / "tiny/unet/model.safetensors").exists()


def test_check_without_a_network(parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, out, _ = run(capsys, tmp_path, "--check")
    assert status == 0 and "tiny                missing" in out
    assert f"engine        no; python ckpt/download.py --only tiny --folder {tmp_path}" in out
    assert run(capsys, tmp_path, "--check", "--only", "tiny")[0] == 1
    (tmp_path / "tiny/unet").mkdir(parents=True)
    (tmp_path / "tiny/unet/config.json").write_text("{}")
    status, out, _ = run(capsys, tmp_path, "--check")
    assert status == 1 and "incomplete: tiny/unet/model.safetensors" in out
    (tmp_path / "tiny/unet/model.safetensors").write_bytes(FILES["unet/model.safetensors"])
    status, out, _ = run(capsys, tmp_path, "--check")
    assert status == 0 and "engine        yes" in out


def test_no_network_is_one_sentence(parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    status, _, err = run(capsys, tmp_path, "--only", "tiny")
    assert status == 2 and err.startswith(
        "download.py: error: http://127.0.0.1:9/us/tiny cannot be reached: "
    )
    assert "HF_ENDPOINT names a mirror" in err


def test_a_gated_repository_says_what_to_do(hub, parts, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    parts["tiny"] = dataclasses.replace(TINY, gated=True)
    hub.gated.add("us/tiny")
    status, _, err = run(capsys, tmp_path, "--only", "tiny")
    assert status == 2 and "us/tiny is gated: accept its licence at" in err and "HF_TOKEN" in err
    (tmp_path / "token").write_text("hf_of_the_login\n")
    hub.tokens.clear()
    hub.storage = True  # the hub sends large files on to another host
    assert run(capsys, tmp_path, "--only", "tiny")[0] == 0
    assert hub.tokens["us/tiny"] == {"Bearer hf_of_the_login"} and hub.tokens["storage"] == {None}
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_environment")
    assert run(capsys, tmp_path / "again", "--only", "tiny")[0] == 0
    assert "Bearer hf_of_the_environment" in hub.tokens["us/tiny"]


def test_a_repository_that_is_not_there(hub, parts, tmp_path, capsys):
    parts["tiny"] = dataclasses.replace(TINY, repo="us/gone")
    status, _, err = run(capsys, tmp_path, "--only", "tiny")
    assert status == 2 and f"There is no repository us/gone at {hub.url}." in err


def test_no_room(hub, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(download, "SPARE", 10**18)
    status, out, err = run(capsys, tmp_path, "--only", "tiny")
    assert status == 2 and "are needed; make room" in err and hub.bodies() == []


@pytest.fixture
def release(hub, parts):
    """A part whose files lie on a release page."""
    hub.releases = {"a.safetensors": safetensors(3_000_000)}
    sets = (FileSet(networks=(Network("loose/a.safetensors"),)),)
    urls = (("loose/a.safetensors", f"{hub.url}/releases/a.safetensors"),)
    parts["loose"] = Part("loose", "files of a release", "loose", 3_000_000, sets, urls=urls)
    return hub


@pytest.mark.parametrize("ranges", [True, False])
def test_release_files_go_on_where_they_were_cut(release, tmp_path, capsys, ranges):
    release.break_after, release.without_ranges = 1_200_000, not ranges
    assert run(capsys, tmp_path, "--only", "loose")[0] == 0
    assert (tmp_path / "loose/a.safetensors").read_bytes() == release.releases["a.safetensors"]
    assert release.seen[-1][2] == "bytes=1200000-"
    assert not list((tmp_path / "loose").glob("*.part"))


def test_a_server_that_sends_nothing_more(release, tmp_path, capsys):
    release.break_after, release.break_always = 0, True
    status, _, err = run(capsys, tmp_path, "--only", "loose")
    assert status == 2 and "broke off after 0 of 3000" in err
    assert not (tmp_path / "loose/a.safetensors").exists()


def test_a_release_file_that_is_gone(release, tmp_path, capsys):
    release.releases.clear()
    status, _, err = run(capsys, tmp_path, "--only", "loose")
    assert status == 2 and "answers 404" in err


def test_a_release_file_of_a_known_hash(release, parts, tmp_path, capsys):
    """Its name or its maker tells the hash; what is something else is not kept."""
    known = dataclasses.replace(parts["loose"], sha256=(("loose/a.safetensors", "0" * 64),))
    parts["loose"] = known
    status, _, err = run(capsys, tmp_path, "--only", "loose")
    assert status == 2 and "was not what is published and was deleted" in err
    assert not (tmp_path / "loose/a.safetensors").exists()
    right = hashlib.sha256(release.releases["a.safetensors"]).hexdigest()
    parts["loose"] = dataclasses.replace(known, sha256=(("loose/a.safetensors", right),))
    assert run(capsys, tmp_path, "--only", "loose")[0] == 0


def test_single_files_of_the_hub_come_from_its_mirror(release, parts, tmp_path, capsys):
    release.releases["c.json"] = b"{}"
    sets = (FileSet(("single/c.json",)),)
    address = "https://huggingface.co/releases/c.json"
    parts["single"] = Part("single", "a file", "single", 2, sets, urls=(("single/c.json", address),))
    assert run(capsys, tmp_path, "--only", "single")[0] == 0
    assert (tmp_path / "single/c.json").read_bytes() == b"{}"


def test_by_hand(hub, parts, tmp_path, capsys):
    sets = (FileSet(networks=(Network("own/a.safetensors"),)),)
    parts["own"] = Part("own", "by hand", "own", 1, sets, by_hand="Put it into '{folder}'.")
    status, _, err = run(capsys, tmp_path, "--only", "own")
    assert status == 2 and err == f"download.py: error: Put it into '{tmp_path / 'own'}'."
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.safetensors").write_bytes(safetensors(3))
    assert run(capsys, tmp_path, "--only", "own,tiny")[0] == 0


def test_files_of_torch_save_are_looked_into_without_pytorch(parts, tmp_path, capsys, monkeypatch):
    sets = (FileSet(networks=(Network("own/a.pth"),)),)
    parts["own"] = Part("own", "a pickle", "own", 1, sets, by_hand="By hand.")
    (tmp_path / "own").mkdir()
    (tmp_path / "own/a.pth").write_bytes(b"no pickle")
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    status, out, _ = run(capsys, tmp_path, "--check", "--only", "own")
    assert status == 1 and "a.pth' is not a file of weights, or is damaged (9 bytes)" in out


def test_the_default_needs_no_account(parts):
    assert download.default_parts() == ["tiny"]
    table = {
        name: part for name, part in ALL_PARTS.items() if not (part.gated or part.by_hand or part.optional)
    }
    assert "flux" not in table and "e2fgvi" not in table


def test_as_a_command(tmp_path):
    environment = {**os.environ, weights.ENVIRONMENT: str(tmp_path)}
    full = [sys.executable, str(ROOT / "ckpt/download.py")]
    done = subprocess.run([*full, "--check"], capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout and "propagation   yes" in done.stdout
    done = subprocess.run([*full, "--only", "magic"], capture_output=True, text=True, env=environment)
    assert done.returncode == 2 and "'magic' is none of base, branch" in done.stderr
