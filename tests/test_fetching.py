"""The fetcher fetches pictures and cannot be talked into anything else. No packet leaves this machine."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from awase.encoding.fetching import fetch
from awase.encoding.pictures import Limits, open_picture
from awase.errors import AddressRefused, PictureError
from hostile import photograph, saved

PICTURE = saved(photograph(), "JPEG")

FORMS = """
http://127.0.0.1/ http://127.1/ http://127.0.1/ http://127.255.255.254/ http://0.0.0.0/ http://0/ http://0.0.0.1/
http://0x7f.1/ http://0x7f000001/ http://0x7f.0.0.1/ http://0x7f.0x0.0x0.0x1/ http://2130706433/ http://017700000001/
http://0177.0.0.1/ http://0177.0.0.01/ http://127.0.0.01/ http://127.0.0.1./ http://127.0.0.256/ http://1.2.3/
http://10.0.0.1/ http://10.255.255.255/ http://172.16.0.1/ http://172.31.255.255/ http://192.168.0.1/
http://100.64.0.1/ http://100.127.255.255/ http://100.100.100.200/ http://169.254.169.254/ http://169.254.0.1/
http://192.0.0.1/ http://192.0.0.192/ http://192.0.2.1/ http://198.18.0.1/ http://198.51.100.1/ http://203.0.113.1/
http://192.88.99.1/ http://168.63.129.16/ http://224.0.0.1/ http://239.255.255.255/ http://240.0.0.1/
http://255.255.255.255/

http://[::1]/ http://[::]/ http://[::127.0.0.1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
http://[::ffff:10.0.0.1]/ http://[::ffff:0:127.0.0.1]/ http://[64:ff9b::7f00:1]/ http://[64:ff9b::169.254.169.254]/
http://[64:ff9b:1::1]/ http://[fc00::1]/ http://[fd00:ec2::254]/ http://[fe80::1]/ http://[fe80::1%25eth0]/
http://[fec0::1]/ http://[ff02::1]/ http://[2001:db8::1]/ http://[2001::1]/ http://[2002:7f00:1::]/
http://[2002:a00:1::]/ http://[3fff::1]/ http://[100::1]/ http://[2606:4700::1111%25eth0]/ http://[::1/
http://[127.0.0.1]/

http://localhost/ http://LOCALHOST/ http://localhost./ http://a.localhost/ http://localhost.localdomain/
http://printer.local/ http://metadata.google.internal/ http://metadata/ http://intranet/ http://wiki.intranet/
http://router.lan/ http://nas.home/ http://nas.home.arpa/ http://git.corp/ http://db.private/ http://a.onion/
http://1.0.0.127.in-addr.arpa/ http://a.test/ http://example.com./

http://user@example.com/ http://user:secret@example.com/ http://example.com@127.0.0.1/ http://127.0.0.1#@example.com/
http://example.com:22/ http://example.com:8080/ http://example.com:0/ http://example.com:99999/ http://example.com:a/

http://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/ http://①②⑦.⓪.⓪.①/ http://１２７.０.０.１/ http://127。0。0。1/ http://127．0．0．1/
http://ｅｘａｍｐｌｅ.com/ http://loc\u00adalhost/ http://exa\u200bmple.com/ http://exa\u200dmple.com/ http://faß.de/
http://-a.com/ http://a..com/ http://.com/ http://a%2ecom/ http://a_/

