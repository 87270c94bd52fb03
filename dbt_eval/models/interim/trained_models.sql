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
),

asked as (
    select
        dataset, stage, model, prompt_version,
        count(*) as replies,
        -- Null where the price of one is not known.
        if(count(cost_usd) = count(*), sum(cost_usd), null) as cost_usd
    from {{ source('lake', 'llm_replies') }}
    where stage in (
        'open_tags', 'contrastive_scores', 'whole_set_scores', 'single_scores', 'refined_samples'
    )
    -- A lost call has no reply that anything was chosen with.
    and status is distinct from 'lost'
    group by all
),

chosen_with as (
    select
        dataset,
        list(
            struct_pack(
                stage := stage, model := model, prompt_version := prompt_version,
                replies := replies, cost_usd := cost_usd
            )
            order by stage, model, prompt_version
        ) as chosen_with
    from asked
    group by dataset
)

select
    trained.dataset,
    trained.experiment as model,
    trained.provenance, trained.base_model, trained.selector, trained.recipe, trained.subset_hash,
    trained.template_hash, trained.samples, trained.epochs, trained.steps, trained.tokens,
    frequent.frequent_tags, chosen_with.chosen_with
from {{ source('lake', 'checkpoint') }} as trained
left join frequent using (dataset, selector)
left join chosen_with using (dataset)
