"""The QR code that an authenticator app scans."""

from __future__ import annotations

import io


def draw_qr_code(text: str) -> str:
    """Return a text as a QR code, an SVG image without scripts or styles.

    It is dark on light with the quiet zone of four modules (ISO/IEC 18004), whatever the page's colours: cameras do
    not read it otherwise.
    """
    import segno  # noqa: PLC0415 - needed in setups alone

    drawn = io.BytesIO()
    names = {"svgclass": None, "lineclass": None}
    colors = {"light": "#ffffff", "dark": "#000000"}
    segno.make_qr(text, error="m").save(
        drawn, kind="svg", border=4, scale=4, xmldecl=False, **colors, **names
    )
    return drawn.getvalue().decode()