file:///etc/passwd file://127.0.0.1/etc/passwd gopher://example.com/ ftp://example.com/a.jpg data:image/png;base64,AA==
dict://example.com:11211/ ldap://example.com/ jar:http://example.com!/ javascript:alert(1) //example.com/a.jpg
http:example.com http:///a.jpg https:/ http:// example.com/a.jpg http://\\example.com/ http:\\\\127.0.0.1\\
"""
BLANK = ("", " http://example.com/", "http://exam ple.com/", "http://example.com/\r\nHost: b", "http://example.com/\0")
REFUSED = [*FORMS.split(), *BLANK]


def no_packet(*_: Any, **__: Any) -> Any:
    raise AssertionError("a packet was about to be sent")


@pytest.mark.parametrize("address", REFUSED)
def test_refused_before_any_packet(address: str) -> None:
    with pytest.raises(AddressRefused):
        fetch(address, resolve=no_packet, connect=no_packet)


def test_there_are_more_than_sixty_forms() -> None:
    assert len(REFUSED) > 60


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [
        ("http://example.com/a.jpg", "example.com", 80),
        ("HTTPS://EXAMPLE.com", "example.com", 443),
        ("https://example.com:443/a.jpg?b=c#d", "example.com", 443),
        ("http://example.com:443/", "example.com", 443),
        ("https://日本語.jp/猫.jpg", "xn--wgv71a119e.jp", 443),
        ("http://8.8.8.8/", "8.8.8.8", 80),
        ("http://[2606:4700:4700::1111]/", "2606:4700:4700::1111", 80),
        ("https://images.local.example.net/", "images.local.example.net", 443),
    ],
)
def test_public_addresses_are_looked_up_once(address: str, host: str, port: int) -> None:
    asked = []

    def resolve(*question: Any, **_: Any) -> list[Any]:
        asked.append(question)
        return []

    with pytest.raises(AddressRefused):
        fetch(address, resolve=resolve, connect=no_packet)
    assert asked == [(host, port)]


def answers(*numbers: str) -> Callable[..., list[Any]]:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, port)) for number in numbers]

    return resolve


@pytest.mark.parametrize(
    "number", ["127.0.0.1", "10.1.2.3", "::1", "::ffff:10.0.0.1", "64:ff9b::a00:1", "fe80::1%eth0"]
)
def test_a_name_that_leads_inside_is_refused_even_in_part(number: str) -> None:
    for numbers in ([number], ["93.184.215.14", number]):
        with pytest.raises(AddressRefused):
            fetch("http://example.com/a.jpg", resolve=answers(*numbers), connect=no_packet)


def test_refusals_do_not_tell_what_is_there() -> None:
    """A private number, a name that leads to one, a name that does not exist and a closed port: one sentence."""

    def unknown(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    def closed(*_: Any, **__: Any) -> socket.socket:
        raise ConnectionRefusedError("Connection refused")

    cases = [
        ("http://10.0.0.1/", no_packet, no_packet),
        ("http://db.internal/", no_packet, no_packet),
        ("http://example.com/", answers("10.0.0.1"), no_packet),
        ("http://example.com/", unknown, no_packet),
        ("http://example.com/", answers("93.184.215.14"), closed),
    ]
    reasons = set()
    for address, resolve, connect in cases:
        with pytest.raises(AddressRefused) as caught:
            fetch(address, resolve=resolve, connect=connect)
        reasons.add((caught.value.reason, caught.value.remedy))
    assert len(reasons) == 1


# ---- with a server ---------------------------------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    """Each path behaves badly in its own way; what was asked is kept in `server.asked`."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append((self.path, dict(self.headers)))
        self.close_connection = True
        match self.path.strip("/").split("/"):
            case ["redirect", count]:
                onward = f"/redirect/{int(count) - 1}" if int(count) > 1 else "/picture"
                self._head(302, {"Location": onward, "Set-Cookie": "a=b"})
            case ["redirect_to", *rest]:
                self._head(302, {"Location": bytes.fromhex(rest[0]).decode()})
            case ["status", code]:
                self._head(int(code), {"Content-Length": "0"})
            case ["gzip"]:
                self._send({"Content-Encoding": "gzip"}, gzip.compress(bytes(10**7)))
            case ["promises_more"]:
                self._send({"Content-Length": "100000"}, PICTURE)
            case ["announces_much"]:
                self._head(200, {"Content-Length": str(10**12)})
            case ["lies"]:  # no length, no end
                self._head(200, {})
                self._repeat(bytes(65536), 0)
            case ["chunked"]:
                self._send({"Transfer-Encoding": "chunked"}, b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE))
            case ["slow_body"]:
                self._head(200, {"Content-Length": "1000"})
                self._repeat(b"a", 0.05)
            case ["slow_head"]:
                self._repeat(b"HTTP/1.1 200 OK", 0.05)
            case ["silent"]:
                self.server.stop.wait(5)
            case ["noise"]:
                self.wfile.write(bytes(range(256)) * 10)
            case _:
                self._send({"Content-Length": str(len(PICTURE))}, PICTURE)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, headers: dict[str, str], body: bytes) -> None:
        self._head(200, headers)
        self.wfile.write(body)

    def _repeat(self, data: bytes, pause: float) -> None:
        for _ in range(5_000):
            try:
                self.wfile.write(data)
            except OSError:
                self.server.cut.set()
                return
            if self.server.stop.wait(pause) if pause else self.server.stop.is_set():
                return

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, dict[str, str]]] = []
        self.stop, self.cut = threading.Event(), threading.Event()
        self.address = f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, *_: Any) -> None:
        pass

    def connect(self, address: tuple[str, int], timeout: float) -> socket.socket:
        """Leads every connection here, as if this were the public internet; keeps where it was meant to go."""
        self.asked.append(("connect", {"to": address[0]}))
        return socket.create_connection(("127.0.0.1", self.server_port), timeout)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.stop.set()
        running.shutdown()
        thread.join()


