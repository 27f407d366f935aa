"""A shorter week of the simulator: the planner is fair and wastes nothing."""

from benchmarks.week import POLICIES, Lab, fairness, jobs, table, utilisation, waits


def test_a_week_is_fair_and_nobody_starves():
    week = jobs(600, seed=1)
    lab, fifo = Lab(), POLICIES["first come, first served"]()
    for one in (lab, fifo):
        one.run(week)
        assert len(one.finished) == len(week), "everybody's run ended"
    assert fairness(lab) >= 0.95
    assert utilisation(lab) >= 0.97
    assert fairness(lab) > fairness(fifo)
    assert utilisation(lab) > utilisation(fifo)
    urgent = [run_id for run_id, job in lab.jobs.items() if job.priority > 0]
    assert max(lab.started[r] - lab.jobs[r].submitted for r in urgent) < 3600
    assert all(wait >= 0 for wait in waits(lab))
    assert "the lab's" in table({"the lab's": lab, "first come, first served": fifo})
