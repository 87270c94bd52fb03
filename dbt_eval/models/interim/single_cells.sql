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
    sum(score) filter (where status = 'ok') as score_sum
from {{ ref('single_outcomes') }}
group by all
