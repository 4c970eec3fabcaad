"""Examples of README and docs: Python blocks are run, links lead somewhere, and commands know the flags they show."""

import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from clips import moving_texture

import videopainter
from videopainter import VideoWriter, open_video

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
# Pages whose examples need networks, and the tests that run them with tiny ones.
ELSEWHERE = {
    "docs/pipeline.md": "tests/diffusion/test_pipeline_page.py",
    "docs/engines/propainter.md": "tests/propainter/test_propainter_documented_use.py",
}
COUNT, HEIGHT, WIDTH = 12, 96, 128


def blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S)


@pytest.fixture
def names(tmp_path, monkeypatch) -> dict:
    """What examples take for granted: my.mp4 and masks/ in the working directory, arrays, a camera, a screen."""
    monkeypatch.chdir(tmp_path)
    frames = moving_texture(COUNT, HEIGHT, WIDTH)
    masks = np.zeros((COUNT, HEIGHT, WIDTH), bool)
    masks[:, 30:60, 40:70] = True
    for i, frame in enumerate(frames):  # a thing of one colour that a click can find
        frame[30:60, 40:70] = (220, 40, 30)
        Path("masks").mkdir(exist_ok=True)
        cv2.imwrite(f"masks/{i:03}.png", masks[i].astype(np.uint8) * 255)
    with VideoWriter("my.mp4", fps=25, size=(HEIGHT, WIDTH)) as file:
        file.write(frames)
    return {
        "video_array": frames,
        "mask_array": masks,
        "camera": list(zip(frames, masks)),
        "show": lambda frame: None,
    }


def run(code: str, place: str, names: dict) -> dict:
    code = code.replace("[(375, 300)]", "[(55, 45)]")  # inside the thing of the clip above
    exec(compile(code, place, "exec"), names)
    return names


@pytest.mark.parametrize("page", [name for name in NAMES if name not in ELSEWHERE and blocks(name)])
def test_python_examples_run(page, names):
    for number, code in enumerate(blocks(page)):
        run(code, f"{page}, example {number + 1}", names)
    for path in Path().glob("*.mp4"):
        assert len(open_video(path)) == COUNT


def test_the_example_of_the_package(names):
    (code,) = re.findall(r"^    (import videopainter\n.*?)\n\n", videopainter.__doc__, re.S | re.M)
    run(
        code.replace("\n    ", "\n").replace("holiday.mp4", "my.mp4").replace("(310, 205)", "(55, 45)"),
        "doc",
        names,
    )
    assert len(open_video("without_him.mp4")) == COUNT


def test_the_other_examples_have_tests():
    for page, test in ELSEWHERE.items():
        assert blocks(page) and (ROOT / test).is_file()


def commands() -> list[tuple[str, list[str]]]:
    """(page, words) of every command of ours in an indented block."""
    found = []
    for page in NAMES:
        text = re.sub(r"\\\n\s*", "", (ROOT / page).read_text(encoding="utf-8"))
        for line in re.findall(r"^    (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M):
            for part in line.split("|"):
                words = shlex.split(part, comments=True)
                if (
                    words[:1] == ["videopainter"]
                    or words[:2] == ["python", "-m"]
                    or words[1:2]
                    and words[1][-3:] == ".py"
                ):
                    found.append((page, words))
    return found


@cache
def help_of(command: tuple[str, ...]) -> str:
    if command[0] == "videopainter":
        command = ("python", "-m", *command)
    done = subprocess.run(
        [sys.executable, *command[1:], "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_commands_know_the_flags_that_are_shown():
    shown = [item for item in commands() if "videopainter" in " ".join(item[1]) or item[1][1].endswith(".py")]
    assert len(shown) > 15
    for page, words in shown:
        end = next((i for i, word in enumerate(words) if word.startswith("-") and word != "-m"), len(words))
        if words[0] == "videopainter":
            command = words[: min(end, 3 if words[1] == "weights" else 2)]
        else:
            command = words[: 3 if words[1] == "-m" else 2]
        if command[1] == "-m" and not command[2].startswith("videopainter"):
            continue
        text = help_of(tuple(command))
        for flag in (word for word in words[len(command) :] if re.match(r"--[a-z]", word)):
            assert re.search(rf"{re.escape(flag.split('=')[0])}\b", text), (
                f"{page}: {' '.join(command)} has no {flag}"
            )


@pytest.mark.parametrize("page", NAMES)
def test_links_lead_somewhere(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in target:
            assert ((ROOT / page).parent / target).exists(), f"{page} links to {target}"
    for path in re.findall(r"`((?:benchmarks|tests|videopainter|examples|docs|infer)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"{page} names {path}"
