"""The guarded fetcher: one http(s) address -> bytes, without becoming a way into the network that awase runs in.

The address may come from a stranger, so (after OWASP's sheet on server-side request forgery):

- its text is judged before any packet is sent: http and https only, ports 80 and 443, no user names, only names and
  numbers of the public internet in their plain form;
- the name is looked up once, every answer must be a public address, and the connection goes to that very answer, so
  that a second lookup cannot lead elsewhere; every redirect starts again from the top;
- one deadline covers everything, and one cap counts the bytes that arrive, whatever the headers claim;
- no cookies, credentials, proxies or compressed answers;
- whatever fails before a public server has answered gives the same sentence, which tells nothing about the network.

It knows nothing of pictures.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import queue
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from awase.errors import AddressRefused

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[..., list[Any]]


class Connector(Protocol):
    def __call__(self, address: tuple[str, int], timeout: float) -> socket.socket: ...


_PORTS = {"http": 80, "https": 443}
_REDIRECTS = (301, 302, 303, 307, 308)
# Names that lead inside: RFC 6761, RFC 6762, RFC 8375 and what networks use without asking anyone.
_INSIDE = "localhost local localdomain internal intranet private corp home lan arpa onion test invalid example"
_INSIDE_NAME = re.compile(rf"(.*\.)?({'|'.join(_INSIDE.split())})")
_NAME = re.compile(r"(?=.{1,253}$)([a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9])?)*")
_ENDS_IN_A_NUMBER = re.compile(r"(.*\.)?([0-9]+|0x[0-9a-f]*)")  # the WHATWG's test for "this is meant as IPv4"

# Beyond what `ipaddress` calls private: 6to4 relays, and the host's own services at Azure.
_REFUSED_V4 = [ipaddress.IPv4Network(net) for net in ("192.88.99.0/24", "168.63.129.16/32", "192.0.0.0/24")]
_PUBLIC_V6 = ipaddress.IPv6Network("2000::/3")
# Special purposes (Teredo among them), documentation, 6to4: RFC 6890, RFC 9637.
_REFUSED_V6 = [ipaddress.IPv6Network(net) for net in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")]
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")

_REMEDY = "check the address, or download the picture and give the file"
_LARGER = f"{_REMEDY}; from Python the limit can be raised: Limits(address_bytes=..., bytes=...)"
_INWARD = f"{_REMEDY}; if it is meant to lead into this network: --private-addresses, Limits(private_addresses=True)"


class _NotPublic(ValueError):
    """The address leads inside."""


def _not_reached(address: str, private: bool) -> AddressRefused:
    """The one sentence for whatever fails before a public server has answered."""
    if private:
        return AddressRefused(address, "no server answers there in time", _REMEDY)
    return AddressRefused(address, "it does not lead to a public server that answers in time", _INWARD)


def fetch(
    address: str,
    *,
    bytes_limit: int = 20 * 2**20,
    seconds: float = 10.0,
    private: bool = False,
    redirects: int = 3,
    resolve: Resolver = socket.getaddrinfo,
    connect: Connector = socket.create_connection,
) -> bytes:
    """The body behind an http(s) address.

    bytes_limit: of the body, as it arrives. seconds: for everything, lookups and redirects included.
    private: allow names, addresses and ports of private networks and of this machine.
    resolve, connect: as `socket` has them; called once for each hop.

    Raises AddressRefused, for every refusal and every failure.
    """
    hop, shown = address, _shown(address)
    deadline = _Deadline(shown, time.monotonic() + seconds)
    for _ in range(redirects + 1):
        target = _judge(hop, shown, private)
        body = _get(target, deadline, bytes_limit, private, resolve, connect)
        if isinstance(body, bytes):
            return body
        try:
            hop = urljoin(target.url, body.location)
        except ValueError as problem:
            raise AddressRefused(shown, "it redirects to what is no address", _REMEDY) from problem
    raise AddressRefused(shown, f"it redirects more than {redirects} times", _REMEDY)


@dataclass(frozen=True)
class _Deadline:
    address: str
    end: float

    def left(self) -> float:
        """Seconds left, more than 0. Raises AddressRefused when there are none."""
        if (left := self.end - time.monotonic()) > 0:
            return left
        remedy = f"{_REMEDY}; from Python the limit can be raised: Limits(address_seconds=...)"
        raise AddressRefused(self.address, "it did not arrive in time", remedy)


@dataclass(frozen=True)
class _Target:
    url: str
    scheme: str
    host: str
    port: int
    path: str


@dataclass(frozen=True)
class _Redirect:
    location: str


# ---- the address as text ---------------------------------------------------------------------------------------------


def _judge(url: str, address: str, private: bool) -> _Target:
    """Takes an address apart; raises AddressRefused, before anything is sent, unless it may be tried."""
    try:
        if re.search(r"[\x00-\x20\x7f\\]", url):
            raise ValueError("it contains blanks, control characters or backslashes")
        parts = urlsplit(url)
        if parts.scheme not in _PORTS:
            raise ValueError("only http:// and https:// addresses are fetched")
        if "@" in parts.netloc:
            raise ValueError("it contains a user name")
        host = _plain_host(parts.hostname or "", private)
        port = _PORTS[parts.scheme] if parts.port is None else parts.port
        if not private and port not in _PORTS.values():
            raise AddressRefused(address, "only the ports 80 and 443 are fetched from", _INWARD)
        return _Target(url, parts.scheme, host, port, _path(parts))
    except _NotPublic as problem:
        raise _not_reached(address, private) from problem
    except ValueError as problem:
        raise AddressRefused(address, str(problem), _REMEDY) from problem


def _shown(address: str) -> str:
    """The address for messages: no password, nothing unprintable, not endless."""
    text = re.sub(r"//[^/@]*@", "//...@", address)
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[:200])


def _plain_host(host: str, private: bool) -> str:
    """A host in lower case ASCII. Raises ValueError for a disguised, malformed or (unless allowed) private one."""
    if ":" in host:
        if not _is_public(ipaddress.IPv6Address(host)) and not private:
            raise _NotPublic
        return host
    if not host.isascii():
        plain = host.encode("idna")
        if plain.decode("idna") != host:
            raise ValueError("its host name is written in look-alike or invisible characters")
        host = plain.decode("ascii")
    if not _NAME.fullmatch(host):
        raise ValueError("its host name is malformed")
    if _ENDS_IN_A_NUMBER.fullmatch(host):
        if not _is_public(ipaddress.IPv4Address(host)) and not private:  # refuses octal, hexadecimal and short forms
            raise _NotPublic
    elif not private and ("." not in host or _INSIDE_NAME.fullmatch(host)):
        raise _NotPublic
    return host


def _path(parts: SplitResult) -> str:
    kept = "%/:=&?~#+!$,;'@()*[]|-._"
    return quote(parts.path or "/", kept) + (f"?{quote(parts.query, kept)}" if parts.query else "")


def _is_public(ip: IPAddress) -> bool:
    """Whether an address belongs to the public internet, also when IPv4 is wrapped in IPv6."""
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or (ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if inner is not None:
            return _is_public(inner)
        return ip in _PUBLIC_V6 and ip.is_global and not any(ip in net for net in _REFUSED_V6) and not ip.scope_id
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or any(ip in net for net in _REFUSED_V4))


# ---- the address on the wire -----------------------------------------------------------------------------------------


def _get(
    target: _Target, deadline: _Deadline, bytes_limit: int, private: bool, resolve: Resolver, connect: Connector
) -> bytes | _Redirect:
    try:
        wire = _Wire(_connected(target, deadline, private, resolve, connect), deadline)
    except (OSError, ValueError) as problem:  # ValueError: a name that cannot be looked up
        raise _not_reached(deadline.address, private) from problem
    try:
        wire.sendall(_request(target))
        with http.client.HTTPResponse(cast(socket.socket, wire), method="GET") as answer:
            answer.begin()
            return _body(answer, deadline.address, bytes_limit)
    except (OSError, http.client.HTTPException, ValueError) as problem:
        deadline.left()  # a wait that ran out says so
        raise AddressRefused(deadline.address, "its answer broke off or is not HTTP", _REMEDY) from problem
    finally:
        wire.close()


def _connected(
    target: _Target, deadline: _Deadline, private: bool, resolve: Resolver, connect: Connector
) -> socket.socket:
    """A socket to a checked answer of the one lookup; the TLS certificate is checked against the name."""
    found = _within(deadline, lambda: resolve(target.host, target.port, type=socket.SOCK_STREAM))
    numbers = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not numbers or not (private or all(_is_public(ipaddress.ip_address(number)) for number in numbers)):
        raise ValueError("not public")
    plain = _first_answer(numbers, target.port, deadline, connect)
    if target.scheme == "http":
        return plain
    try:
        plain.settimeout(deadline.left())
        return ssl.create_default_context().wrap_socket(plain, server_hostname=target.host)
    except BaseException:
        plain.close()
        raise


def _first_answer(numbers: list[str], port: int, deadline: _Deadline, connect: Connector) -> socket.socket:
    """Tries the numbers in turn, each with a fair share of the time left (a machine without IPv6 has dead ones)."""
    for remaining in range(len(numbers), 0, -1):
        try:
            return connect((numbers[-remaining], port), timeout=deadline.left() / remaining)
        except OSError:
            if remaining == 1:
                raise
    raise OSError("no number to connect to")


def _within(deadline: _Deadline, lookup: Callable[[], list[Any]]) -> list[Any]:
    """The lookup's answer. It runs in a thread of its own, because nothing else can interrupt it."""
    answers: queue.SimpleQueue[list[Any] | Exception] = queue.SimpleQueue()

    def look() -> None:
        try:
            answers.put(lookup())
        except Exception as problem:
            answers.put(problem)

    threading.Thread(target=look, daemon=True).start()
    try:
        answer = answers.get(timeout=deadline.left())
    except queue.Empty:
        raise TimeoutError("lookup") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _request(target: _Target) -> bytes:
    host = f"[{target.host}]" if ":" in target.host else target.host
    port = "" if target.port == _PORTS[target.scheme] else f":{target.port}"
    lines = (
        f"GET {target.path} HTTP/1.1",
        f"Host: {host}{port}",
        "User-Agent: awase",
        "Accept: image/*",
        "Accept-Encoding: identity",
        "Connection: close",
    )
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode("ascii")


