-- What ranked a sample chosen for a cluster is its contrastive score there; a sample that was not
-- chosen for a cluster but carries its single score was ranked by that.
with ranked as (
    select
        subset.*,
        contrastive.comparisons,
        case
            when subset.score is null then null
            when subset.cluster is not null then contrastive.model
            when single.score = subset.score then single.model
        end as scorer_model
    from {{ source('lake', 'selected_subset') }} as subset
    left join {{ ref('stg_contrastive_scores') }} as contrastive
        using (dataset, cluster, sample_id)
    left join {{ source('lake', 'single_scores') }} as single using (dataset, sample_id)
)

select
    ranked.dataset,
    ranked.selector,
    ranked.rank,
    ranked.sample_id,
    sample.row,
    sample.instruction,
    sample.response,
    coalesce(normalized.tags, []::varchar[]) as tags,
    ranked.cluster,
    cluster.name as cluster_name,
    ranked.score,
    ranked.comparisons,
    ranked.reason,
    ranked.pinned,
    length(sample.response) as response_chars,
    ranked.scorer_model,
    tagged.model as tagger_model,
    {{ filled_by_embedded(['ranked.scorer_model', 'tagged.model']) }} as filled_by_embedded,
    {{ embedded_note(['ranked.scorer_model', 'tagged.model']) }} as note
from ranked
left join {{ source('lake', 'raw_dataset') }} as sample using (dataset, sample_id)
left join {{ source('lake', 'normalized_tags') }} as normalized using (dataset, sample_id)
left join {{ source('lake', 'open_tags') }} as tagged using (dataset, sample_id)
left join {{ source('lake', 'clusters') }} as cluster using (dataset, cluster)
order by ranked.dataset, ranked.selector, ranked.rank
