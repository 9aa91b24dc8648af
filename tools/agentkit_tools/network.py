"""Where tools may connect to: no private addresses, unless the program says so.

A :class:`NetworkPolicy` is checked three times: the URL before each request, redirects included;
each address that the name resolves to; and, as the connection is made to those very addresses,
at no later time can the name lead elsewhere (DNS rebinding).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from agentkit.errors import UserError
from agentkit_tools.http_errors import HTTPBlockedError

if TYPE_CHECKING:
    import httpx

__all__ = ["NetworkPolicy"]

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# Of cloud services, some of them outside of the link-local range.
_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",
            "169.254.170.2",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
        ),
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_GLOBAL_IPV6 = ipaddress.IPv6Network("2000::/3")
_DOCUMENTATION = ipaddress.IPv6Network("3fff::/20")
# Spellings of IPv4 addresses that resolvers understand: 127.1, 0x7f000001, 017700000001.
_NUMERIC = re.compile(r"[0-9][0-9a-fA-FxX.]*")
_LOCALHOST = "localhost"
# Judged URLs that are remembered: many for a program, few for memory.
_MAX_PASSED = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkPolicy:
    """Where requests may go. By default anywhere on the public internet, and nowhere else.

    Denied are loopback, private, link-local, multicast, reserved and unspecified addresses and
    those of cloud metadata services, in IPv4, IPv6 and IPv4 within IPv6, whichever way they are
    spelled, and whatever name leads to them. If a name resolves to several addresses, all must
    be allowed.
    """

    schemes: Collection[str] = ("https", "http")
    """Of URLs."""
    ports: Collection[int] | None = None
    """That may be connected to; ``None`` for all."""
    only_hosts: Collection[str] | None = None
    """If given, the only hosts: names or addresses, ``*.example.org`` for all below a name, with
    ``:port`` for one port only. Their addresses are checked nevertheless."""
    allow_hosts: Collection[str] = ()
    """Hosts, written likewise, that may have any address: ``db.internal``, ``127.0.0.1:8000``."""
    allow_networks: Collection[str | Network] = ()
    """Networks that are allowed, such as ``10.1.0.0/16``."""
    allow_private: bool = False
    """Allow loopback and private addresses; not link-local and metadata addresses."""
    _only: tuple[_Host, ...] | None = field(init=False, repr=False, compare=False)
    _allowed: tuple[_Host, ...] = field(init=False, repr=False, compare=False)
    _networks: tuple[Network, ...] = field(init=False, repr=False, compare=False)
    _passed: set[tuple[str, str, int | None]] = field(
        default_factory=set, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        def put(name: str, value: Any) -> None:
            object.__setattr__(self, name, value)

        for name in ("schemes", "only_hosts", "allow_hosts", "allow_networks"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise UserError(f"NetworkPolicy: {name} must be a list, as [{value!r}]")
            put(name, value if value is None else tuple(value))
        put("ports", None if self.ports is None else tuple(self.ports))
        put("_only", None if self.only_hosts is None else tuple(map(_read_host, self.only_hosts)))
        put("_allowed", tuple(map(_read_host, self.allow_hosts)))
        put("_networks", tuple(map(_read_network, self.allow_networks)))

    def allowing(self, url: str) -> NetworkPolicy:
        """This policy for a URL that the program itself wrote.

        A URL that plainly names this machine or a private address (``http://127.0.0.1:8000``,
        ``http://localhost:8000``, ``http://10.0.0.5``) is meant: that host is allowed with that
        port. A name that turns out to have a private address is not.

        Args:
            url: Absolute, of scheme http or https.
        """
        parsed = _read_url(url)
        host = parsed.host.rstrip(".")
        if _literal(host) is None and host != _LOCALHOST:
            return self
        entry = f"[{host}]:{_port(parsed)}" if ":" in host else f"{host}:{_port(parsed)}"
        return replace(self, allow_hosts=(*self.allow_hosts, entry))

    def guarding(self, url: str, *, label: str) -> NetworkPolicy:
        """:meth:`allowing`, for a URL template, with a check that the URL can be reached at all.

        Args:
            url: Absolute; what is not its scheme, host or port does not matter.
            label: How errors name it.

        Raises:
            UserError: The policy forbids it.
        """
        parts = urlsplit(url)
        own_url = f"{parts.scheme}://{parts.netloc}"
        try:
            policy = self.allowing(own_url)
            policy.check_url(own_url)
        except HTTPBlockedError as error:
            raise UserError(f"{label}: forbidden by its network policy: {error}") from None
        return policy

    def check_url(self, url: str | httpx.URL) -> None:
        """Judge a URL by what it says. Its addresses are judged when a connection is made.

        Raises:
            HTTPBlockedError: The scheme, the host or the port is not allowed; or the host is an
                address, in whatever spelling, which is not allowed.
        """
        parsed = _read_url(url)
        # All that the verdict depends on. A tool's requests go to one host, mostly.
        place = (parsed.scheme, parsed.host, parsed.port)
        if place in self._passed:
            return
        if parsed.scheme not in self.schemes:
            raise HTTPBlockedError(
                f"the scheme {parsed.scheme!r} is not allowed; use {' or '.join(self.schemes)}"
            )
        host, port = parsed.host, _port(parsed)
        if not host:
            raise HTTPBlockedError("the URL has no host")
        if self.ports is not None and port not in self.ports:
            raise HTTPBlockedError(f"port {port} is not allowed")
        if self._only is not None and not _any(self._only, host, port):
            raise HTTPBlockedError(
                f"the host {host!r} is not allowed; allowed are {', '.join(self.only_hosts or ())}"
            )
        address = _literal(host)
        if address is not None:
            self.check_address(address, host=host, port=port)
        if len(self._passed) < _MAX_PASSED:
            self._passed.add(place)

    def check_address(self, address: str | Address, *, host: str, port: int) -> None:
        """Judge an address that a host has.

        Args:
            address: IPv4 or IPv6.
            host: The name that led to it, or the address as the URL spells it.
            port: To be connected to.

        Raises:
            HTTPBlockedError: It is not allowed.
        """
        plain = ipaddress.ip_address(address) if isinstance(address, str) else address
        if _any(self._allowed, host, port):
            return
        inner = _unwrap(plain)
        if any(plain in network or inner in network for network in self._networks):
            return
        kind = _kind(inner)
        if kind is None or (self.allow_private and kind in ("loopback", "private")):
            return
        raise HTTPBlockedError(
            f"the host {host!r} has a {kind} address, which the tool's NetworkPolicy does not allow"
        )

    async def resolve(self, host: str, port: int) -> list[str]:
        """The addresses of a host, all of them checked.

        Args:
            host: A name or an address.
            port: To be connected to.

        Raises:
            HTTPBlockedError: One of them is not allowed.
            OSError: The name has no address.
        """
        literal = _literal(host)
        if literal is not None:
            found = [str(literal)]
        else:
            loop = asyncio.get_running_loop()
            try:
                infos = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            except UnicodeError as error:
                raise OSError(f"{host!r} is not a host's name") from error
            found = list(dict.fromkeys(str(info[4][0]) for info in infos))
        for address in found:
            self.check_address(address, host=host, port=port)
        return found

    def transport(self, **options: Any) -> httpx.AsyncBaseTransport:
        """A transport that connects to allowed addresses only.

        Args:
            **options: Of ``httpx.AsyncHTTPTransport``: ``verify``, ``http2``, ``limits``.

        Raises:
            UserError: An option would go around the policy.
        """
        from agentkit_tools._network_transport import make_transport

        return make_transport(self, options)

    def client(self, **options: Any) -> httpx.AsyncClient:
        """An ``httpx.AsyncClient`` that connects to allowed addresses only.

        It takes no proxies and no passwords from the environment and, unless given a jar, keeps
        no cookies. It is yours to close.

        Args:
            **options: Of ``httpx.AsyncClient``, among them ``verify``, ``http2`` and ``limits``;
                and ``wrap``, a function that puts a transport of your own around the policy's.

        Raises:
            UserError: An option (``proxy``, ``mounts``, ``transport``, ``trust_env`` ...) would go
                around the policy.
        """
        from agentkit_tools._network_transport import make_client

        return make_client(self, options)


@dataclass(frozen=True, slots=True)
class _Host:
    name: str
    port: int | None
    below: bool

    def matches(self, host: str, port: int) -> bool:
        if self.port is not None and self.port != port:
            return False
        host = host.rstrip(".").lower()
        if self.below:
            return host.endswith("." + self.name)
        if host == self.name:
            return True
        mine = _literal(self.name)
        return mine is not None and mine == _literal(host)


def _any(hosts: tuple[_Host, ...], host: str, port: int) -> bool:
    return any(entry.matches(host, port) for entry in hosts)


def _read_host(text: str) -> _Host:
    wrong = UserError(
        f"NetworkPolicy: {text!r} is not a host such as 'example.org', '*.example.org', "
        "'127.0.0.1:8000' or '[::1]:8000'"
    )
    if text.count(":") > 1 and "[" not in text:
        text = f"[{text}]"
    match = re.fullmatch(r"(\*\.)?(?:\[([^\]]+)\]|([^:/\[\]@\s*]+))(?::([0-9]{1,5}))?", text)
    if match is None:
        raise wrong
    below, ipv6, name, port = match.groups()
    host = (ipv6 or name).rstrip(".").lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise wrong from None
    return _Host(host, None if port is None else int(port), below is not None)


def _read_network(network: str | Network) -> Network:
    try:
        return ipaddress.ip_network(network)
    except ValueError as error:
        raise UserError(f"NetworkPolicy: {error}; write a network such as '10.1.0.0/16'") from None


def _read_url(url: str | httpx.URL) -> httpx.URL:
    import httpx

    if isinstance(url, httpx.URL):
        return url
    try:
        return httpx.URL(url)
    except httpx.InvalidURL as error:
        raise HTTPBlockedError(f"the URL cannot be read: {error}") from None


def _port(url: httpx.URL) -> int:
    return url.port if url.port is not None else {"https": 443}.get(url.scheme, 80)


def _literal(host: str) -> Address | None:
    """The address that a host spells, if it is none of a name's."""
    host = host.strip("[]").rstrip(".")
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        pass
    if _NUMERIC.fullmatch(host):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(host))
        except OSError:
            pass
    return None


def _unwrap(address: Address) -> Address:
    """The IPv4 address within an IPv6 address that leads to it."""
    if isinstance(address, ipaddress.IPv6Address):
        if address in _NAT64:
            return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return address.ipv4_mapped or address.sixtofour or address
    return address


def _kind(address: Address) -> str | None:
    """Why an address is not on the public internet; ``None`` if it is."""
    if address in _METADATA:
        return "metadata"
    for kind in ("unspecified", "loopback", "link_local", "multicast", "reserved"):
        if getattr(address, f"is_{kind}"):
            return kind.replace("_", "-")
    if isinstance(address, ipaddress.IPv6Address):
        if address.is_site_local:
            return "private"
        # Also what was not assigned when this Python was made.
        if not address.is_private and (address not in _GLOBAL_IPV6 or address in _DOCUMENTATION):
            return "reserved"
    return None if address.is_global else "private"
