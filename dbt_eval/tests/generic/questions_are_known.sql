{#- Verdicts on questions that no benchmark has (any more): they are in no mart. -#}
{% test questions_are_known(model, kind) %}
select source, dataset, benchmark, question_id, count(*) as verdicts
from ({{ pair_verdicts() if kind == 'pair' else single_verdicts() }})
anti join {{ source('lake', 'benchmark_questions') }} using (benchmark, question_id)
group by all
{% endtest %}
