"""Answers that are the same for every client: made once, with an entity tag, compressed where it is understood."""

from __future__ import annotations

import gzip
from collections.abc import Mapping
from hashlib import sha256
from http import HTTPStatus

from quart import Response, request

_TAG_CHARACTERS = 32


class PreparedAnswer:
    """One such answer. Nothing in it is secret or a client's own, so that its compressed length tells nothing.

    Args:
        body: plain.
        headers: of the answer; `Content-Type` and `Cache-Control` among them.
    """

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        digest = sha256(body).hexdigest()[:_TAG_CHARACTERS]
        self._headers = dict(headers)
        # Two codings of one body are two representations, each with a tag of its own (RFC 9110 section 8.8.3).
        self._plain = (body, {"ETag": f'"{digest}"'})
        compressed = gzip.compress(body, mtime=0)
        self._compressed = (compressed, {"ETag": f'"{digest}-gzip"', "Content-Encoding": "gzip"})

    def respond(self) -> Response:
        """Return the answer to the current request; 304 if its client has this already (RFC 9110 section 13.1.2)."""
        takes_gzip = request.accept_encodings.quality("gzip") > 0
        body, own = self._compressed if takes_gzip else self._plain
        headers = self._headers | own | {"Vary": "Accept-Encoding"}
        wanted = request.if_none_match
        if not wanted.contains_weak(own["ETag"].strip('"')):
            return Response(body, headers=headers)
        known = {name: headers[name] for name in ("ETag", "Vary", "Cache-Control") if name in headers}
        response = Response(b"", HTTPStatus.NOT_MODIFIED, headers=known)
        del response.headers["Content-Type"], response.headers["Content-Length"]
        return response