def test_a_picture_is_fetched_and_opened(server: Server) -> None:
    assert fetch(f"{server.address}/picture", private=True) == PICTURE
    assert fetch(f"{server.address}/chunked", private=True) == PICTURE
    assert open_picture(f"{server.address}/猫%20.jpg", Limits(private_addresses=True)).size == (160, 120)
    assert server.asked[-1][0] == "/%E7%8C%AB%20.jpg"


def test_private_addresses_need_permission(server: Server) -> None:
    with pytest.raises(AddressRefused):
        fetch(f"{server.address}/picture")
    assert not server.asked


def test_the_request_carries_nothing_personal(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # not used
    fetch(f"{server.address}/redirect/1", private=True)
    allowed = {"Host", "User-Agent", "Accept", "Accept-Encoding", "Connection"}
    for _, headers in server.asked:
        assert set(headers) == allowed
        assert headers["Accept-Encoding"] == "identity"


def test_the_connection_goes_to_the_number_that_was_checked(server: Server) -> None:
    """DNS rebinding: the first answer is public, every later one would be this machine."""
    replies = iter([answers("93.184.215.14"), answers("127.0.0.1"), answers("127.0.0.1")])
    lookups = []

    def rebinding(host: str, port: int, **settings: Any) -> list[Any]:
        lookups.append(host)
        return next(replies)(host, port, **settings)

    assert fetch("http://example.com/picture", resolve=rebinding, connect=server.connect) == PICTURE
    assert lookups == ["example.com"]
    assert server.asked[0] == ("connect", {"to": "93.184.215.14"})
    assert server.asked[1][1]["Host"] == "example.com"


def test_dead_numbers_are_passed_over(server: Server) -> None:
    def connect(address: tuple[str, int], timeout: float) -> socket.socket:
        if address[0] != "8.8.8.8":
            raise TimeoutError
        return server.connect(address, timeout)

    numbers = answers("2606:4700:4700::1111", "1.1.1.1", "8.8.8.8")
    assert fetch("http://example.com/picture", resolve=numbers, connect=connect) == PICTURE


@pytest.mark.parametrize(
    "target",
    [
        "http://127.0.0.1/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
        "http://[::1]/",
        "//169.254.169.254/",
        "http://a@b.com/",
        "http://[x",
    ],
)
def test_redirects_are_judged_again(server: Server, target: str) -> None:
    address = f"http://example.com/redirect_to/{target.encode().hex()}"
    with pytest.raises(AddressRefused) as caught:
        fetch(address, resolve=answers("93.184.215.14"), connect=server.connect)
    assert caught.value.source == address  # and not where it led
    assert len(server.asked) == 2


def test_a_redirect_to_a_name_that_leads_inside_is_refused(server: Server) -> None:
    def resolve(host: str, port: int, **_: Any) -> list[Any]:
        return answers("93.184.215.14" if host == "example.com" else "127.0.0.1")(host, port)

    address = f"http://example.com/redirect_to/{b'http://inside.example.net/'.hex()}"
    with pytest.raises(AddressRefused):
        fetch(address, resolve=resolve, connect=server.connect)
    assert len(server.asked) == 2


def test_three_redirects_are_followed_and_no_more(server: Server) -> None:
    assert fetch(f"{server.address}/redirect/3", private=True) == PICTURE
    with pytest.raises(AddressRefused, match="redirects more than 3 times"):
        fetch(f"{server.address}/redirect/4", private=True)


@pytest.mark.parametrize("path", ["announces_much", "lies", "picture"])
def test_the_cap_counts_what_arrives(server: Server, path: str) -> None:
    with pytest.raises(AddressRefused, match=r"over the limit of 1,000 bytes.*Limits\(address_bytes"):
        fetch(f"{server.address}/{path}", private=True, bytes_limit=1_000)


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("gzip", "compressed"),
        ("promises_more", "broke off"),
        ("noise", "not HTTP"),
        ("status/404", "answered 404"),
        ("status/500", "answered 500"),
        ("status/204", "answered 204"),
        ("status/304", "answered 304"),
        ("status/302", "answered 302"),
    ],
)
def test_bad_answers(server: Server, path: str, reason: str) -> None:
    with pytest.raises(AddressRefused, match=reason):
        fetch(f"{server.address}/{path}", private=True)


