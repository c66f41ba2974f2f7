"""What is wrong in the settings stops a process at once, with its name and without its value."""

from pathlib import Path

import pytest

from deploy import settings


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
