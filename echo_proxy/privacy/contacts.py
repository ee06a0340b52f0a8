"""Which e-mail and IP addresses stand in a text?"""

import ipaddress
import re
from collections.abc import Iterator

from echo_proxy.privacy.finding import Finding

_AT = re.compile(r"@|＠|%40|\s?[\[(]\s?at\s?[\])]\s?", re.IGNORECASE)
_LOCAL = re.compile(r"[\w.+!#$'’*^`{|}~-]+\Z")
_MOST_OF_LOCAL = 64
_DOMAIN = re.compile(
    r"(?:[^\W_](?:[\w-]{0,62})(?:\.|\s?[\[(]\s?dot\s?[\])]\s?)){1,8}(?P<top>xn--[a-z0-9-]{2,59}|[^\W\d_]{2,24})(?![\w@])",
    re.IGNORECASE,
)
"""RFC 6531 but for quoted local parts; also as %40 in a URL and as `name [at] example [dot] com`."""
_OPENS = "'’`*{|~!#$^.-"
"""Signs that may stand in a local part, but before it usually belong to the text."""
_FILES = frozenset(
    (
        *("png", "jpg", "jpeg", "gif", "svg", "webp", "avif", "ico", "pdf", "css", "js", "mjs", "ts", "tsx", "jsx"),
        *("py", "json", "yml", "yaml", "md", "txt", "html"),
    )
)
"""`logo@2x.png` is a file."""
_URL_USER = re.compile(r"://[^\s/@:]{0,64}:[^\s/@<\[]{0,64}\Z")
"""Without brackets: neutralize puts a space behind them."""
_V4 = re.compile(r"(?<![\w.])(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)(?!\w|\.\d|-\d)")
_VERSION = re.compile(
    r"(?:version|release|firmware|build|section|chapter|paragraph|table|figure|rev|ver|\bv|[A-Za-z]/|==|>=|<=|~=|\^|[A-Za-z]-)\s?$",
    re.IGNORECASE,
)
"""What stands before four numbers that are no address."""
_NOBODY = tuple(
    ipaddress.ip_network(one)
    for one in (
        *("0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16", "224.0.0.0/3"),
        *("1.1.1.1/32", "1.0.0.1/32", "8.8.8.8/32", "8.8.4.4/32", "9.9.9.9/32"),
    )
)
"""Private networks, loopback, netmasks, multicast, and resolvers that everybody uses: they tell nothing of anybody."""
_V6 = re.compile(
    r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?::\d{1,3}(?:\.\d{1,3}){3}|(?:\.\d{1,3}){3})?(?![\w:])"
)
_GLOBAL_V6 = ipaddress.ip_network("2000::/3")


def find_emails(text: str) -> Iterator[Finding]:
    """Addresses of people and offices; not `git@host:`, which is a service's, and not the end of a URL's password."""
    for at in _AT.finditer(text):
        local = _LOCAL.search(text, max(0, at.start() - _MOST_OF_LOCAL), at.start())
        domain = _DOMAIN.match(text, at.end()) if local else None
        if not local or not domain or domain["top"].lower() in _FILES:
            continue
        name = local.group().lstrip(_OPENS)
        start = at.start() - len(name)
        if name and name != "git" and not _URL_USER.search(text, max(0, start - 80), start):
            yield Finding("email", start, domain.end())


def find_ip_addresses(text: str) -> Iterator[Finding]:
    """Public ones: not of private networks, and not versions of software."""
    for match in _V4.finditer(text):
        if not _is_nobodys(match.group()) and not _VERSION.search(text[max(0, match.start() - 12) : match.start()]):
            yield Finding("ip_address", match.start(), match.end())
    for match in _V6.finditer(text):
        if _is_public_v6(match.group()):
            yield Finding("ip_address", match.start(), match.end(), 3)


def _is_nobodys(address: str) -> bool:
    parsed = ipaddress.IPv4Address(".".join(str(int(one)) for one in address.split(".")))
    return any(parsed in network for network in _NOBODY)


def _is_public_v6(address: str) -> bool:
    try:
        parsed = ipaddress.IPv6Address(address)
    except ValueError:
        return False
    if parsed.ipv4_mapped:
        return not _is_nobodys(str(parsed.ipv4_mapped))
    return parsed in _GLOBAL_V6
