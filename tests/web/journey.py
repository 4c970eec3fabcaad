"""A page in a headless Chromium, and what a person sees of it."""

import base64
import inspect

import cv2
import numpy as np
from served import until

SLOW = 60_000  # milliseconds until a state that has not come is a fault


class Journey:
    """A page and what a person sees of it."""

    def __init__(self, page, url):
        self.page, self.url, self.faults = page, url, []
        page.set_default_timeout(SLOW)
        page.on("pageerror", lambda error: self.faults.append(str(error)))
        page.on("console", lambda message: message.type == "error" and self.faults.append(message.text))
        page.goto(url)

    def open(self, path) -> "Journey":
        self.page.set_input_files("#file", str(path))
        return self.opened()

    def opened(self) -> "Journey":
        self.page.wait_for_selector("#editor:not([hidden])")
        until(lambda: (self.video()[..., :3] > 0).any())
        return self

    def wait(self, expression: str) -> None:
        """Until an expression of the page is true. (Playwright's own way evaluates text, which the page forbids.)"""
        until(lambda: self.page.evaluate(expression), expression)

    def place(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the video is on the page, with the whole picture shown."""
        box = self.page.locator("#canvas").bounding_box()
        width, height = self.size()
        scale = min(box["width"] / width, box["height"] / height)
        left = box["x"] + (box["width"] - width * scale) / 2
        top = box["y"] + (box["height"] - height * scale) / 2
        return left + (x + 0.5) * scale, top + (y + 0.5) * scale

    def size(self) -> tuple[int, int]:
        project = self.project()
        return project["width"], project["height"]

    def project(self) -> dict:
        name = self.page.url.partition("#project=")[2]
        return self.page.evaluate(f"fetch('/api/projects/{name}').then((answer) => answer.json())")

    def click(self, x: float, y: float, **how) -> None:
        """Click on the video and wait until its mask is shown."""
        before = len(self.project()["objects"][0]["prompts"]) if self.project()["objects"] else 0
        self.page.mouse.click(*self.place(x, y), **how)
        until(lambda: (found := self.project()["objects"]) and len(found[0]["prompts"]) > before)
        self.wait("note.textContent !== 'Looking…'")

    def canvas(self) -> np.ndarray:
        """uint8 (h, w, 3): what the canvas shows, once all that was asked of it until now is drawn."""
        drawn = "canvas.getAttribute('aria-busy') === 'false' && canvas.toDataURL('image/png')"
        data = until(lambda: self.page.evaluate(drawn), "the picture to be drawn").partition(",")[2]
        shown = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED)
        return cv2.cvtColor(shown, cv2.COLOR_BGRA2RGBA)

    def video(self) -> np.ndarray:
        """uint8 (HEIGHT, WIDTH, 3): the part of the canvas that is the video, in its pixels."""
        shot = self.canvas()
        box = self.page.locator("#canvas").bounding_box()
        ratio = shot.shape[1] / box["width"]
        width, height = self.size()
        (left, top), (right, bottom) = self.place(-0.5, -0.5), self.place(width - 0.5, height - 0.5)
        x0, x1 = (round((x - box["x"]) * ratio) for x in (left, right))
        y0, y1 = (round((y - box["y"]) * ratio) for y in (top, bottom))
        return cv2.resize(shot[y0:y1, x0:x1, :3], (width, height), interpolation=cv2.INTER_AREA)

    def until_drawn(self, look) -> np.ndarray:
        """The video as it is shown, as soon as `look` of it is true."""

        def now():
            shown = self.video()
            return (shown,) if look(shown) else None

        return until(now, inspect.getsource(look).strip())[0]

    def go(self, frame: int) -> None:
        self.page.evaluate("document.activeElement.blur()")
        for key in ("Home", *["Shift+ArrowRight"] * (frame // 10), *["ArrowRight"] * (frame % 10)):
            self.page.keyboard.press(key)
        self.wait(f"timeline.getAttribute('aria-valuenow') === '{frame}'")

    def track(self) -> None:
        before = len(self.project()["jobs"])
        self.page.click("#track")

        def over():
            jobs = self.project()["jobs"]
            return len(jobs) > before and all(job["state"] not in ("queued", "running") for job in jobs)

        until(over)

    def choose_engine(self, name="propagation") -> None:
        self.page.click("#tab-inpaint")
        self.page.wait_for_selector(f"#engine option[value={name}]", state="attached")
        self.page.select_option("#engine", name)

    def download(self, press) -> bytes:
        with self.page.expect_download() as info:
            press()
        with open(info.value.path(), "rb") as file:
            return file.read()
