"""What became of all rows: `manifest.json`, `summary.csv`, and a table for people."""

from __future__ import annotations

import csv
import io

from videopainter.batch.records import Records, as_json

MEASURES = ("psnr_hole", "ssim_hole", "lpips_hole", "psnr_outside", "ssim_outside")


def sum_up(results: Records, records: list[dict]) -> None:
    """Write `manifest.json` and `summary.csv`, and print the table."""
    measures = [m for m in MEASURES if any(m in r.get("measured", {}) for r in records)]
    lines = []
    for record in records:
        values = [record.get("measured", {}).get(m) for m in measures]
        cells = [record["row"], record["name"], record["status"], record.get("frames"), record.get("seconds")]
        lines.append([*cells, *values, record.get("error", "")])
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["row", "name", "status", "frames", "seconds", *measures, "error"])
    table.writerows(lines)
    results.write("summary.csv", text.getvalue().encode(errors="backslashreplace"))
    results.write("manifest.json", as_json(records))

    width = max(len("mean"), *(len(line[1]) for line in lines))
    print(f"\n{'':{width}}  frames  seconds" + "".join(f"  {m:>12}" for m in measures))
    for line in lines:
        if line[2] == "done":
            print(f"{line[1]:{width}}  {line[3]!s:>6}  {line[4]!s:>7}" + "".join(map(_cell, line[5:-1])))
        else:
            print(f"{line[1]:{width}}  failed: {line[-1]}")
    done = [line for line in lines if line[2] == "done"]
    if measures and done:
        columns = zip(*(line[5:-1] for line in done))
        print(f"{'mean':{width}}  {'':6}  {'':7}" + "".join(_cell(_mean(column)) for column in columns))
    print(f"{len(done)} of {len(lines)} rows are done; see {results.folder / 'summary.csv'}.", flush=True)


def _cell(value: float | None) -> str:
    return f"  {value:12.4f}" if value is not None else f"  {'-':>12}"


def _mean(values) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None
