"""The settings of traces."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field

from regsvc.config import notations


def _with_sdk(on: bool) -> bool:  # noqa: FBT001 - pydantic calls it
    if on:
        try:
            found = find_spec("opentelemetry.sdk") and find_spec("opentelemetry.exporter.otlp.proto.http")
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ValueError("needs the extra: pip install 'regsvc[otel]'")
    return on


class TraceSettings(BaseModel):
    """The settings of traces, a part of `regsvc.config.settings.Settings`."""

    traces: Annotated[bool, BeforeValidator(notations.switch), AfterValidator(_with_sdk)] = Field(
        default=False,
        description="`on` sends OpenTelemetry [traces](operations.md#traces) by OTLP over HTTP to the collector of "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`; needs the extra `otel`",
    )
    traces_ratio: float = Field(
        1.0, ge=0, le=1, description="share of requests that are traced, drawn at random"
    )
    traces_per_second: int = Field(
        20,
        ge=1,
        le=10_000,
        description="traces that a process begins in a second at most, whatever clients send",
    )
