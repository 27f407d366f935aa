"""What workers see of their hosts, who is next, and which losses on a slot count.

Revision: 0004, after 0003
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

from store.tables import UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS: dict[str, sa.types.TypeEngine[Any]] = {
    "clock_skew": sa.Float(53),
    "disk_free": sa.BigInteger(),
    "disk_total": sa.BigInteger(),
    "orphans": sa.Integer(),
}


def upgrade() -> None:
    """Go forward."""
    with op.batch_alter_table("workers") as batch:
        for name, kind in COLUMNS.items():
            batch.add_column(sa.Column(name, kind, nullable=True))
    turn: sa.Column[bool] = sa.Column(
        "reserved", sa.Boolean(), nullable=False, server_default=sa.false()
    )
    op.add_column("runs", turn)
    op.add_column("slots", sa.Column("released_at", UtcDateTime(), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("slots", "released_at")
    op.drop_column("runs", "reserved")
    with op.batch_alter_table("workers") as batch:
        for name in COLUMNS:
            batch.drop_column(name)
