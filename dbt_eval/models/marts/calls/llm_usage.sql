-- A sum is null as soon as one of its values is unknown: a sum of the known ones would look like a
-- total. Costs are unknown without a price, and what an older release did not keep is unknown in
-- the table that it wrote (the table is written anew with every run of the warehouse).
with usage as (
    select
        stage,
        role,
        model,
        dataset,
        count(*) as calls,
        sum(prompt_tokens)::bigint as prompt_tokens,
        case
            when count(cached_tokens) = count(*) then sum(cached_tokens)::bigint
        end as cached_tokens,
        sum(completion_tokens)::bigint as completion_tokens,
        case
            when count(status) = count(*)
                then count(*) filter (where status <> 'ok' or readable = false)
        end as unusable,
        case when count(via) = count(*) then count(*) filter (where via = 'batch') end as batched,
        case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
        sum(latency_s) as seconds
    from {{ source('lake', 'llm_replies') }}
    group by all
)

select
    stage,
    role,
    model,
    dataset,
    calls,
    prompt_tokens,
    cached_tokens,
    completion_tokens,
    unusable,
    batched,
    cost_usd,
    cost_usd / calls as cost_per_call,
    seconds,
    {{ filled_by_embedded(['model']) }} as is_embedded,
    {{ embedded_note(['model']) }} as note
from usage
order by stage, role, model, dataset
