"""What a person does, in a headless Chromium: open, click, track, correct, inpaint, compare, keep."""

import io
import re

import cv2
import numpy as np
from journey import Journey
from served import COUNT, HEIGHT, RED, WIDTH, Server, iou, load_npz, thing_at, thing_masks, until

from videopainter.video import open_video


def reddish(shown: np.ndarray, mask: np.ndarray) -> bool:
    """Whether the thing is shown: redder in the mask than around it."""
    red = shown[..., 0].astype(int) - shown[..., 1]
    return bool(np.median(red[mask]) > 100)


def is_frame(shown: np.ndarray, i: int) -> bool:
    """Whether the thing begins where it does in frame `i`."""
    left, top = thing_at(i)
    red = shown[top + 5 : top + 25, :, 0].astype(int) - shown[top + 5 : top + 25, :, 1]
    return bool(red[:, left + 1].mean() > 90 and red[:, left - 2].mean() < 60)


def changed(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.abs(a.astype(int) - b).max(axis=2) > 12


def test_from_a_file_to_what_is_kept(visit, clip, tmp_path):
    """The whole way: open, click, track, correct, inpaint, compare, download."""
    journey = visit().open(clip)
    page = journey.page
    left, top = thing_at(0)
    before = journey.until_drawn(lambda shown: reddish(shown, thing_masks()[0]))

    # The canvas shows the mask after a click, there and nowhere else.
    journey.click(left + 20, top + 15)
    inside = np.s_[top + 7 : top + 23, left + 2 : left + 12]
    after = journey.until_drawn(lambda shown: changed(shown, before)[inside].mean() > 0.9)
    reach = cv2.dilate(thing_masks()[0].astype(np.uint8), np.ones((35, 35))) > 0
    assert not changed(after, before)[~reach].any()

    # The margin is seen at once.
    page.locator("#margin").fill("80")
    wider = journey.until_drawn(lambda shown: changed(shown, after)[top + 15, left - 7])
    assert not changed(wider, after)[0, 150]
    until(lambda: journey.project()["dilate_size"] == 80)
    page.locator("#margin").fill("24")
    until(lambda: journey.project()["dilate_size"] == 24)

    # Tracked, and corrected in frame 10 with a brush: tracking goes on from there.
    journey.track()
    assert journey.project()["timeline"][0]["frames"] == [[0, COUNT - 1]]
    assert page.locator("#timeline .track i").count() >= 1
    journey.go(10)
    page.click("[data-tool=brush]")
    page.mouse.move(*journey.place(130, 20))
    page.mouse.down()
    page.mouse.move(*journey.place(138, 20), steps=3)
    page.mouse.up()
    until(lambda: journey.project()["timeline"][0]["preview"] == [10])
    journey.track()
    data = journey.download(
        lambda: (page.click("text=Download the masks"), page.click("#masks-down >> text=NumPy"))
    )
    masks = load_npz(data)
    assert masks[10][20, 134] and iou(masks[0], thing_masks()[0]) > 0.9

    # Undo takes the correction back.
    page.click("#undo")
    until(lambda: len(journey.project()["objects"][0]["prompts"]) == 1)
    journey.track()

    # Inpainted.
    journey.choose_engine()
    page.click("#run")
    page.wait_for_selector("#views:not([hidden])")
    journey.go(5)
    mask = thing_masks()[5]
    page.click("[data-view=original]")
    original = journey.until_drawn(lambda shown: is_frame(shown, 5))
    page.click("[data-view=result]")
    result = journey.until_drawn(lambda shown: not reddish(shown, mask))
    assert not changed(result, original)[:20].any()

    # Compared: left of the slider is the original, right of it the result.
    page.click("[data-view=split]")
    left, top = thing_at(5)
    middle = left + 20
    page.locator("#split").fill(str(round(1000 * middle / WIDTH)))
    right = mask & (np.arange(WIDTH) > middle + 3)
    shown = journey.until_drawn(lambda shown: changed(shown, original)[right].mean() > 0.9)
    assert reddish(shown, mask & (np.arange(WIDTH) < middle - 2))
    assert not changed(shown, original)[:, : middle - 2].any()
    assert not changed(shown, result)[:, middle + 3 :].any()
    page.locator("#split").fill("0")
    moved = journey.until_drawn(lambda shown: not reddish(shown, mask))
    assert changed(moved, shown)[:, :middle].any() and not changed(moved, shown)[:, middle + 3 :].any()

    # The line itself can be dragged.
    page.mouse.move(*journey.place(0, 60))
    page.mouse.down()
    page.mouse.move(*journey.place(WIDTH - 1, 60), steps=5)
    page.mouse.up()
    journey.until_drawn(lambda shown: not changed(shown, original)[:, : WIDTH - 4].any())
    page.locator("#split").fill("0")

    # A held key shows the original; difference and side by side.
    page.evaluate("document.activeElement.blur()")
    page.keyboard.down("b")
    journey.until_drawn(lambda shown: reddish(shown, mask))
    page.keyboard.up("b")
    journey.until_drawn(lambda shown: not reddish(shown, mask))
    page.click("[data-view=difference]")
    journey.until_drawn(lambda shown: shown[mask].mean() > 60 and shown[:20].mean() < 12)
    page.click("[data-view=sides]")
    page.wait_for_selector("#other:not([hidden])")

    # Kept.
    data = journey.download(lambda: page.click("#results a >> text=Result"))
    path = tmp_path / "kept.mp4"
    path.write_bytes(data)
    with open_video(path) as kept, open_video(clip) as source:
        assert (len(kept), kept.size, kept.has_audio) == (COUNT, (HEIGHT, WIDTH), True)
        assert np.abs(kept[5][top + 15, left + 20].astype(int) - RED).max() > 60
        assert np.abs(kept[5][:12].astype(int) - source[5][:12]).max() <= 6
    page.click("text=Other endings and qualities")
    page.select_option("[aria-label=Ending]", ".gif")
    page.click("text=Make")
    data = journey.download(lambda: page.click("#results a >> text=.gif"))
    assert data.startswith(b"GIF8")
    run = journey.download(lambda: page.click("#results a >> text=Settings"))
    assert b'"engine": "propagation"' in run


def test_the_example_is_clicked(visit):
    """The bundled clip, 640 x 480: one click on the cup shows its mask."""
    journey = visit()
    journey.page.click("#example")
    journey.opened()
    before = journey.video()
    journey.click(375, 300)
    after = journey.until_drawn(lambda shown: changed(shown, before).mean() > 0.01)
    assert changed(after, before)[280:320, 355:395].mean() > 0.8
    assert not changed(after, before)[:60, :200].any()
    assert "example.mp4" in journey.page.title()


def test_a_reload_and_a_second_tab_find_the_job_at_work(visit, server):
    journey = visit()
    journey.page.click("#example")
    journey.opened()
    journey.click(375, 300)
    journey.page.click("#track")
    journey.page.wait_for_selector("#tracking progress")
    journey.page.reload()
    journey.opened()
    journey.page.wait_for_selector("#tracking progress")
    second = visit(url=journey.page.url).opened()
    second.page.wait_for_selector("#tracking progress")
    # Masks come onto the timeline of both while they are made.
    for one in (journey, second):
        one.page.wait_for_selector("#timeline .track i:not(.mark):not(.preview)")
    second.page.click("#tracking >> text=Cancel")
    journey.page.wait_for_selector("#tracking progress", state="detached")
    assert journey.project()["jobs"][-1]["state"] == "cancelled"
    # What one changes, the other shows.
    second.page.locator("#objects input").fill("the cup")
    second.page.keyboard.press("Enter")
    journey.wait("document.querySelector('#objects input')?.value === 'the cup'")
    journey.page.click("#objects [aria-label='Delete the cup']")
    second.page.wait_for_selector("#objects li", state="detached")
    journey.page.click("#undo")
    second.page.wait_for_selector("#objects li")


def test_the_server_is_killed_and_started_again_in_the_middle_of_a_job(visit, server):
    journey = visit()
    journey.page.click("#example")
    journey.opened()
    journey.click(375, 300)
    journey.page.click("#track")
    journey.wait("document.querySelector('#tracking progress')?.value > 0")
    server.kill()
    journey.wait("note.textContent.startsWith('The server does not answer')")
    server.start()
    journey.wait("note.textContent === ''")
    journey.wait("document.querySelector('#tracking progress')?.value > 0")
    assert len(journey.project()["objects"]) == 1
    journey.page.click("#tracking >> text=Cancel")
    journey.page.wait_for_selector("#tracking progress", state="detached")


def test_a_wrong_file_and_a_click_beside_the_picture(visit, clip, tmp_path):
    wrong = tmp_path / "<img src=x onerror=alert(1)>.mp4"
    wrong.write_bytes(b"no video")
    journey = visit(1000, 500)
    page = journey.page
    page.on("dialog", lambda dialog: journey.faults.append(f"a dialog: {dialog.message}"))
    page.set_input_files("#file", str(wrong))
    page.wait_for_selector("#toast:not([hidden])")
    assert "is not a video that can be read" in page.text_content("#toast")
    assert page.locator("#toast img").count() == 0
    assert page.locator("#start:not([hidden])").count() == 1
    journey.faults = [fault for fault in journey.faults if "422" not in fault]
    journey.open(clip)
    box = page.locator("#canvas").bounding_box()
    page.mouse.click(box["x"] + 4, box["y"] + box["height"] / 2)
    journey.wait("note.textContent === 'That is beside the picture.'")
    assert journey.project()["objects"] == []
    page.mouse.click(*journey.place(5, 5), button="right")
    page.wait_for_selector("#toast:not([hidden])")
    assert "Click on the thing first" in page.text_content("#toast")


def test_several_objects_and_undo(visit, clip):
    journey = visit().open(clip)
    page = journey.page
    journey.click(*np.add(thing_at(0), (20, 15)))
    page.click("#add")
    page.click("[data-tool=box]")
    page.mouse.move(*journey.place(110, 80))
    page.mouse.down()
    page.mouse.move(*journey.place(140, 105), steps=4)
    page.mouse.up()
    until(lambda: len(journey.project()["objects"]) == 2)
    journey.wait("objects.children.length === 2")
    colours = [one["colour"] for one in journey.project()["objects"]]
    assert len(set(colours)) == 2
    page.click("#objects [aria-label='Hide Object 2']")
    until(lambda: journey.project()["objects"][1]["hidden"])
    # The margin is a step of its own, and goes back on the page, too.
    page.locator("#margin").fill("60")
    until(lambda: journey.project()["dilate_size"] == 60)
    page.evaluate("document.activeElement.blur()")
    for _ in range(4):
        page.keyboard.press("Control+z")
    until(lambda: journey.project()["objects"] == [] and journey.project()["dilate_size"] is None)
    journey.wait("document.getElementById('margin').value === '24'")
    for _ in range(4):
        page.keyboard.press("Control+Shift+z")
    until(lambda: len(journey.project()["objects"]) == 2 and journey.project()["objects"][1]["hidden"])
    journey.wait("document.getElementById('margin').value === '60'")


def test_a_polygon_is_drawn(visit, clip):
    """By the pointer and by the keyboard; corners are taken back, it is left, closed, added and taken away, undone."""
    journey = visit().open(clip)
    page, keys = journey.page, journey.page.keyboard

    def prompts():
        return [p for one in journey.project()["objects"] for p in one["prompts"]]

    def corner(x, y, **how):
        page.mouse.click(*journey.place(x, y), **how)

    before = journey.video()
    page.click("[data-tool=polygon]")
    for place in ((100, 20), (140, 20), (140, 50), (20, 100)):
        corner(*place)
    keys.press("Backspace")
    journey.wait("note.textContent === '3 corners.'")
    corner(100, 50)
    keys.press("Enter")
    until(lambda: len(prompts()) == 1)
    assert prompts()[0]["kind"] == "polygon" and len(prompts()[0]["points"]) == 4
    whole = journey.until_drawn(lambda shown: changed(shown, before)[25:45, 105:135].mean() > 0.95)
    assert not changed(whole, before)[70:, :80].any()
    # A double click closes, too; begun with the right button it takes away.
    for place in ((108, 25), (134, 25)):
        corner(*place, button="right")
    page.mouse.dblclick(*journey.place(134, 45))
    until(lambda: len(prompts()) == 2)
    assert not prompts()[1]["positive"] and len(prompts()[1]["points"]) == 3
    # What is in its middle lies outside the margin, too, which is shown fainter.
    journey.until_drawn(lambda shown: not changed(shown, before)[31:33, 127:129].any())
    # Left before it is closed, it leaves nothing.
    corner(20, 20)
    keys.press("Escape")
    journey.wait("note.textContent === ''")
    keys.press("Control+z")
    until(lambda: len(prompts()) == 1)
    journey.until_drawn(lambda shown: changed(shown, before)[25:45, 105:135].mean() > 0.95)
    # The keyboard alone: the cross goes from corner to corner; Enter twice at one place closes.
    keys.press("p")
    page.focus("#canvas")
    keys.press("Enter")
    for moves in ([], ["Shift+ArrowLeft"] * 2, ["Shift+ArrowDown"]):
        for key in moves:
            keys.press(key)
        keys.press("Enter")
    keys.press("Enter")
    until(lambda: len(prompts()) == 2)
    assert prompts()[1]["points"] == [[80, 60], [40, 60], [40, 80]]


def test_looking_for_things_in_a_box_alone(visit, clip):
    journey = visit().open(clip)
    page = journey.page
    page.click("text=Captions, faces, masks from a file")
    page.click("#area")
    page.mouse.move(*journey.place(20, 10))
    page.mouse.down()
    page.mouse.move(*journey.place(100, 60), steps=3)
    page.mouse.up()
    journey.wait("area.textContent === 'Anywhere again'")
    page.click("#finders >> text=/^Captions$/")
    page.wait_for_selector("#toast:not([hidden])")
    (job,) = journey.project()["jobs"]
    assert np.allclose(job["settings"]["area"], [20, 10, 100, 60], atol=1)
    assert journey.project()["objects"] == []  # the box was no prompt
    page.click("#area")
    journey.wait("area.textContent === 'Only in a box…'")


def test_a_segmenter_is_chosen_in_its_size(visit, clip):
    """Where there is more than one; sizes are offered for the one that has them."""
    journey = visit()
    journey.page.route(
        "**/api/segmenters",
        lambda route: route.fulfill(
            json=[
                {
                    "name": "sam2",
                    "needs": "a GPU",
                    "available": True,
                    "reason": "",
                    "sizes": ["tiny", "large"],
                },
                {"name": "clicks", "needs": "only a CPU", "available": True, "reason": "", "sizes": []},
            ]
        ),
    )
    sent = []
    journey.page.route("**/jobs", lambda route: sent.append(route.request.post_data_json) or route.abort())
    page = journey.open(clip).page
    journey.click(*np.add(thing_at(0), (20, 15)))
    page.wait_for_selector("#segmenter-field:not([hidden])")
    assert page.locator("#size-field").is_hidden()
    page.select_option("#segmenter", "sam2")
    page.select_option("#size", "large")
    page.click("#track")
    until(lambda: sent)
    assert sent[0] == {"kind": "track", "segmenter": "sam2", "size": "large"}
    page.select_option("#segmenter", "clicks")
    assert page.locator("#size-field").is_hidden()


def test_what_is_pressed_stays_while_a_job_is_at_work(visit):
    """Progress comes several times a second; a button under the pointer or with the focus is not made anew."""
    journey = visit()
    page = journey.page
    page.click("#example")
    journey.opened()
    journey.click(375, 300)
    page.click("#track")
    page.wait_for_selector("#tracking progress")
    page.focus("#tracking button")
    page.evaluate(
        "window.pressed = document.activeElement; window.card = document.querySelector('#objects li')"
    )
    told = "document.querySelector('#tracking small').textContent"
    before = page.evaluate(told)
    journey.wait(f"{told} !== {before!r}")
    assert page.evaluate("document.activeElement === pressed && pressed.isConnected && card.isConnected")
    page.keyboard.press("Enter")
    page.wait_for_selector("#tracking progress", state="detached")
    assert journey.project()["jobs"][-1]["state"] == "cancelled"


def test_what_can_be_found_by_its_name(visit, clip):
    """Every row of the table is a button, or says why it is none; what is not there is said."""
    journey = visit().open(clip)
    page = journey.page
    page.click("text=Captions, faces, masks from a file")
    page.wait_for_selector("#finders button")
    finders = page.evaluate("fetch('/api/finders').then((answer) => answer.json())")
    named = [one for one in finders if not one["words"]]
    assert page.locator("#finders button").count() == len(named)
    able = page.locator("#finders button:not([disabled])")
    assert able.count() == sum(one["available"] for one in named)
    # Words are asked for in a field; where they cannot be found, the page says why.
    (worded,) = (one for one in finders if one["words"])
    assert page.locator("#words").is_visible() and page.locator("#words").is_enabled() == worded["available"]
    assert worded["reason"] in page.text_content("#finders-absent")
    page.click("#finders >> text=/^Captions$/")
    page.wait_for_selector("#toast:not([hidden])")
    assert page.text_content("#toast") == "No captions were found."


def test_with_the_keyboard_alone(visit, clip):
    journey = visit().open(clip)
    page, keys = journey.page, journey.page.keyboard
    left, top = thing_at(0)
    for _ in range(60):  # Tab reaches the picture
        keys.press("Tab")
        if page.evaluate("document.activeElement.id") == "canvas":
            break
    assert page.evaluate("document.activeElement.id") == "canvas"
    keys.press("Enter")
    for _ in range(round((WIDTH / 2 - left - 20) / 4)):
        keys.press("ArrowLeft")
    keys.press("Enter")
    until(lambda: journey.project()["objects"])
    (prompt,) = journey.project()["objects"][0]["prompts"]
    assert left < prompt["x"] < left + 40 and top < prompt["y"] < top + 30
    keys.press("Escape")
    journey.wait("note.textContent === ''")
    keys.press("ArrowRight")
    journey.wait("timeline.getAttribute('aria-valuenow') === '1'")
    keys.press("i")
    until(lambda: journey.project()["in"] == 1)
    for _ in range(4):
        keys.press("ArrowRight")
    keys.press("o")
    until(lambda: (journey.project()["in"], journey.project()["out"]) == (1, 5))
    keys.press("Home")
    keys.press("x")
    page.wait_for_selector("[data-tool=box][aria-pressed=true]")
    for _ in range(3):  # the out point, the in point, the click
        keys.press("Control+z")
    until(lambda: journey.project()["objects"] == [] and journey.project()["out"] == COUNT - 1)
    for _ in range(3):
        keys.press("Control+Shift+z")
    until(lambda: journey.project()["objects"] and journey.project()["out"] == 5)
    page.focus("#in")
    page.evaluate("document.getElementById('tab-select').focus()")
    keys.press("ArrowRight")
    page.wait_for_selector("#tab-inpaint[aria-selected=true]")
    keys.press("?")
    page.wait_for_selector("dialog[open]")
    keys.press("Escape")
    page.wait_for_selector("dialog[open]", state="detached")


def test_everything_has_a_name_for_a_screen_reader(visit, clip):
    page = visit().open(clip).page
    nameless = page.evaluate(
        """() => [...document.querySelectorAll("button, input, select, textarea, canvas, [role=slider]")]
          .filter((one) => !(one.getAttribute("aria-label") || one.labels?.length || one.textContent.trim()
            || one.hidden))
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_on_a_phone(visit, clip):
    journey = visit(380, 740, has_touch=True, is_mobile=True).open(clip)
    page = journey.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    left, top = thing_at(0)
    page.touchscreen.tap(*journey.place(left + 20, top + 15))
    until(lambda: journey.project()["objects"])
    page.wait_for_selector("#objects li")
    # A finger has no right button.
    page.locator("#away").tap()
    page.touchscreen.tap(*journey.place(5, 5))
    until(lambda: len(journey.project()["objects"][0]["prompts"]) == 2)
    assert [one["positive"] for one in journey.project()["objects"][0]["prompts"]] == [True, False]
    for tab in ("select", "inpaint", "results"):
        page.locator(f"#tab-{tab}").tap()
        page.wait_for_selector(f"#panel-{tab}:not([hidden])")
        assert page.evaluate("document.documentElement.scrollWidth") <= 380
    cut = page.evaluate(
        """() => [...document.querySelectorAll("button")].filter((one) => one.offsetParent
          && (one.getBoundingClientRect().right > innerWidth + 1 || one.scrollWidth > one.clientWidth + 1))
          .map((one) => one.outerHTML)"""
    )
    assert cut == []


def test_with_a_token(browser, workspace, clip):
    server = Server(workspace, "--host", "0.0.0.0", str(clip))
    try:
        url = re.sub(r"//[^:/]+:", "//127.0.0.1:", server.start())
        context = browser.new_context()
        journey = Journey(context.new_page(), url).opened()
        assert "token" not in journey.page.url
        journey.page.reload()
        journey.opened()
        stranger = browser.new_context().new_page()
        assert stranger.goto(url.partition("?")[0]).status == 401
        context.close()
    finally:
        server.stop()


def test_the_interface_is_described(visit, server):
    journey = visit(url=f"{server.url}api.html")
    journey.page.wait_for_selector("text=PUT /api/projects/{project}/objects")


def test_pictures_as_they_are_saved_can_be_read():
    """What `Journey.download` gives is bytes; this guards the helper."""
    file = io.BytesIO()
    np.savez(file, thing_masks(2))
    assert (load_npz(file.getvalue()) == thing_masks(2)).all()
