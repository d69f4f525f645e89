"""What is not the same behind the front proxy, and why: the tables of docs/front-proxy.md."""

import re
from dataclasses import dataclass

_FORWARDED = "X-Forwarded-(For|Host|Port|Proto|Server)|X-Real-Ip"
_DISTRUSTED = "X-Forwarded-(Method|Prefix|Uri)|X_Forwarded_For|X_Real_Ip"
_HOPS = "Connection|Keep-Alive|Proxy-Connection|Proxy-Authorization|TE|Upgrade|HTTP2-Settings|X-Hop"


@dataclass(frozen=True)
class Explained:
    """One row: a difference as the page tells it.

    Attributes:
        pattern: of the differences that are meant.
        what: in words.
        why: its reason.
        ours: whether the front proxy of `local` and `compose` has it.
        gateway: whether a cluster's gateway has it that is Traefik, set up as the page says.
    """

    pattern: str
    what: str
    why: str
    ours: bool = True
    gateway: bool = True


EXPLAINED = (
    Explained(
        rf"request: header added: ({_FORWARDED})",
        "`X-Forwarded-For`, `-Host`, `-Port`, `-Proto`, `-Server` and `X-Real-Ip` are added",
        "a service must be able to tell for whom it is asked",
    ),
    Explained(
        rf"(?i)request: header (value: ({_FORWARDED})(: .*)?|removed: ({_DISTRUSTED}))",
        "`X-Forwarded-…` and `X-Real-Ip` of the request, also written with `_`, are replaced or removed",
        "anybody can write them; those of `platform.trusted_proxies` stay",
    ),
    Explained(
        "request: percent-encoding of the path",
        "in the path, `%7E` arrives as `~`, `%c3` as `%C3`, `{` as `%7B`",
        "Traefik writes each path in the one way that RFC 3986 compares by; `/` and `%2F` stay what they are",
    ),
    Explained(
        "request: semicolon in the query",
        "in the query, `;` arrives as `%3B`",
        "Traefik knows only that and `&`, which would make one value two",
    ),
    Explained(
        "request: (header added: Accept-Encoding|header value: accept-encoding: .*)",
        "a request without `Accept-Encoding` arrives with `identity`",
        "else Traefik asks for gzip and unpacks the answer",
    ),
    Explained(
        rf"(?i)request: (header|interim header) removed: ({_HOPS})",
        "`Connection`, what it names, `Keep-Alive`, `Proxy-…`, `TE` other than `trailers`, and `Upgrade: h2c` are "
        "removed; other upgrades, like WebSocket, are passed on",
        "they are about one connection, and there are two",
    ),
    Explained(
        r"request: (header added: Content-Length|framing: none → length)",
        "a `POST`, `PUT` or `PATCH` without a body arrives with `Content-Length: 0`",
        "HTTP asks for it",
    ),
    Explained(
        r"request: (header value: transfer-encoding: .*|header value: trailer: .*|trailer removed: .*)",
        "trailers of a request are lost",
        "Go's reverse proxy does not pass them on; those of an answer arrive",
    ),
    Explained(
        r"request: (header added: Host|header value: host: .*|absolute target)",
        "a request without `Host` arrives with the instance's address as host, one for `http://host/path` with that "
        "host and the path alone",
        "HTTP/1.1 wants a host, and that form is for proxies",
    ),
    Explained(
        r"(request|answer): HTTP version: .*",
        "HTTP/1.0 becomes HTTP/1.1 on the other side",
        "each connection has a version of its own",
    ),
    Explained(
        r"request: lost: OPTIONS \* .*|answer: header removed: Content-Type|answer: header value: content-length: .*"
        r"|answer: body: 3 bytes → 0 bytes",
        "`OPTIONS *` is answered by the proxy",
        "it asks for what the server can, and not for the service",
    ),
    Explained(
        r"(request|answer): (interim )?(header|trailer) (spelled: .*|order)",
        "names of headers arrive as `X-Request-Id`, whatever their capitals, and in the order of the alphabet; values "
        "of one name keep their order",
        "in HTTP neither means anything",
    ),
    Explained(
        "answer: (interim )?header added: Date",
        "an answer without `Date` gets one",
        "HTTP asks for it",
    ),
    Explained(
        r"answer: (header (added: (Connection|Transfer-Encoding)|removed: (Connection|Keep-Alive|X-Hop"
        r"|Transfer-Encoding)|value: connection: .*)|framing: (close → chunked|chunked → close))",
        "an answer's `Connection`, what it names, and how its end is told are the proxy's",
        "they are about one connection; an answer that ends with the connection is sent in chunks",
    ),
    Explained(
        r"answer: (header removed: Content-Length|framing: length → none)",
        "a 304 loses its `Content-Length`",
        "Go's server leaves it out; it has no body",
    ),
    Explained(
        r"answer: reason: .*",
        "the words after a status are the usual ones",
        "HTTP/2 has none, and no client may depend on them",
    ),
    Explained(
        r"talk: .*",
        "an answer that begins before its request has ended arrives when the request has ended",
        "Go's server reads before it writes, with HTTP/1.1; what becomes a WebSocket goes both ways at once",
    ),
    Explained(
        r"half_closed: .*",
        "a client that closes its sending side before it has its answer may get 499, or none",
        "Go's server takes it for one that has gone away, and the request is given up",
    ),
    Explained(
        r"answer: interim: \['HTTP/1.1 10[23] .*",
        "interim answers other than 100 and 101, like 103 (early hints), are left out",
        "what tries another instance when one cannot be connected to does not pass them on",
        gateway=False,
    ),
    Explained(
        r"answer: (header removed: Content-Encoding|header removed: Content-Length|body: 25 bytes → 5 bytes"
        r"|framing: length → chunked)",
        "on Kubernetes, behind Traefik: a request without `Accept-Encoding` arrives with `gzip`, and a packed answer "
        "to it is unpacked",
        "the gateway is yours",
        ours=False,
    ),
    Explained(
        "answer: header added: Content-Type",
        "on Kubernetes, behind Traefik: an answer without `Content-Type` that follows an interim one is given a type",
        "Go's server guesses it from the body",
        ours=False,
    ),
)

