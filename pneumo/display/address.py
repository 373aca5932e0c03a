"""Addresses of databases and servers, and what of them may be shown: no user, no password, no options."""

import json
import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote, unquote_plus

from pneumo.errors import InputError

if TYPE_CHECKING:
    from sqlalchemy.engine import URL

STORAGE, TRACKING = "PNEUMO_STORAGE", "MLFLOW_TRACKING_URI"
LOCAL_DATABASES: set[str] = set()  # addresses of mlflow.db that this process took without being given them
IN_ENVIRONMENT = (STORAGE, TRACKING, "MLFLOW_REGISTRY_URI")  # addresses
SECRETS = ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
UNREADABLE = "an address that cannot be read"
NAMED = r"(?:pass(?!file)\w*|pwd|secret|token)"  # of an option whose value is secret
OPTION = re.compile(rf"(?i)({NAMED}\w*(?:=|%3D))((?:(?!%26|%20)[^&\s'\"])*)")
USERINFO = re.compile(r"://[^/?#@]*?:(.*)@")
IN_TEXT = re.compile(r"(://)[^\s'\"<>]*@")
WHERE_IT_IS = ("host", "port", "plugin")  # options that are no argument of a driver's connect
SHORT = 6  # characters: a shorter secret may be a part of any word


def forget_folder() -> None:
    """Unsets MLFLOW_TRACKING_URI if MLflow has left there the database of the folder that this process worked
    in, so that it may be another one now."""
    if os.environ.get(TRACKING) in LOCAL_DATABASES:
        del os.environ[TRACKING]


def parsed(address: str) -> "URL":
    """InputError: it is not an address, or where its password ends cannot be told; it is not repeated."""
    from sqlalchemy.engine import make_url  # takes .2 s, which `--help` need not wait for
    from sqlalchemy.exc import ArgumentError

    try:
        url = make_url(address)
    except (ArgumentError, ValueError):
        raise InputError(
            f"{UNREADABLE}: it is written KIND://USER:PASSWORD@HOST:PORT/NAME, with / @ : ? # % of a "
            "password as %2F %40 %3A %3F %23 %25"
        ) from None
    if url.drivername == "sqlite":
        return url
    _, _, rest = address.partition("://")
    options = rest.find("?", rest.rfind("@") if url.password else 0)
    if rest[: options if options >= 0 else None].count("@") > 1 or "?" in (url.username or ""):
        raise InputError(f"{UNREADABLE}: an @ of a password is written as %40, a ? as %3F")
    return url


def shown(address: str) -> str:
    """The address as it may be shown anywhere: kind, host, port and name."""
    kind, slashes, _ = address.partition("://")
    if not slashes and not re.search(r"[@=]|^[\w+]+:(?![\\/])", address):
        return address  # the path of a file
    if not re.fullmatch(r"[\w+.-]+", kind):
        return UNREADABLE
    try:
        url = parsed(address)
    except InputError:
        return f"{kind}://..."
    host = f"[{url.host}]" if ":" in (url.host or "") else url.host or ""
    port = "" if url.port is None else f":{url.port}"
    name = "" if url.database is None else f"/{url.database}"
    return f"{url.drivername.split('+')[0]}://{host}{port}{name}"


def has_password(text: str) -> bool:
    """Whether a password or a token stands in an address, or in anything that has one in it."""
    return bool(USERINFO.search(text) or (OPTION.search(text) and "://" in text))


def refuse_passwords(words: Sequence[str]) -> None:
    """InputError: one of a command's words has a password in it."""
    for word in words:
        if has_password(word):
            name = re.match(r"[+~]*[\w.]+=", word)
            raise InputError(
                f"{name[0] if name else ''}... was given with a password, which would end in files and logs; "
                f"give the whole address in the environment: {STORAGE}=... or {TRACKING}=..."
            )


def apart(url: "URL") -> tuple["URL", dict[str, str]]:
    """The address without its password and options, and these as arguments of the driver's connect, so that
    whatever repeats the address does not tell them."""
    moved = {k: v for k, v in url.query.items() if isinstance(v, str) and k not in WHERE_IT_IS}
    password = {} if url.password is None else {"password": url.password}
    kept = {k: v for k, v in url.query.items() if k not in moved}
    bare = url.create(url.drivername, url.username, None, url.host, url.port, url.database, kept)
    return bare, {**password, **moved}


def hidden(text: str, given: Sequence[str] = ()) -> str:
    """A message of any library, without what is secret in the addresses in it, in the environment, and in the
    words that a command was `given`."""
    for secret in sorted(known_secrets(given), key=len, reverse=True):
        exact = re.escape(secret)
        text = re.sub(rf"(?<!\w){exact}(?!\w)" if len(secret) < SHORT else exact, "***", text)
    return OPTION.sub(r"\1***", IN_TEXT.sub(r"\1", text))


def known_secrets(given: Sequence[str]) -> set[str]:
    """Those of the environment and of the given words, in every spelling in which a message may have them."""
    found = {os.environ.get(name, "") for name in SECRETS}
    for address in (*(os.environ.get(name, "") for name in IN_ENVIRONMENT), *given):
        found |= {match[1] for match in USERINFO.finditer(address)}
        found |= {match[2] for match in OPTION.finditer(address)}
        found |= {match[1] for match in re.finditer(r"://[^/?#@]*?:([^@]*?)@", address)}
    found |= {decode(secret) for secret in found for decode in (unquote, unquote_plus)}
    spellings = (
        str,
        quote,
        quote_plus,
        lambda secret: quote(secret, safe=""),
        lambda secret: repr(secret)[1:-1],
        lambda secret: json.dumps(secret)[1:-1],
    )
    return {spell(secret) for secret in found if secret for spell in spellings}
