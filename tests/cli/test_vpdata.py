"""data_utils/: addresses of tables to files, archives to files; a second start does what is left."""

import csv
import functools
import http.server
import threading
import zipfile

import pytest

from videopainter.cli import vpdata


@pytest.fixture
def server(tmp_path):
    """(address, folder) of a server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", folder
        running.shutdown()
        thread.join()


def write_table(path, *rows):
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows(rows)


def test_download(server, tmp_path, capsys):
    address, served = server
    for name in ("a.mp4", "b.mp4"):
        (served / name).write_bytes(name.encode() * 100)
    data = tmp_path / "data"
    data.mkdir()
    write_table(
        data / "videovo.csv",
        ["file_path", "video_url"],
        ["123/123456.0.mp4", f"{address}/a.mp4"],
        ["9/9.0.mp4", f"{address}/gone.mp4"],
    )
    write_table(data / "pexels.csv", ["videoId", "link"], ["77", f"{address}/b.mp4"])
    assert vpdata.download_main(["--output_dir", str(data)]) == 1
    said = capsys.readouterr()
    assert "9/9.0.mp4" in said.err and "2 of 3 videos" in said.out
    first = data / "videovo/raw_video/123/123456.0.mp4"
    assert first.read_bytes() == b"a.mp4" * 100
    assert (data / "pexels/pexels/raw_video/000000000/000000000000_77.mp4").read_bytes() == b"b.mp4" * 100
    before = first.stat().st_mtime_ns
    (served / "gone.mp4").write_bytes(b"here")
    assert vpdata.download_main(["--output_dir", str(data)]) == 0
    assert (data / "videovo/raw_video/9/9.0.mp4").read_bytes() == b"here"
    assert first.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "rows, said",
    [
        ([["a", "b"], ["1", "2"]], "neither the columns"),
        ([["file_path", "video_url"], ["../../x.mp4", "http://x"]], "leads out of the data folder"),
        ([["file_path", "video_url"], ["/x.mp4", "http://x"]], "leads out of the data folder"),
        ([["file_path", "video_url"], ["x.mp4", "file:///etc/passwd"]], "has no address of a video"),
    ],
)
def test_tables_that_cannot_be(tmp_path, capsys, rows, said):
    write_table(tmp_path / "t.csv", *rows)
    assert vpdata.download_main([str(tmp_path / "t.csv"), "--output_dir", str(tmp_path / "data")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "data").exists()


def test_unzip(tmp_path, capsys):
    source, target = tmp_path / "zips", tmp_path / "masks"
    source.mkdir()
    for number in range(2):
        with zipfile.ZipFile(source / f"{number}.zip", "w") as file:
            file.writestr(f"{number}/all_masks.npz", b"masks" * number)
    arguments = ["--source_dir", str(source), "--target_dir", str(target)]
    assert vpdata.unzip_main(arguments) == 0
    assert (target / "1/all_masks.npz").read_bytes() == b"masks"
    before = (target / "1/all_masks.npz").stat().st_mtime_ns
    assert vpdata.unzip_main(arguments) == 0
    assert (target / "1/all_masks.npz").stat().st_mtime_ns == before
    with zipfile.ZipFile(source / "2.zip", "w") as file:
        file.writestr("../outside", b"x")
    assert vpdata.unzip_main(arguments) == 2 and not (tmp_path / "outside").exists()
    (source / "2.zip").write_bytes(b"no archive")
    assert vpdata.unzip_main(arguments) == 2 and "2.zip' is damaged" in capsys.readouterr().err
    assert vpdata.unzip_main(["--source_dir", str(tmp_path / "gone")]) == 2
