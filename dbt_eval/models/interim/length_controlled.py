"""What a longer answer is worth, by result; that of unchanged verdicts and answers is kept."""

# What lengths a model's answers have is part of the fingerprint.
WANTED = """
with lengths as (
    select pool, model, benchmark, bit_xor(hash(question_id, turns, characters)) as lengths
    from interim.answers
    group by all
)

select
    results.result_id,
    results.model_a,
    results.model_b,
    results.benchmark,
    one.pool as pool_a,
    other.pool as pool_b,
    hash(results.fingerprint, one.lengths, other.lengths) as fingerprint
from interim.results as results
inner join lengths as one
    on
        results.model_a = one.model and results.benchmark = one.benchmark
        and (
            one.pool = results.dataset or (results.source = 'judged' and one.pool = '(outside)')
        )
inner join lengths as other
    on
        results.model_b = other.model and results.benchmark = other.benchmark
        and (
            other.pool = results.dataset
            or (results.source = 'judged' and other.pool = '(outside)')
        )
where results.kind = 'pair'
"""
# A turn has the length of its own answer, a whole conversation that of all its answers.
INPUTS = """
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
inner join changed using (result_id)
inner join interim.answers as one
    on
        one.pool = changed.pool_a and one.model = changed.model_a
        and one.benchmark = changed.benchmark and one.question_id = outcome.question_id
inner join interim.answers as other
    on
        other.pool = changed.pool_b and other.model = changed.model_b
        and other.benchmark = changed.benchmark and other.question_id = outcome.question_id
left join difficulties
    on
        difficulties.benchmark = changed.benchmark
        and difficulties.question_id = outcome.question_id
where share is not null and length_a is not null and length_b is not null
order by result_id, outcome.question_id, turn
"""


def model(dbt, session):
    from opencs_assets.evaluation import kept
    from opencs_assets.statistics import estimates

    dbt.ref("results")
    dbt.ref("answers")
    dbt.ref("pair_outcomes")
    questions = dbt.source("lake", "benchmark_questions")
    # Their contents are in what a whole build depends on, so they are in no fingerprint.
    session.register(
        "difficulties", questions.select("benchmark, question_id, difficulty").to_arrow_table()
    )
    return kept.with_kept(
        session,
        "length_controlled",
        wanted=WANTED,
        key=["result_id"],
        inputs=INPUTS,
        reckon=estimates.length_controlled,
    )
