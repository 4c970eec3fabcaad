"""What the tests of the page share: a short clip with a red thing, waiting for states, a server to kill."""

import inspect
import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import httpx
import numpy as np
from clips import moving_texture

ROOT = Path(__file__).parents[2]
COUNT, HEIGHT, WIDTH = 24, 120, 160
RED = (220, 40, 30)
PATIENCE = 120  # seconds until a state that has not come is a fault


def thing_at(i: int) -> tuple[int, int]:
    """(left, top) of the thing of the clip, 40 x 30 pixels, in frame `i`."""
    return 30 + 2 * i, 40 + i // 2


def thing(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """uint8 (n, height, width, 3): a red thing that wanders over a quiet ground."""
    frames = moving_texture(1, height, width).repeat(count, 0) // 3 + 90
    for i, frame in enumerate(frames):
        left, top = thing_at(i)
        frame[top : top + 30, left : left + 40] = RED
    return frames


def thing_masks(count: int = COUNT, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    masks = np.zeros((count, height, width), bool)
    for i, mask in enumerate(masks):
        left, top = thing_at(i)
        mask[top : top + 30, left : left + 40] = True
    return masks


def click(frame: int = 0, x: float | None = None, y: float | None = None, positive: bool = True) -> dict:
    """In the middle of the thing, where nothing else is said."""
    left, top = thing_at(frame)
    x, y = left + 20 if x is None else x, top + 15 if y is None else y
    return {"kind": "click", "frame": frame, "x": x, "y": y, "positive": positive}


def an_object(*prompts: dict, number: int = 1, **more) -> dict:
    return {"id": number, "name": f"Object {number}", "colour": "#ff3b30", "prompts": list(prompts), **more}


def until(look, awaited: str = "", seconds: float = PATIENCE):
    """What `look` answers as soon as that is true. Fails if it never is, with `awaited` or the code of `look`."""
    end = time.monotonic() + seconds
    while not (found := look()):
        if time.monotonic() > end:
            awaited = awaited or inspect.getsource(look).strip()
            raise AssertionError(f"waited {seconds:.0f} s in vain for {awaited}; it is {found!r}")
        time.sleep(0.03)
    return found


def ended(client, job: dict) -> dict:
    """The job once it is over."""

    def look():
        now = client.get(f"/api/jobs/{job['id']}").json()
        return now if now["state"] in ("done", "failed", "cancelled") else None

    return until(look)


def done(client, job: dict) -> dict:
    job = ended(client, job)
    assert job["state"] == "done", job
    return job


def masks_of(client, project: str) -> np.ndarray:
    """bool (n, h, w) of what can be downloaded."""
    answer = client.get(f"/api/projects/{project}/masks/masks.npz")
    assert answer.status_code == 200, answer.text
    return load_npz(answer.content)


def load_npz(data: bytes) -> np.ndarray:
    with np.load(io.BytesIO(data)) as file:
        return file[file.files[0]].astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


class Server:
    """`videopainter web` as a process of its own, on a port that it keeps when it is started again."""

    def __init__(self, workspace: Path, *arguments: str):
        self.workspace, self.arguments, self.port = workspace, arguments, 0
        self.process: subprocess.Popen | None = None

    def start(self) -> str:
        """Its address."""
        command = [sys.executable, "-m", "videopainter.cli.web", "--workspace", str(self.workspace)]
        command += ["--port", str(self.port), *self.arguments]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("VideoPainter is at "), line
        self.url = line.split()[3]
        self.port = httpx.URL(self.url).port
        return self.url

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(20)
        if self.process is not None:
            self.process.stdout.close()


def picture(answer) -> np.ndarray:
    """The pixels of an answer, RGB or RGBA."""
    assert answer.status_code == 200, answer.text
    found = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_UNCHANGED)
    return cv2.cvtColor(found, cv2.COLOR_BGRA2RGBA if found.shape[2] == 4 else cv2.COLOR_BGR2RGB)


def put(client, project, *objects):
    answer = client.put(f"/api/projects/{project}/objects", json={"objects": objects})
    assert answer.status_code == 200, answer.text
    return answer.json()


def post(client, project, **request):
    answer = client.post(f"/api/projects/{project}/jobs", json=request)
    assert answer.status_code == 201, answer.text
    return answer.json()


def upload_masks(client, project, name, data, **parameters):
    return client.put(f"/api/projects/{project}/masks", params={"name": name, **parameters}, content=data)


FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    assert path, "The page is tested in Chromium, which is not installed (Debian: apt-get install chromium)."
    return path
