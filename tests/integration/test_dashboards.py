"""Each panel's query and each recording rule, asked of a real Prometheus that scraped a running system.

The system: Kafka, Valkey, ingest (a replay of the demo's bank run, then a feed and a Jetstream server that are not at
their best), a stream worker with the shipped model, alerting, a receiver of alerts, and a desk with an analyst at it.
"""

import json
import math
import secrets
import shutil
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
import yaml
from kafka import KafkaProducer
from redis import Redis
from websockets.sync.server import serve

from alerts.desk.auth import Tokens
from deploy.demo import demo_overrides
from deploy.local.ports import free_ports
from deploy.local.process import Program
from deploy.local.supervisor import Child

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
FROM, TO = "2023-03-06T12", "2023-03-09T18"
SPEED = 12_000
CHOSEN = {"$__rate_interval": "10s", "$__range": "5m", "$window": "5m", "$instance": ".*", "$topic": ".*"}
CHOSEN |= {"$receiver": ".*"}

FEED = b"""<rss version="2.0"><channel><title>Test</title>
<item><guid>1</guid><title>Lender says it is well $ACME</title><pubDate>Thu, 09 Mar 2023 20:00:00 GMT</pubDate></item>
<item><guid>2</guid><title> </title><pubDate>Thu, 09 Mar 2023 20:00:00 GMT</pubDate></item>
</channel></rss>"""

QUERIES = [
    pytest.param(target["expr"], target["instant"], id=f"{path.stem}: {panel['title']} {target['refId']}")
    for path in sorted(DASHBOARDS.glob("*.json"))
    for panel in json.loads(path.read_text())["panels"]
    for target in panel.get("targets", ())
]
RULES = yaml.safe_load((PROMETHEUS / "rules" / "newsquake.yml").read_text())["groups"]


DRIFT = """newsquake_model_drift{measure="topics"} 0.1
newsquake_model_drift_threshold{measure="topics"} 0.2
newsquake_model_drifted{measure="topics"} 0
newsquake_model_drift_look_timestamp_seconds %d
"""


class Analyst:
    """Somebody at the desk, through its API."""

    def __init__(self, redis_url, port):
        with Redis.from_url(redis_url) as redis:
            token = Tokens(redis).add("al", "analyst")
        self._client = httpx.Client(
            base_url=f"http://127.0.0.1:{port}/api/v1/", headers={"authorization": f"Bearer {token}"}, trust_env=False
        )

    def answers(self):
        try:
            return self._client.get("me").status_code == 200
        except httpx.TransportError:
            return False

    def work(self):
        """Take up everything that is open, and say that the first was useful."""
        found = self._client.get("alerts", params={"state": "firing"}).json()["alerts"]
        for alert in found:
            assert self._client.post(f"alerts/{alert['id']}/acknowledge", json={}).status_code == 200
        (judged, *_) = self._client.get("alerts", params={"state": "all"}).json()["alerts"]
        assert self._client.post(f"alerts/{judged['id']}/verdict", json={"verdict": "useful"}).status_code == 200
        return len(found)

    def close(self):
        self._client.close()


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port):
        self._url = f"http://127.0.0.1:{port}/api/v1/"
        self.since = time.time()

    def get(self, path, **parameters):
        try:
            url = f"{self._url}{path}?{urllib.parse.urlencode(parameters)}"
            with urllib.request.urlopen(url, timeout=20) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as exc:
            if exc.code == 503:  # it still starts
                raise
            raise AssertionError(exc.read().decode()) from exc

    def now(self, query):
        """The value of each series now."""
        return [float(series["value"][1]) for series in self.get("query", query=query)["result"]]

    def over_time(self, query):
        """All values of all series since the start."""
        result = self.get("query_range", query=query, start=self.since, end=time.time(), step=1)["result"]
        return [float(value) for series in result for _, value in series["values"]]

    def lacks(self, *queries):
        """The first query that has no value above zero yet, for `System.wait`."""
        try:
            return next((query for query in queries if not sum(self.now(query)) > 0), None)
        except OSError as exc:
            return repr(exc)


