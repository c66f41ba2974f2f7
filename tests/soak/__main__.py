"""The soak: tweets through everything, while its parts are killed; the windows must equal the fold of `scored`.

    python -m tests.soak tweets.csv.gz [--worker-kills 20] [--broker-kills 3] [--redis-kills 3] [--seed 1] [--instant]

The file has the columns created_at_utc, ticker, tweet_id, user_id, text. Kills come when a share of the items is done,
drawn by `--seed`. The last line on stdout is JSON; exit status 1 when the windows are not equal to the fold.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import itertools
import json
import os
import platform
import random
import shutil
import sys
import tempfile
import threading
import time
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import redis

from alerts.listen import Receiver
from tests.soak.system import System, difference, folded

_STALLED_S = 300


class Counting(Receiver):
    """`newsquake listen`, which counts the alerts that it took."""

    def __init__(self, secret: str, out: Path) -> None:
        self._file = out.open("w")
        super().__init__("127.0.0.1", 0, secret, self._file)
        self.taken: set[str] = set()

    def take(self, body: bytes, headers: dict[str, str]) -> tuple[int, str]:
        status, text = super().take(body, headers)
        if status == 204:
            self.taken.add(headers["webhook-id"])
        return status, text


def main() -> int:
    """Run it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("file", type=Path, help="CSV of tweets, .gz or not")
    parser.add_argument("--items", type=int, help="only so many rows")
    parser.add_argument("--worker-kills", type=int, default=20)
    parser.add_argument("--broker-kills", type=int, default=3)
    parser.add_argument("--redis-kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--timeout-s", type=float, default=3600)
    parser.add_argument("--instant", action="store_true", help="a scorer that answers at once instead of the model")
    parser.add_argument("--delay-s", type=float, default=0.0, help="seconds that a call of that scorer takes")
    parser.add_argument("--keep", type=Path, help="folder for data and logs, kept; else a temporary one")
    options = parser.parse_args()
    folder = options.keep or Path(tempfile.mkdtemp(prefix="newsquake-soak-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = soak(options, folder)
    except BaseException:
        print(f"soak: failed; data and logs are kept in {folder}", file=sys.stderr)
        raise
    if not options.keep:
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(result), flush=True)
    good = result["windows_equal"] and result["alerts_delivered"] == result["alerts_sent"]
    # A worker may end while it starts without a broker; nothing else may end but by our hand.
    return 0 if good and not {"alerts", "ingest"} & result["ended_by_themselves"].keys() else 1


def soak(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return what is printed."""
    begun = time.monotonic()
    file, rows = cut(options.file, options.items, folder)
    secret = "whsec_" + b64encode(os.urandom(32)).decode()
    receiver = Counting(secret, folder / "alerts.log")
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    hook = {
        "name": "soak",
        "type": "webhook",
        "url": f"http://127.0.0.1:{receiver.server_port}/",
        "secrets": [secret],
        "allow_networks": ["127.0.0.0/8"],
    }
    columns = {"time": "created_at_utc", "id": "tweet_id", "publisher": "user_id", "ticker": "ticker", "title": ""}
    replay = {f"NEWSQUAKE_INGEST__REPLAY__COLUMNS__{name.upper()}": value for name, value in columns.items()}
    env = {
        "NEWSQUAKE_INGEST__RSS__ENABLED": "false",
        "NEWSQUAKE_INGEST__REPLAY__FILE": str(file.absolute()),
        **replay,
        "NEWSQUAKE_ALERTS__CLOCK": "event",
        "NEWSQUAKE_ALERTS__RECEIVERS": json.dumps([hook]),
        "NEWSQUAKE_STREAM__SESSION_TIMEOUT_S": "6",
        "INSTANT_DELAY_S": str(options.delay_s),
    }
    if not options.instant:
        env["NEWSQUAKE_MODEL__THREADS"] = str(max(1, (os.cpu_count() or 2) // 2))  # two workers share the machine
    with System(folder, env) as system:
        system.start_worker("stream-0", instant=options.instant)
        system.start_worker("stream-1", instant=options.instant)
        system.start("alerts", "alerts", "--port", "0")
        system.start("ingest", "ingest", "--port", "0")
        kills = kill(system, options, rows)
        deadline = begun + options.timeout_s
        system.wait(lambda: not_replayed(system, rows) or system.unfinished(), deadline - time.monotonic())
        system.wait(lambda: not_alerted(system), deadline - time.monotonic())
        items, dead = system.scored(), system.read(system.topics.dead_topic)
        documents = system.read(system.topics.documents_topic)
        missing, doubled = difference(system.windows(), folded(items))
        with system.redis() as client:
            sent = client.xlen("nq:{alerts}:log")
        lost = {(record.partition, record.offset) for record in documents}
        lost -= {(item.partition, item.offset) for item in items}
        ended = system.ended()
    receiver.shutdown()
    receiver.server_close()
    return {
        "items": rows,
        "documents": len(documents),
        "scored": len(items),
        "ids": len({item.document.id for item in items}),
        "dead": len(dead),
        "unscored": len(lost) - len(dead),
        "kills": dict(kills),
        "windows_equal": not missing and not doubled and len(lost) == len(dead),
        "missing": missing,
        "doubled": doubled,
        "alerts_sent": sent,
        "alerts_delivered": len(receiver.taken),
        "ended_by_themselves": ended,
        "seconds": round(time.monotonic() - begun, 1),
        "seed": options.seed,
        "model": "instant" if options.instant else items[0].model,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
    }


def cut(file: Path, items: int | None, folder: Path) -> tuple[Path, int]:
    """Return a copy of the file with at most `items` rows, and the number of rows. A row is a line in these files."""
    copy = folder / "tweets.csv"
    opener = gzip.open if file.suffix == ".gz" else open
    with opener(file, "rt", encoding="utf-8") as source, copy.open("w", encoding="utf-8") as out:
        out.write(next(source))
        lines = 0
        for line in itertools.islice(source, items):
            out.write(line)
            lines += 1
    return copy, lines


def done(system: System) -> int:
    """How many records are in the windows; -1 while their server is away."""
    with contextlib.suppress(redis.RedisError), system.redis() as client:
        names = [f"nq:{{{system.topics.documents_topic}-{n}}}:progress" for n in range(system.topics.partitions)]
        offsets = [client.hget(name, "offset") for name in names]
        return sum(int(offset) + 1 for offset in offsets if offset is not None)  # type: ignore[arg-type]  # redis types it as awaitable too
    return -1


def kill(system: System, options: argparse.Namespace, rows: int) -> Counter[str]:
    """Kill parts at random moments of the run; return how many of each kind."""
    chance = random.Random(options.seed)
    plan = ["worker"] * options.worker_kills + ["broker"] * options.broker_kills + ["redis"] * options.redis_kills
    chance.shuffle(plan)
    moments = sorted(chance.uniform(0.02, 0.95) for _ in plan)
    kills: Counter[str] = Counter()
    for number, (what, moment) in enumerate(zip(plan, moments, strict=True), start=1):
        system.wait(lambda at=moment * rows: None if done(system) >= at else "not there yet", _STALLED_S)  # type: ignore[misc]  # mypy cannot infer it, or redis types its answers as awaitable too
        system.pause(chance.uniform(0, 0.5))
        if what == "worker":
            names = ["stream-0", "stream-1"]
            chance.shuffle(names)
            while not any(system.kill(name) for name in names):  # both may be about to start again
                system.pause(0.1)
        else:
            server = system.kafka if what == "broker" else system.valkey
            server.kill()
            system.pause(chance.uniform(0, 5))
            server.start()
        kills[what] += 1
        print(
            f"kill {number} of {len(plan)}: {what}, {done(system)} of {rows} records done", file=sys.stderr, flush=True
        )
    return kills


def not_replayed(system: System, rows: int) -> str | None:
    """Why ingest has not published all rows yet."""
    try:
        with system.redis() as client:
            position = json.loads(client.get("nq:ingest:position:replay") or b"{}")  # type: ignore[arg-type]  # redis types it as awaitable too
    except redis.RedisError as exc:
        return repr(exc)
    return None if position.get("rows") == rows else f"{position.get('rows', 0)} of {rows} rows are published"


def not_alerted(system: System) -> str | None:
    """Why alerting has not judged all that came, or not delivered all alerts."""
    with system.redis() as client:
        names = [f"nq:{{{system.topics.documents_topic}-{n}}}:" for n in range(system.topics.partitions)]
        clock = max(int(client.hget(f"{name}progress", "clock_ms") or 0) for name in names)  # type: ignore[arg-type]  # redis types it as awaitable too
        sealed = min(int(client.get(f"{name}sealed") or 0) for name in names)  # type: ignore[arg-type]  # redis types it as awaitable too
        if sealed < clock // 60_000 - 2:
            return f"minute {sealed} is sealed, the newest item is of minute {clock // 60_000}"
        waiting = sum(client.zcard(key) for key in client.scan_iter("nq:{alerts}:due:*"))  # type: ignore[misc]  # mypy cannot infer it, or redis types its answers as awaitable too
    return f"{waiting} deliveries wait" if waiting else None


if __name__ == "__main__":
    sys.exit(main())
