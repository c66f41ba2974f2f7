"""One HTTP GET with every limit that a hostile or broken server makes necessary."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

import httpx

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


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

    A source may lie in a private network, since an operator chose it; a public one may not lead there. So once a public
    address has answered, each redirect's addresses are checked, and the connection goes to the one that was checked.
    What remains: the name of the source itself may come to mean a private address, and behind a proxy, which resolves
    names itself, only what this machine knows of a name can be checked.
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
            async with asyncio.timeout(self._timeout_s):
                public = False
                for _ in range(self._max_redirects + 1):
                    proxy = _proxy(httpx.URL(url))
                    address = await _checked_address(url, proxy) if public else None
                    async with (
                        httpx.AsyncClient(
                            verify=self._tls, timeout=self._timeout_s, trust_env=False, proxy=proxy
                        ) as client,
                        _ask(client, url, headers, None if proxy else address) as answer,
                    ):
                        location = answer.headers.get("location", "")
                        if answer.status_code not in _REDIRECTS or not location:
                            body = await self._read(answer, url) if answer.status_code == 200 else b""
                            return Response(answer.status_code, url, answer.headers, body)
                        public = public or await _is_public_host(url, None if proxy else answer)
                    url = _target(url, location)
        except TimeoutError as exc:
            raise FetchError("timeout", f"{shown(url)} took longer than {self._timeout_s:g} s") from exc
        except httpx.TimeoutException as exc:
            raise FetchError("timeout", f"{shown(url)} did not answer in time: {exc!r}") from exc
        except (httpx.HTTPError, httpx.InvalidURL, OSError, UnicodeError, ValueError) as exc:
            raise FetchError("error", f"{shown(url)} could not be fetched: {exc!r}") from exc
        raise FetchError("error", f"more than {self._max_redirects} redirects, the last one to {shown(url)}")

    async def _read(self, answer: httpx.Response, url: str) -> bytes:
        """Return the body, decompressed no further than the limit: a small bomb may hold gigabytes."""
        encoding = answer.headers.get("content-encoding", "identity").strip().lower()
        if encoding not in {"", "identity", "gzip", "x-gzip", "deflate"}:
            raise FetchError("error", f"{shown(url)} uses the encoding {encoding!r}, which was not offered")
        body = bytearray()
        inflater = None
        raw_bytes = 0
        async for chunk in answer.aiter_raw():
            raw_bytes += len(chunk)
            if inflater is None and encoding not in {"", "identity"}:
                inflater = _inflater(encoding, chunk)
            try:
                body += inflater.decompress(chunk, self._max_bytes + 1 - len(body)) if inflater else chunk
            except zlib.error as exc:
                raise FetchError("error", f"{shown(url)} is not valid {encoding}: {exc}") from exc
            # Bytes after the end of the compressed data add nothing to the body, and need not end.
            if max(len(body), raw_bytes) > self._max_bytes:
                raise FetchError("too_large", f"{shown(url)} is larger than {self._max_bytes} bytes")
        if inflater is not None and not inflater.eof:
            raise FetchError("error", f"{shown(url)} ended in the middle of its {encoding} data")
        return bytes(body)


def shown(url: str) -> str:
    """Return `url` as it may stand in logs and on pages: without user, password, query and fragment.

    >>> shown("https://me:secret@e.com:8443/feed?token=secret")
    'https://e.com:8443/feed'
    """
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be taken apart"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _inflater(encoding: str, first: bytes) -> zlib._Decompress:
    """Return a decompressor; `deflate` is meant to be zlib, but many servers send the raw form."""
    if encoding == "deflate" and not (first[:1] and first[0] & 0x0F == 8):
        return zlib.decompressobj(-zlib.MAX_WBITS)
    return zlib.decompressobj(zlib.MAX_WBITS | 32)


def _proxy(url: httpx.URL) -> str | None:
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.host):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _ask(
    client: httpx.AsyncClient, url: str, headers: Mapping[str, str], address: str | None
) -> AbstractAsyncContextManager[httpx.Response]:
    """GET `url`, from `address` where one is given."""
    if address is None:
        return client.stream("GET", url, headers=headers)
    named = httpx.URL(url)
    return client.stream(
        "GET",
        named.copy_with(host=address),
        headers={**headers, "Host": named.netloc.decode("ascii")},
        extensions={"sni_hostname": named.raw_host.decode("ascii")},
    )


def _target(url: str, location: str) -> str:
    target = httpx.URL(url).join(location)
    if target.scheme not in {"http", "https"} or not target.host:
        raise FetchError("error", f"{shown(url)} redirects to {shown(location)[:200]!r}, which is not http(s)")
    return str(target)


async def _checked_address(url: str, proxy: str | None) -> str | None:
    """Return an address of the host of `url`; None when this machine knows none, and a proxy may.

    Raises:
        FetchError: one of its addresses is not public, or there is none.
    """
    host = httpx.URL(url).raw_host.decode("ascii").strip("[]")
    addresses = await _resolved(host)
    if inside := [address for address in addresses if not _is_public(address)]:
        raise FetchError("error", f"a redirect leads into a private network: {host} is {inside[0]}")
    if not addresses and proxy is None:
        raise FetchError("error", f"a redirect leads to {host}, which has no address")
    return min(addresses, key=lambda address: ":" in address, default=None)  # nearly everyone has IPv4


async def _is_public_host(url: str, answer: httpx.Response | None) -> bool:
    """Say whether the answer came from a public address; without it, whether no address of the host is private."""
    if answer is not None:
        peer = answer.extensions["network_stream"].get_extra_info("server_addr")
        return _is_public(str(peer[0]))
    return all(map(_is_public, await _resolved(httpx.URL(url).raw_host.decode("ascii").strip("[]"))))


async def _resolved(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]


def _is_public(address: str) -> bool:
    """Say whether the public internet has this address; one that holds an IPv4 address counts as that."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip not in _GLOBAL_UNICAST:  # site-local, IPv4-compatible, ...
            return False
        ip = inner or ip
    return ip.is_global and not ip.is_multicast
