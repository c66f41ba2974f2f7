import socket

import pytest
import redis

from ingest.cursor import PositionError, Positions


@pytest.mark.parametrize("position", [{"etag": "x", "seen": ["a"]}, [1, 2], "\u00e9", 7, {}])
def test_positions_come_back_as_they_were(redis_url: str, position: object) -> None:
    positions = Positions(redis_url)
    positions.save("test:round", position)
    assert positions.load("test:round") == position
    positions.close()


def test_none_and_junk_mean_from_the_start(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        client.set("nq:ingest:position:test:junk", b"\xff{")
    positions = Positions(redis_url)
    assert positions.load("test:never") is None
    assert positions.load("test:junk") is None
    positions.close()


def test_redis_away_is_an_error_of_ours() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        positions = Positions(f"redis://127.0.0.1:{taken.getsockname()[1]}/0", timeout_s=1.0)
        for action in (positions.ping, lambda: positions.load("x"), lambda: positions.save("x", 1)):
            with pytest.raises(PositionError):
                action()
        positions.close()