@pytest.fixture(scope="module")
def replay(tmp_path_factory):
    """The days of the demo in which the run on the bank begins."""
    lines = Path(demo_overrides()["NEWSQUAKE_INGEST__REPLAY__FILE"]).read_text("utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("replay") / "days.jsonl"
    path.write_text("".join(line for line in lines if FROM <= json.loads(line)["published_at"] < TO), "utf-8")
    return path


@pytest.fixture(scope="module")
def feed():
    """URL of a feed with an item and an entry that is empty."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", str(len(FEED)))
            self.end_headers()
            self.wfile.write(FEED)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


@pytest.fixture(scope="module")
def node():
    """Port on which the metrics are that `newsquake drift` leaves to the node exporter."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = (DRIFT % time.time()).encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_port
        server.shutdown()


@pytest.fixture(scope="module")
def jetstream():
    """URL of a websocket server that ends each connection at once."""
    with serve(lambda connection: None, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}/subscribe"


@pytest.fixture(scope="module")
def prometheus(make_system, service_program, replay, feed, jetstream, node, tmp_path_factory):
    """A Prometheus that has watched the whole story."""
    program = service_program("prometheus", "prometheus")
    web, listen, page, *served = free_ports(8)
    targets = {
        "newsquake-ingest": served[:2],
        "newsquake-stream": served[2:3],
        "newsquake-alerts": served[3:4],
        "newsquake-desk": served[4:5],
        "node": [node],
    }
    folder = tmp_path_factory.mktemp("prometheus")
    shutil.copytree(PROMETHEUS / "rules", folder / "rules")
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
    config["scrape_configs"].append({"job_name": "node"})
    for job in config["scrape_configs"]:
        job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in targets[job["job_name"]]]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    command = [program, f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{web}", "--log.level=warn"]

    secret = "whsec_" + b64encode(secrets.token_bytes(32)).decode()
    webhook = {
        "name": "listen",
        "type": "webhook",
        "url": f"http://127.0.0.1:{listen}/",
        "secrets": [secret],
        "allow_networks": ["127.0.0.0/8"],
    }
    system = make_system()
    asked = Prometheus(web)
    system.supervisor.start(Child(Program("prometheus", command), stop_s=10))
    system.start("listen", "listen", "--port", str(listen), NEWSQUAKE_LISTEN_SECRET=secret)
    system.start_worker("stream", instant=False, port=served[2])
    event_time = {"NEWSQUAKE_ALERTS__CLOCK": "event", "NEWSQUAKE_ALERTS__RECEIVERS": json.dumps([webhook])}
    system.start("alerts", "alerts", "--port", str(served[3]), **event_time)
    system.start("desk", "desk", "--port", str(page), NEWSQUAKE_HTTP__DESK_PORT=str(served[4]))
    system.wait(lambda: asked.lacks("newsquake_stream_partitions == 8"), 120)

    producer = KafkaProducer(bootstrap_servers=system.kafka.bootstrap)
    producer.send(system.topics.documents_topic, b"this is no document").get(30)
    producer.close()
    days = {"NEWSQUAKE_INGEST__REPLAY__FILE": str(replay), "NEWSQUAKE_INGEST__REPLAY__SPEED": str(SPEED)}
    system.start("ingest", "ingest", "--port", str(served[0]), **{**demo_overrides(), **days})
    system.wait(lambda: asked.lacks('newsquake_alerts_deliveries_total{outcome="delivered"}'), 120)

    live = {
        "NEWSQUAKE_INGEST__RSS__FEEDS": json.dumps([{"name": "test", "url": feed, "publisher": "Test"}]),
        "NEWSQUAKE_INGEST__RSS__POLL_S": "1",
        "NEWSQUAKE_INGEST__BLUESKY__ENABLED": "true",
        "NEWSQUAKE_INGEST__BLUESKY__URL": jetstream,
    }
    system.start("ingest-live", "ingest", "--port", str(served[1]), **live)
    wanted = ("polls_total", "reconnects_total", "repeats_total", "dropped_total")
    system.wait(lambda: asked.lacks(*(f"sum(rate(newsquake_ingest_{name}[10s]))" for name in wanted)), 120)
    analyst = Analyst(system.valkey.url, page)
    system.wait(lambda: None if analyst.answers() else "the desk does not answer", 60)
    assert analyst.work()
    analyst.close()
    taken_up = ('newsquake_alerts_transitions_total{event="acknowledged"}', "newsquake_alerts_verdicts")
    system.wait(lambda: asked.lacks(*(f"sum({name})" for name in taken_up)), 60)
    system.pause(3)  # a curve is asked for at whole steps, so what is true now shows a little later
    asked.listener = system.log("listen")
    return asked


@pytest.mark.parametrize(("query", "instant"), QUERIES)
def test_no_panel_is_empty(prometheus, query, instant):
    for name, value in CHOSEN.items():
        query = query.replace(name, value)
    values = prometheus.now(query) if instant else prometheus.over_time(query)
    assert any(math.isfinite(value) for value in values), query


@pytest.mark.parametrize("name", [rule["record"] for group in RULES for rule in group["rules"] if "record" in rule])
def test_no_recording_rule_is_empty(prometheus, name):
    assert any(math.isfinite(value) for value in prometheus.over_time(name))


def test_what_happened_is_what_the_numbers_say(prometheus):
    assert prometheus.now('sum(newsquake_stream_records_total{outcome="dead"})') == [1]
    (scored,) = prometheus.now('sum(newsquake_stream_records_total{outcome="scored"})')
    (published,) = prometheus.now("sum(newsquake_ingest_documents_total)")
    assert 0 < scored <= published
    assert prometheus.now("sum(newsquake_stream_sentiment_total)") == [scored]
    assert "SIVB" in prometheus.listener


def test_each_rule_works_and_only_the_dead_letter_raises_an_alert(prometheus):
    rules = [rule for group in prometheus.get("rules")["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in RULES)
    assert {rule["health"] for rule in rules} == {"ok"}, [rule.get("lastError") for rule in rules]
    firing = {rule["name"] for rule in rules if rule.get("state") == "firing"}
    assert firing == {"NewsquakeDeadLetters"}
