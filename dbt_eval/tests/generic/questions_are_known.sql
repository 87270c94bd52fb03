{#- Verdicts on questions that no benchmark has (any more). -#}
{% test questions_are_known(model, verdicts) %}
select verdict.benchmark, verdict.question_id
from {{ verdicts }} as verdict
anti join {{ source('lake', 'benchmark_questions') }} as question using (benchmark, question_id)
{% endtest %}
