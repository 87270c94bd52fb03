{#- Verdicts on questions that no benchmark has (any more): they are in no mart. -#}
{{ config(severity='warn') }}

select 'single_verdicts' as table_name, benchmark, question_id
from {{ source('lake', 'single_verdicts') }} as verdict
anti join {{ source('lake', 'benchmark_questions') }} as question using (benchmark, question_id)
union all
select 'pairwise_verdicts' as table_name, benchmark, question_id
from {{ source('lake', 'pairwise_verdicts') }} as verdict
anti join {{ source('lake', 'benchmark_questions') }} as question using (benchmark, question_id)
