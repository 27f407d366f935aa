"""The lab's language: specs, run states, events, results and errors.

Standard library and pydantic only, so that every process and every client can speak it.
"""
