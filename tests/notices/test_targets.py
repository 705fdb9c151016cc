"""service/headcount/notices/egress.py: which addresses may be reached."""

import ipaddress

import pytest

from headcount.notices.egress import TargetRefused, Targets, is_public
from headcount.notices.look_ups import LookUps

REFUSED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",  # carrier-grade NAT
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",  # Azure's host
    "169.254.169.254",  # where clouds tell their secrets
    "172.16.0.1",
    "192.0.0.1",
    "192.0.0.192",  # Oracle's host
    "192.88.99.1",  # 6to4 relays
    "192.0.2.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::a83f:8110",  # Azure's host, by NAT64
    "64:ff9b::c000:c0",
    "64:ff9b:1::1",
    "64:ff9b:1::5db8:d822",
    "::ffff:168.63.129.16",
    "::ffff:0:5db8:d822",
    "100::1",
    "2001:0:5ef5:79fd:0:0:0:1",
    "2001:2::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:5db8:d822::1",
    "3fff::1",
    "3fff:fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
]
PUBLIC = [
    *("93.184.216.34", "1.1.1.1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822", "2606:4700::1111"),
    # beside what is refused
    *("11.0.0.1", "100.128.0.1", "168.63.129.17", "172.32.0.1", "192.0.1.1", "192.88.98.1", "198.20.0.1", "223.1.1.1"),
    *("2001:200::1", "2003::1", "3ffe::1"),
]


@pytest.mark.parametrize("address", REFUSED)
def test_what_is_not_on_the_internet_is_refused(address: str) -> None:
    assert not is_public(ipaddress.ip_address(address))
    assert not Targets(LookUps()).allows(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_on_the_internet_is_allowed(address: str) -> None:
    assert Targets(LookUps()).allows(address)


def test_networks_that_are_named_are_allowed_too() -> None:
    targets = Targets(LookUps(), ["10.1.0.0/16", "fd00::/8"])
    assert targets.allows("10.1.2.3")
    assert targets.allows("::ffff:10.1.2.3")
    assert targets.allows("fd12::1")
    assert targets.allows("1.1.1.1")
    assert not targets.allows("10.2.0.1")
    assert not targets.allows("127.0.0.1")


# other ways to write 127.0.0.1 and 10.0.0.1, as the resolver understands them
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "10.1", "::1", "localhost"]
)
async def test_addresses_written_in_another_way_are_what_they_stand_for(host: str) -> None:
    with pytest.raises(TargetRefused):
        await Targets(LookUps()).resolve(host, 80, "")
    assert await Targets(LookUps(), ["0.0.0.0/0", "::/0"]).resolve(host, 80, "")
