"""Text drawn over real clips, in many scripts, looks, places and ways to move, for `captions.py`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont

CLIPS = {  # name: file, first frame of the matrix, first frame of the layouts
    "vtest": ("vtest.avi", 300, 500),
    "cup": ("cup.mp4", 100, 30),
    "realshort": ("realshort.mp4", 4, 18),
    "bikes-140": ("bikes.mp4", 140, 162),
    "bikes-190": ("bikes.mp4", 190, 218),
    "bigbuckbunny": ("bigbuckbunny.mp4", 40, 100),
    "tree": ("tree.avi", 10, 44),
    "trailer": ("trailer_bbb.mp4", 700, 640),
}
SCRIPTS = {  # name: font, its height in parts of the picture's, text
    "latin": ("DejaVuSans.ttf", 0.055, "Where have you been all night?"),
    "cyrillic": ("DejaVuSans.ttf", 0.055, "Где ты была всю ночь напролёт?"),
    "chinese": ("NotoSansCJK-Regular.ttc", 0.065, "你整个晚上都去哪里了我等了很久"),
    "arabic": ("NotoNaskhArabic-Regular.ttf", 0.065, "أين كنت طوال الليل يا صديقي"),
    "devanagari": ("NotoSansDevanagari-Regular.ttf", 0.065, "तुम सारी रात कहाँ थे मेरे दोस्त"),
}
FRAMES, SHOWN = 18, range(3, 15)
BEAT = 3


@dataclass(frozen=True)
class Text:
    """What is drawn: sizes in parts of the picture's height, `width` of the outline in pixels at 480 lines.

    `place`: of the middle, in parts of width and height. `turned`: degrees. `speed`: pixels a frame at 480 lines.
    `plate`: opacity of a dark box behind. `shadow`: opacity of a soft one. `sung`: colour that sweeps over the words
    from left to right. `fade`: frames at both ends. `words`: what happens word by word, every `BEAT` frames: they are
    "added", each is shown "alone", or the next one is "lit" by a colour or "boxed". `upright`: letters stand below
    each other.
    """

    text: str = SCRIPTS["latin"][2]
    font: str = "DejaVuSans.ttf"
    size: float = 0.055
    place: tuple[float, float] = (0.5, 0.86)
    fill: object = "white"
    outline: object = "black"
    width: float = 0
    opacity: float = 1
    turned: float = 0
    speed: tuple[float, float] = (0, 0)
    plate: float = 0
    shadow: float = 0
    sung: tuple | None = None
    fade: int = 0
    words: str = ""
    upright: bool = False
    shown: range = field(default=SHOWN)


LOOKS = {
    "outlined": Text(width=2),
    "bare": Text(),
    "yellow": Text(fill=(255, 230, 0)),
    "dark": Text(fill=(20, 20, 70)),
}
_LOGO = Text("TV4", "DejaVuSans-Bold.ttf", 0.07, (0.1, 0.1), opacity=0.6, shown=range(FRAMES))
LAYOUTS = {  # two rules were changed after some of these had been seen
    "small": Text("He never told me that she was here.", size=0.03, place=(0.5, 0.93), width=1),
    "two lines": Text("I told them all about it,\nbut nobody listened to me.", place=(0.5, 0.83), width=2),
    "serif italic": Text("a long time ago, in summer", "DejaVuSerif-Italic.ttf", place=(0.45, 0.12)),
    "on a plate": Text(plate=0.6),
    "soft shadow": Text("Tuesday, a quarter past nine", place=(0.4, 0.3), shadow=0.8),
    "karaoke": Text("And we will sing until the morning", width=2, sung=(40, 220, 255)),
    "upright": Text("昨夜你在哪里呢", "NotoSansCJK-Regular.ttc", 0.065, (0.92, 0.4), width=2, upright=True),
    "turned 4": Text("Leaning a little", size=0.07, place=(0.5, 0.6), width=2, turned=4),
    "turned 12": Text("SALE SALE", "DejaVuSans-Bold.ttf", 0.08, (0.35, 0.35), (230, 30, 30), turned=12),
    "logo, ticker": Text("Markets closed higher on Friday", speed=(-4, 0), width=1),
    "fading": Text("Five years earlier", size=0.07, place=(0.5, 0.5), fade=5),
    "title": Text("THE END", "DejaVuSans-Bold.ttf", 0.15, (0.5, 0.5), (200, 30, 40), "white", 3),
    "see-through": Text(opacity=0.6),
    "korean": Text("밤새도록 어디에 있었어요", "NotoSansCJK-Regular.ttc", 0.06, width=2),
    "thai": Text("คุณอยู่ที่ไหนมาทั้งคืน", "NotoSansThai-Regular.ttf", 0.065, width=2),
    "hebrew": Text("איפה היית כל הלילה", "NotoSansHebrew-Regular.ttf", 0.06, fill=(120, 255, 120)),
    "word by word": Text("One word after another", "DejaVuSans-Bold.ttf", 0.06, width=2, words="added"),
    "short words": Text(
        "This\N{NO-BREAK SPACE}is\N{NO-BREAK SPACE}how\N{NO-BREAK SPACE}far he can go",
        size=0.06,
        place=(0.5, 0.8),
        words="added",
    ),
    "words alone": Text(
        "Never look back again", "DejaVuSans-Bold.ttf", 0.08, (0.5, 0.62), width=2, words="alone"
    ),
    "words lit": Text("Every word has colour", "DejaVuSans-Bold.ttf", 0.06, (0.5, 0.7), width=2, words="lit"),
    "words boxed": Text("This one goes along", "DejaVuSans-Bold.ttf", 0.06, (0.5, 0.75), words="boxed"),
}
FONTS = {font for font, _, _ in SCRIPTS.values()} | {text.font for text in LAYOUTS.values()}


def texts(name: str) -> list[Text]:
    """What the case "SCRIPT/LOOK", or a layout, has."""
    if name in LAYOUTS:
        return [LAYOUTS[name], *([_LOGO] if name.startswith("logo") else [])]
    script, look = name.split("/")
    font, size, words = SCRIPTS[script]
    return [replace(LOOKS[look], text=words, font=font, size=size)]


def drawn(clean: np.ndarray, text: Text, fonts: dict[str, Path]) -> np.ndarray:
    """`clean`, uint8 (frames, height, width, 3), with the text."""
    frames = clean.copy()
    for i in text.shown:
        if text.plate:
            rows, columns = _plate(text, clean.shape[1:3], fonts)
            part = frames[i, rows, columns]
            part[:] = np.round((1 - text.plate) * part)
        layers = _layers(text, i, clean.shape[1:3], fonts)
        shown = text.opacity
        if text.fade:
            since, until = i - text.shown.start + 1, text.shown.stop - i
            shown *= min(1.0, since / text.fade, until / text.fade)
        picture = frames[i].astype(np.float32)
        for alpha, colour in layers:
            alpha = shown * alpha[..., None] / 255
            picture = picture * (1 - alpha) + alpha * np.asarray(colour, np.float32)
        frames[i] = np.round(picture)
    return frames


def _layers(text: Text, i: int, size, fonts):
    """[(alpha 0..255 (height, width), colour)], the lowest first."""
    height, width = size
    ink, whole = (_stencil(text, i, size, fonts, outline) for outline in (False, True))
    out = []
    if text.shadow:
        off = max(1, round(height / 240))
        shifted = np.roll(cv2.GaussianBlur(whole, (0, 0), height / 300), (off, off), (0, 1))
        out.append((text.shadow * shifted.astype(np.float32), (0, 0, 0)))
    if text.width:
        out.append((whole.astype(np.float32), _rgb(text.outline)))
    if text.words == "boxed":
        word = _stencil(text, i, size, fonts, False, lit=True) > 0
        rows, columns = (np.flatnonzero(x.any(axis=axis)) for x, axis in ((ink > 0, 1), (word, 0)))
        box, pad = np.zeros(size, np.float32), round(0.012 * height)
        box[rows[0] - pad : rows[-1] + pad, columns[0] - pad : columns[-1] + pad] = 255
        out.append((box, (150, 40, 200)))
    out.append((ink.astype(np.float32), _rgb(text.fill)))
    if text.words == "lit":
        out.append((_stencil(text, i, size, fonts, False, lit=True).astype(np.float32), (255, 220, 0)))
    if text.sung:
        columns = np.flatnonzero(ink.any(axis=0))
        done = (i - text.shown.start) / (len(text.shown) - 1)
        front = columns[0] + done * (columns[-1] - columns[0]) if len(columns) else 0
        out.append((np.where(np.arange(width) < front, ink, 0).astype(np.float32), _rgb(text.sung)))
    return out


def _stencil(text: Text, i: int, size, fonts, outline: bool, lit: bool = False) -> np.ndarray:
    """uint8 (height, width): where the text, or the `lit` word, is in frame `i`, with its outline or without."""
    height, width = size
    font = ImageFont.truetype(str(fonts[text.font]), max(11, round(text.size * height)))
    words, now = text.text, (i - text.shown.start) // BEAT
    if text.words == "added":
        words = " ".join(words.split(" ")[: 1 + now])
    elif text.words == "alone" or lit:
        words = words.split(" ")[now]
    if text.upright:
        words = "\n".join(words)
    step = [v * (i - text.shown.start) * height / 480 for v in text.speed]
    at = [round(place * side + s) for place, side, s in zip(text.place, (width, height), step)]
    anchor = "mm"
    if text.words == "added" or lit:  # from where the whole begins
        at[0] -= round(font.getlength(text.text) / 2)
        anchor = "lm"
    if lit:
        at[0] += round(font.getlength("".join(word + " " for word in text.text.split(" ")[:now])))
    picture = Image.new("L", (width, height))
    ImageDraw.Draw(picture).multiline_text(
        tuple(at),
        words,
        255,
        font,
        anchor=anchor,
        align="center",
        stroke_width=round(text.width * height / 480) if outline else 0,
    )
    if text.turned:
        picture = picture.rotate(text.turned, Image.Resampling.BICUBIC, center=tuple(at))
    return np.asarray(picture)


def _plate(text: Text, size, fonts) -> tuple[slice, slice]:
    """Rows and columns of the box behind the text."""
    whole = _stencil(text, text.shown.start, size, fonts, True) > 0
    pad = round(0.012 * size[0])
    rows, columns = (np.flatnonzero(whole.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0] - pad, rows[-1] + pad), slice(max(columns[0] - 2 * pad, 0), columns[-1] + 2 * pad)


def _rgb(colour) -> tuple[int, int, int]:
    return {"white": (255, 255, 255), "black": (0, 0, 0)}.get(colour, colour)
