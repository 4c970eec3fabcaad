"""How well the masks of captions fit text that is drawn over real clips.

    python benchmarks/captions.py --videos DIR [--output benchmarks/results/captions.md] [--only vtest/arabic]

Five scripts in four looks over eight clips (`matrix`), and `layouts`, over other frames of
them; 18 frames each, shown in twelve. Columns: the share of the text's pixels that is masked, in all frames and in the
worst one; the share of the picture that is masked though nothing is drawn there; how much of the mask of still text
that does not change differs from one frame to the next; CPU seconds a frame. A pixel is text if drawing changed it by
more than 24 levels, and beside text if by at most 4. Fonts are looked for by their names in `--fonts` (default: the
usual folder of a Linux system; Debian: fonts-dejavu, fonts-noto-core, fonts-noto-cjk).

With --output rows are kept as they are made, as JSON beside it: the same command goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before NumPy: cost is measured on one thread

import cv2  # noqa: E402
import numpy as np  # noqa: E402
from caption_looks import CLIPS, FONTS, FRAMES, LAYOUTS, LOOKS, SCRIPTS, drawn, texts  # noqa: E402
from machine import processor  # noqa: E402
from PIL import Image  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "segmentation"))
from burned_in import fit  # noqa: E402

from videopainter import MaskError, select_object  # noqa: E402
from videopainter.video import open_video  # noqa: E402

SETS = {
    "matrix": [f"{script}/{look}" for script in SCRIPTS for look in LOOKS],
    "layouts": list(LAYOUTS),
}
BARS = {"covered": 0.99, "false": 0.01, "flicker": 0.0}
HEAD = "| | covered | worst frame | false | flicker | s a frame |"


def measure(clean: np.ndarray, name: str, fonts: dict[str, Path]) -> tuple[dict, tuple]:
    """The row of a case; and its frames, `clean` and the masks. A plate that comes and goes with its text is text."""
    frames, wanted = clean, texts(name)
    for text in wanted:
        frames = drawn(frames, text, fonts)
    started = time.process_time()
    try:
        masks = select_object(frames, select="captions").masks[:]
    except MaskError:  # none were found
        masks = np.zeros(frames.shape[:3], bool)
    seconds = (time.process_time() - started) / len(frames)
    covered, false, worst = fit(masks, frames, clean)
    row = {"covered": covered, "worst": worst, "false": false, "flicker": None, "seconds": seconds}
    if not any(any(text.speed) or text.words for text in wanted):
        shown = masks[wanted[0].shown.start : wanted[0].shown.stop]
        changes = np.count_nonzero(shown[1:] != shown[:-1]) / max(np.count_nonzero(shown[1:]), 1)
        row["flicker"] = changes
    return {k: v if v is None else float(v) for k, v in row.items()}, (frames, clean, masks)


def sheet(frames: np.ndarray, clean: np.ndarray, masks: np.ndarray, at=(4, 9, 13)) -> Image.Image:
    """Where something is drawn or masked; beside it what is found (green), missed (red), masked elsewhere (blue)."""
    changed = np.abs(frames.astype(int) - clean).max(axis=3)
    rows, columns = (np.flatnonzero((masks | (changed > 24)).any(axis=(0, axis))) for axis in (2, 1))
    if not len(rows):
        rows, columns = np.arange(frames.shape[1]), np.arange(frames.shape[2])
    view = slice(max(rows[0] - 8, 0), rows[-1] + 8), slice(max(columns[0] - 8, 0), columns[-1] + 8)
    lines = []
    for i in at:
        painted, text = frames[i] // 2, changed[i] > 24
        for where, colour in (
            (text & masks[i], (0, 255, 0)),
            (text & ~masks[i], (255, 0, 0)),
            (masks[i] & (changed[i] <= 4), (0, 0, 255)),
        ):
            painted[where] = colour
        lines += [np.concatenate([frames[i][view], painted[view]], axis=1)]
    return Image.fromarray(np.concatenate(lines))


def line(name: str, row: dict) -> str:
    flicker = "-" if row["flicker"] is None else f"{row['flicker']:.4f}"
    return (
        f"| {name} | {row['covered']:.4f} | {row['worst']:.4f} | {row['false']:.4f} | {flicker} |"
        f" {row['seconds']:.2f} |"
    )


def mean(name: str, rows: list[dict]) -> str:
    keys = ("covered", "worst", "false", "flicker", "seconds")
    known = {key: [row[key] for row in rows if row[key] is not None] for key in keys}
    return line(f"**{name}**", {key: float(np.mean(some)) if some else None for key, some in known.items()})


def table(rows: dict[str, dict]) -> list[str]:
    """Markdown: each set's means by kind and by clip, what misses a bar, and all rows."""
    out = []
    for kind, names in SETS.items():
        of = {name: row for name, row in rows.items() if name.split("/", 1)[1] in names}
        if not of:
            continue
        out += [f"\n## {kind.capitalize()}: {len(of)} cases\n"]
        for key, bar in BARS.items():
            known = [row for row in of.values() if row[key] is not None]
            good = sum(row[key] >= bar if key == "covered" else row[key] <= bar for row in known)
            relation = "at least" if key == "covered" else "at most"
            out.append(f"- {key} {relation} {bar:.0%}: {good} of {len(known)}")
        out += ["", HEAD, "|" + "---|" * 6]
        group = names if kind == "layouts" else [*SCRIPTS, *LOOKS]
        for name in group:
            some = [row for case, row in of.items() if name in (case.split("/", 1)[1], *case.split("/")[1:])]
            out += [mean(name, some)] if some else []
        for clip in CLIPS:
            some = [row for case, row in of.items() if case.split("/")[0] == clip]
            out += [mean(clip, some)] if some else []
        out += [mean("all", list(of.values()))]
        out += ["", HEAD, "|" + "---|" * 6]
        out += [line(case, row) for case, row in of.items()]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, required=True, help="folder of the clips")
    parser.add_argument("--fonts", type=Path, nargs="*", default=[Path("/usr/share/fonts")], help="folders")
    parser.add_argument("--only", nargs="*", default=[""], help="cases that have one of these in their name")
    parser.add_argument("--sets", nargs="*", default=list(SETS), choices=list(SETS))
    parser.add_argument("--sheets", type=Path, help="folder for a picture of each case")
    parser.add_argument("--output", type=Path, help="write the table here, and the rows beside it as JSON")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    fonts = {path.name: path for folder in options.fonts for path in folder.rglob("*") if path.name in FONTS}
    if missing := sorted(FONTS - set(fonts)):
        parser.error(f"No font {missing[0]} was found; --fonts names folders to look in.")
    kept = options.output.with_suffix(".json") if options.output else None
    rows = json.loads(kept.read_text()) if kept and kept.exists() else {}
    print(f"{HEAD}\n|{'---|' * 6}")
    for clip, (file, *first) in CLIPS.items():
        for kind, start in zip(SETS, first):
            cases = [f"{clip}/{name}" for name in SETS[kind] if kind in options.sets]
            cases = [c for c in cases if c not in rows and any(word in c for word in options.only)]
            if not cases:
                continue
            with open_video(options.videos / file) as source:
                clean = source[start : start + FRAMES]
            for case in cases:
                rows[case], pictures = measure(clean, case.split("/", 1)[1], fonts)
                print(line(case, rows[case]), flush=True)
                if options.sheets:
                    options.sheets.mkdir(parents=True, exist_ok=True)
                    sheet(*pictures).save(options.sheets / f"{case.replace('/', '-')}.png")
                if kept:
                    kept.write_text(json.dumps(rows, indent=1) + "\n")
                    about = f"# Captions\n\n`python benchmarks/captions.py --videos DIR`\n\n{processor()}, one thread\n"
                    options.output.write_text("\n".join([about, *table(rows)]) + "\n")
    print("\n".join(table(rows)[:200]))


if __name__ == "__main__":
    main()
