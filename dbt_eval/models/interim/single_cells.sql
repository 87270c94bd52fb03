{{ config(
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    pre_hook="{{ forget_changed_cells(ref('single_outcomes'), 'single_verdicts', 'model') }}",
) }}
-- One row a result, turn and category: all that the marts count, from one look at the outcomes.
select
    result_id,
    turn,
    category,
    count(*) as questions,
    count(*) filter (where status in ('ok', 'unparsable')) as judged,
    count(*) filter (where status = 'stopped') as stopped,
    count(*) filter (where status = 'unparsable') as unparsable,
    count(*) filter (where status = 'ok') as scored,
    sum(score) filter (where status = 'ok') as score_sum,
    bit_xor(hash(question_id, turn, category, status, score)) as fingerprint
from {{ ref('single_outcomes') }}
{% if is_incremental() %}
where {{ verdicts_have_changed('single_verdicts', 'model') }}
{% endif %}
group by all