# Requests that do not arrive, and what is answered: they could be read in two ways, or are no HTTP.
REFUSED = (
    (
        "two lengths that differ",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        400,
    ),
    ("a length that is not a number", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: +3\r\n\r\nabc", 400),
    ("a negative length", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -3\r\n\r\nabc", 400),
    ("an unknown transfer coding", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
    ("two transfer codings", b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
    ("a space before a colon", b"GET / HTTP/1.1\r\nHost: x\r\nX-A : 1\r\n\r\n", 400),
    ("a header without a colon", b"GET / HTTP/1.1\r\nHost: x\r\nX-A\r\n\r\n", 400),
    ("a control character in a header", b"GET / HTTP/1.1\r\nHost: x\r\nX-A: a\x00b\r\n\r\n", 400),
    ("no host", b"GET / HTTP/1.1\r\nX-A: 1\r\n\r\n", 400),
    ("two hosts", b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
    ("a host with a space or a slash", b"GET / HTTP/1.1\r\nHost: x/y z\r\n\r\n", 400),
    ("`%` without two hexadecimal digits in the path", b"GET /a%zz HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("`#` in the path or the query", b"GET /a#b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a path that does not begin with `/`", b"GET a HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a space in the path", b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("a control character in the path", b"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ("another version of HTTP", b"GET / HTTP/3.7\r\nHost: x\r\n\r\n", 505),
    ("`CONNECT`", b"CONNECT shop:443 HTTP/1.1\r\nHost: shop:443\r\n\r\n", 501),
    (
        "headers of more than 1 MiB",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * (1 << 20) + b"b" * 8192 + b"\r\n\r\n",
        431,
    ),
)


def unexplained(found: set[str], *, gateway: bool) -> set[str]:
    """Those differences that no row is about."""
    rows = [row for row in EXPLAINED if (row.gateway if gateway else row.ours)]
    return {each for each in found if not any(re.fullmatch(row.pattern, each) for row in rows)}
