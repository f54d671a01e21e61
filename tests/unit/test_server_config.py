"""The configuration refuses what cannot work and what is not safe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from engine.errors import InvalidArgument
from engine.server.config import ServerConfig, UnsafeAddress, is_loopback, split_address
from engine.server.server import Server
from tests.support.fake_engine import FakeEngine

CERT, KEY, CA = Path("cert.pem"), Path("key.pem"), Path("ca.pem")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("127.0.0.1:50051", ("127.0.0.1", 50051)),
        ("localhost:0", ("localhost", 0)),
        ("[::1]:7", ("::1", 7)),
        ("search.example.org:443", ("search.example.org", 443)),
    ],
)
def test_an_address_is_host_and_port(address: str, parts: tuple[str, int]):
    assert split_address(address) == parts


@pytest.mark.parametrize(
    "address", ["", ":", "50051", ":50051", "localhost", "localhost:", "h:x", "h:65536", "h:-1", "::1:5", "h:٣"]
)
def test_another_form_of_address_is_refused(address: str):
    with pytest.raises(InvalidArgument, match="HOST:PORT"):
        ServerConfig(address=address)


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("localhost.example.org:1", False),
        ("127.0.0.1.example.org:1", False),
    ],
)
def test_loopback_is_told_from_the_rest(address: str, local: bool):
    assert is_loopback(address) is local


@pytest.mark.parametrize(
    ("config", "has_keys", "safe"),
    [
        (ServerConfig(address="127.0.0.1:0"), False, True),
        (ServerConfig(address="0.0.0.0:0"), False, False),
        (ServerConfig(address="0.0.0.0:0"), True, False),
        (ServerConfig(address="0.0.0.0:0", tls_cert=CERT, tls_key=KEY), False, False),
        (ServerConfig(address="0.0.0.0:0", tls_cert=CERT, tls_key=KEY), True, True),
        (ServerConfig(address="0.0.0.0:0", tls_cert=CERT, tls_key=KEY, tls_client_ca=CA), False, True),
        (ServerConfig(address="0.0.0.0:0", insecure=True), False, True),
    ],
)
def test_a_server_that_others_reach_needs_tls_and_keys(config: ServerConfig, has_keys: bool, safe: bool):
    if safe:
        config.check_exposure(has_keys)
    else:
        with pytest.raises(UnsafeAddress, match="--insecure"):
            config.check_exposure(has_keys)


def test_an_unsafe_server_is_not_even_built():
    with pytest.raises(UnsafeAddress):
        Server(FakeEngine(), ServerConfig(address="0.0.0.0:0"))


@pytest.mark.parametrize(
    "changes",
    [
        {"tls_cert": CERT},
        {"tls_key": KEY},
        {"tls_client_ca": CA},
        {"max_message_mb": 0},
        {"search_timeout_s": 0},
        {"metrics_port": 65536},
        {"write_workers": -1},
    ],
)
def test_impossible_values_are_refused(changes: dict[str, object]):
    with pytest.raises(InvalidArgument):
        replace(ServerConfig(), **changes)


def test_keys_do_not_show_in_the_representation():
    assert "secretsecret" not in repr(ServerConfig(api_keys=("read:secretsecretsecret",)))


@pytest.mark.parametrize("broken", ["missing", "garbage"])
def test_unusable_certificates_are_refused_at_start(tmp_path: Path, broken: str):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    if broken == "garbage":
        cert.write_text("-----BEGIN CERTIFICATE-----\nnonsense\n")
        key.write_text("nonsense")
    with pytest.raises(InvalidArgument, match="cannot be used"):
        Server(FakeEngine(), ServerConfig(address="127.0.0.1:0", tls_cert=cert, tls_key=key))