def _body(answer: http.client.HTTPResponse, address: str, bytes_limit: int) -> bytes | _Redirect:
    if answer.status in _REDIRECTS and (location := answer.getheader("Location")):
        return _Redirect(location)
    if answer.status != 200:
        raise AddressRefused(address, f"its server answered {answer.status}", _REMEDY)
    if answer.getheader("Content-Encoding", "identity").lower() != "identity":
        raise AddressRefused(address, "its server sends it compressed, though asked not to", _REMEDY)
    reason = f"it is over the limit of {bytes_limit:,} bytes"
    too_long = AddressRefused(address, reason, _LARGER)
    if (answer.length or 0) > bytes_limit:
        raise too_long
    body = bytearray()
    while part := answer.read1(65536):
        body += part
        if len(body) > bytes_limit:
            raise too_long
    if answer.length:  # what the header promised and did not come
        raise http.client.IncompleteRead(b"", answer.length)
    return bytes(body)


@dataclass(frozen=True)
class _Wire:
    """What http.client needs of a socket; every wait is bounded by what is left of the deadline, so that a sender of
    one byte a second is cut at the limit too."""

    socket: socket.socket
    deadline: _Deadline

    def sendall(self, data: bytes) -> None:
        self.socket.settimeout(self.deadline.left())
        self.socket.sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        self.socket.close()


class _Incoming(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._wire.socket.settimeout(self._wire.deadline.left())
        return self._wire.socket.recv_into(buffer)
