"""Other sites whose pages may use this site's passkeys (Web Authentication level 3, 5.11)."""

from __future__ import annotations

from quart import Response

from regsvc.http.context import get_context
from regsvc.http.pages.page import blueprint
from regsvc.http.response.json_response import answer


@blueprint.get("/.well-known/webauthn")
async def list_related_origins() -> Response:
    """List the origins whose pages may call the API, for browsers that ask whether they may use a passkey."""
    origins = get_context().settings.origins
    return answer({"origins": sorted(each for each in origins if each.startswith("https://"))})
