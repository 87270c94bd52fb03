-- The expected turns are the benchmark's, not the verdicts': a mean over part of them is not
-- complete, and first turns score higher than second, so that the mix matters.
with results as (
    select distinct dataset, experiment, benchmark, judge, reading, prompt_version
    from {{ source('lake', 'single_verdicts') }}
),

expected as (
    select results.*, question.question_id, question.turn
    from results
    inner join {{ ref('stg_question_turns') }} as question using (benchmark)
),

judged as (
    select
        expected.*,
        verdict.score,
        {{ judged_status("coalesce(verdict.status, 'missing')") }} as status
    from expected
    left join {{ source('lake', 'single_verdicts') }} as verdict using (
        dataset, experiment, benchmark, judge, reading, prompt_version, question_id, turn
    )
),

counted as (
    select
        dataset,
        experiment as model,
        benchmark,
        judge,
        reading,
        prompt_version,
        avg(score) filter (where status = 'ok' and turn = 1) as turn_1,
        avg(score) filter (where status = 'ok' and turn = 2) as turn_2,
        avg(score) filter (where status = 'ok') as score,
        count(*) filter (where status <> 'missing') as judged,
        count(*) as expected,
        count(*) filter (where status = 'unparsable') as unparsable
    from judged
    group by all
)

select
    *,
    judged = expected as complete,
    {{ filled_by_embedded(['judge']) }} as filled_by_embedded,
    {{ embedded_note(['judge']) }} as note
from counted
order by dataset, benchmark, model, judge
