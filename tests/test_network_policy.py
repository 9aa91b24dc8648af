"""NetworkPolicy: which addresses may be reached, also by way of DNS, redirects and proxies."""

from __future__ import annotations

import asyncio
import ipaddress
import pickle
import socket
import ssl
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import UserError
from agentkit_tools import BearerAuth, HTTPBlockedError, HTTPTool, NetworkPolicy
from http_support import CONTEXT, SECRET, Reply, call, failure, make

if TYPE_CHECKING:
    from collections.abc import Callable

    from http_support import Service

pytestmark = pytest.mark.usefixtures("http_environment")

PUBLIC = "93.184.215.14"


def dns(monkeypatch: pytest.MonkeyPatch, answers: Callable[[str], list[str]]) -> list[str]:
    """Answer all look-ups; returns the list of names that will have been asked for."""
    asked = []

    def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
        asked.append(host)
        found = answers(host)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [
            (
                socket.AF_INET6 if ":" in address else socket.AF_INET,
                socket.SOCK_STREAM,
                6,
                "",
                (address, port),
            )
            for address in found
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def fetch(policy: NetworkPolicy, url: str, **options: Any) -> httpx.Response:
    async def run() -> httpx.Response:
        async with policy.client(**options) as client:
            return await client.get(url, timeout=5)

    return asyncio.run(run())


# --- what is denied ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1",
        "127.255.0.3",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.0.0.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0.0.0.0",
        "0",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "169.254.169.254",
        "169.254.170.2",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.2.1",
        "198.18.0.1",
        "224.0.0.1",
        "240.0.0.1",
        "255.255.255.255",
        "[::]",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::127.0.0.1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]",
        "[64:ff9b:1::7f00:1]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[3fff::1]",
        "[4000::1]",
        "１２７.0.0.1",
    ],
)
def test_addresses_that_are_not_public_are_denied(host: str) -> None:
    with pytest.raises(HTTPBlockedError, match=r"address|cannot be read"):
        NetworkPolicy().check_url(f"http://{host}:8080/x")
    with pytest.raises((HTTPBlockedError, httpx.InvalidURL)):
        fetch(NetworkPolicy(), f"http://{host}/")


@pytest.mark.parametrize(
    "host",
    [
        PUBLIC,
        "1.1.1.1",
        "[2606:4700::1111]",
        "[64:ff9b::1.1.1.1]",
        "[::ffff:1.1.1.1]",
        "0x01010101",
    ],
)
def test_public_addresses_are_allowed(host: str) -> None:
    NetworkPolicy().check_url(f"https://{host}/")


@given(st.ip_addresses(v=4))
def test_what_python_holds_for_not_global_is_denied(address: ipaddress.IPv4Address) -> None:
    mapped = f"::ffff:{address}"
    for spelled in (str(address), str(int(address)), hex(int(address)), f"[{mapped}]"):
        try:
            NetworkPolicy().check_url(f"http://{spelled}/")
        except HTTPBlockedError:
            continue
        assert address.is_global
        assert not address.is_multicast


@pytest.mark.parametrize(
    ("url", "part"),
    [
        ("file:///etc/passwd", "scheme 'file'"),
        ("gopher://example.org/", "scheme 'gopher'"),
        ("http://example.org:22/", "port 22"),
        ("http:///x", "no host"),
        ("http://[::1/", "cannot be read"),
        ("http://other.test/", "'other.test' is not allowed; allowed are example.org"),
        ("http://evilexample.org/", "not allowed"),
        ("http://deep.test/", "not allowed"),
    ],
)
def test_other_parts_of_a_url(url: str, part: str) -> None:
    policy = NetworkPolicy(ports={80, 443}, only_hosts=["example.org", "*.deep.test"])
    with pytest.raises(HTTPBlockedError) as caught:
        policy.check_url(url)
    assert part in str(caught.value)
    policy.check_url("https://EXAMPLE.org./x")
    policy.check_url("https://a.b.deep.test/x")


