"""What workers tell of their hosts: standby memory, artifact store, driver, a second one of a name.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

from store.tables import UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

COLUMNS = (
    ("standby_bytes", sa.BigInteger),
    ("store_id", sa.String(64)),
    ("store_error", sa.String(300)),
    ("driver_error", sa.String(300)),
    ("rival", sa.String(255)),
    ("rival_at", UtcDateTime),
)


def upgrade() -> None:
    """Go forward. A worker tells it when it next looks at its host."""
    for name, kind in COLUMNS:
        op.add_column("workers", sa.Column(name, kind, nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("workers") as batch:
        for name, _ in reversed(COLUMNS):
            batch.drop_column(name)
