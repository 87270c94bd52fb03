-- All results count, those that may not be published too: this is about the judge, not the models.
with counted as (
    select
        results.source, results.dataset, results.benchmark, results.judge, results.protocol,
        results.prompt_version,
        unnest([cells.category, 'all']) as category,
        cells.orders_known, cells.orders_disagree, cells.compared, cells.full_flips,
        cells.toward_first, cells.toward_second
    from {{ ref('pair_cells') }} as cells
    inner join {{ ref('results') }} as results using (result_id)
),

summed as (
    select
        source, dataset, benchmark, judge, protocol, prompt_version, category,
        sum(orders_known)::bigint as pairs,
        sum(orders_disagree)::bigint as orders_disagree,
        -- A file of merged outcomes does not say which way its orders disagreed.
        if(sum(compared) = sum(orders_known), sum(full_flips)::bigint, null) as full_flips,
        if(sum(compared) = sum(orders_known), sum(toward_first)::bigint, null) as toward_first,
        if(sum(compared) = sum(orders_known), sum(toward_second)::bigint, null) as toward_second
    from counted
    group by all
    having sum(orders_known) > 0
)

select
    source, dataset, benchmark, judge, protocol, prompt_version, category, pairs, orders_disagree,
    {{ percent('orders_disagree', 'pairs') }} as orders_disagree_pct,
    full_flips,
    {{ percent('full_flips', 'pairs') }} as full_flips_pct,
    toward_first,
    toward_second,
    {{ percent('toward_first', 'toward_first + toward_second') }} as toward_first_pct,
    {{ filled_by_embedded(['judge']) }} as filled_by_embedded,
    {{ embedded_note(['judge']) }} as note
from summed
order by source, dataset, benchmark, judge, protocol, prompt_version, category <> 'all', category
