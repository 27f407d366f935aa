import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.run_state import TRANSITIONS, RunState, may_move


def test_exactly_three_states_are_final():
    final = {state for state in RunState if state.is_terminal}
    assert final == {RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED}


def test_every_state_is_in_the_table_and_reachable():
    reached = {RunState.QUEUED}
    while (wider := reached | {t for s in reached for t in TRANSITIONS[s]}) != reached:
        reached = wider
    assert reached == set(RunState) == set(TRANSITIONS)


@pytest.mark.parametrize("state", RunState)
def test_no_state_moves_to_itself(state):
    assert not may_move(state, state)


@given(st.lists(st.sampled_from(RunState), max_size=30))
def test_no_walk_leaves_a_final_state(wishes):
    state = RunState.QUEUED
    for wish in wishes:
        if may_move(state, wish):
            assert not state.is_terminal
            state = wish


def test_only_an_owned_run_holds_a_lease():
    owned = {state for state in RunState if state.holds_lease}
    assert owned == {RunState.RUNNING, RunState.CANCELLING}
