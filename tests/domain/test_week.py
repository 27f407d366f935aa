"""A shorter week of the simulator: the planner is fair and wastes nothing."""

from benchmarks.week import (
    POLICIES,
    Lab,
    behind,
    fairness,
    jobs,
    latest,
    table,
    utilisation,
    waits,
)


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
    longest = max(job.seconds for job in week)
    for gpus, late in latest(lab).items():
        assert late < latest(fifo)[gpus]
        assert late < 4 * longest, "nobody falls behind an equal share for good"
    labs = {"the lab's": lab, "first come, first served": fifo}
    assert "the lab's" in table(labs)
    assert "the lab's" in behind(labs)
