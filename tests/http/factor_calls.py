"""Every call about second factors, made rightly and in most wrong ways."""

from __future__ import annotations

import time

import pyotp

from tests.services import PASSWORD, Service


def code_of(secret: str, steps: int = 0) -> str:
    """An app's code, so many steps from now."""
    return pyotp.TOTP(secret).generate_otp(int(time.time() // 30) + steps)


async def use_factors(service: Service, address: str) -> None:
    """Add an app, log in with it, use a recovery code, and remove the app."""
    me, client = "/api/v1/me", service.client
    login = {"email": address, "password": PASSWORD}
    header = await service.log_in(address)
    for path in ("/me/totp", "/me/recovery-codes", "/me/proof"):
        await service.post(path, {}, header)
        await service.post(path, {})
    await client.get(f"{me}/totp", headers=header)
    await client.delete(f"{me}/totp", headers=header)
    await service.post("/me/totp/confirm", {"code": "123456"}, header)
    await service.post("/me/proof", {"password": "another password"}, header)
    await service.prove(header)
    await client.delete(f"{me}/totp", headers=header)
    await service.post("/me/recovery-codes", {}, header)
    begun = await client.post(f"{me}/totp", headers=header)
    assert begun.status_code == 200, begun.text
    secret = begun.json()["secret"]
    await service.post("/me/totp/confirm", {"code": "12345"}, header)
    confirmed = await service.post("/me/totp/confirm", {"code": code_of(secret, -1)}, header)
    if confirmed.status_code != 200:  # the step has just ended
        confirmed = await service.post("/me/totp/confirm", {"code": code_of(secret)}, header)
    assert confirmed.status_code == 200, confirmed.text
    codes = confirmed.json()["recovery_codes"]
    assert (await client.get(f"{me}/totp", headers=header)).json()["recovery_codes"] == len(codes)
    token = (await service.post("/login", login)).json()["mfa_token"]
    for factor in (
        {},
        {"code": "1"},
        {"recovery_code": "ABCDE-FGHJK"},
        {"mfa_token": "no", "code": "123456"},
    ):
        await service.post("/login/second-factor", {"mfa_token": token} | factor)
    passed = await service.post("/login/second-factor", {"mfa_token": token, "code": code_of(secret, 1)})
    assert passed.status_code == 200, passed.text
    token = (await service.post("/login", login)).json()["mfa_token"]
    await service.post("/login/second-factor", {"mfa_token": token, "recovery_code": codes[0]})
    renewed = await service.post("/me/recovery-codes", {}, header)
    assert len(renewed.json()["recovery_codes"]) == len(codes)
    await service.post("/me/proof", {"code": "000000"}, header)
    assert (await client.delete(f"{me}/totp", headers=header)).status_code == 204
