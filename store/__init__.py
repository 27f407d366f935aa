"""The lab's memory: SQLAlchemy Core over SQLite or PostgreSQL.

Functions here take an open connection, flush nothing and commit nothing; the edge (a request, the
recorder, the dispatcher) owns the transaction through :func:`store.engine.writing`.
"""

from partlab.installation import refuse_shadowed_packages

refuse_shadowed_packages()
