"""Errors that only HTTP knows."""

from __future__ import annotations

from regsvc.errors import RegsvcError


class UnsupportedMediaTypeError(RegsvcError):
    """The body has to be JSON, sent as `Content-Type: application/json` in UTF-8."""

    code = "unsupported_media_type"


class FormNeededError(UnsupportedMediaTypeError):
    """The body has to be a form, sent as `Content-Type: application/x-www-form-urlencoded`."""


class ContentCodingError(UnsupportedMediaTypeError):
    """The body must not be compressed: send it without Content-Encoding."""


class ForbiddenError(RegsvcError):
    """Administrator role required."""

    code = "forbidden"


class InsufficientScopeError(RegsvcError):
    """The service token lacks a scope that this call needs."""

    code = "insufficient_scope"

    def __init__(self, scope: str) -> None:
        super().__init__(f"This call needs a service token with the scope {scope}.")
        self.scope = scope


class ChildNotFoundError(RegsvcError):
    """This process has no such child."""

    code = "child_not_found"


class ServingChildError(RegsvcError):
    """This child serves your request. Restart the process instead."""

    code = "child_serving"


class OriginNotAllowedError(RegsvcError):
    """Pages of this origin may not call this service."""

    code = "origin_not_allowed"


class ClientNotAllowedError(RegsvcError):
    """This client may not read the metrics (REGSVC_METRICS_ALLOW)."""

    code = "client_not_allowed"
