"""Alembic migrations: the only creator of tables."""

from partlab.installation import refuse_shadowed_packages

refuse_shadowed_packages()
