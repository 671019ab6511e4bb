"""`clawhaven auth`: signing in by mail, or with an API key that there is already."""

from __future__ import annotations

import socket
import sys
from typing import Annotated, Any
from urllib.parse import parse_qs, urlsplit

import typer

from clawhaven.cli import config
from clawhaven.cli.client import Api, part
from clawhaven.cli.config import StoredKey
from clawhaven.cli.failures import ExitCode, Failure
from clawhaven.cli.output import Column
from clawhaven.cli.session import Session, current, read_secret

app = typer.Typer(no_args_is_help=True, help="Sign in, and see who you are.")

PERSON = (
    Column("Email", ("user.email",)),
    Column("User", ("user.id",)),
    Column("Account", ("account.id",)),
    Column("Name of assistants", ("account.slug",)),
)


@app.command()
def login(
    ctx: typer.Context,
    email: Annotated[str | None, typer.Option(help="Your account's address. Asked for when left out.")] = None,
    name: Annotated[str, typer.Option(help="How the new API key is listed.")] = "",
    admin: Annotated[bool, typer.Option("--admin", help="A key for `clawhaven admin` too; for operators.")] = False,
    keys: Annotated[bool, typer.Option("--keys", help="A key that may make keys and sign browsers out.")] = False,
) -> None:
    """Sign in and keep an API key in the configuration file (readable by you only).

    Without --api-key: a one-time link is mailed to you; paste it here, and a new API key is made.
    With --api-key (`-` reads it from stdin): that key is checked and kept.
    """
    session = current(ctx)
    if session.given_key is not None:
        person = _check(session, session.given_key)
        _keep(session, StoredKey(session.given_key), person)
        return
    address = email or _ask_email()
    api = Api(session.url, None, session.output.detail if session.output.is_verbose else None)
    api.post("/auth/link", {"email": address})
    session.output.note(f"If {address} has an account, a sign-in link is on its way. It works once, for 15 minutes.")
    api.post("/auth/link/redeem", {"token": token_in(read_secret("Paste the link, or its token", None))})
    scopes = ["read", "write", *(["admin"] if admin else []), *(["keys"] if keys else [])]
    made = api.create("/auth/keys", {"name": name or f"CLI on {socket.gethostname()}"[:100], "scopes": scopes})
    if not isinstance(made, dict) or not made.get("key"):
        raise Failure(
            "The server made no API key.", code="bad_answer", hint="Check that --api-url is a Clawhaven site."
        )
    person = _check(session, made["key"])
    _keep(session, StoredKey(made["key"], made.get("id")), person)


@app.command()
def whoami(ctx: typer.Context) -> None:
    """Whose API key is in use, and on which server."""
    session = current(ctx)
    person = session.api().get("/auth/me")
    session.output.facts(person, PERSON)
    session.output.note(f"Server: {session.url}")


@app.command()
def logout(ctx: typer.Context) -> None:
    """Forget the stored API key of this server, and revoke it there when `auth login` had made it."""
    session = current(ctx)
    stored = session.config.keys.get(session.url)
    if stored is None:
        session.output.note(f"There is no stored key for {session.url}.")
        return
    config.save(config.without_key(session.config, session.url))
    if stored.id is None:
        session.output.note("Signed out here. The key itself still works: it was not made by `auth login`.")
        return
    try:
        Api(session.url, stored.key).delete(f"/auth/keys/{part(stored.id)}")
    except Failure as failure:
        if failure.exit_code not in (ExitCode.AUTH, ExitCode.NOT_FOUND):
            raise Failure(
                f"Signed out here, but the key could not be revoked: {failure.message}",
                failure.exit_code,
                code=failure.code,
                hint=f"Revoke the key {stored.id} on the settings page.",
            ) from None
    session.output.note("Signed out, and the key is revoked.")


def token_in(text: str) -> str:
    """The token of a pasted sign-in link, or the text itself."""
    if "://" not in text:
        return text
    parts = urlsplit(text)
    for name in ("token", "t"):
        if found := (parse_qs(parts.query).get(name) or parse_qs(parts.fragment).get(name)):
            return found[0]
    return parts.path.rstrip("/").rpartition("/")[2]


def _check(session: Session, key: str) -> Any:
    return Api(session.url, key, session.output.detail if session.output.is_verbose else None).get("/auth/me")


def _keep(session: Session, stored: StoredKey, person: Any) -> None:
    config.save(config.with_key(session.config, session.url, stored))
    session.output.facts(person, PERSON)
    session.output.note(f"Signed in at {session.url}; the key is kept in {config.path()}.")


def _ask_email() -> str:
    if sys.stdin.isatty():
        return str(typer.prompt("Email", err=True)).strip()
    address = sys.stdin.readline().strip()
    if not address:
        raise Failure("Whose account? Give --email.", ExitCode.USAGE, code="usage")
    return address
