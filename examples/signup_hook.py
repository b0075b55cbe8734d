"""Decide about sign-ups: HOOK_SECRET=whsec_… python signup_hook.py [PORT]."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KEY = base64.b64decode(os.environ["HOOK_SECRET"].removeprefix("whsec_"))
REFUSED = "competitor.com"


class Hook(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_POST(self) -> None:
        """Decide within two seconds, by what is in the request alone."""
        body = self.rfile.read(int(self.headers.get("content-length", "0")))
        signed = f"{self.headers['webhook-id']}.{self.headers['webhook-timestamp']}.".encode() + body
        expected = "v1," + base64.b64encode(hmac.new(KEY, signed, hashlib.sha256).digest()).decode()
        if not hmac.compare_digest(self.headers["webhook-signature"].encode(), expected.encode()):
            self.send_response(401)
            self.end_headers()
            return
        domain = json.loads(body)["data"]["email"].rpartition("@")[2]
        decision: dict[str, object] = {"allow": True, "app_data": {"plan": "trial"}}
        if domain == REFUSED:
            decision = {"allow": False, "message": "Please ask our sales team for an account."}
        answer = json.dumps(decision).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 3001), Hook)
    print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
