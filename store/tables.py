"""Every table. Created by migrations only; nothing here issues DDL."""

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

REVISION = "0006"
"""The migration that leaves the schema as it is here."""

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

Json = sa.JSON().with_variant(JSONB(), "postgresql")
JsonOrNull = sa.JSON(none_as_null=True).with_variant(JSONB(none_as_null=True), "postgresql")
BigId = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


class UtcDateTime(sa.types.TypeDecorator[datetime]):
    """An aware UTC datetime on both databases. Refuses naive values with ValueError."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ANN401, ARG002
        """Refuse naive times; bring the others to UTC."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a naive datetime has no place in the store")
        return value.astimezone(UTC) if value is not None else None

    def process_result_value(self, value: datetime | None, dialect: Any) -> datetime | None:  # noqa: ANN401, ARG002
        """Give SQLite's naive value its zone back."""
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def _run_reference(**options: Any) -> sa.Column[str]:  # noqa: ANN401 - Column's own options
    return sa.Column(
        "run_id", sa.String(18), sa.ForeignKey("runs.id", ondelete="CASCADE"), **options
    )


groups = sa.Table(
    "groups",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("share", sa.Float, nullable=False),
)

users = sa.Table(
    "users",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("role", sa.String(10), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
    # Slot-seconds used, decayed exponentially to the moment usage_at (see domain.schedule).
    sa.Column("usage_seconds", sa.Float, nullable=False, server_default="0"),
    sa.Column("usage_at", UtcDateTime, nullable=False),
    sa.Column("share", sa.Float, nullable=False, server_default="1"),
    sa.Column("group_name", sa.String(80), sa.ForeignKey("groups.name")),
    # Quotas; NULL for none. Hours are of slots, in seven days.
    sa.Column("most_running", sa.Integer),
    sa.Column("most_queued", sa.Integer),
    sa.Column("most_hours", sa.Float),
    sa.CheckConstraint("role in ('admin', 'member', 'viewer')", name="role"),
)

tokens = sa.Table(
    "tokens",
    metadata,
    sa.Column("id", sa.String(18), primary_key=True),
    sa.Column("user_name", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
    sa.Column("label", sa.String(80), nullable=False),
    sa.Column("secret_sha256", sa.String(64), nullable=False, unique=True),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("last_used_at", UtcDateTime),
    sa.Column("revoked_at", UtcDateTime),
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("name", sa.String(80), primary_key=True),
    sa.Column("owner", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

# What runs ask of a host, each once.
needs = sa.Table(
    "needs",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("queue", sa.String(40), nullable=False),
    sa.Column("kind", sa.String(3), nullable=False),
    sa.Column("slots", sa.Integer, nullable=False),
    sa.Column("memory", sa.BigInteger, nullable=False),
    sa.Column("model", sa.String(60), nullable=False),
    sa.Column("cores", sa.Integer, nullable=False),
    # The dataset that the host must have; empty for none.
    sa.Column("data", sa.String(100), nullable=False, server_default=""),
    sa.UniqueConstraint("queue", "kind", "slots", "memory", "model", "cores", "data"),
)

# Runs that should take about as long, and how long they took: a moving average.
families = sa.Table(
    "families",
    metadata,
    sa.Column("name", sa.String(200), primary_key=True),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("runs", sa.Integer, nullable=False),
)

runs = sa.Table(
    "runs",
    metadata,
    sa.Column("id", sa.String(18), primary_key=True),
    sa.Column("owner", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
    sa.Column("experiment", sa.String(80), sa.ForeignKey("experiments.name"), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("preset", sa.String(40)),
    sa.Column("name", sa.String(80)),
    sa.Column("tags", Json, nullable=False),
    sa.Column("state", sa.String(12), nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("priority", sa.Integer, nullable=False),
    sa.Column("slot_kind", sa.String(3), nullable=False),
    sa.Column("needs_id", BigId, sa.ForeignKey("needs.id"), nullable=False),
    sa.Column("family", sa.String(200), nullable=False),
    # Declared by its owner; NULL where not.
    sa.Column("expected_seconds", sa.Float),
    sa.Column("preemptible", sa.Boolean, nullable=False),
    # Paused by hand: it is not started, and gives way if it runs.
    sa.Column("held", sa.Boolean, nullable=False),
    # Slots are kept for it: it goes before all others of its priority until it starts.
    sa.Column("reserved", sa.Boolean, nullable=False, server_default=sa.false()),
    # How many runs it waits for (see run_dependencies), and how often it was lost.
    sa.Column("blockers", sa.Integer, nullable=False),
    sa.Column("losses", sa.Integer, nullable=False),
    sa.Column("seed", sa.BigInteger, nullable=False),
    sa.Column("spec", Json, nullable=False),
    sa.Column("spec_sha256", sa.String(64), nullable=False),
    sa.Column("progress", Json),
    sa.Column("summary", Json),
    sa.Column("facts", Json),
    sa.Column("failure", Json),
    sa.Column("submitted_at", UtcDateTime, nullable=False),
    sa.Column("started_at", UtcDateTime),
    sa.Column("finished_at", UtcDateTime),
    sa.Column("not_before", UtcDateTime, nullable=False),
    sa.Column("alive_at", UtcDateTime),
    sa.Column("advanced_at", UtcDateTime),
    sa.Column("worker", sa.String(120)),
    sa.Column("retry_of", sa.String(18), sa.ForeignKey("runs.id")),
    sa.CheckConstraint(
        "state in ('queued', 'running', 'cancelling', 'succeeded', 'failed', 'cancelled')",
        name="state",
    ),
    sa.CheckConstraint("slot_kind in ('cpu', 'gpu')", name="slot_kind"),
)
# The claim: of every owner and needs, the earliest run of the best priority.
sa.Index(
    "ix_runs_queue",
    runs.c.needs_id,
    runs.c.owner,
    runs.c.priority.desc(),
    runs.c.id,
    sqlite_where=runs.c.state == "queued",
    postgresql_where=runs.c.state == "queued",
)
sa.Index("ix_runs_state_id", runs.c.state, runs.c.id)
sa.Index("ix_runs_experiment_id", runs.c.experiment, runs.c.id)

# A row until the run it waits for has succeeded.
run_dependencies = sa.Table(
    "run_dependencies",
    metadata,
    _run_reference(primary_key=True),
    sa.Column("after_id", sa.String(18), sa.ForeignKey("runs.id"), primary_key=True, index=True),
)

run_events = sa.Table(
    "run_events",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _run_reference(nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("source", sa.String(12)),
    sa.Column("target", sa.String(12), nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("reason", sa.String(500), nullable=False),
    sa.Column("actor", sa.String(120), nullable=False),
)
sa.Index("ix_run_events_run_id_id", run_events.c.run_id, run_events.c.id)

idempotency_keys = sa.Table(
    "idempotency_keys",
    metadata,
    sa.Column("owner", sa.String(80), sa.ForeignKey("users.name"), primary_key=True),
    sa.Column("key", sa.String(200), primary_key=True),
    sa.Column("body_sha256", sa.String(64), nullable=False),
    _run_reference(nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

workers = sa.Table(
    "workers",
    metadata,
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("host", sa.String(255), nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("seen_at", UtcDateTime, nullable=False),
    # CPU cores that runs may count on; 0 if it does not say.
    sa.Column("cores", sa.Integer, nullable=False, server_default="0"),
    # It finishes what it has and is given nothing more.
    sa.Column("draining", sa.Boolean, nullable=False, server_default=sa.false()),
    # What it last saw of its host, NULL where it did not look: seconds its clock is ahead of the
    # database's, bytes of the disk it works on, processes of ended attempts it could not kill.
    sa.Column("clock_skew", sa.Float(53)),
    sa.Column("disk_free", sa.BigInteger),
    sa.Column("disk_total", sa.BigInteger),
    sa.Column("orphans", sa.Integer),
    # Names of the datasets under its data root; NULL if it does not say: it may have any.
    sa.Column("datasets", JsonOrNull),
    # Memory that its interpreters on standby hold.
    sa.Column("standby_bytes", sa.BigInteger),
    # Its artifact store, and what is wrong with it or with the GPUs' driver; empty for nothing.
    sa.Column("store_id", sa.String(64)),
    sa.Column("store_error", sa.String(300)),
    sa.Column("driver_error", sa.String(300)),
    # The host of a second worker of this name, and when it last asked for the name.
    sa.Column("rival", sa.String(255)),
    sa.Column("rival_at", UtcDateTime),
)

slots = sa.Table(
    "slots",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    sa.Column("worker", sa.String(120), sa.ForeignKey("workers.name"), nullable=False),
    sa.Column("kind", sa.String(3), nullable=False),
    sa.Column("ordinal", sa.Integer, nullable=False),
    sa.Column("device_name", sa.String(200), nullable=False),
    sa.Column("offered", sa.Boolean, nullable=False),
    # Its lease was lost: busy until the worker says that no process of its is left on it.
    sa.Column("unconfirmed", sa.Boolean, nullable=False),
    sa.Column("queue", sa.String(40), nullable=False),
    # Bytes; 0 if not known.
    sa.Column("memory", sa.BigInteger, nullable=False),
    # Why it is given to nobody: runs of several users failed on it, or other programs hold it.
    sa.Column("quarantine", sa.String(500)),
    sa.Column("foreign_use", sa.String(200)),
    # When an administrator last ended a quarantine: what was lost before counts no more.
    sa.Column("released_at", UtcDateTime),
    sa.UniqueConstraint("worker", "kind", "ordinal"),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _run_reference(nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    # Which of the attempt's slots this is, from 0.
    sa.Column("rank", sa.Integer, nullable=False),
    sa.Column("slot_id", BigId, sa.ForeignKey("slots.id"), nullable=False),
    sa.Column("worker", sa.String(120), nullable=False),
    sa.Column("owner", sa.String(80), nullable=False),
    sa.Column("started_at", UtcDateTime, nullable=False),
    sa.Column("expires_at", UtcDateTime, nullable=False),
    sa.Column("ended_at", UtcDateTime),
    # How it ended: succeeded, failed, cancelled, lost, gave-way or handed-back.
    sa.Column("outcome", sa.String(20)),
    # When its last checkpoint was stored: what is older is not lost with it.
    sa.Column("kept_at", UtcDateTime),
    # On slots that a waiting run has reserved; and whether it was asked to give way.
    sa.Column("backfilled", sa.Boolean, nullable=False),
    sa.Column("yielding", sa.Boolean, nullable=False),
    sa.UniqueConstraint("run_id", "attempt", "rank"),
)
_live = leases.c.ended_at.is_(None)
sa.Index(
    "uq_leases_live_run",
    leases.c.run_id,
    leases.c.rank,
    unique=True,
    sqlite_where=_live,
    postgresql_where=_live,
)
sa.Index(
    "uq_leases_live_slot",
    leases.c.slot_id,
    unique=True,
    sqlite_where=_live,
    postgresql_where=_live,
)

sa.Index("ix_leases_owner_started_at", leases.c.owner, leases.c.started_at)

service_beats = sa.Table(
    "service_beats",
    metadata,
    sa.Column("name", sa.String(40), primary_key=True),
    sa.Column("since", UtcDateTime, nullable=False),
    sa.Column("last_at", UtcDateTime, nullable=False),
)

metric_batches = sa.Table(
    "metric_batches",
    metadata,
    _run_reference(primary_key=True),
    sa.Column("attempt", sa.Integer, primary_key=True),
    sa.Column("batch", sa.Integer, primary_key=True),
)

metric_series = sa.Table(
    "metric_series",
    metadata,
    _run_reference(primary_key=True),
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("points", sa.Integer, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    # NULL stands for NaN, which SQLite cannot hold; minimum and maximum pass over NaN.
    sa.Column("last", sa.Float(53)),
    sa.Column("minimum", sa.Float(53)),
    sa.Column("minimum_step", sa.BigInteger),
    sa.Column("maximum", sa.Float(53)),
    sa.Column("maximum_step", sa.BigInteger),
)

metric_chunks = sa.Table(
    "metric_chunks",
    metadata,
    _run_reference(primary_key=True),
    sa.Column("name", sa.String(120), primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("points", sa.Integer, nullable=False),
    sa.Column("first_step", sa.BigInteger, nullable=False),
    sa.Column("last_step", sa.BigInteger, nullable=False),
    sa.Column("minimum", sa.Float(53)),
    sa.Column("maximum", sa.Float(53)),
    sa.Column("steps", sa.LargeBinary, nullable=False),
    sa.Column("values", sa.LargeBinary, nullable=False),
)

log_lines = sa.Table(
    "log_lines",
    metadata,
    sa.Column("id", BigId, primary_key=True, autoincrement=True),
    _run_reference(nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("at", UtcDateTime, nullable=False),
    sa.Column("level", sa.String(10), nullable=False),
    sa.Column("message", sa.Text, nullable=False),
)
sa.Index("ix_log_lines_run_id_id", log_lines.c.run_id, log_lines.c.id)

artifacts = sa.Table(
    "artifacts",
    metadata,
    sa.Column("id", sa.String(18), primary_key=True),
    _run_reference(nullable=False),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("name", sa.String(200), nullable=False),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("role", sa.String(10)),
    sa.Column("media_type", sa.String(100), nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("epoch", sa.Integer),
    sa.Column("step", sa.BigInteger),
    sa.Column("created_at", UtcDateTime, nullable=False),
    sa.Column("superseded_at", UtcDateTime),
)
_current = artifacts.c.superseded_at.is_(None)
sa.Index(
    "uq_artifacts_current_name",
    artifacts.c.run_id,
    artifacts.c.name,
    unique=True,
    sqlite_where=_current,
    postgresql_where=_current,
)

evaluations = sa.Table(
    "evaluations",
    metadata,
    sa.Column("id", sa.String(18), primary_key=True),
    _run_reference(nullable=False, index=True),
    sa.Column("attempt", sa.Integer, nullable=False),
    sa.Column("verdict", sa.String(12), nullable=False),
    sa.Column("record", Json, nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)

attack_results = sa.Table(
    "attack_results",
    metadata,
    sa.Column(
        "evaluation_id",
        sa.String(18),
        sa.ForeignKey("evaluations.id", ondelete="CASCADE"),
        primary_key=True,
    ),
    sa.Column("label", sa.String(60), primary_key=True),
    sa.Column("kind", sa.String(20), nullable=False),
    sa.Column("n", sa.Integer, nullable=False),
    sa.Column("correct", sa.Integer, nullable=False),
    sa.Column("accuracy", sa.Float(53), nullable=False),
    sa.Column("low", sa.Float(53), nullable=False),
    sa.Column("high", sa.Float(53), nullable=False),
    sa.Column("outcomes", sa.LargeBinary, nullable=False),
)

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    sa.Column("id", sa.String(18), primary_key=True),
    sa.Column("owner", sa.String(80), sa.ForeignKey("users.name"), nullable=False),
    sa.Column("name", sa.String(80)),
    sa.Column("model", sa.String(60), nullable=False),
    sa.Column("channels", sa.Integer, nullable=False),
    sa.Column("classes", sa.Integer, nullable=False),
    sa.Column("sha256", sa.String(64), nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("key", sa.String(300), nullable=False),
    sa.Column("created_at", UtcDateTime, nullable=False),
)
