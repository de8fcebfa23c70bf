"""A throwaway certificate authority and the kubeconfig files made from it, by the openssl program."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from modelyard_hack.layout import StateFolder
from modelyard_hack.step import run

VALID_DAYS = 365


@dataclass(frozen=True)
class Identity:
    """A client or server certificate: the file name, the subject and a server's names."""

    name: str
    subject: str
    alternative_names: tuple[str, ...] = ()


USERS = (
    Identity("admin", "/O=system:masters/CN=admin"),
    Identity("controller-manager", "/CN=system:kube-controller-manager"),
    Identity("scheduler", "/CN=system:kube-scheduler"),
    Identity("proxy", "/CN=system:kube-proxy"),
    Identity("node", "/O=system:nodes/CN=system:node:node0"),
)


def apiserver_identity(addresses: Sequence[str]) -> Identity:
    names = ("kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost")
    return Identity(
        "apiserver",
        "/CN=kube-apiserver",
        (*(f"IP:{address}" for address in addresses), *(f"DNS:{name}" for name in names)),
    )


def ensure_pki(state: StateFolder, *, server: str, addresses: Sequence[str], users: Sequence[Identity]) -> None:
    """Make the authority, the certificates and one kubeconfig for each user, unless they are there.

    `server` is the URL that the kubeconfigs name, `addresses` are those the API server answers on.
    """
    if (state.pki / "complete").exists():
        return
    _make_authority(state.pki)
    for identity in (apiserver_identity(addresses), *users):
        _issue(state.pki, identity)
    # The key that signs service account tokens needs no certificate.
    _make_key(state.pki / "service-account.key")
    for user in users:
        content = kubeconfig(
            server,
            ca=(state.pki / "ca.crt").read_bytes(),
            certificate=(state.pki / f"{user.name}.crt").read_bytes(),
            key=(state.pki / f"{user.name}.key").read_bytes(),
        )
        path = state.kubeconfig_of(user.name)
        path.touch(mode=0o600)
        path.write_text(content)
    (state.pki / "complete").touch()


def kubeconfig(server: str, *, ca: bytes, certificate: bytes, key: bytes) -> str:
    """A kubeconfig with everything inside it, as JSON (which every YAML reader takes)."""

    def encoded(data: bytes) -> str:
        return base64.b64encode(data).decode()

    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "modelyard",
                    "cluster": {"server": server, "certificate-authority-data": encoded(ca)},
                }
            ],
            "users": [
                {
                    "name": "modelyard",
                    "user": {
                        "client-certificate-data": encoded(certificate),
                        "client-key-data": encoded(key),
                    },
                }
            ],
            "contexts": [{"name": "modelyard", "context": {"cluster": "modelyard", "user": "modelyard"}}],
            "current-context": "modelyard",
        },
        indent=1,
    )


def _make_key(path: Path) -> None:
    path.touch(mode=0o600)
    run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(path)])


def _make_authority(pki: Path) -> None:
    _make_key(pki / "ca.key")
    run(
        [
            "openssl",
            "req",
            "-x509",
            "-new",
            "-key",
            str(pki / "ca.key"),
            "-out",
            str(pki / "ca.crt"),
            "-subj",
            "/CN=modelyard",
            "-days",
            str(VALID_DAYS),
        ]
    )


def _issue(pki: Path, identity: Identity) -> None:
    key, request = pki / f"{identity.name}.key", pki / f"{identity.name}.csr"
    _make_key(key)
    run(["openssl", "req", "-new", "-key", str(key), "-out", str(request), "-subj", identity.subject])
    extensions = pki / f"{identity.name}.ext"
    names = identity.alternative_names
    extensions.write_text("basicConstraints=CA:FALSE\n" + (f"subjectAltName={','.join(names)}\n" if names else ""))
    run(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            str(request),
            "-CA",
            str(pki / "ca.crt"),
            "-CAkey",
            str(pki / "ca.key"),
            "-CAcreateserial",
            "-out",
            str(pki / f"{identity.name}.crt"),
            "-days",
            str(VALID_DAYS),
            "-extfile",
            str(extensions),
        ]
    )
    request.unlink()
    extensions.unlink()
