"""One HTTP GET with every limit that a hostile or broken server makes necessary."""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit

import httpx

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class FetchError(Exception):
    """A fetch failed; `outcome` is one bounded word for metrics (`timeout`, `too_large`, `error`)."""

    def __init__(self, outcome: str, message: str) -> None:
        super().__init__(message)
        self.outcome = outcome


@dataclass(frozen=True)
class Response:
    """What came back. `url` is the address after redirects; `body` is decompressed, and empty unless status is 200."""

    status: int
    url: str
    headers: Mapping[str, str]
    body: bytes


class Fetcher:
    """GET with a limit on time (of the whole, a dripping server included), size (decompressed) and redirects.

    Proxies are taken from the environment (`HTTPS_PROXY`, `NO_PROXY`) as usual. Safe to share between threads.
    """

    def __init__(self, *, user_agent: str, timeout_s: float, max_bytes: int, max_redirects: int) -> None:
        self._timeout_s = timeout_s
        self._max_bytes = max_bytes
        self._max_redirects = max_redirects
        self._tls = ssl.create_default_context()
        self._headers = {
            "User-Agent": user_agent,
            "Accept": "application/atom+xml, application/rss+xml, application/rdf+xml, application/xml, */*;q=0.5",
            "Accept-Encoding": "gzip, deflate",
        }

    def get(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        """Fetch `url`, following redirects to http(s) only, and never from a public host into a private network.

        Raises:
            FetchError: no answer, or none within the limits.
        """
        return asyncio.run(self._get(url, {**self._headers, **(headers or {})}))

    async def _get(self, url: str, headers: Mapping[str, str]) -> Response:
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                httpx.AsyncClient(verify=self._tls, timeout=self._timeout_s, follow_redirects=False) as client,
            ):
                for _ in range(self._max_redirects + 1):
                    async with client.stream("GET", url, headers=headers) as answer:
                        location = answer.headers.get("location", "")
                        if answer.status_code not in _REDIRECTS or not location:
                            body = await self._read(answer) if answer.status_code == 200 else b""
                            return Response(answer.status_code, str(answer.url), answer.headers, body)
                    url = await _checked_redirect(url, location)
        except TimeoutError as exc:
            raise FetchError("timeout", f"{url} took longer than {self._timeout_s:g} s") from exc
        except httpx.TimeoutException as exc:
            raise FetchError("timeout", f"{url} did not answer in time: {exc!r}") from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as exc:
            raise FetchError("error", f"{url} could not be fetched: {exc!r}") from exc
        raise FetchError("error", f"more than {self._max_redirects} redirects, the last one to {url}")

    async def _read(self, answer: httpx.Response) -> bytes:
        """Return the body, decompressed no further than the limit: a small bomb may hold gigabytes."""
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise FetchError("error", f"{answer.url} uses the encoding {encoding!r}, which was not offered")
        body = bytearray()
        inflater = None
        async for chunk in answer.aiter_raw():
            if inflater is None and encoding not in {"", "identity"}:
                inflater = _inflater(encoding, chunk)
            try:
                body += inflater.decompress(chunk, self._max_bytes + 1 - len(body)) if inflater else chunk
            except zlib.error as exc:
                raise FetchError("error", f"{answer.url} is not valid {encoding}: {exc}") from exc
            if len(body) > self._max_bytes:
                raise FetchError("too_large", f"{answer.url} is larger than {self._max_bytes} bytes")
        if inflater is not None and not inflater.eof:
            raise FetchError("error", f"{answer.url} ended in the middle of its {encoding} data")
        return bytes(body)


def _inflater(encoding: str, first: bytes) -> zlib._Decompress:
    """Return a decompressor; `deflate` is meant to be zlib, but many servers send the raw form."""
    if encoding == "deflate" and not (first[:1] and first[0] & 0x0F == 8):
        return zlib.decompressobj(-zlib.MAX_WBITS)
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


async def _checked_redirect(url: str, location: str) -> str:
    target = urljoin(url, location)
    parts = urlsplit(target)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise FetchError("error", f"{url} redirects to {target[:200]!r}, which is not http(s)")
    if parts.hostname != urlsplit(url).hostname and await _is_private(parts.hostname):
        before = urlsplit(url).hostname or ""
        if not await _is_private(before):
            raise FetchError("error", f"{url} redirects into a private network ({parts.hostname})")
    return target


async def _is_private(host: str) -> bool:
    """Say whether `host` stands for an address that the public internet does not have."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:
        return False  # only a proxy can resolve it, and decides
    return any(not ipaddress.ip_address(str(address[4][0]).partition("%")[0]).is_global for address in found)
