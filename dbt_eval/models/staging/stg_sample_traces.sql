-- What is known of each sample of a dataset, whoever chose it or not.
with raw_tags as (
    select dataset, sample_id, unnest(tags).tag as raw_tag
    from {{ source('lake', 'open_tags') }}
),

lineage as (
    select
        raw_tags.dataset,
        raw_tags.sample_id,
        list(
            struct_pack(
                raw_tag := raw_tags.raw_tag,
                normalized_tag := merges.normalized_tag,
                why := merges.why
            )
            order by raw_tags.raw_tag
        ) as tag_lineage
    from raw_tags
    left join {{ ref('tag_merges') }} as merges using (dataset, raw_tag)
    group by all
),

clustered as (
    select
        member.dataset,
        member.sample_id,
        list(
            struct_pack(
                cluster := member.cluster,
                name := cluster.name,
                is_primary := member.is_primary,
                is_candidate := member.is_candidate
            )
            order by member.cluster
        ) as clusters
    from {{ source('lake', 'sample_clusters') }} as member
    left join {{ source('lake', 'clusters') }} as cluster using (dataset, cluster)
    group by all
),

asked as (
    select * from {{ source('lake', 'score_comparisons') }}
    union all by name
    select * from {{ source('lake', 'whole_set_comparisons') }}
),

sides as (
    select
        dataset,
        sample_a as sample_id,
        sample_b as opponent,
        score_a as score,
        score_b as opponent_score,
        shown_first = 'a' as shown_first,
        asked.* exclude (dataset, sample_a, sample_b, score_a, score_b, shown_first)
    from asked
    union all by name
    select
        dataset,
        sample_b as sample_id,
        sample_a as opponent,
        score_b as score,
        score_a as opponent_score,
        shown_first = 'b' as shown_first,
        asked.* exclude (dataset, sample_a, sample_b, score_a, score_b, shown_first)
    from asked
),

compared as (
    select
        dataset,
        sample_id,
        list(
            struct_pack(
                cluster := cluster,
                opponent := opponent,
                shown_first := shown_first,
                score := score,
                opponent_score := opponent_score,
                status := status,
                round := round,
                model := model,
                prompt_version := prompt_version,
                reply_id := reply_id
            )
            order by cluster, round, opponent, shown_first
        ) as compared_with
    from sides
    group by all
),

alone as (
    select
        dataset,
        sample_id,
        list(
            struct_pack(
                criterion := criterion,
                score := score,
                status := status,
                model := model,
                prompt_version := prompt_version,
                reply_id := reply_id
            )
            order by criterion
        ) as single_scores
    from {{ source('lake', 'single_scores') }}
    group by all
)

select
    sample.dataset, sample.sample_id, sample.row, sample.instruction, sample.response,
    length(sample.response) as response_chars,
    coalesce(normalized.tags, []::varchar[]) as tags,
    lineage.tag_lineage, clustered.clusters, compared.compared_with, alone.single_scores,
    tagged.model as tagger_model
from {{ source('lake', 'raw_dataset') }} as sample
left join {{ source('lake', 'normalized_tags') }} as normalized using (dataset, sample_id)
left join {{ source('lake', 'open_tags') }} as tagged using (dataset, sample_id)
left join lineage using (dataset, sample_id)
left join clustered using (dataset, sample_id)
left join compared using (dataset, sample_id)
left join alone using (dataset, sample_id)
