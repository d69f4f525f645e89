"""The requests, and answers, that are sent with and without the front proxy: see `tests.support.front_proxy`."""

import gzip

from tests.support.front_proxy import Case

_H = b"Host: shop.example.com\r\n"


def _get(target: str | bytes, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    raw = target if isinstance(target, bytes) else target.encode("latin-1")
    lines = "".join(f"{each}\r\n" for each in headers).encode("latin-1")
    return method.encode() + b" " + raw + f" HTTP/{version}\r\n".encode() + _H + lines + b"\r\n"


def _post(body: bytes, *headers: str, method: str = "POST") -> bytes:
    return _get("/submit", *headers, method=method) + body


def _ok(*headers: str, status: str = "200 OK", body: bytes = b"ok\n", length: bool = True) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers, *([f"Content-Length: {len(body)}"] if length else [])]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


TARGETS: tuple[str | bytes, ...] = (
    "/",
    "/img/https://example.com/a.png",
    "//x",
    "///",
    "/a/../b",
    "/a/./b/.",
    "/..",
    "/../../etc/passwd",
    "/a/",
    "/a//",
    "/a/b//..//c",
    "/%7Eu",
    "/~u",
    "/%41%62%2d%2E%5f",
    "/%2e%2e/b",
    "/a%2Fb",
    "/a%2fb%2F..%2Fc",
    "/a%5Cb",
    "/a\\b",
    "/a%00b",
    "/a;b=c;d",
    "/a%3Bb",
    "/a%3Fb",
    "/a%23b",
    "/a%25b%2541",
    "/%c3%a9%C3%A9",
    "/é".encode(),
    "/a%20b+c",
    "/a:b@c,d=e!$&'()*",
    '/a|b"c<d>[e]{f}^`g',
    "/" + "long/" * 4000,
    "/a?",
    "/a??",
    "/a?b",
    "/a?a=1&a=2&&b=&=c",
    "/a?q=a%20b+c%2Bd%7E~",
    "/a?q=%zz%",
    "/a?a=1;b=2",
    "/a?redirect=https://x.example/y?z=1//../w",
    '/a?q="<x>"[1]{y}|z\\^`',
    "/a?q=%00%0d%0a",
    "/a?q=é".encode(),
    "/a?" + "x=1&" * 4000,
    "http://shop.example.com/absolute//x?y",
    "http://other.example.com/absolute",
    # What the router itself answers elsewhere is not to be had here.
    "/api/rawdata",
    "/ping",
    "/metrics?x",
    "//api/rawdata",
    "/a/../ping",
    "/dashboard/",
)

