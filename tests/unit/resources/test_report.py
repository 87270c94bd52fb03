import pytest
from hypothesis import given
from hypothesis import strategies as st

from resources.llm.faults import Fault
from resources.llm.report import CallReport
from resources.llm.types import Reply, Usage


@given(st.lists(st.floats(0.001, 500), min_size=1, max_size=200), st.sampled_from([50, 95, 99]))
def test_percentiles_are_right_within_three_percent(latencies, percent):
    report = CallReport()
    for latency in latencies:
        report.replied(Reply("k", "ok", latency_s=latency))
    ranked = sorted(latencies)
    exact = ranked[max(-(-len(ranked) * percent // 100) - 1, 0)]
    assert report.percentile(percent) == pytest.approx(exact, rel=0.03)


def test_what_a_person_is_told():
    report = CallReport()
    assert report.metadata() == {}
    assert report.parts(Usage()) == []
    report.expect(10, 0.5)
    report.expect(2, 0.1)
    report.faulted(Fault("retry", "failed", "x", "HTTP 500"))
    report.limit_share = 0.87
    assert report.parts(Usage(cost_usd=0.25)) == [
        "87% of the rate limit",
        "$0.25 of about $0.6",
        "1 retries",
    ]
    assert report.metadata()["calls_expected_new"] == 12
    assert report.metadata()["requests_not_answered"] == {"HTTP 500": 1}
