"""Bradley-Terry ratings by leaderboard; those of unchanged results are kept."""

WANTED = """
select
    hash(source, dataset, benchmark, judge, protocol, reading, prompt_version, sampling) as board,
    any_value(source) as source,
    any_value(dataset) as dataset,
    any_value(benchmark) as benchmark,
    any_value(judge) as judge,
    any_value(protocol) as protocol,
    any_value(reading) as reading,
    any_value(prompt_version) as prompt_version,
    any_value(sampling) as sampling,
    bit_xor(hash(result_id, fingerprint)) as fingerprint,
    list(result_id) as result_ids
from interim.results
semi join (from interim.result_badges where badge = 'ok') using (result_id)
where kind = 'pair'
group by board
"""
# A question of several turns is one question: they are drawn together.
INPUTS = """
with members as (
    select board, unnest(result_ids) as result_id from changed
)

select
    board, question_id, model_a, model_b,
    case outcome when 'win' then 1.0 when 'tie' then 0.5 when 'lose' then 0.0 end::double as share
from main.pair_outcomes
inner join members using (result_id)
where status = 'ok' and share is not null
"""


def model(dbt, session):
    from opencs_assets.evaluation import kept
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("result_badges")
    dbt.ref("pair_outcomes")
    return kept.with_kept(
        session,
        "ratings",
        wanted=WANTED,
        key=["board"],
        inputs=INPUTS,
        reckon=estimates.ratings,
    )
