"""Reads connection strings as people write them for their own tools, and keeps of each what libpq understands.

Prisma, Rails, Django, SQLAlchemy and JDBC take URLs that look like libpq's and say more: a driver in the scheme, the
size of a pool, a schema. Their own tools get the string as it was written. For libpq the parameters that are known to
be theirs are left out; one that nobody knows may be a misspelled `sslmode`, and is named instead of left out.
"""

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

import psycopg
from psycopg import conninfo, pq

# The scheme may name a driver (SQLAlchemy), an extension (Django), or JDBC.
_URL = re.compile(r"(?:jdbc:)?(?:postgres(?:ql)?|postgis|pgsql|ecto)(?:\+[a-z0-9_]+)?://(.*)", re.ASCII | re.DOTALL)
_USER_AND_HOST = re.compile(r"(?:(?P<user>[^/?]*)@)?(?P<rest>[^?]*)(?:\?(?P<query>.*))?", re.ASCII | re.DOTALL)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,60}", re.ASCII)
_NO_URL = (
    "this is not a connection string of PostgreSQL: a URL like postgresql://USER:PASSWORD@HOST:5432/DATABASE, in which "
    "/ ? @ and % of a password are written %2F %3F %40 and %25, or key=value pairs"
)
_SCHEMAS = ("schema", "currentschema", "search_path", "schema_search_path")
_TRUE, _FALSE = ("true", "1", "on", "yes", "t"), ("false", "0", "off", "no", "f")
_SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")

# What each tool puts into its URL for itself, in small letters. `sslaccept` says what Prisma makes of certificates;
# whether a connection is encrypted is said by `sslmode`, for Prisma as well.
_OF_TOOLS = frozenset(
    # Prisma
    "connection_limit pool_timeout pgbouncer socket_timeout statement_cache_size sslaccept sslidentity "
    "max_connection_lifetime max_idle_connection_lifetime single_use_connections "
    # Rails
    "pool timeout checkout_timeout reaping_frequency idle_timeout keepalive prepared_statements statement_limit "
    "advisory_locks adapter encoding min_messages variables max_connections min_connections max_age "
    # Django
    "conn_max_age conn_health_checks disable_server_side_cursors charset ssl_require "
    # SQLAlchemy and its drivers
    "pool_size max_overflow pool_recycle pool_pre_ping prepared_statement_cache_size command_timeout "
    "prepared_statement_name_func async_fallback "
    # JDBC
    "applicationname assumeminserverversion autosave binarytransfer cancelsignaltimeout databasemetadatacachefields "
    "databasemetadatacachefieldsmib defaultrowfetchsize logintimeout logservererrordetail loggerlevel "
    "maxresultbuffer preferquerymode preparedstatementcachequeries preparedstatementcachesizemib preparethreshold "
    "protocolversion queryTimeout readonlymode receivebuffersize rewritebatchedinserts sendbuffersize sockettimeout "
    "stringtype tcpkeepalive tcpnodelay targetservertype unknownlength "
    # node-postgres, postgres.js, hosted poolers
    "uselibpqcompat supa workaround statement_timeout query_timeout idle_in_transaction_session_timeout "
    "max max_lifetime idletimeoutmillis connectiontimeoutmillis fallback_application_name prepare "
    # Go: pgx, lib/pq, golang-migrate, dbmate
    "pool_max_conns pool_min_conns pool_max_conn_lifetime pool_max_conn_idle_time pool_health_check_period "
    "default_query_exec_mode statement_cache_capacity description_cache_capacity binary_parameters "
    "x-migrations-table x-migrations-table-quoted x-statement-timeout x-multi-statement "
    "timezone datestyle lock_timeout".lower().split()
)


class NoAddressError(ValueError):
    """It is not a connection string; the text says why, and repeats nothing of it but a parameter's name."""


@dataclass(frozen=True)
class Address:
    """A connection string, read.

    Attributes:
        parameters: of libpq, secrets among them.
        schemas: where its tables are, when the tool was told so.
    """

    parameters: dict[str, str]
    schemas: tuple[str, ...] = ()


def read_address(text: str) -> Address:
    """Reads a URL, or `key=value` pairs as libpq takes them.

    Raises:
        NoAddressError: it is neither, or has a parameter that nobody knows.
    """
    match = _URL.fullmatch(text)
    if match is None:
        return Address(_parse(text))
    parts = _USER_AND_HOST.fullmatch(match[1])
    if parts is None or "@" in parts["rest"]:
        raise NoAddressError(_NO_URL)
    found = _parse(f"postgresql://{parts['rest']}")
    # What stands where a port should may be the rest of a password with a slash or a question mark in it.
    if any(not (port.isascii() and port.isdecimal()) for port in filter(None, found.get("port", "").split(","))):
        raise NoAddressError(_NO_URL)
    known, schemas = _read_query(parts["query"] or "")
    user, colon, password = (parts["user"] or "").partition(":")
    if user:
        found["user"] = _plain(user)
    if colon:
        found["password"] = _plain(password)
    return Address({**found, **known}, schemas)


def _parse(text: str) -> dict[str, str]:
    try:
        return {name: str(value) for name, value in conninfo.conninfo_to_dict(text).items() if value is not None}
    except psycopg.Error:
        # What libpq says repeats the text.
        raise NoAddressError(_NO_URL) from None


def _read_query(query: str) -> tuple[dict[str, str], tuple[str, ...]]:
    ours = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    known: dict[str, str] = {}
    schemas: tuple[str, ...] = ()
    ssl = ""
    for pair in filter(None, query.split("&")):
        name, _, raw = pair.partition("=")
        name, value = _plain(name), _plain(raw)
        if name.lower() in _SCHEMAS:
            schemas = tuple(part.strip().strip('"') for part in value.split(",") if part.strip())
        elif name == "ssl":
            ssl = value
        elif name in ours:
            known[name] = value
        elif name.lower() not in _OF_TOOLS:
            if "@" in query or not _NAME.fullmatch(name):  # it may be a password with a question mark in it
                raise NoAddressError(_NO_URL)
            raise NoAddressError(f"the parameter {name} of the connection string is known to neither libpq nor a tool")
    if known.get("sslmode") == "no-verify":  # node-postgres: encrypted, and whoever answers is believed
        known["sslmode"] = "require"
    if ssl and "sslmode" not in known:
        known["sslmode"] = _ssl_mode(ssl)
    return known, schemas


def _ssl_mode(value: str) -> str:
    if value.lower() in _TRUE or value == "no-verify":
        return "require"
    if value.lower() in _FALSE:
        return "disable"
    if value in _SSL_MODES:  # asyncpg
        return value
    raise NoAddressError("ssl of the connection string is true, false, or what sslmode may be")


def _plain(text: str) -> str:
    """Percent-encoding undone; a `%` that begins none is itself, as URLs are read by everything but libpq."""
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise NoAddressError("what is percent-encoded in the connection string is not UTF-8") from None
