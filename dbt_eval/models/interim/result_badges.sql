-- One row a result: whether it may be published, why not, and which rules can't be told of it.
select
    result_id,
    case
        when bool_and(passed is distinct from false) then 'ok'
        when bool_or(
            passed is false
            and rule in (
                'every_judgment', 'few_unparsable', 'both_orders', 'equal_mix', 'answers_complete'
            )
        ) then 'incomplete'
        else 'unfair'
    end as badge,
    string_agg(reason, '; ' order by place) filter (where passed is false) as reason,
    coalesce(list(rule order by place) filter (where passed is null), []::varchar[]) as unchecked
from (
    select *, list_position({{ gate_rules() }}, rule) as place from {{ ref('publication_gate') }}
)
group by result_id
