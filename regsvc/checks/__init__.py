"""`regsvc check`: check that every dependency of this process is ready."""

from regsvc.checks.dependencies import check_dependencies, check_settings
from regsvc.checks.report import Report

__all__ = ["Report", "check_dependencies", "check_settings"]
