"""`make bench-surge NAB=DIR`: the detector of plain counts on a folder of labelled series, by its own `score.py`.

DIR holds `realTweets/*.csv` (`timestamp,value`), `windows.json` and `score.py` with the rules of the Numenta Anomaly
Benchmark (Lavin and Ahmad, ICMLA 2015). Series are also scored backwards in time: a detector that was fitted to these
series, instead of made for such series, shows there. The last line printed is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from alerts.detect import Row, read, scored, write

_RESULT = re.compile(r"fitted (-?[\d.]+) at (-?[\d.e-]+); leave-one-file-out (-?[\d.]+)")


def judge(nab: Path, data: Path, windows: Path) -> dict[str, float]:
    """Score each series of `data` and return what `score.py` says."""
    with tempfile.TemporaryDirectory() as folder:
        points = 0
        for path in sorted(data.glob("*.csv")):
            results = list(scored(read(path)))
            points += sum(result.score > 0 for result in results)
            write(Path(folder, path.name), results)
        command = [sys.executable, str(nab / "score.py"), folder, "--data", str(data), "--windows", str(windows)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = _RESULT.search(printed)
    if not found:
        raise SystemExit(f"score.py printed something else than expected: {printed}")
    fitted, threshold, left_out = map(float, found.groups())
    return {"fitted": fitted, "leave_one_out": left_out, "threshold": threshold, "points": points}


def backwards(nab: Path, folder: Path) -> tuple[Path, Path]:
    """Write the series with time reversed; return their folder and their windows."""
    windows = json.loads((nab / "windows.json").read_text("utf-8"))
    data = folder / "data"
    data.mkdir()
    turned: dict[str, list[list[str]]] = {}
    for path in sorted((nab / "realTweets").glob("*.csv")):
        rows: list[Row] = read(path)
        mirror = {row.stamp[:19]: rows[-1 - place].stamp for place, row in enumerate(rows)}
        with (data / path.name).open("w", encoding="utf-8", newline="") as lines:
            table = csv.writer(lines)
            table.writerow(["timestamp", "value"])
            table.writerows((row.stamp, f"{rows[-1 - place].value:g}") for place, row in enumerate(rows))
        turned[path.name] = [[mirror[end[:19]], mirror[start[:19]]] for start, end in reversed(windows[path.name])]
    (folder / "windows.json").write_text(json.dumps(turned), "utf-8")
    return data, folder / "windows.json"


def score(nab: Path) -> dict[str, object]:
    """Return the scores of the folder `nab`, forwards and backwards, and the seconds that it took."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        forwards = judge(nab, nab / "realTweets", nab / "windows.json")
        reversed_ = judge(nab, *backwards(nab, Path(folder)))
    return {"nab": forwards, "nab_reversed": reversed_, "seconds": round(time.monotonic() - begin, 1)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nab", type=Path, help="the folder with realTweets/, windows.json and score.py")
    print(json.dumps(score(parser.parse_args().nab)))
