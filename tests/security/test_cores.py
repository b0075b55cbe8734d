"""How many processors a process may use: in a container, what its quota allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from regsvc.security import cores


@pytest.mark.parametrize(
    ("files", "allowed"),
    [
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "50000 100000\n"}, 0.5),
        ({"cpu.max": "400000 100000\n"}, 4.0),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "150000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 1.5),
        ({"cpu.max": "nonsense\n"}, None),
        ({}, None),
    ],
    ids=["v2 without", "v2 half", "v2 four", "v1 without", "v1 one and a half", "unreadable", "none"],
)
def test_the_quota_of_a_control_group_is_read(
    tmp_path: Path, files: dict[str, str], allowed: float | None
) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert cores.read_quota(tmp_path) == allowed


@pytest.mark.parametrize(("quota", "threads"), [("50000", 1), ("100000", 1)])
def test_a_small_quota_on_a_large_machine_makes_few_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, threads: int
) -> None:
    (tmp_path / "cpu.max").write_text(f"{quota} 100000\n")
    monkeypatch.setattr(cores, "_CGROUP", tmp_path)
    assert cores.usable_cores() == int(quota) / 100_000
    assert cores.hashing_threads() == threads
