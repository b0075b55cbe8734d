"""Cookies of a request, read the way browsers write them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def read_cookies(headers: Iterable[str], name: str) -> Iterator[str]:
    """Yield the values of the cookies of a name, in the order sent.

    Browsers join pairs by `;` and quote nothing (RFC 6265bis, 5.8.3). A parser that knows quotes lets one cookie of a
    sibling domain (`a="b`) swallow those behind it.

    Args:
        headers: the values of `Cookie`.
        name: with its prefix; case counts.
    """
    for header in headers:
        for pair in header.split(";"):
            key, found, value = pair.partition("=")
            if found and key.strip(" \t") == name:
                yield value.strip(" \t")
