"""What the requests with reports share in one process."""

from __future__ import annotations

from dataclasses import dataclass, field

import trio

from regsvc.http.feedback.certificates import Certificates

AT_ONCE = 16


@dataclass
class Intake:
    """What the requests of one process share.

    Args:
        places: requests worked on at the same time.
        certificates: of Amazon SNS.
    """

    places: trio.CapacityLimiter = field(default_factory=lambda: trio.CapacityLimiter(AT_ONCE))
    certificates: Certificates = field(default_factory=Certificates)
