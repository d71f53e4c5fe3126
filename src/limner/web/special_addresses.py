"""The address blocks that `image_url` must not reach: those of IANA's special-purpose registries, and others.

Python's own table (the `is_…` properties) differs between releases, so it is not used.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

REGISTRIES_OF = "2025-10-09"
"""The date of the two IANA Special-Purpose Address Registries from which `BLOCKS` was copied."""


@dataclass(frozen=True, slots=True)
class Block:
    """Addresses that are not ordinary public hosts, and the document that defines them."""

    network: IPv4Network | IPv6Network
    name: str
    reference: str


def _block(network: str, name: str, reference: str) -> Block:
    return Block(ip_network(network), name, reference)


# Blocks that the registries call globally reachable (AS112, AMT, anycast) are refused as well: no web server has an
# address there, and a node on the private network may answer for it. A registry's entry inside a block that is listed
# here in full (192.0.0.9/32, 2001:20::/28 …) is covered by that block.
BLOCKS: tuple[Block, ...] = (
    # IPv4, https://www.iana.org/assignments/iana-ipv4-special-registry
    _block("0.0.0.0/8", "this network", "RFC 791"),
    _block("10.0.0.0/8", "private use", "RFC 1918"),
    _block("100.64.0.0/10", "shared address space", "RFC 6598"),
    _block("127.0.0.0/8", "loopback", "RFC 1122"),
    _block("169.254.0.0/16", "link local", "RFC 3927"),
    _block("172.16.0.0/12", "private use", "RFC 1918"),
    _block("192.0.0.0/24", "IETF protocol assignments", "RFC 6890"),
    _block("192.0.2.0/24", "documentation", "RFC 5737"),
    _block("192.31.196.0/24", "AS112", "RFC 7535"),
    _block("192.52.193.0/24", "AMT", "RFC 7450"),
    _block("192.88.99.0/24", "6to4 relay anycast, deprecated", "RFC 7526"),
    _block("192.168.0.0/16", "private use", "RFC 1918"),
    _block("192.175.48.0/24", "AS112", "RFC 7534"),
    _block("198.18.0.0/15", "benchmarking", "RFC 2544"),
    _block("198.51.100.0/24", "documentation", "RFC 5737"),
    _block("203.0.113.0/24", "documentation", "RFC 5737"),
    _block("240.0.0.0/4", "reserved, and limited broadcast", "RFC 1112"),
    # IPv6, https://www.iana.org/assignments/iana-ipv6-special-registry
    _block("::/128", "unspecified", "RFC 4291"),
    _block("::1/128", "loopback", "RFC 4291"),
    _block("::ffff:0:0/96", "IPv4-mapped", "RFC 4291"),
    _block("64:ff9b::/96", "IPv4/IPv6 translation (NAT64)", "RFC 6052"),
    _block("64:ff9b:1::/48", "IPv4/IPv6 translation, local use", "RFC 8215"),
    _block("100::/64", "discard only", "RFC 6666"),
    _block("100:0:0:1::/64", "dummy prefix", "RFC 9780"),
    _block("2001::/23", "IETF protocol assignments: Teredo, ORCHID, benchmarking …", "RFC 2928"),
    _block("2001:db8::/32", "documentation", "RFC 3849"),
    _block("2002::/16", "6to4", "RFC 3056"),
    _block("2620:4f:8000::/48", "AS112", "RFC 7534"),
    _block("3fff::/20", "documentation", "RFC 9637"),
    _block("5f00::/16", "segment routing identifiers", "RFC 9602"),
    _block("fc00::/7", "unique local", "RFC 4193"),
    _block("fe80::/10", "link local", "RFC 4291"),
    # Not in those two registries.
    _block("224.0.0.0/4", "multicast", "RFC 5771"),
    _block("::/96", "IPv4-compatible, deprecated", "RFC 4291"),
    _block("::ffff:0:0:0/96", "IPv4-translated", "RFC 2765"),
    _block("3ffe::/16", "6bone, returned", "RFC 3701"),
    _block("fec0::/10", "site local, deprecated", "RFC 3879"),
    _block("ff00::/8", "multicast", "RFC 4291"),
)

UNICAST = IPv6Network("2000::/3")
"""The only IPv6 space in which addresses are assigned (IANA IPv6 Global Unicast Address Assignments)."""

_ISATAP = 0x0000_5EFE
_ISATAP_MASK = 0xFCFF_FFFF  # without the universal and the group bit, which ISATAP may set


def is_special(address: IPv4Address | IPv6Address) -> bool:
    """Whether the address is in one of `BLOCKS`, outside IPv6's `UNICAST`, or an ISATAP address.

    A network's own translation prefix (RFC 6052, 6rd) cannot be distinguished from an ordinary address.
    """
    if isinstance(address, IPv6Address) and (address not in UNICAST or _is_isatap(address)):
        return True
    return any(address in block.network for block in BLOCKS)


def _is_isatap(address: IPv6Address) -> bool:
    """Whether the interface identifier is `[02]00:5efe` and an IPv4 address (RFC 5214, 6.1)."""
    return (int(address) >> 32) & _ISATAP_MASK == _ISATAP
