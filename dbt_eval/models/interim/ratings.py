"""Bradley-Terry ratings by leaderboard."""

# A question of several turns is one question: they are drawn together.
INPUTS = """
with members as (
    select
        hash(
            source, dataset, benchmark, judge, protocol, reading, prompt_version, sampling
        ) as board,
        result_id
    from interim.results
    semi join (from interim.result_badges where badge = 'ok') using (result_id)
    where kind = 'pair'
)

select
    board, question_id, model_a, model_b,
    case outcome when 'win' then 1.0 when 'tie' then 0.5 when 'lose' then 0.0 end::double as share
from main.pair_outcomes
inner join members using (result_id)
where status = 'ok' and share is not null
"""


def model(dbt, session):
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("result_badges")
    dbt.ref("pair_outcomes")
    session.register("reckoned", estimates.ratings(session.sql(INPUTS).to_arrow_table()))
    return session.sql("from reckoned")
