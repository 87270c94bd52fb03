-- One row a result, turn and category: all that the marts count, from one look at the outcomes.
-- What is judged and missing is counted in calls of the judge: two a question where both orders are
-- asked, one where a file holds one outcome.
with outcomes as (
    select
        *,
        not one_outcome as both_orders,
        {{ is_judged('status_a_first') }} as judged_a,
        {{ is_judged('status_b_first') }} as judged_b,
        status_a_first = 'stopped' as stopped_a,
        status_b_first = 'stopped' as stopped_b,
        case winner_a_first when 'a' then 1 when 'b' then -1 when 'tie' then 0 end as first_a,
        case winner_b_first when 'a' then 1 when 'b' then -1 when 'tie' then 0 end as first_b
    from {{ ref('pair_outcomes') }}
)

select
    result_id, turn, category, orders,
    count(*) as questions,
    count(*) filter (where status in ('ok', 'unparsable')) as judged,
    count(*) filter (where status = 'stopped') as stopped,
    sum(if(both_orders, 2, 1))::bigint as calls,
    sum(judged_a::int + (both_orders and judged_b)::int)::bigint as calls_judged,
    sum(stopped_a::int + (both_orders and stopped_b)::int)::bigint as calls_stopped,
    sum(
        (judged_a and status_a_first <> 'ok')::int
        + (both_orders and judged_b and status_b_first <> 'ok')::int
    )::bigint as calls_unparsable,
    count(*) filter (where judged_a) as judged_a_first,
    count(*) filter (where judged_b) as judged_b_first,
    count(*) filter (where both_orders and judged_a and not judged_b) as only_a_first,
    count(*) filter (where both_orders and judged_b and not judged_a) as only_b_first,
    count(*) filter (where status = 'ok') as decided,
    count(*) filter (where orders_agree is not null) as orders_known,
    count(*) filter (where not orders_agree) as orders_disagree,
    count(*) filter (where first_a is not null and first_b is not null) as compared,
    count(*) filter (where first_a * first_b = -1) as full_flips,
    count(*) filter (where first_a > first_b) as toward_first,
    count(*) filter (where first_a < first_b) as toward_second,
    {%- for rule in merging_rules() %}
    count(*) filter (where {{ rule }} = 'win') as {{ rule }}_win,
    count(*) filter (where {{ rule }} = 'tie') as {{ rule }}_tie,
    count(*) filter (where {{ rule }} = 'lose') as {{ rule }}_lose{{ ',' if not loop.last }}
    {%- endfor %}
from outcomes
group by all
