"""Which addresses a receiver may have: a URL that somebody gave must not lead newsquake into the network it stands in.

A name is resolved once; every address it has must be public or in a network that the receiver's settings allow, and
the connection goes to an address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Sequence

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class RefusedError(Exception):
    """An address is neither public nor allowed."""


async def checked_addresses(host: str, port: int, allowed: Sequence[Network]) -> list[str]:
    """Return the addresses of a host, in the order of preference.

    Raises:
        RefusedError: one of them is not allowed.
        OSError: the name cannot be resolved.
    """
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    for address in addresses:
        if not is_allowed(address, allowed):
            raise RefusedError(
                f"{host} resolves to {address}, which is not public; "
                "if it is yours, name its network in allow_networks of this receiver"
            )
    return addresses


def is_allowed(address: str, allowed: Sequence[Network]) -> bool:
    """Say whether the public internet has an address or a network allows it; IPv4 inside IPv6 counts as that."""
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address = ipaddress.ip_address(address.partition("%")[0])
    if any(ip in network for network in allowed):
        return True
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ipaddress.IPv4Address(int(ip) & 0xFFFF_FFFF) if ip in _NAT64 else ip.ipv4_mapped or ip.sixtofour
        if inner is None and ip not in _GLOBAL_UNICAST:  # site-local, IPv4-compatible, ...
            return False
        ip = inner or ip
        if any(ip in network for network in allowed):
            return True
    return ip.is_global and not ip.is_multicast
