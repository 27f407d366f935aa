"""The science: models, class activation maps, budgets, attacks, training, evaluation, audit.

Knows no database, no HTTP and no queue.
"""
