"""Sign a request for Amazon's APIs (AWS Signature Version 4)."""

from __future__ import annotations

import hmac
from hashlib import sha256
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


def sign(
    *,
    host: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    key_id: str,
    secret: str,
    region: str,
    service: str,
    now: datetime,
) -> dict[str, str]:
    """Return the headers of a signed POST without a query: those given, the time and the signature.

    Args:
        host: with its port, as in the header Host.
        path: of the URL, not encoded.
        body: of the request.
        headers: to sign, without Host.
        key_id: access key id.
        secret: secret access key.
        region: such as `eu-central-1`.
        service: such as `ses`.
        now: in UTC.
    """
    moment, day = now.strftime("%Y%m%dT%H%M%SZ"), now.strftime("%Y%m%d")
    signed = {name.lower(): " ".join(value.split()) for name, value in headers.items()}
    signed |= {"host": host, "x-amz-date": moment}
    names = ";".join(sorted(signed))
    request = "\n".join(
        [
            "POST",
            quote(path, safe="/-_.~"),
            "",
            *(f"{name}:{signed[name]}" for name in sorted(signed)),
            "",
            names,
            sha256(body).hexdigest(),
        ]
    )
    scope = f"{day}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = f"AWS4{secret}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.new(key, text.encode(), sha256).hexdigest()
    return {
        **headers,
        "X-Amz-Date": moment,
        "Authorization": f"AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}",
    }
