"""How well the masks of captions fit text that is drawn over real clips.

    python benchmarks/captions.py --videos DIR [--fonts DIR ...] [--only vtest/arabic] [--sheets DIR]

Five scripts in four looks over eight clips, 18 frames each, shown in twelve of them. Columns: the share of the text's
pixels that is masked, in all frames and in the worst one; the share of the picture that is masked though nothing is
drawn there. A pixel is text if drawing changed it by more than 24 levels. Fonts are looked for by their names in
`--fonts` (default: the usual folder of a Linux system; Debian: fonts-dejavu-core, fonts-noto-core, fonts-noto-cjk).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from machine import processor
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "segmentation"))
from burned_in import fit  # noqa: E402

from videopainter import MaskError, select_object  # noqa: E402
from videopainter.video import open_video  # noqa: E402

CLIPS = {  # name: file, first frame
    "vtest": ("vtest.avi", 300),
    "cup": ("cup.mp4", 100),
    "realshort": ("realshort.mp4", 4),
    "bikes-140": ("bikes.mp4", 140),
    "bikes-190": ("bikes.mp4", 190),
    "bigbuckbunny": ("bigbuckbunny.mp4", 40),
    "tree": ("tree.avi", 10),
    "trailer": ("trailer_bbb.mp4", 400),
}
SCRIPTS = {  # name: font, its height in parts of the picture's, text
    "latin": ("DejaVuSans.ttf", 0.055, "Where have you been all night?"),
    "cyrillic": ("DejaVuSans.ttf", 0.055, "Где ты была всю ночь напролёт?"),
    "chinese": ("NotoSansCJK-Regular.ttc", 0.065, "你整个晚上都去哪里了我等了很久"),
    "arabic": ("NotoNaskhArabic-Regular.ttf", 0.065, "أين كنت طوال الليل يا صديقي"),
    "devanagari": ("NotoSansDevanagari-Regular.ttf", 0.065, "तुम सारी रात कहाँ थे मेरे दोस्त"),
}
LOOKS = {  # name: colour, width of a black outline at 480 lines
    "outlined": ("white", 2),
    "bare": ("white", 0),
    "yellow": ((255, 230, 0), 0),
    "dark": ((20, 20, 70), 0),
}
FRAMES, SHOWN = 18, slice(3, 15)


def drawn(clean: np.ndarray, script: str, look: str, fonts: dict[str, Path]) -> np.ndarray:
    """`clean`, uint8 (frames, height, width, 3), with a line of text near its lower edge while it is shown."""
    frames, (height, width) = clean.copy(), clean.shape[1:3]
    name, part, text = SCRIPTS[script]
    colour, outline = LOOKS[look]
    font = ImageFont.truetype(str(fonts[name]), max(14, round(part * height)))
    for frame in frames[SHOWN]:
        picture = Image.fromarray(frame)
        ImageDraw.Draw(picture).text(
            (width // 2, round(0.86 * height)),
            text,
            colour,
            font,
            anchor="mm",
            stroke_width=round(outline * height / 480),
            stroke_fill="black",
        )
        frame[:] = np.asarray(picture)
    return frames


def sheet(frame: np.ndarray, clean: np.ndarray, mask: np.ndarray) -> Image.Image:
    """The lower quarter, and below it what of it is found (green), missed (red) and masked beside text (blue)."""
    text = np.abs(frame.astype(int) - clean).max(axis=2) > 24
    painted = frame // 2
    for where, colour in (
        (text & mask, (0, 255, 0)),
        (text & ~mask, (255, 0, 0)),
        (mask & ~text, (0, 0, 255)),
    ):
        painted[where] = colour
    top = round(0.76 * len(frame))
    return Image.fromarray(np.concatenate([frame[top:], painted[top:]]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--fonts", type=Path, nargs="*", default=[Path("/usr/share/fonts")], help="folders")
    parser.add_argument("--only", default="", help="cases whose name, CLIP/SCRIPT/LOOK, has this in it")
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each case")
    options = parser.parse_args()
    wanted = {font for font, _, _ in SCRIPTS.values()}
    fonts = {path.name: path for folder in options.fonts for path in folder.rglob("*") if path.name in wanted}
    if missing := sorted(wanted - set(fonts)):
        parser.error(f"No font {missing[0]} was found; --fonts names folders to look in.")
    print(f"{processor()}\n\n| | covered | worst frame | false |\n|---|---|---|---|")
    rows = []
    for clip, (file, first) in CLIPS.items():
        cases = [f"{clip}/{script}/{look}" for script in SCRIPTS for look in LOOKS]
        cases = [case for case in cases if options.only in case]
        if not cases:
            continue
        with open_video(options.videos / file) as source:
            clean = source[first : first + FRAMES]
        for case in cases:
            frames = drawn(clean, *case.split("/")[1:], fonts)
            try:
                masks = select_object(frames, select="captions").masks[:]
            except MaskError:  # none were found
                masks = np.zeros(frames.shape[:3], bool)
            covered, false, worst = fit(masks, frames, clean)
            rows.append((covered, worst, false))
            print(f"| {case} | {covered:.4f} | {worst:.4f} | {false:.4f} |", flush=True)
            if options.sheets:
                options.sheets.mkdir(parents=True, exist_ok=True)
                sheet(frames[9], clean[9], masks[9]).save(options.sheets / f"{case.replace('/', '-')}.png")
    mean = np.mean(rows, axis=0)
    print(f"| **mean** | {mean[0]:.4f} | {mean[1]:.4f} | {mean[2]:.4f} |")
    under, over = sum(row[0] < 0.99 for row in rows), sum(row[2] > 0.01 for row in rows)
    print(f"\n{len(rows)} cases; {under} have less than 99 % covered, {over} more than 1 % false.")


if __name__ == "__main__":
    main()
