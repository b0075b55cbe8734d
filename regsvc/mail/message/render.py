"""Rendering of messages as octets of RFC 5322."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.headerregistry import Address
from email.utils import format_datetime
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from regsvc.mail.message import compiled
from regsvc.mail.message.frame import OUR_HEADER, Frame, TextEncoding, choose_encoding
from regsvc.mail.message.kinds import AccountExistsMail, ConfirmMail, LegacyConfirmMail, Mail, checked_values
from regsvc.mail.message.languages import Language, choose_language, load_languages
from regsvc.mail.message.slots import Body
from regsvc.mail.message.values import Word, check_header, check_moment, header_address

if TYPE_CHECKING:
    from uuid import UUID

    from regsvc.config.settings import Settings

__all__ = [
    "AccountExistsMail",
    "ConfirmMail",
    "LegacyConfirmMail",
    "Mail",
    "Renderer",
    "make_renderer",
    "readable_on",
]

_TEMPLATES: Final = Path(__file__).with_name("templates")


@dataclass(frozen=True, slots=True)
class _Edition:
    """One kind of message in one language, with all shared parts."""

    body: Body
    frames: dict[TextEncoding, Frame]


class Renderer:
    """Render messages for one sender and brand.

    Args:
        sender: For From, with the brand as default display name. Its domain ends the Message-ID.
        brand: Name of the service, in header and text.
        color: Of buttons, `#rrggbb`.
        logo: URL of an image that replaces the brand's name at the top.
        templates: Folder whose templates and language files override ours.
        home: address of the service, which the text names where that makes the number of links even.

    Raises:
        ValueError: Sender or brand is not allowed in a header, or a language file is invalid.
    """

    def __init__(
        self,
        *,
        sender: Address,
        brand: str,
        color: str = "#2457c5",
        logo: str | None = None,
        templates: Path | None = None,
        home: str = "",
    ) -> None:
        folders = [_TEMPLATES] if templates is None else [templates, _TEMPLATES]
        address = header_address(sender.addr_spec)
        self._sender = Address(check_header(sender.display_name or brand), addr_spec=address)
        self._domain = address.rpartition("@")[2]
        self._brand = check_header(brand)
        self._home = home
        self._languages = load_languages(reversed(folders))
        self._slotted = templates is None or not (
            any(templates.glob("*.txt")) or any(templates.glob("*.html"))
        )
        self._editions: dict[tuple[str, str], _Edition] = {}
        self._environment = Environment(
            loader=FileSystemLoader(folders),
            autoescape=select_autoescape(("html",), default=False),
            undefined=StrictUndefined,
            auto_reload=False,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
            bytecode_cache=compiled.MAILS,
        )
        self._environment.filters["fill"] = str.format
        self._environment.globals.update(brand=brand, color=color, on_color=readable_on(color), logo=logo)

    @property
    def languages(self) -> tuple[str, ...]:
        """Return the tags of the available languages."""
        return tuple(sorted(self._languages))

    def render(self, mail: Mail, *, mail_id: UUID, recipient: str, locale: str, now: datetime) -> bytes:
        """Return the message: `multipart/alternative` of text and HTML, CRLF line ends, no line over 998 octets.

        It is the same for the same arguments, in every process. It contains no user's name, nor any other value that a
        stranger could use to place a message.

        Args:
            mail: Kind and values.
            mail_id: Determines the Message-ID, so that mail programs recognise a duplicate.
            recipient: For To, without a name.
            locale: The recipient's language tag.
            now: For Date, with a time zone.

        Raises:
            UnusableAddressError: The recipient is not allowed in a header.
            ValueError: A value of the message fails its kind's check.
        """
        language = choose_language(self._languages, locale)
        edition = self._edition(mail.kind, language)
        values = {name: _say(language, value) for name, value in checked_values(mail).items()}
        text, html = edition.body.write(values)
        return edition.frames[choose_encoding(text)].fill(
            headers=(
                f"Date: {_say_date(check_moment(now).replace(microsecond=0))}\n"
                f"To: {header_address(recipient)}\n"
                f"Message-ID: <{mail_id}@{self._domain}>\n"
                f"{OUR_HEADER}: {mail_id}\n"  # some providers replace the Message-ID, and report this one
            ),
            text=text,
            html=html,
        )

    def _edition(self, kind: str, language: Language) -> _Edition:
        key = kind, language.tag
        if key not in self._editions:
            words = language.words_of(kind, self._brand)
            text, html = (self._environment.get_template(f"{kind}.{form}") for form in ("txt", "html"))
            context = {"words": words, "language": language.tag, "direction": language.direction}
            encodings: tuple[TextEncoding, ...] = ("7bit", "quoted-printable", "base64")
            frames = {
                encoding: Frame.build(sender=self._sender, subject=words["subject"], encoding=encoding)
                for encoding in encodings
            }
            self._editions[key] = _Edition(
                Body(text, html, context, slotted=self._slotted, home=self._home), frames
            )
        return self._editions[key]


def _say(language: Language, value: object) -> object:
    """Return a value as its language says it; a word of a later release says nothing."""
    if isinstance(value, datetime):
        return language.say_moment(value)
    return language.words["changes"].get(value, "") if isinstance(value, Word) else value


@lru_cache(maxsize=2)
def _say_date(second: datetime) -> str:
    """Return a time as Date has it (RFC 5322, 3.3); many mails share a second."""
    return format_datetime(second)


def make_renderer(settings: Settings, *, sender: Address | None = None) -> Renderer:
    """Return a renderer with the configured sender, brand and templates.

    Args:
        settings: of the process.
        sender: Instead of REGSVC_MAIL_FROM.
    """
    return Renderer(
        sender=sender or settings.mail_from,
        brand=settings.brand_name,
        color=settings.brand_color,
        logo=settings.brand_logo,
        templates=settings.templates,
        home=f"{settings.public_url}/",
    )


def readable_on(color: str) -> str:
    """Return black or white, whichever contrasts more with a colour (relative luminance of WCAG 2.2)."""
    channels = (int(color[start : start + 2], 16) / 255 for start in (1, 3, 5))
    # The sRGB curve, accurate enough to choose between two colours.
    red, green, blue = (channel**2.2 for channel in channels)
    luminance = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    on_white, on_black = 1.05 / (luminance + 0.05), (luminance + 0.05) / 0.05
    return "#ffffff" if on_white >= on_black else "#000000"
