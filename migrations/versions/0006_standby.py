"""What the interpreters that a worker keeps ready hold of its memory.

Revision: 0006, after 0005
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Go forward. A worker tells it when it next looks at its host."""
    op.add_column("workers", sa.Column("standby_bytes", sa.BigInteger, nullable=True))


def downgrade() -> None:
    """Go back."""
    with op.batch_alter_table("workers") as batch:
        batch.drop_column("standby_bytes")
