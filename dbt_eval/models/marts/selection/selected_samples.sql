-- Of a set chosen elsewhere, a sample may be outside the dataset: its text comes from the set's file.
with ranked as (
    select
        subset.*,
        trace.* exclude (dataset, sample_id),
        trace.sample_id is null as outside_dataset,
        contrastive.low,
        contrastive.high,
        contrastive.comparisons,
        case subset.scored_by
            when 'single_scores' then trace.single_scores[1].model
            when 'contrastive_scores' then trace.compared_with[1].model
            when 'whole_set_scores' then trace.compared_with[1].model
        end as scorer_model
    from {{ source('lake', 'selected_subset') }} as subset
    left join {{ ref('stg_sample_traces') }} as trace using (dataset, sample_id)
    left join {{ source('lake', 'contrastive_scores') }} as contrastive
        on
            subset.scored_by = 'contrastive_scores'
            and subset.dataset = contrastive.dataset
            and subset.cluster = contrastive.cluster
            and subset.sample_id = contrastive.sample_id
)

select
    ranked.dataset, ranked.selector, ranked.rank, ranked.sample_id,
    coalesce(ranked.row, outside.row) as row,
    coalesce(ranked.instruction, outside.instruction) as instruction,
    coalesce(ranked.response, outside.response) as response,
    coalesce(ranked.tags, []::varchar[]) as tags,
    ranked.cluster,
    cluster.name as cluster_name,
    ranked.score,
    ranked.low as score_low,
    ranked.high as score_high,
    ranked.comparisons, ranked.place, ranked.places, ranked.cut, ranked.reason, ranked.pinned,
    ranked.outside_dataset,
    length(coalesce(ranked.response, outside.response)) as response_chars,
    ranked.tag_lineage, ranked.clusters, ranked.compared_with, ranked.single_scores,
    ranked.scorer_model, ranked.tagger_model,
    {{ filled_by_embedded(['ranked.scorer_model', 'ranked.tagger_model']) }} as filled_by_embedded,
    {{ embedded_note(['ranked.scorer_model', 'ranked.tagger_model']) }} as note
from ranked
left join {{ source('lake', 'outside_samples') }} as outside using (dataset, selector, sample_id)
left join {{ source('lake', 'clusters') }} as cluster using (dataset, cluster)
order by ranked.dataset, ranked.selector, ranked.rank
