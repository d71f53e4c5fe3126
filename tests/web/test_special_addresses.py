"""Which addresses `image_url` may reach: the same on every Python, also at the edges of every block."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from limner.web.outgoing import is_public
from limner.web.special_addresses import BLOCKS

# First and last address of each refused range of IPv4; what lies between two ranges is public.
REFUSED_V4 = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "255.255.255.255"),
]

# The same for IPv6. All below 2000:: and all from 4000:: on is refused, whatever it is called.
REFUSED_V6 = [
    ("::", "1fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001::", "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2002::", "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("2620:4f:8000::", "2620:4f:8000:ffff:ffff:ffff:ffff:ffff"),
    ("3ffe::", "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff"),
    ("4000::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
]

# What the IANA registries listed on 2025-10-09, entries inside other entries included, and multicast.
REGISTERED = """
    0.0.0.0/8 0.0.0.0/32 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.0.0.0/24 192.0.0.0/29
    192.0.0.8/32 192.0.0.9/32 192.0.0.10/32 192.0.0.170/32 192.0.0.171/32 192.0.2.0/24 192.31.196.0/24 192.52.193.0/24
    192.88.99.0/24 192.88.99.2/32 192.168.0.0/16 192.175.48.0/24 198.18.0.0/15 198.51.100.0/24 203.0.113.0/24
    240.0.0.0/4 255.255.255.255/32 224.0.0.0/4
    ::1/128 ::/128 ::ffff:0:0/96 64:ff9b::/96 64:ff9b:1::/48 100::/64 100:0:0:1::/64 2001::/23 2001::/32 2001:1::1/128
    2001:1::2/128 2001:1::3/128 2001:2::/48 2001:3::/32 2001:4:112::/48 2001:10::/28 2001:20::/28 2001:30::/28
    2001:db8::/32 2002::/16 2620:4f:8000::/48 3fff::/20 5f00::/16 fc00::/7 fe80::/10 ff00::/8
"""


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("8.8.8.8", True),
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("2a00:1450:4001:80b::200e", True),
        ("2001:4860:4860::8888", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.31.255.255", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.100.100.200", False),
        ("192.0.0.8", False),
        ("192.0.0.9", False),
        ("192.0.2.1", False),
        ("192.88.99.1", False),
        ("198.18.0.1", False),
        ("0.1.2.3", False),
        ("240.0.0.1", False),
        ("239.1.1.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fec0::1", False),
        ("fd12::1", False),
        ("ff0e::1", False),
        ("4000::1", False),
        ("5f00::1", False),
        ("2001:db8::1", False),
        ("3fff::1", False),
        # An IPv4 address inside another: refused even where that one is public.
        ("::8.8.8.8", False),
        ("::7f00:1", False),
        ("::ffff:8.8.8.8", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:0:8.8.8.8", False),
        ("64:ff9b::8.8.8.8", False),
        ("64:ff9b::a00:1", False),
        ("64:ff9b:1::808:808", False),
        ("2002:808:808::1", False),
        ("2002:a00:1::1", False),
        ("2001:0:7f00:1::", False),
        ("2001:0:808:808::1", False),
        ("2606:4700::5efe:8.8.8.8", False),
        ("2606:4700::200:5efe:8.8.8.8", False),
        ("2606:4700::5eff:8.8.8.8", True),
        ("2606:4700::400:5efe:8.8.8.8", True),
        # With a scope.
        ("::1%lo", False),
        ("fe80::1%eth0", False),
        ("2606:4700::1111%eth0", False),
    ],
)
def test_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def _ranges(refused: list[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(int(ipaddress.ip_address(first)), int(ipaddress.ip_address(last))) for first, last in refused]


@pytest.mark.parametrize(
    ("kind", "refused"), [(ipaddress.IPv4Address, REFUSED_V4), (ipaddress.IPv6Address, REFUSED_V6)]
)
def test_the_edges_of_each_block(
    kind: type[ipaddress.IPv4Address | ipaddress.IPv6Address], refused: list[tuple[str, str]]
) -> None:
    top = int(kind(refused[-1][1]))  # both tables reach to the end of their space
    for first, last in _ranges(refused):
        for inside in (first, last, (first + last) // 2):
            assert not is_public(str(kind(inside))), kind(inside)
        for outside in (first - 1, last + 1):
            if 0 <= outside <= top:
                assert is_public(str(kind(outside))), kind(outside)


@pytest.mark.parametrize("registered", REGISTERED.split())
def test_every_entry_of_the_registries_is_refused_whole(registered: str) -> None:
    network = ipaddress.ip_network(registered)
    first, last = int(network.network_address), int(network.broadcast_address)
    for number in {first, (first + last) // 2, last}:
        assert not is_public(str(type(network.network_address)(number)))


def test_every_block_names_its_source() -> None:
    assert len({block.network for block in BLOCKS}) == len(BLOCKS)
    assert all(block.name and block.reference.startswith("RFC ") for block in BLOCKS)


@given(st.integers(0, 2**32 - 1))
def test_any_ipv4_address(number: int) -> None:
    refused = any(first <= number <= last for first, last in _ranges(REFUSED_V4))
    assert is_public(str(ipaddress.IPv4Address(number))) is not refused


@given(st.integers(0, 2**125 - 1), st.integers(0, 7))
def test_any_ipv6_address(rest: int, top: int) -> None:
    number = top << 125 | rest
    refused = any(first <= number <= last for first, last in _ranges(REFUSED_V6))
    isatap = (number >> 32) & 0xFCFF_FFFF == 0x5EFE
    assert is_public(str(ipaddress.IPv6Address(number))) is not (refused or isatap)