# --- what is allowed on purpose ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "allowed", "denied"),
    [
        ({"allow_private": True}, "http://10.0.0.1/", "http://169.254.169.254/"),
        ({"allow_private": True}, "http://[::1]/", "http://[fd00:ec2::254]/"),
        ({"allow_private": True}, "http://127.0.0.1/", "http://100.100.100.200/"),
        ({"allow_private": True}, "http://[fc00::1]/", "http://0.0.0.0/"),
        ({"allow_hosts": ["127.0.0.1:8000"]}, "http://127.0.0.1:8000/", "http://127.0.0.1:8001/"),
        ({"allow_hosts": ["127.0.0.1:80"]}, "http://0x7f.1/", "http://127.0.0.2/"),
        ({"allow_hosts": ["[::1]:80"]}, "http://[::1]/", "http://[::1]:81/"),
        ({"allow_hosts": ["::1"]}, "http://[::1]:81/", "http://[::2]/"),
        ({"allow_networks": ["10.1.0.0/16"]}, "http://10.1.2.3/", "http://10.2.0.1/"),
        ({"allow_networks": ["10.1.0.0/16"]}, "http://[::ffff:10.1.2.3]/", "http://[::1]/"),
        ({"allow_networks": ["169.254.169.254/32"]}, "http://169.254.169.254", "http://10.0.0.1"),
    ],
)
def test_exceptions(options: dict[str, Any], allowed: str, denied: str) -> None:
    policy = NetworkPolicy(**options)
    policy.check_url(allowed)
    with pytest.raises(HTTPBlockedError):
        policy.check_url(denied)
    assert pickle.loads(pickle.dumps(policy)) == policy
    assert hash(policy) == hash(NetworkPolicy(**options))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"allow_hosts": ["http://a.test"]}, "'http://a.test' is not a host"),
        ({"allow_hosts": ["a\ud800.test"]}, "is not a host"),
        ({"allow_hosts": "a.test"}, "must be a list, as ['a.test']"),
        ({"allow_networks": ["10.0.0.1/8"]}, "host bits set"),
    ],
)
def test_mistakes_in_a_policy(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match="NetworkPolicy: ") as caught:
        NetworkPolicy(**options)
    assert part in str(caught.value)


# --- names ------------------------------------------------------------------------------------


