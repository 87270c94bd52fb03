-- A sum is null as soon as one of its values is unknown: a sum of the known ones would look like a
-- total. Costs are unknown without a price, and what an older release did not keep is unknown in
-- the table that it wrote (the table is written anew with every run of the warehouse).
-- Calls that were in flight when their process was killed have no reply, and are counted apart.
with calls as (
    select *, coalesce(status = 'lost', false) as is_lost
    from {{ source('lake', 'llm_replies') }}
),

usage as (
    select
        stage, role, model, dataset,
        count(*) filter (where not is_lost) as calls,
        sum(prompt_tokens)::bigint as prompt_tokens,
        case
            when count(cached_tokens) = count(*) then sum(cached_tokens)::bigint
        end as cached_tokens,
        sum(completion_tokens)::bigint as completion_tokens,
        case
            when count(status) = count(*)
                then count(*) filter (where not is_lost and (status <> 'ok' or readable = false))
        end as unusable,
        case when count(via) = count(*) then count(*) filter (where via = 'batch') end as batched,
        case
            when bool_and(is_lost or cost_usd is not null)
                then coalesce(sum(cost_usd) filter (where not is_lost), 0)
        end as cost_usd,
        sum(latency_s) as seconds,
        count(*) filter (where is_lost) as lost_calls,
        case
            when bool_and(not is_lost or cost_usd is not null)
                then coalesce(sum(cost_usd) filter (where is_lost), 0)
        end as lost_usd
    from calls
    group by stage, role, model, dataset
)

select
    stage, role, model, dataset, calls, prompt_tokens, cached_tokens, completion_tokens, unusable,
    batched, cost_usd,
    cost_usd / nullif(calls, 0) as cost_per_call,
    seconds,
    lost_calls,
    lost_usd,
    {{ filled_by_embedded(['model']) }} as is_embedded,
    {{ embedded_note(['model']) }} as note
from usage
order by stage, role, model, dataset
