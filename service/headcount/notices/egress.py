"""Which addresses webhooks may reach: public ones, and those of the networks in HEADCOUNT_PRIVATE_TARGETS.

Whoever may make a channel chooses where this service connects to. What a name stands for is looked up and checked
when the connection is made, and the connection goes to the very address that was checked.
"""

import ipaddress
from collections.abc import Sequence
from functools import partial

import httpx

from headcount.notices.look_ups import LookUps

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# An IPv6 address that stands for an IPv4 one (RFC 6052): where there is no IPv4, names are translated to these.
NAT64 = ipaddress.ip_network("64:ff9b::/96")
# What is nobody's on the internet, or only this machine's or its provider's. A table of our own: Python's `ipaddress`
# says something else in each of its versions. From the IANA registries of special-purpose addresses
# (https://www.iana.org/assignments/iana-ipv4-special-registry and .../iana-ipv6-special-registry, November 2026).
FORBIDDEN = [
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by customers of a provider; clouds have services here
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # Azure's host, to each of its machines
        "169.254.0.0/16",  # link-local; where clouds tell their secrets
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments; Oracle's host is 192.0.0.192
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays, which there are no more
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # Of IPv6 only 2000::/3 is in use: these three are the rest. Among it loopback, private (fc00::/7), link-local,
        # site-local, multicast, NAT64 of one's own (64:ff9b:1::/48), discard-only, segment routing (5f00::/16).
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID and more
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, a tunnel to whatever it names
        "3fff::/20",  # documentation
    )
]
CONNECT_SECONDS = 3.0
NOT_PUBLIC = "This is not a public address."


class TargetRefused(Exception):
    """The address may not be reached. The text does not say which one: what names stand for here is not told."""


def is_public(address: Address) -> bool:
    """Whether it can be anybody's on the internet, and nobody's here."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in NAT64:
            return is_public(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
        if address.ipv4_mapped:
            return is_public(address.ipv4_mapped)
    return not any(address in network for network in FORBIDDEN)


class Targets:
    def __init__(self, look_ups: LookUps, networks: Sequence[str] = ()) -> None:
        self.look_ups = look_ups
        self.networks = [ipaddress.ip_network(network) for network in networks]

    def allows(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        plain = (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address
        return is_public(address) or any(plain in network for network in self.networks)

    async def resolve(self, host: str, port: int, client: str) -> list[str]:
        """The addresses of a host, looked up in a place of `client`.

        Raises TargetRefused if even one of them may not be reached, OSError or UnicodeError without any, and Crowded.
        """
        addresses = await self.look_ups.find(host, port, client)
        for address in addresses:
            if not self.allows(address):
                raise TargetRefused(NOT_PUBLIC)
        if not addresses:
            raise OSError(f"{host} has no address")
        return addresses


class CheckedTransport(httpx.AsyncHTTPTransport):
    """Connects to addresses that Targets.resolve has let through, and to nothing that the name means later.

    The extension `client` of a request says whose place the look-up takes.
    """

    def __init__(self, targets: Targets) -> None:
        # no connection is kept: the next request is checked anew
        super().__init__(limits=httpx.Limits(max_keepalive_connections=0))
        self.targets = targets

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        host = request.url.raw_host.decode("ascii")
        port = request.url.port or (443 if request.url.scheme == "https" else 80)
        extensions = {**request.extensions, "sni_hostname": host}
        failed: Exception = OSError(f"{host} has no address")
        for address in await self.targets.resolve(host, port, request.extensions["client"]):
            pinned = partial(httpx.Request, request.method, request.url.copy_with(host=address))
            try:
                return await super().handle_async_request(
                    pinned(headers=request.headers, stream=request.stream, extensions=extensions)
                )
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failed = error
        raise failed
