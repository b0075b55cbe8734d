"""The linking rules: what becomes of a user that a provider sends, as one table of cases.

| identity, account at the address      | authoritative | verified   | claimed | no address |
|---------------------------------------|---------------|------------|---------|------------|
| the identity is a user's              | log in        | log in     | log in  | log in     |
| no account at the address             | open          | open       | sign up | refuse     |
| an account that vouches               | join          | ask login  | sign up | refuse     |
| an account that does not vouch        | ask login     | ask login  | sign up | refuse     |

GitHub has no ID tokens. Its column is `verified` for the primary address that it has verified, else `no address`.

`open`: an account of that address, confirmed by the provider's word. `join`: the identity becomes the account's.
`ask login`: the person logs in to the account first, and adds the identity then. `sign up`: an attempt like any other,
whose mail says what there is; the answer does not, so that a provider with claimed addresses tells no stranger
who has an account. Attempts that wait for the address have no part in it: a stranger's gains nothing.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from regsvc.security.identities.proven_identity import Trust

Decision: TypeAlias = Literal["log in", "open", "join", "ask login", "sign up", "refuse"]
Account: TypeAlias = Literal["none", "vouches", "reserved"]
"""The account at an address, as `find_account` describes it."""

_DECISIONS: dict[tuple[Account, Trust], Decision] = {
    ("none", "authoritative"): "open",
    ("none", "verified"): "open",
    ("none", "claimed"): "sign up",
    ("vouches", "authoritative"): "join",
    ("vouches", "verified"): "ask login",
    ("vouches", "claimed"): "sign up",
    ("reserved", "authoritative"): "ask login",
    ("reserved", "verified"): "ask login",
    ("reserved", "claimed"): "sign up",
}


def decide(trust: Trust, *, known: bool, has_address: bool, account: Account) -> Decision:
    """Return what becomes of a user that a provider sends.

    Args:
        trust: how far the provider's word on the address goes.
        known: the identity is a user's.
        has_address: the provider gave an address that can have an account.
        account: what is at that address.
    """
    if known:
        return "log in"
    return _DECISIONS[account, trust] if has_address else "refuse"
