"""What a person looks at, in a headless Chromium: a dropped file, zoom, playing, quick looks, views of a result."""

import base64
from fractions import Fraction

import numpy as np
import pytest
from served import COUNT, HEIGHT, WIDTH, thing, thing_masks, until, upload_masks

from videopainter.masks import MaskTrack
from videopainter.video import VideoWriter

DROP = """([name, data]) => {
  const bytes = Uint8Array.from(atob(data), (one) => one.charCodeAt(0));
  const carried = new DataTransfer();
  carried.items.add(new File([bytes], name, { type: "video/mp4" }));
  for (const kind of ["dragenter", "dragover", "drop"]) {
    document.body.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: carried }));
    if (kind === "dragover") window.veiled = !document.getElementById("veil").hidden;
  }
}"""


def test_a_file_is_dropped(visit, clip):
    journey = visit()
    journey.page.evaluate(DROP, ["dropped.mp4", base64.b64encode(clip.read_bytes()).decode()])
    journey.opened()
    assert journey.page.evaluate("window.veiled && document.getElementById('veil').hidden")
    assert journey.project()["name"] == "dropped.mp4" and journey.project()["frames"] == COUNT


def test_zooming_and_moving_the_picture(visit, clip):
    journey = visit().open(clip)
    page = journey.page
    whole = journey.video()
    x, y = journey.place(50, 55)
    page.mouse.move(x, y)
    page.mouse.wheel(0, -800)
    near = journey.until_drawn(lambda shown: (shown != whole).any())
    thing = thing_masks()[0]

    def red(shown):
        return (shown[..., 0].astype(int) - shown[..., 1] > 100).mean()

    assert red(near) > 2 * red(whole) > thing.mean()  # it is larger now, around where the pointer is
    page.mouse.down()
    page.mouse.move(x + 120, y, steps=4)
    page.mouse.up()
    moved = journey.until_drawn(lambda shown: (shown != near).any())
    assert journey.project()["objects"] == []  # a drag is no click
    assert np.argwhere(red_pixels(moved))[:, 1].mean() > np.argwhere(red_pixels(near))[:, 1].mean() + 10
    page.keyboard.press("0")
    journey.until_drawn(lambda shown: (shown == whole).all())


def red_pixels(shown):
    return shown[..., 0].astype(int) - shown[..., 1] > 100


def stopped_at(journey, frame):
    at = f"timeline.getAttribute('aria-valuenow') === '{frame}'"
    journey.wait(f"{at} && play.getAttribute('aria-label') === 'Play'")


def test_playing_to_the_out_point(visit, clip):
    journey = visit().open(clip)
    page = journey.page
    journey.go(6)
    # The server hears of it late; what is pressed next counts with it all the same.
    held = []
    page.route(
        "**/api/projects/*", lambda route: held.append(route) if is_change(route) else route.continue_()
    )
    for key in ("o", "Home", "Space"):
        page.keyboard.press(key)
    stopped_at(journey, 6)
    until(lambda: held or page.wait_for_timeout(1))
    assert journey.project()["out"] == COUNT - 1
    held[0].continue_()
    until(lambda: journey.project()["out"] == 6)


def is_change(route):
    return route.request.method == "PATCH"


@pytest.mark.parametrize("copy", ["sound", "broken"])
def test_playing_a_small_copy_to_the_out_point(visit, remote, remote_project, server, workspace, clip, copy):
    data = clip.read_bytes() if copy == "sound" else b"no video"
    (workspace / "projects" / remote_project / "proxy.mp4").write_bytes(data)
    remote.patch(f"/api/projects/{remote_project}", json={"out": 6}).raise_for_status()
    journey = visit(url=f"{server.url}#project={remote_project}").opened()
    assert journey.project()["proxy"]
    for _ in range(2):
        for key in ("Space", "Space", "Space"):  # whoever changes his mind plays it once all the same
            journey.page.keyboard.press(key)
        stopped_at(journey, 6)


def test_playing_to_the_end_of_frames_that_do_not_come_evenly(visit, clip, tmp_path):
    path = tmp_path / "uneven.mp4"
    times = [Fraction(i + i // 3, 12) for i in range(COUNT)]
    with VideoWriter(path, 12, (HEIGHT, WIDTH), times=times) as writer:
        for frame in thing():
            writer.write(frame)
    journey = visit().open(path)
    assert journey.project()["times"]
    journey.go(COUNT - 4)
    journey.page.keyboard.press("Space")
    stopped_at(journey, COUNT - 1)


def test_quick_looks_and_views_of_a_result(visit, remote, remote_project, server, tmp_path):
    MaskTrack.build(thing_masks()).save_npz(tmp_path / "m.npz")
    upload_masks(remote, remote_project, "m.npz", (tmp_path / "m.npz").read_bytes()).raise_for_status()
    journey = visit(url=f"{server.url}#project={remote_project}").opened()
    page = journey.page
    journey.choose_engine()
    page.click("#try-frame")
    page.wait_for_selector("#views:not([hidden])")
    original = thing_masks()[0]
    page.click("[data-view=result]")
    gone = journey.until_drawn(lambda shown: not red_pixels(shown)[original].any())
    page.click("[data-view=mask]")
    masked = journey.until_drawn(lambda shown: (shown != gone)[original].any())
    assert (masked[original].astype(int) - gone[original]).any()
    page.click("[data-view=original]")
    journey.until_drawn(lambda shown: red_pixels(shown)[original].mean() > 0.95)
    page.click("#tab-inpaint")
    page.click("#try-seconds")
    page.wait_for_selector("#results .job:nth-child(2)")
    first, second = (job["facts"] for job in journey.project()["jobs"])
    assert first["focus"] == 0 and (second["first"], second["count"]) == (0, COUNT)
    # Both are kept, and told apart by what they are.
    names = [one.split("\n")[0] for one in page.locator("#results .job").all_inner_texts()]
    assert len(set(names)) == 2
