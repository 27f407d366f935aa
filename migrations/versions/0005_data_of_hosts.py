"""Which datasets workers have, and which one a run asks of its host.

Revision: 0005, after 0004
"""

import sqlalchemy as sa
from alembic import op

from store.tables import Json

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

COLUMNS = ("queue", "kind", "slots", "memory", "model", "cores")
BEFORE = f"uq_needs_{'_'.join(COLUMNS)}"
AFTER = f"{BEFORE}_data"


def upgrade() -> None:
    """Go forward. What is queued already asks for no dataset: it starts anywhere, as before."""
    op.add_column("workers", sa.Column("datasets", Json, nullable=True))
    with op.batch_alter_table("needs") as batch:
        batch.add_column(
            sa.Column("data", sa.String(length=100), nullable=False, server_default="")
        )
        batch.drop_constraint(op.f(BEFORE), type_="unique")
        batch.create_unique_constraint(op.f(AFTER), [*COLUMNS, "data"])


def downgrade() -> None:
    """Go back. Two needs that differ in their dataset alone become one."""
    same = " AND ".join(f"other.{name} = needs.{name}" for name in COLUMNS)
    first = f"(SELECT min(other.id) FROM needs AS other WHERE {same})"
    op.execute(
        f"UPDATE runs SET needs_id = (SELECT {first} FROM needs WHERE needs.id = runs.needs_id)"
    )
    op.execute(f"DELETE FROM needs WHERE id <> {first}")
    with op.batch_alter_table("needs") as batch:
        batch.drop_constraint(op.f(AFTER), type_="unique")
        batch.create_unique_constraint(op.f(BEFORE), list(COLUMNS))
        batch.drop_column("data")
    with op.batch_alter_table("workers") as batch:
        batch.drop_column("datasets")
