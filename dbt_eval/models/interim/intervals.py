"""Intervals of mean scores and adjusted win rates; those of unchanged verdicts are kept."""

WANTED = "select result_id, benchmark, stopped > 0 as stopped, fingerprint from interim.results"
INPUTS = """
with valued as (
    select
        result_id, benchmark, question_id, stopped, 0.0 as low, 100.0 as high,
        default_rule as rule,
        case outcome when 'win' then 100.0 when 'tie' then 50.0 when 'lose' then 0.0 end as value
    from (
        select result_id, question_id, default_rule, outcome
        from main.pair_outcomes
        where status = 'ok'
    )
    inner join changed using (result_id)
    union all
    select result_id, changed.benchmark, question_id, stopped, 1.0, 10.0, 'score', score
    from main.single_outcomes
    inner join changed using (result_id)
    where status = 'ok'
)

select
    result_id, rule, benchmark, question_id, low::double as low, high::double as high, stopped,
    sum(value)::double as total, count(*)::double as count
from valued
where value is not null
group by all
"""
QUESTIONS = """
select distinct benchmark, question_id from main.pair_outcomes semi join changed using (result_id)
union
select distinct benchmark, question_id from main.single_outcomes semi join changed using (result_id)
"""


def model(dbt, session):
    from opencs_assets.evaluation import kept
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("pair_outcomes")
    dbt.ref("single_outcomes")
    return kept.with_kept(
        session,
        "intervals",
        wanted=WANTED,
        key=["result_id"],
        inputs=INPUTS,
        reckon=lambda values: estimates.result_intervals(
            values, session.sql(QUESTIONS).to_arrow_table()
        ),
    )
