"""`regsvc check`: prove that everything is there which this process will need."""

from regsvc.checks.dependencies import check_dependencies, check_settings
from regsvc.checks.report import Report

__all__ = ["Report", "check_dependencies", "check_settings"]
