-- One row an experiment of a dataset: its checkpoint, and the subset that it was trained on.
with tags as (
    select
        subset.dataset,
        subset.selector,
        unnest(normalized.tags) as tag
    from {{ source('lake', 'selected_subset') }} as subset
    inner join {{ source('lake', 'normalized_tags') }} as normalized using (dataset, sample_id)
),

counted as (
    select dataset, selector, tag, count(*) as samples from tags group by all
),

frequent as (
    select
        dataset, selector,
        list(
            struct_pack(tag := tag, samples := samples) order by samples desc, tag
        )[1:10] as frequent_tags
    from counted
    group by all
)

select
    trained.dataset,
    trained.experiment as model,
    trained.provenance,
    trained.base_model,
    trained.selector,
    trained.recipe,
    trained.subset_hash,
    trained.template_hash,
    trained.samples,
    trained.epochs,
    trained.steps,
    trained.tokens,
    frequent.frequent_tags
from {{ source('lake', 'checkpoint') }} as trained
left join frequent using (dataset, selector)
