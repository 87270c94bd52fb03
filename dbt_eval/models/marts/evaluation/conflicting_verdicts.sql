-- Imported verdicts that contradict each other; none of them counts until a person chooses.
select
    {{ result_id('pair', 'subject') | replace("'pair-'", "kind || '-'") }} as result_id,
    *
from (
    select
        kind,
        'imported' as source,
        '(imported)' as dataset,
        if(kind = 'pair', model_a || ' vs ' || model_b, model_a) as subject,
        benchmark, question_id, turn, shown_first,
        judge_group as judge,
        protocol,
        'imported' as reading,
        prompt_version, sampling, winner, score_a, score_b, status, file_name, file, row,
        null::varchar as note
    from {{ source('lake', 'imported_verdicts') }}
    where state = 'conflict' and not is_human
)
order by subject, benchmark, question_id, turn, shown_first, file_name, row
