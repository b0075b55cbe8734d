"""The operator's texts of pages and mails, checked so that none fails when it is first shown."""

from __future__ import annotations

from pathlib import Path

from regsvc.config.settings import Settings
from regsvc.errors import ConfigurationError
from regsvc.mail.message.languages import MAIL_TEXTS, find_text_errors

PAGE_TEXTS = Path(__file__).with_name("pages") / "texts"
"""Our own texts of pages."""


def check_templates(settings: Settings) -> None:
    """Check the operator's texts of pages and mails.

    Raises:
        ConfigurationError: naming each file and key that cannot be used.
    """
    templates = settings.templates
    if templates is None:
        return
    faults = [*find_text_errors(MAIL_TEXTS, templates), *find_text_errors(PAGE_TEXTS, templates / "pages")]
    if faults:
        raise ConfigurationError("\n  ".join(["The texts in REGSVC_TEMPLATES are not usable:", *faults]))
