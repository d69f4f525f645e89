"""Approves a deployment from Slack: the endpoint of a slash command, with nothing but Python's standard library.

    SLACK_SIGNING_SECRET=… TEMPORAL_ADDRESS=… python3 slack_approvals.py U024BE7LH=ann U024BE7LJ=bob

Somebody types `/approve shop/production 7d16056e62112650`, the plan that the notification names. Slack signs each
request; a user counts as the name that stands beside its id here, which is one of `approvals.by`.
"""

import argparse
import hashlib
import hmac
import os
import re
import subprocess
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

WANTED = re.compile(r"([a-z0-9-]+/[a-z0-9-]+) ([0-9a-f]{16})")
NOT_OLDER_THAN = 300
LONGEST_REQUEST = 64 << 10


class Approvals(BaseHTTPRequestHandler):
    """Answers one slash command at a time; Slack waits three seconds for it."""

    timeout = 10
    people: dict[str, str]
    secret: bytes

    def do_POST(self) -> None:
        """Checks who asks, runs `approve`, and says what came of it."""
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), LONGEST_REQUEST))
        if not self._is_slack(body):
            self.send_error(401)
            return
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        answer = self._approve(form.get("user_id", ""), form.get("text", "")).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _is_slack(self, body: bytes) -> bool:
        sent, signature = self.headers.get("X-Slack-Request-Timestamp", ""), self.headers.get("X-Slack-Signature", "")
        if not sent.isascii() or not sent.isdecimal() or abs(time.time() - int(sent)) > NOT_OLDER_THAN:
            return False
        mine = "v0=" + hmac.new(self.secret, b"v0:" + sent.encode() + b":" + body, hashlib.sha256).hexdigest()
        return hmac.compare_digest(mine.encode(), signature.encode())

    def _approve(self, user: str, text: str) -> str:
        asked = WANTED.fullmatch(text.strip())
        if user not in self.people or asked is None:
            return "You may not approve here, or this is not SERVICE/TARGET PLAN."
        command = ["deployment-specialist", "approve", asked[1], "--as", self.people[user], "--plan", asked[2]]
        done = subprocess.run([*command, "--reason", "from Slack"], capture_output=True, text=True, timeout=30)
        return (done.stdout + done.stderr).strip() or ("approved" if done.returncode == 0 else "not approved")


def main() -> None:
    """Serves until it is stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--listen", default="127.0.0.1:8099")
    parser.add_argument("people", nargs="+", metavar="USER_ID=NAME")
    given = parser.parse_args()
    Approvals.people = dict(pair.split("=", 1) for pair in given.people)
    Approvals.secret = os.environ["SLACK_SIGNING_SECRET"].encode()
    host, _, port = given.listen.rpartition(":")
    with ThreadingHTTPServer((host, int(port)), Approvals) as server:
        print(f"listening on {host}:{server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
