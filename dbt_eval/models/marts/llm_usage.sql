-- A cost is null as soon as one price is unknown: a sum of the known ones would look like a total.
with usage as (
    select
        stage,
        role,
        model,
        dataset,
        count(*) as calls,
        sum(prompt_tokens)::bigint as prompt_tokens,
        sum(completion_tokens)::bigint as completion_tokens,
        case when count(cost_usd) = count(*) then sum(cost_usd) end as cost_usd,
        sum(latency_s) as seconds
    from {{ source('lake', 'llm_replies') }}
    group by all
)

select
    *,
    {{ filled_by_embedded(['model']) }} as is_embedded,
    {{ embedded_note(['model']) }} as note
from usage
order by stage, role, model, dataset
