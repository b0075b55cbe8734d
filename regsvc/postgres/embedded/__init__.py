"""The embedded PostgreSQL server of `regsvc dev` and of the tests."""

from regsvc.postgres.embedded.server import EmbeddedPostgres, EmbeddedPostgresError

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError"]
