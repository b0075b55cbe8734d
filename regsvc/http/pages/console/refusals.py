"""What the console says of an action that was refused."""

from __future__ import annotations

from regsvc.errors import DatabaseUnavailableError, RegsvcError, ValidationFailedError
from regsvc.http.response.problems import find_status


def explain(error: RegsvcError) -> tuple[int, str]:
    """Return the status and the text of a refusal, for the page that the action came from.

    Raises:
        DatabaseUnavailableError: it is this, so the page cannot be shown either.
    """
    if isinstance(error, DatabaseUnavailableError):
        raise error
    details = [field.detail for field in error.fields] if isinstance(error, ValidationFailedError) else []
    return int(find_status(error) or 500), " ".join([str(error), *details])
