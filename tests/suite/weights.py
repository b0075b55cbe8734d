"""How long the files of tests take, roughly; the order is made of it. Only the long ones need to be named."""

from __future__ import annotations

# Seconds on two cores with four processes. `pytest --durations=0` measures anew.
NAMED: dict[str, float] = {
    "tests/http/test_account_pages.py": 188,
    "tests/http/test_sign_up_orders.py": 81,
    "tests/http/test_login_throttling.py": 70,
    "tests/http/test_resets.py": 67,
    "tests/http/test_email_change.py": 67,
    "tests/http/test_passwords.py": 65,
    "tests/faults/test_faults.py": 61,
    "tests/faults/events/test_event_kills.py": 45,
    "tests/acceptance/test_selftest.py": 110,
    "tests/http/test_console.py": 38,
    "tests/http/test_console_webhooks.py": 20,
    "tests/acceptance/test_mail_commands.py": 33,
    "tests/http/test_crowds.py": 30,
    "tests/http/test_main_line.py": 30,
    "tests/acceptance/test_account_life.py": 29,
    "tests/http/test_account_browser.py": 28,
    "tests/http/test_admin_audit.py": 28,
    "tests/http/test_openapi.py": 27,
    "tests/acceptance/test_openapi_fuzzed.py": 25,
    "tests/acceptance/test_processes.py": 45,
    "tests/acceptance/test_roles.py": 23,
    "tests/http/test_admin_users.py": 22,
    "tests/acceptance/test_key_commands.py": 22,
    "tests/http/test_my_data.py": 27,
    "tests/http/test_signup_browser.py": 21,
    "tests/http/test_admin_mails.py": 20,
    "tests/acceptance/test_user_commands.py": 19,
    "tests/factors/test_factors_browser.py": 18,
    "tests/http/test_links_browser.py": 18,
    "tests/http/test_policy_browser.py": 12,
    "tests/acceptance/test_faults_rabbitmq.py": 17,
    "tests/acceptance/test_commands.py": 16,
    "tests/security/test_passwords.py": 16,
    "tests/acceptance/test_dev.py": 14,
    "tests/http/test_good_input.py": 14,
    "tests/acceptance/test_faults_postgres.py": 13,
    "tests/packaging/test_chart.py": 8,
    "tests/acceptance/test_children.py": 13,
    "tests/postgres/test_embedded.py": 12,
    "tests/http/test_throttling.py": 11,
    "tests/http/test_resending.py": 11,
    "tests/http/test_cors.py": 11,
    "tests/http/test_mailbox.py": 10,
    "tests/http/test_my_sessions.py": 10,
    "tests/acceptance/test_secrets.py": 9,
    "tests/acceptance/test_faults_smtp.py": 9,
    "tests/http/test_forged_hosts.py": 9,
    "tests/http/test_metacharacters.py": 9,
    "tests/http/test_access_tokens.py": 9,
    "tests/acceptance/test_breaker.py": 8,
    "tests/http/test_admin_registrations.py": 8,
    "tests/rabbitmq/test_link.py": 8,
    "tests/http/test_idempotency.py": 7,
    "tests/http/test_reference_browser.py": 7,
    "tests/acceptance/test_legacy_mail.py": 7,
    "tests/acceptance/test_hang_ups.py": 7,
    "tests/postgres/test_pool.py": 7,
    "tests/mail/test_outages.py": 6,
    "tests/acceptance/test_draining.py": 6,
    "tests/acceptance/test_rotation.py": 6,
}
_OWN_BROKER = 30.0  # the tests that are marked so, which are dealt like a file
_FOLDERS = {"tests/acceptance/": 10.0, "tests/faults/": 60.0, "tests/rabbitmq/": 5.0}
_SECONDS_PER_TEST = 0.1


def weigh(name: str, tests: int) -> float:
    """Return how many seconds a file takes.

    Args:
        name: of the file, from the root of the checkout, or of another group of tests.
        tests: how many there are in it.
    """
    if name == "own_broker":
        return _OWN_BROKER
    if name in NAMED:
        return NAMED[name]
    for folder, seconds in _FOLDERS.items():
        if name.startswith(folder):
            return seconds
    return 10.0 if name.endswith("_browser.py") else _SECONDS_PER_TEST * tests
