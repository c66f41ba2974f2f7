"""The compose files and the image: valid by the official schema, and in step with newsquake."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from deploy.cli import COMMANDS
from deploy.local.kafka import _properties
from deploy.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "deploy" / "compose"
FILES = ["compose.yaml", "compose.gpu.yaml"]
OURS = {"topics", "ingest", "stream", "alerts", "desk"}


def read(name="compose.yaml"):
    return yaml.safe_load((COMPOSE / name).read_text())


def schema_check(path):
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", path]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def variables():
    """`NEWSQUAKE_<SECTION>__<FIELD>` of each setting that is no section itself."""
    names = set()

    def walk(model, prefix):
        for name, field in model.model_fields.items():
            variable = f"{prefix}{name.upper()}"
            if hasattr(field.annotation, "model_fields"):
                walk(field.annotation, f"{variable}__")
            else:
                names.add(variable)

    walk(Settings, "NEWSQUAKE_")
    return names


@pytest.mark.parametrize("name", FILES)
def test_the_official_schema_takes_it(name):
    done = schema_check(COMPOSE / name)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_schema_refuses_what_is_wrong(tmp_path):
    wrong = read()
    wrong["services"]["kafka"]["helthcheck"] = {}
    path = tmp_path / "compose.yaml"
    path.write_text(yaml.safe_dump(wrong))
    done = schema_check(path)
    assert done.returncode != 0
    assert "helthcheck" in done.stdout


def test_each_setting_and_command_named_exists():
    text = "\n".join((COMPOSE / name).read_text() for name in [*FILES, ".env.example", "Dockerfile"])
    named = set(re.findall(r"\bNEWSQUAKE_[A-Z]+__[A-Z_]+\b", text))
    assert len(named) > 10
    assert named <= variables()
    for service in OURS:
        assert read()["services"][service]["command"][0] in COMMANDS


def test_values_are_taken_by_the_settings(monkeypatch):
    for name, service in read()["services"].items():
        if name in OURS:
            for variable, value in service["environment"].items():
                filled = re.sub(r"\$\{\w+:-(.*)\}", r"\1", str(value))
                monkeypatch.setenv(variable, re.sub(r"\$\{\w+:\?.*\}", "risk team, risk@bank.example", filled))
    settings = Settings()
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.alerts.receivers == ()


def test_services_start_in_order_on_healthy_servers_and_keep_their_data():
    compose = read()
    services = compose["services"]
    after = {
        name: {other: wait["condition"] for other, wait in service.get("depends_on", {}).items()}
        for name, service in services.items()
    }
    for name in OURS - {"topics"}:
        assert after[name] == {"topics": "service_completed_successfully", "valkey": "service_healthy"}
    assert after["topics"] == {"kafka": "service_healthy"}
    for name in ("kafka", "valkey", "prometheus", "grafana"):
        assert services[name]["healthcheck"]["test"]
        assert any(mount.split(":")[0] in compose["volumes"] for mount in services[name]["volumes"]), name
    mounts = [mount.split(":")[0] for service in services.values() for mount in service.get("volumes", ())]
    assert all((COMPOSE / mount).exists() for mount in mounts if mount.startswith("."))


def test_kafka_without_a_second_copy_is_synced_as_on_a_laptop():
    # the interval alone does nothing: as Kafka ships it, nobody ever looks whether it is over
    local = dict(line.split("=", 1) for line in _properties(Path("x"), 1, 2).splitlines() if "=" in line)
    container = read()["services"]["kafka"]["environment"]
    for name in ("log.flush.interval.ms", "log.flush.scheduler.interval.ms"):
        assert int(local[name]) == container["KAFKA_" + name.upper().replace(".", "_")] <= 500


def test_nothing_is_open_to_the_network_nothing_runs_with_more_rights_than_it_needs():
    for name, service in read()["services"].items():
        assert re.search(r":v?\d+\.\d+\.\d+$", service["image"]), f"{name}: the image's version is not fixed"
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        if name in OURS:
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
    assert "\nUSER newsquake\n" in (COMPOSE / "Dockerfile").read_text()


def test_the_gpu_variant_changes_the_stream_alone():
    services = read("compose.gpu.yaml")["services"]
    assert services.keys() == {"stream"}
    assert services["stream"]["environment"] == {"NEWSQUAKE_MODEL__DEVICE": "cuda"}
    (device,) = services["stream"]["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]


def test_prometheus_scrapes_the_port_that_the_image_serves_on():
    dockerfile = (COMPOSE / "Dockerfile").read_text()
    (port,) = set(re.findall(r"NEWSQUAKE_HTTP__\w+_PORT=(\d+)", dockerfile))
    assert f"127.0.0.1:{port}/healthz?live" in dockerfile
    config = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.compose.yml").read_text())
    jobs = {job["job_name"].removeprefix("newsquake-"): json.dumps(job) for job in config["scrape_configs"]}
    assert jobs.keys() == OURS - {"topics"}
    assert all(port in job and name in job for name, job in jobs.items())


def test_the_image_installs_from_the_lock_and_copies_only_what_exists():
    dockerfile = (COMPOSE / "Dockerfile").read_text()
    installs = re.findall(r"pip install[^&\n]*", dockerfile.replace("\\\n", ""))
    assert installs
    for install in installs:
        assert "requirements.lock" in install or "--require-hashes" in install or "--no-deps /dist/" in install
    kept = {line[1:] for line in (COMPOSE / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE)
    assert {name for line in copied for name in line.split()} == kept
    assert all((ROOT / name).exists() for name in kept)
