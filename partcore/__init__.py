"""The science: models, class activation maps, budgets, attacks, training, evaluation, audit.

Knows no database, no HTTP and no queue.
"""

from partlab.installation import refuse_shadowed_packages

refuse_shadowed_packages()
