-- One row a published number: what its verdicts have in common, and what is missing of them.
with pairs as (
    select
        result_id,
        any_value(source) as source,
        any_value(dataset) as dataset,
        any_value(matchup) as subject,
        any_value(model_a) as model_a,
        any_value(model_b) as model_b,
        any_value(benchmark) as benchmark,
        any_value(judge) as judge,
        any_value(protocol) as protocol,
        any_value(default_rule) as default_rule,
        any_value(reading) as reading,
        any_value(prompt_version) as prompt_version,
        any_value(sampling) as sampling
    from {{ ref('pair_outcomes') }}
    group by result_id
),

singles as (
    select
        result_id,
        any_value(source) as source,
        any_value(dataset) as dataset,
        any_value(model) as subject,
        any_value(model) as model_a,
        null::varchar as model_b,
        any_value(benchmark) as benchmark,
        any_value(judge) as judge,
        any_value(protocol) as protocol,
        any_value(reading) as reading,
        any_value(prompt_version) as prompt_version,
        any_value(sampling) as sampling
    from {{ ref('single_outcomes') }}
    group by result_id
),

pair_totals as (
    select
        result_id,
        any_value(orders) as orders,
        sum(stopped)::bigint as stopped,
        sum(calls - calls_judged - calls_stopped)::bigint as missing
    from {{ ref('pair_cells') }}
    group by result_id
),

single_totals as (
    select
        result_id,
        null::varchar as orders,
        sum(stopped)::bigint as stopped,
        sum(questions - judged - stopped)::bigint as missing
    from {{ ref('single_cells') }}
    group by result_id
)

select 'pair' as kind, * from pairs inner join pair_totals using (result_id)
union all by name
select 'single' as kind, * from singles inner join single_totals using (result_id)
