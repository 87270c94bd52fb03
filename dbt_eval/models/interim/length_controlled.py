"""What a longer answer is worth, by result."""

# A turn has the length of its own answer, a whole conversation that of all its answers.
INPUTS = """
with answered as (
    select distinct pool, model, benchmark from interim.answers
),

results as (
    select
        results.result_id,
        results.model_a,
        results.model_b,
        results.benchmark,
        one.pool as pool_a,
        other.pool as pool_b
    from interim.results as results
    inner join answered as one
        on
            results.model_a = one.model and results.benchmark = one.benchmark
            and (
                one.pool = results.dataset
                or (results.source = 'judged' and one.pool = '(outside)')
            )
    inner join answered as other
        on
            results.model_b = other.model and results.benchmark = other.benchmark
            and (
                other.pool = results.dataset
                or (results.source = 'judged' and other.pool = '(outside)')
            )
    where results.kind = 'pair'
)

select
    result_id,
    case outcome.outcome when 'win' then 1.0 when 'tie' then 0.5 when 'lose' then 0.0 end::double
        as share,
    if(
        turn = 0,
        list_sum(one.characters),
        one.characters[list_position(one.turns, turn)]
    )::double as length_a,
    if(
        turn = 0,
        list_sum(other.characters),
        other.characters[list_position(other.turns, turn)]
    )::double as length_b,
    difficulties.difficulty
from (
    select result_id, question_id, turn, outcome
    from main.pair_outcomes
    where status = 'ok'
) as outcome
inner join results using (result_id)
inner join interim.answers as one
    on
        one.pool = results.pool_a and one.model = results.model_a
        and one.benchmark = results.benchmark and one.question_id = outcome.question_id
inner join interim.answers as other
    on
        other.pool = results.pool_b and other.model = results.model_b
        and other.benchmark = results.benchmark and other.question_id = outcome.question_id
left join difficulties
    on
        difficulties.benchmark = results.benchmark
        and difficulties.question_id = outcome.question_id
where share is not null and length_a is not null and length_b is not null
order by result_id, outcome.question_id, turn
"""


def model(dbt, session):
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("answers")
    dbt.ref("pair_outcomes")
    questions = dbt.source("lake", "benchmark_questions")
    session.register(
        "difficulties", questions.select("benchmark, question_id, difficulty").to_arrow_table()
    )
    lengths = session.sql(INPUTS).to_arrow_table()
    session.register("reckoned", estimates.length_controlled(lengths))
    return session.sql("from reckoned")