CASES: tuple[Case, ...] = (
    *(Case(f"target-{at}", _get(target)) for at, target in enumerate(TARGETS)),
    # Methods.
    *(
        Case(f"method-{each}", _get("/m", method=each))
        for each in ("POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH", "BREW", "get")
    ),
    Case("method-HEAD", _get("/m", method="HEAD"), _ok("Content-Type: text/plain", body=b"")),
    Case("head-with-length", _get("/m", method="HEAD"), b"HTTP/1.1 200 OK\r\nContent-Length: 123456\r\n\r\n"),
    Case("options-asterisk", _get("*", method="OPTIONS")),
    # Headers.
    Case("header-spelling", _get("/", "x-lower: 1", "X-UPPER: 2", "x-MiXed: 3", "DNT: 1", "ETag: x")),
    Case("header-order", _get("/", "Zebra: 1", "Accept: */*", "Mango: 2", "Apple: 3")),
    Case("header-twice", _get("/", "X-A: 1", "X-B: 2", "X-A: 3", "x-a: 4", "Cookie: a=1", "Cookie: b=2")),
    Case("header-empty", _get("/", "X-Empty:", "X-Spaces:   a  b\t c   ")),
    Case("header-latin-1", _get("/", "X-Name: caf\xe9 \xff")),
    Case("header-utf-8", _get("/", "X-Name: " + "café ☕".encode().decode("latin-1"))),
    Case("header-long", _get("/", "X-Long: " + "a" * 60_000)),
    Case("header-very-long", _get("/", "X-Long: " + "a" * 500_000)),
    Case("header-many", _get("/", *(f"X-{at:03}: {at}" for at in range(500)))),
    Case("header-signs", _get("/", "X_Under_Score: 1", "X.Dot: 2", "X!#$%&'*+^`|~: 3")),
    Case("header-browser", _get("/", "User-Agent: Mozilla/5.0", "Accept-Encoding: gzip, br", "Referer: http://x/?a=b")),
    Case("header-cached", _get("/", 'If-None-Match: W/"a", "b"', "Range: bytes=0-1,5-", "Cache-Control: no-cache")),
    Case("header-login", _get("/", "Authorization: Basic YTpi", 'Cookie: a="b"; c=d; e', "Via: 1.0 x")),
    Case("header-hops", _get("/", "Max-Forwards: 3", "Via: 1.1 a, 1.0 b", "Date: Mon, 01 Jan 2024 00:00:00 GMT")),
    Case("connection-close", _get("/", "Connection: close")),
    Case("connection-keep-alive", _get("/", "Connection: keep-alive", "Keep-Alive: timeout=5")),
    Case("connection-names", _get("/", "Connection: X-Hop", "X-Hop: 1", "X-Other: 2")),
    Case("te-trailers", _get("/", "TE: trailers", "Connection: TE")),
    Case("te-gzip", _get("/", "TE: gzip")),
    Case("proxy-headers", _get("/", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic YTpi")),
    Case(
        "upgrade-h2c",
        _get("/", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n",
    ),
    Case("host-port", b"GET / HTTP/1.1\r\nHost: shop.example.com:8080\r\n\r\n"),
    Case("host-capitals", b"GET / HTTP/1.1\r\nHost: SHOP.Example.COM\r\n\r\n"),
    Case("host-dot", b"GET / HTTP/1.1\r\nHost: shop.example.com.\r\n\r\n"),
    Case("host-address", b"GET / HTTP/1.1\r\nHost: [::1]:99\r\n\r\n"),
    Case("host-underscore", b"GET / HTTP/1.1\r\nHost: my_shop\r\n\r\n"),
    Case("host-empty", b"GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    Case("host-last", b"GET / HTTP/1.1\r\nX-First: 1\r\nHost: shop.example.com\r\n\r\n"),
    Case("forwarded", _get("/", "Forwarded: for=203.0.113.7;proto=https;host=www.example.com")),
    Case(
        "forwarded-by-strangers",
        _get(
            "/",
            "X-Forwarded-For: 203.0.113.7",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: www.example.com",
            "X-Forwarded-Port: 443",
            "X-Forwarded-Server: balancer",
            "X-Real-Ip: 203.0.113.7",
            "X-Forwarded-Prefix: /shop",
            "X-Forwarded-Uri: /x",
            "X-Forwarded-Method: PUT",
        ),
    ),
    Case(
        "forwarded-in-disguise",
        _get("/", "X_Forwarded_For: 203.0.113.7", "X.Forwarded.Proto: https", "X_Real_Ip: 1.2.3.4"),
    ),
    # Bodies.
    Case("body", _post(b"a=1&b=2", "Content-Length: 7", "Content-Type: application/x-www-form-urlencoded")),
    Case("body-binary", _post(bytes(range(256)), "Content-Length: 256")),
    Case("body-empty", _post(b"", "Content-Length: 0")),
    Case("body-none", _post(b"")),
    Case("body-large", _post(b"0123456789abcdef" * 300_000, "Content-Length: 4800000")),
    *(
        Case(f"body-of-{method}", _post(b"abc", "Content-Length: 3", method=method))
        for method in ("GET", "PUT", "PATCH", "DELETE", "OPTIONS", "REPORT")
    ),
    Case("body-chunked", _post(b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n", "Transfer-Encoding: chunked")),
    Case("body-chunked-empty", _post(b"0\r\n\r\n", "Transfer-Encoding: chunked")),
    Case("body-chunked-spelling", _post(b"3\r\nabc\r\n0\r\n\r\n", "transfer-encoding: Chunked")),
    Case("body-chunked-extension", _post(b"3;name=value\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked")),
    Case("body-chunked-large", _post(b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n", "Transfer-Encoding: chunked")),
    Case(
        "trailers",
        _post(
            b"3\r\nabc\r\n0\r\nX-Sum: 1\r\nX-Sign: 2\r\n\r\n", "Trailer: X-Sum, X-Sign", "Transfer-Encoding: chunked"
        ),
    ),
    Case("trailers-unannounced", _post(b"3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n", "Transfer-Encoding: chunked")),
    Case("body-compressed", _post(gzip.compress(b"abc", mtime=0), "Content-Length: 23", "Content-Encoding: gzip")),
    Case("continue", _post(b"abc", "Expect: 100-continue", "Content-Length: 3"), waits=True),
    Case("continue-spelling", _post(b"abc", "expect: 100-Continue", "Content-Length: 3"), waits=True),
    Case(
        "continue-refused",
        _post(b"abc", "Expect: 100-continue", "Content-Length: 3"),
        _ok("Content-Type: text/plain", "Connection: close", status="413 Request Entity Too Large"),
        waits=True,
    ),
    # HTTP/1.0.
    Case("http-1.0", _get("/", version="1.0")),
    Case("http-1.0-no-host", b"GET / HTTP/1.0\r\n\r\n"),
    Case("http-1.0-keep-alive", _get("/", "Connection: keep-alive", version="1.0")),
    Case("http-1.0-body", b"POST / HTTP/1.0\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc"),
    Case(
        "http-1.0-chunked-answer",
        _get("/", version="1.0"),
        b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ),
    # Answers.
    Case(
        "answer-spelling", _get("/"), _ok("x-lower: 1", 'ETag: "a"', "content-type: text/plain", "WWW-Authenticate: x")
    ),
    Case("answer-order", _get("/"), _ok("Zebra: 1", "Content-Type: text/plain", "Apple: 2")),
    Case(
        "answer-twice",
        _get("/"),
        _ok("Set-Cookie: a=1; Path=/", "X-A: 1", "Set-Cookie: b=2", "X-A: 2", "Vary: a", "Vary: b"),
    ),
    Case(
        "answer-dated",
        _get("/"),
        _ok("Date: Mon, 01 Jan 2024 00:00:00 GMT", "Server: shop/1.0", "Content-Type: text/plain"),
    ),
    Case("answer-typeless", _get("/"), _ok(body=b"<html><body>hello</body></html>")),
    Case("answer-empty", _get("/"), _ok(body=b"")),
    Case(
        "answer-encoded",
        _get("/", "Accept-Encoding: gzip"),
        _ok("Content-Encoding: gzip", "Content-Type: text/plain", body=gzip.compress(b"hello", mtime=0)),
    ),
    Case(
        "answer-encoded-unasked",
        _get("/"),
        _ok("Content-Encoding: gzip", "Content-Type: text/plain", body=gzip.compress(b"hello", mtime=0)),
    ),
    Case("answer-location", _get("/"), _ok("Location: /a//b/../c?d;e", status="302 Found", body=b"")),
    Case(
        "answer-location-absolute",
        _get("/"),
        _ok("Location: http://shop.example.com/x", status="301 Moved Permanently"),
    ),
    Case(
        "answer-chunked",
        _get("/"),
        b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
    ),
    Case(
        "answer-trailers",
        _get("/", "TE: trailers", "Connection: TE"),
        b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    ),
    Case(
        "answer-trailers-unannounced",
        _get("/"),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
    ),
    Case("answer-until-end", _get("/"), _ok("Content-Type: text/plain", "Connection: close", length=False)),
    Case("answer-http-1.0", _get("/"), b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"),
    Case("answer-keep-alive", _get("/"), _ok("Connection: keep-alive", "Keep-Alive: timeout=5", "X-Other: 1")),
    Case("answer-hop", _get("/"), _ok("Connection: X-Hop", "X-Hop: 1", "X-Other: 1")),
    Case("answer-reason", _get("/"), _ok(status="200 Fine")),
    Case("answer-reasonless", _get("/"), _ok(status="200 ")),
    *(
        Case(f"answer-{status.split()[0]}", _get("/"), _ok("X-Other: 1", status=status))
        for status in (
            "201 Created",
            "207 Multi-Status",
            "299 Own",
            "400 Bad Request",
            "404 Not Found",
            "418 I'm a teapot",
            "429 Too Many Requests",
            "500 Internal Server Error",
            "502 Bad Gateway",
            "503 Service Unavailable",
            "504 Gateway Timeout",
            "599 Own",
        )
    ),
    Case("answer-204", _get("/"), _ok("X-Other: 1", status="204 No Content", body=b"", length=False)),
    Case("answer-304", _get("/"), _ok('ETag: "a"', status="304 Not Modified", body=b"", length=False)),
    Case("answer-304-length", _get("/"), b"HTTP/1.1 304 Not Modified\r\nContent-Length: 17\r\n\r\n"),
    Case(
        "answer-401", _get("/"), _ok("WWW-Authenticate: Basic", "WWW-Authenticate: Bearer", status="401 Unauthorized")
    ),
    Case("answer-long-header", _get("/"), _ok("X-Long: " + "a" * 20_000)),
    Case("answer-latin-1", _get("/"), _ok("X-Name: caf\xe9")),
    Case("answer-large", _get("/"), _ok("Content-Type: text/plain", body=b"0123456789" * 2_000)),
    Case(
        "answer-hints",
        _get("/"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.css>\r\n\r\n" + _ok("X-Other: 1"),
    ),
    Case("answer-processing", _get("/"), b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + _ok()),
    Case(
        "answer-forwarding", _get("/"), _ok("X-Forwarded-For: 1", "Via: 1.1 x", 'Alt-Svc: h3=":443"', "X-Powered-By: y")
    ),
    Case(
        "answer-security",
        _get("/"),
        _ok("Strict-Transport-Security: max-age=1", "Content-Security-Policy: default-src 'self'", "Age: 3"),
    ),
)
