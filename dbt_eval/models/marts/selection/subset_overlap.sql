-- Every two subsets of a dataset, each pair in both directions, so that one filter finds them all.
with sizes as (
    select dataset, selector, count(*) as samples
    from {{ source('lake', 'selected_subset') }}
    group by all
),

wholes as (
    select dataset, count(*) as samples
    from {{ source('lake', 'raw_dataset') }}
    group by all
),

shared as (
    select one.dataset, one.selector, other.selector as other_selector, count(*) as shared
    from {{ source('lake', 'selected_subset') }} as one
    inner join {{ source('lake', 'selected_subset') }} as other using (dataset, sample_id)
    group by all
)

select
    one.dataset,
    one.selector,
    other.selector as other_selector,
    one.samples,
    other.samples as other_samples,
    coalesce(shared.shared, 0) as shared,
    coalesce(shared.shared, 0) / (one.samples + other.samples - coalesce(shared.shared, 0))
        as jaccard,
    one.samples * other.samples / wholes.samples as shared_by_chance,
    null::varchar as note
from sizes as one
inner join sizes as other
    on one.dataset = other.dataset and one.selector <> other.selector
inner join wholes on one.dataset = wholes.dataset
left join shared
    on
        one.dataset = shared.dataset
        and one.selector = shared.selector
        and other.selector = shared.other_selector
order by one.dataset, one.selector, other.selector
