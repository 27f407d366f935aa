"""Several slots a run, fair shares, quotas, reservations, pauses, dependencies.

Revision: 0003, after 0002
"""

import sqlalchemy as sa
from alembic import op

from store.tables import BigId, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

LIVE = sa.text("ended_at IS NULL")
QUEUED = sa.text("state = 'queued'")


def upgrade() -> None:
    """Go forward."""
    _new_tables()
    _users()
    _runs()
    _hosts()
    _leases()


def _new_tables() -> None:
    op.create_table(
        "groups",
        sa.Column("name", sa.String(length=80), nullable=False),
        sa.Column("share", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_groups")),
    )
    op.create_table(
        "needs",
        sa.Column("id", BigId, autoincrement=True, nullable=False),
        sa.Column("queue", sa.String(length=40), nullable=False),
        sa.Column("kind", sa.String(length=3), nullable=False),
        sa.Column("slots", sa.Integer(), nullable=False),
        sa.Column("memory", sa.BigInteger(), nullable=False),
        sa.Column("model", sa.String(length=60), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_needs")),
        sa.UniqueConstraint(
            "queue",
            "kind",
            "slots",
            "memory",
            "model",
            "cores",
            name=op.f("uq_needs_queue_kind_slots_memory_model_cores"),
        ),
    )
    op.create_table(
        "families",
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("runs", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_families")),
    )
    op.create_table(
        "run_dependencies",
        sa.Column("run_id", sa.String(length=18), nullable=False),
        sa.Column("after_id", sa.String(length=18), nullable=False),
        sa.ForeignKeyConstraint(
            ["run_id"], ["runs.id"], name=op.f("fk_run_dependencies_run_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(
            ["after_id"], ["runs.id"], name=op.f("fk_run_dependencies_after_id")
        ),
        sa.PrimaryKeyConstraint("run_id", "after_id", name=op.f("pk_run_dependencies")),
    )
    op.create_index("ix_run_dependencies_after_id", "run_dependencies", ["after_id"])


def _users() -> None:
    with op.batch_alter_table("users") as batch:
        batch.add_column(sa.Column("share", sa.Float(), nullable=False, server_default="1"))
        batch.add_column(sa.Column("group_name", sa.String(length=80), nullable=True))
        batch.add_column(sa.Column("most_running", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("most_queued", sa.Integer(), nullable=True))
        batch.add_column(sa.Column("most_hours", sa.Float(), nullable=True))
        batch.create_foreign_key(op.f("fk_users_group_name"), "groups", ["group_name"], ["name"])


def _runs() -> None:
    """Until now a run had one slot of its kind, in the queue of that name."""
    for kind in ("cpu", "gpu"):
        op.execute(
            "INSERT INTO needs (queue, kind, slots, memory, model, cores) "
            f"VALUES ('{kind}', '{kind}', 1, 0, '', 0)"
        )
    with op.batch_alter_table("runs") as batch:
        batch.drop_index("ix_runs_queue")
        batch.add_column(sa.Column("needs_id", BigId, nullable=True))
        batch.add_column(
            sa.Column("family", sa.String(length=200), nullable=False, server_default="")
        )
        batch.add_column(sa.Column("expected_seconds", sa.Float(), nullable=True))
        for name, begin in (("preemptible", sa.true()), ("held", sa.false())):
            batch.add_column(sa.Column(name, sa.Boolean(), nullable=False, server_default=begin))
        for name in ("blockers", "losses"):
            batch.add_column(sa.Column(name, sa.Integer(), nullable=False, server_default="0"))
        batch.create_foreign_key(op.f("fk_runs_needs_id"), "needs", ["needs_id"], ["id"])
    op.execute(
        "UPDATE runs SET needs_id = (SELECT id FROM needs WHERE needs.kind = runs.slot_kind)"
    )
    with op.batch_alter_table("runs") as batch:
        batch.alter_column("needs_id", existing_type=BigId, nullable=False)
        for name in ("family", "preemptible", "held", "blockers", "losses"):
            batch.alter_column(name, server_default=None)
    op.create_index(
        "ix_runs_queue",
        "runs",
        ["needs_id", "owner", sa.text("priority DESC"), "id"],
        sqlite_where=QUEUED,
        postgresql_where=QUEUED,
    )


def _hosts() -> None:
    with op.batch_alter_table("workers") as batch:
        batch.add_column(sa.Column("cores", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(
            sa.Column("draining", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    with op.batch_alter_table("slots") as batch:
        batch.add_column(
            sa.Column("queue", sa.String(length=40), nullable=False, server_default="")
        )
        batch.add_column(sa.Column("memory", sa.BigInteger(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("quarantine", sa.String(length=500), nullable=True))
        batch.add_column(sa.Column("foreign_use", sa.String(length=200), nullable=True))
    op.execute("UPDATE slots SET queue = kind")
    with op.batch_alter_table("slots") as batch:
        batch.alter_column("queue", server_default=None)
        batch.alter_column("memory", server_default=None)


def _leases() -> None:
    with op.batch_alter_table("leases") as batch:
        batch.drop_index("uq_leases_live_run")
        batch.drop_constraint("uq_leases_run_id_attempt", type_="unique")
        batch.add_column(sa.Column("rank", sa.Integer(), nullable=False, server_default="0"))
        batch.add_column(sa.Column("kept_at", UtcDateTime(), nullable=True))
        for name in ("backfilled", "yielding"):
            batch.add_column(
                sa.Column(name, sa.Boolean(), nullable=False, server_default=sa.false())
            )
        batch.create_unique_constraint(
            op.f("uq_leases_run_id_attempt_rank"), ["run_id", "attempt", "rank"]
        )
    with op.batch_alter_table("leases") as batch:
        for name in ("rank", "backfilled", "yielding"):
            batch.alter_column(name, server_default=None)
        batch.create_index(
            "uq_leases_live_run",
            ["run_id", "rank"],
            unique=True,
            sqlite_where=LIVE,
            postgresql_where=LIVE,
        )
        batch.create_index("ix_leases_owner_started_at", ["owner", "started_at"])
    op.execute("UPDATE leases SET outcome = 'lost' WHERE outcome = 'queued'")


def downgrade() -> None:
    """Go back. Fails where an attempt holds several slots: end it first."""
    with op.batch_alter_table("leases") as batch:
        batch.drop_index("ix_leases_owner_started_at")
        batch.drop_index("uq_leases_live_run")
        batch.drop_constraint("uq_leases_run_id_attempt_rank", type_="unique")
        for name in ("rank", "kept_at", "backfilled", "yielding"):
            batch.drop_column(name)
        batch.create_unique_constraint(op.f("uq_leases_run_id_attempt"), ["run_id", "attempt"])
        batch.create_index(
            "uq_leases_live_run",
            ["run_id"],
            unique=True,
            sqlite_where=LIVE,
            postgresql_where=LIVE,
        )
    with op.batch_alter_table("slots") as batch:
        for name in ("queue", "memory", "quarantine", "foreign_use"):
            batch.drop_column(name)
    with op.batch_alter_table("workers") as batch:
        batch.drop_column("cores")
        batch.drop_column("draining")
    with op.batch_alter_table("runs") as batch:
        batch.drop_index("ix_runs_queue")
        batch.drop_constraint("fk_runs_needs_id", type_="foreignkey")
        for name in (
            *("needs_id", "family", "expected_seconds", "preemptible", "held", "blockers"),
            "losses",
        ):
            batch.drop_column(name)
        batch.create_index(
            "ix_runs_queue",
            ["slot_kind", "priority", "owner", "id"],
            sqlite_where=QUEUED,
            postgresql_where=QUEUED,
        )
    with op.batch_alter_table("users") as batch:
        batch.drop_constraint("fk_users_group_name", type_="foreignkey")
        for name in ("share", "group_name", "most_running", "most_queued", "most_hours"):
            batch.drop_column(name)
    for table in ("run_dependencies", "families", "needs", "groups"):
        op.drop_table(table)
