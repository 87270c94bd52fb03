{{ config(
    pre_hook="{{ read_verdicts('single') }}",
    post_hook="drop table if exists temp.single_verdicts",
) }}
-- depends_on: {{ source('lake', 'single_verdicts') }}
-- depends_on: {{ source('lake', 'imported_verdicts') }}
-- Every turn of every question that the result's benchmark has stands here, judged or not: a mean
-- over part of them is not complete, and first turns score higher than second, so the mix matters.
with results as (
    select distinct result_key, {{ result_columns('model') }} from single_verdicts
),

expected as (
    select
        results.*,
        {{ result_id('single', 'model') }} as result_id,
        question.question_id,
        question.category,
        question.turn
    from results
    inner join {{ ref('stg_question_turns') }} as question using (benchmark)
),

judged as (
    select
        result_key,
        question_id,
        turn,
        max(score) filter (where status = 'ok') as score,
        max(status) as status,
        max(reply_id) as reply_id,
        max(file) as file,
        max(row) as row
    from single_verdicts
    where state = 'used'
    group by all
)

select
    expected.result_id, expected.source, expected.dataset, expected.model, expected.benchmark,
    expected.judge, expected.protocol, expected.reading, expected.prompt_version,
    expected.sampling, expected.question_id, expected.category, expected.turn, judged.score,
    {{ judged_status("coalesce(judged.status, 'missing')") }} as status,
    judged.reply_id,
    judged.file,
    judged.row,
    {{ filled_by_embedded(['expected.judge']) }} as filled_by_embedded,
    {{ embedded_note(['expected.judge']) }} as note
from expected
left join judged using (result_key, question_id, turn)