@pytest.mark.parametrize("path", ["slow_body", "slow_head", "silent"])
def test_a_slow_sender_is_cut_at_the_deadline(server: Server, path: str) -> None:
    start = time.monotonic()
    with pytest.raises(AddressRefused, match="in time"):
        fetch(f"{server.address}/{path}", private=True, seconds=0.4)
    assert 0.3 < time.monotonic() - start < 2
    if path != "silent":
        assert server.cut.wait(2)


def test_a_slow_lookup_is_cut_at_the_deadline() -> None:
    def slow(*_: Any, **__: Any) -> list[Any]:
        time.sleep(3)
        return []

    start = time.monotonic()
    with pytest.raises(AddressRefused):
        fetch("http://example.com/", seconds=0.3, resolve=slow, connect=no_packet)
    assert time.monotonic() - start < 2


def test_all_errors_are_picture_errors_without_passwords() -> None:
    with pytest.raises(PictureError) as caught:
        fetch("http://user:secret@example.com/", resolve=no_packet, connect=no_packet)
    assert "secret" not in str(caught.value)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for example.com that signs itself; key and certificate in one file."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl to make a certificate with")
    path = tmp_path / "pair.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(path), "-out", str(tmp_path / "certificate.pem"), "-days", "2"]
    command += ["-subj", "/CN=example.com", "-addext", "subjectAltName=DNS:example.com"]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + (tmp_path / "certificate.pem").read_text())
    return path


def test_certificates_are_checked_against_the_name(
    server: Server, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    public = answers("93.184.215.14")
    with pytest.raises(AddressRefused):  # signed by nobody known
        fetch("https://example.com/picture", resolve=public, connect=server.connect)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("certificate.pem")))
    assert fetch("https://example.com/picture", resolve=public, connect=server.connect) == PICTURE
    with pytest.raises(AddressRefused):  # of another name
        fetch("https://example.org/picture", resolve=public, connect=server.connect)
