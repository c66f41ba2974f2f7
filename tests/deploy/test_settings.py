"""What is wrong in the settings stops a process at once, with its name and without its value."""

import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deploy import settings
from deploy.cli import main
from deploy.local.checks import check_model
from model.errors import DeviceError
from model.scorer import Scorer


@pytest.fixture(autouse=True)
def _no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis.url", "http://host:6379/t0ken"),
        ("redis.url", "redis://:t0ken/@host:6379"),  # a slash that was not escaped
        ("redis.url", "redis://user:t0ken@host:99999"),
        ("redis.url", "host:6379"),
        ("stream.session_timeout_s", "5"),
    ],
)
def test_what_cannot_work_is_refused_by_name_and_unprinted(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEWSQUAKE_" + name.upper().replace(".", "__"), value)
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert name in str(caught.value)
    assert "t0ken" not in str(caught.value)


@pytest.mark.parametrize("url", ["redis://:secret@host/0", "rediss://user:secret@host:6380", "unix:///run/redis.sock"])
def test_addresses_of_redis(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSQUAKE_REDIS__URL", url)
    found = settings.load().redis.url
    assert found is not None
    assert found.get_secret_value() == url


def test_a_misspelt_setting_is_told_the_one_that_was_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEWSQUAKE_ALERTS__CLOK", "event")
    with pytest.raises(settings.SettingsError, match=r"alerts\.clok: is no setting; did you mean clock\?"):
        settings.load()


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("NEWSQUAKE_REDIS_URL", "did you mean NEWSQUAKE_REDIS__URL?"),
        ("NEWSQUAKE_ALERT__RECEIVERS", "there is no section alert; did you mean alerts?"),
    ],
)
def test_a_misnamed_variable_is_not_passed_over(variable: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "t0ken")
    with pytest.raises(settings.SettingsError) as caught:
        settings.load()
    assert f"{variable}: {meant}" in str(caught.value)
    assert "t0ken" not in str(caught.value)


def test_a_user_s_own_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NEWSQUAKE_LISTEN_SECRET", "NEWSQUAKE_TEST_KILLS", "NEWSQUAKE_SLACK_HOOK", "NEWSQUAKE_OWN__HOOK"):
        monkeypatch.setenv(name, "x")
    settings.load()


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int | str | None]:
    """Runs `newsquake stream` up to its model, as if Kafka and Redis answered; returns the exit code."""

    async def answer(*_: object) -> bool:
        return True

    def run(**env: str) -> int | str | None:
        for name, value in {"KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:1", "REDIS__URL": "redis://h", **env}.items():
            monkeypatch.setenv(f"NEWSQUAKE_{name}", value)
        monkeypatch.setattr("deploy.worker.until_reachable", answer)
        monkeypatch.setattr("deploy.worker.ensure_topics", lambda *_: [])
        monkeypatch.setattr("sys.argv", ["newsquake", "stream", "--port", "0"])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code

    return run


@pytest.mark.parametrize(
    ("env", "told"),
    [
        ({"KAFKA__SECURITY_PROTOCOL": "SSL", "KAFKA__SSL_CA_FILE": "/nowhere.pem"}, "kafka.ssl_*"),
        ({"MODEL__WEIGHTS": "/nowhere"}, "no weights in /nowhere"),
        ({"MODEL__ENCODER": "/nowhere"}, "the encoder folder /nowhere has no"),
        ({"MODEL__DEVICE": "cuda:99"}, "torch sees"),
    ],
)
def test_a_worker_that_no_restart_can_help_ends_with_2_and_one_line(
    stream: Callable[..., object], env: dict[str, str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stream(**env) == 2
    said = capsys.readouterr().err
    assert told in said.splitlines()[-1]
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("sentiments", "topics", "told"),
    [
        (("label_0", "label_1"), ("Macro",), "label_0, label_1: without one called negative .* model.sentiment_names"),
        (("negative", "positive"), (), "knows no topics"),
        (("negative", "positive"), ("Macro", "Oil; gas"), "topic 'Oil; gas' cannot name a series"),
    ],
)
def test_a_model_whose_words_cannot_be_counted_is_refused_by_the_worker_and_told_by_doctor(
    stream: Callable[..., object],
    sentiments: tuple[str, ...],
    topics: tuple[str, ...],
    told: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = SimpleNamespace(version="mine", device="cpu", sentiment_labels=sentiments, topic_labels=topics)
    monkeypatch.setattr(Scorer, "load", lambda _: loaded)
    assert stream() == 2
    assert re.search(told, capsys.readouterr().err)
    (line,) = check_model(settings.load())
    assert line.state == "wrong"
    assert re.search(told, line.found)


def test_a_worker_whose_device_fails_is_worth_another_start(
    stream: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: object) -> None:
        raise DeviceError("cuda has no memory for a single text")

    monkeypatch.setattr(Scorer, "load", full)
    assert stream() == 1
