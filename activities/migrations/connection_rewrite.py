"""Writes a connection string anew, so that it leads to another database and stays of the form that the tool reads.

Each tool has a dialect of its own: a driver in the scheme, parameters that libpq does not know. What names the server,
the database and the role is replaced; the rest stays.
"""

from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from psycopg import conninfo

from activities.database.connection import Database

_PLACE = {"host", "hostaddr", "port", "dbname", "user", "password", "passfile", "service", "sslpassword"}
_SAFETY = ("sslmode", "sslrootcert", "sslcert", "sslkey")


def led_to(text: str, database: Database) -> str:
    """The same connection string for another database.

    Args:
        text: a URL, or `key=value` pairs.
        database: where it is to lead.
    """
    parts = {**database.parameters, **database.secrets}
    scheme, found, rest = text.partition("://")
    if not found:
        kept = {name: value for name, value in conninfo.conninfo_to_dict(text).items() if name not in _PLACE}
        return conninfo.make_conninfo("", **{**kept, **{name: parts[name] for name in parts if name not in kept}})
    old = urlsplit(f"x://{rest}")
    query = [(name, value) for name, value in parse_qsl(old.query, keep_blank_values=True) if name not in _PLACE]
    there = {name for name, _ in query}
    query += [(name, parts[name]) for name in _SAFETY if name in parts and name not in there]
    host, role = _host(parts), {name: parts[name] for name in ("user", "password") if name in parts}
    if not host and "host" in parts:
        query.append(("host", parts["host"]))
    who = ":".join(quote(each, safe="") for each in role.values())
    if scheme.startswith("jdbc:"):
        query += role.items()
        who = ""
    return f"{scheme}://{who}{'@' if who else ''}{host}/{quote(parts['dbname'], safe='')}" + (
        f"?{urlencode(query)}" if query else ""
    )


def _host(parts: dict[str, str]) -> str:
    """The servers of a URL, each with its port; nothing for a socket in a folder."""
    hosts = (parts.get("host") or parts.get("hostaddr") or "").split(",")
    ports = parts.get("port", "").split(",")
    if any(not each or each.startswith(("/", "@")) for each in hosts):
        return ""
    if len(ports) != len(hosts):
        ports = ports[:1] * len(hosts)
    return ",".join(
        (f"[{host}]" if ":" in host else host) + (f":{port}" if port else "")
        for host, port in zip(hosts, ports, strict=True)
    )
