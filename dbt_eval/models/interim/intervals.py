"""Intervals of mean scores and adjusted win rates."""

INPUTS = """
with results as (
    select result_id, benchmark, stopped > 0 as stopped from interim.results
),

valued as (
    select
        result_id, benchmark, question_id, stopped, 0.0 as low, 100.0 as high,
        default_rule as rule,
        case outcome when 'win' then 100.0 when 'tie' then 50.0 when 'lose' then 0.0 end as value
    from (
        select result_id, question_id, default_rule, outcome
        from main.pair_outcomes
        where status = 'ok'
    )
    inner join results using (result_id)
    union all
    select result_id, results.benchmark, question_id, stopped, low, high, 'score', score
    from main.single_outcomes
    inner join results using (result_id)
    inner join scales using (protocol)
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
select benchmark, question_id from main.pair_outcomes
union
select benchmark, question_id from main.single_outcomes
"""


def model(dbt, session):
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("pair_outcomes")
    dbt.ref("single_outcomes")
    # The judge protocol says which scores there can be.
    scales = dbt.source("lake", "judge_protocols").select("protocol, low, high")
    session.register("scales", scales.to_arrow_table())
    values, questions = (session.sql(each).to_arrow_table() for each in (INPUTS, QUESTIONS))
    session.register("reckoned", estimates.result_intervals(values, questions))
    return session.sql("from reckoned")