def test_a_public_name_of_a_private_address_is_denied(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    dns(monkeypatch, lambda host: ["127.0.0.1"])
    url = f"http://innocent.test:{service.port}/"
    message = failure(make(url), HTTPBlockedError)
    assert message.startswith("the host 'innocent.test' has a loopback address")
    assert "127.0.0.1" not in message
    assert service.requests == []
    allowed = NetworkPolicy(allow_hosts=[f"innocent.test:{service.port}"])
    seen = call(make(url, network=allowed))
    assert seen["headers"]["host"] == f"innocent.test:{service.port}"


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    dns(monkeypatch, lambda host: [PUBLIC, "::ffff:10.0.0.1"])
    assert "private" in failure(make("http://mixed.test/"), HTTPBlockedError)


def test_a_name_is_resolved_once_and_its_checked_address_connected_to(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    # DNS rebinding: harmless when it is checked, this machine when it is connected to.
    answers = iter([["10.9.9.9"], ["127.0.0.1"], ["127.0.0.1"]])
    asked = dns(monkeypatch, lambda host: next(answers))
    connected = []
    real = asyncio.BaseEventLoop.create_connection

    async def create_connection(self: Any, factory: Any, host: Any = None, *args: Any, **kw: Any):
        connected.append(host)
        raise OSError("stop here")

    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", create_connection)
    policy = NetworkPolicy(allow_networks=["10.9.9.9/32"])
    failure(make(f"http://rebind.test:{service.port}/", network=policy, retries=0))
    assert asked == ["rebind.test"]
    assert connected == ["10.9.9.9"]
    monkeypatch.setattr(asyncio.BaseEventLoop, "create_connection", real)
    failure(make(f"http://rebind.test:{service.port}/", network=policy), HTTPBlockedError)
    assert service.requests == []


def test_the_next_address_is_tried(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    dns(monkeypatch, lambda host: ["::1", "127.0.0.2", "127.0.0.1"])
    policy = NetworkPolicy(allow_private=True)
    assert fetch(policy, f"http://many.test:{service.port}/").json()["method"] == "GET"
    with pytest.raises(httpx.ConnectError):
        fetch(policy, "http://many.test:1/")


def test_names_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    dns(monkeypatch, lambda host: [])
    message = failure(make("http://gone.test/", retries=0))
    assert message == (
        "the service could not be reached (the name 'gone.test' has no address); it may work later"
    )


def test_certificates_are_checked_for_the_name_not_the_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dns(monkeypatch, lambda host: ["127.0.0.1"])
    authority = trustme.CA()
    names = []

    async def run() -> list[str]:
        server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("good.test").configure_cert(server_side)
        server_side.sni_callback = lambda sock, name, context: names.append(name)

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        trusting = ssl.create_default_context()
        authority.configure_trust(trusting)
        results = []
        for host, options in (
            ("good.test", {"verify": trusting}),
            ("evil.test", {"verify": trusting}),
            ("good.test", {}),
            ("evil.test", {"verify": False}),
        ):
            async with NetworkPolicy(allow_private=True).client(**options) as client:
                try:
                    response = await client.get(f"https://{host}:{port}/")
                    results.append(response.text)
                except httpx.ConnectError as error:
                    results.append(str(error))
        server.close()
        return results

    good, mismatch, untrusted, unverified = asyncio.run(run())
    assert (good, unverified) == ("{}", "{}")
    assert "not valid for 'evil.test'" in mismatch
    assert "unable to get local issuer certificate" in untrusted
    assert names == ["good.test", "evil.test", "good.test", "evil.test"]


# --- redirects, proxies, clients --------------------------------------------------------------


@pytest.mark.parametrize("follow", [True, False])
def test_redirects_are_checked_as_well(service: Service, follow: bool) -> None:
    policy = NetworkPolicy(allow_hosts=[f"127.0.0.1:{service.port}"])
    service.replies += [Reply(302, headers={"Location": "http://169.254.169.254/latest"})]
    if follow:
        with pytest.raises(HTTPBlockedError, match="metadata"):
            fetch(policy, service.url, follow_redirects=True)
    else:
        assert "not followed" in failure(make(service.url, auth=BearerAuth(env="PROBE_TOKEN")))
    assert len(service.requests) == 1


def test_a_tool_s_own_address_is_allowed_and_no_other(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call(make(service.url))["method"] == "GET"
    assert call(make(f"http://localhost:{service.port}"))["method"] == "GET"
    with pytest.raises(UserError, match="forbids its own url: port"):
        make(service.url, network=NetworkPolicy(ports=[443]))
    with pytest.raises(UserError, match="forbids its own url: the host"):
        make("https://api.test/", network=NetworkPolicy(only_hosts=["other.test"]))


@pytest.mark.parametrize("name", ["HTTP_PROXY", "ALL_PROXY", "http_proxy"])
def test_proxies_of_the_environment_are_not_used(
    service: Service, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    assert call(make(service.url))["method"] == "GET"


@pytest.mark.parametrize("option", ["proxy", "transport", "mounts", "trust_env", "app"])
def test_options_that_go_around_the_policy_are_refused(option: str) -> None:
    with pytest.raises(UserError, match=f"NetworkPolicy: {option}="):
        NetworkPolicy().client(**{option: "x"})


def test_a_client_of_one_s_own_and_a_policy_exclude_each_other(service: Service) -> None:
    async def run() -> Any:
        policy = NetworkPolicy(allow_private=True)
        async with policy.client() as client:
            with pytest.raises(UserError, match=r"network\.client"):
                make(service.url, client=client, network=policy)
            tool: HTTPTool = make(service.url, client=client)
            return await tool.call({}, CONTEXT)

    assert asyncio.run(run())["method"] == "GET"


def test_cookies_are_not_kept_from_one_call_to_the_next(service: Service) -> None:
    service.replies += [Reply(headers={"Set-Cookie": f"session={SECRET}; Path=/"})]
    tool = make(service.url)

    async def run() -> Any:
        await tool.call({}, CONTEXT)
        return await tool.call({}, CONTEXT)

    assert "cookie" not in asyncio.run(run())["headers"]
