with compared as (
    select dataset, cluster, unnest([sample_a, sample_b]) as sample_id, model
    from {{ source('lake', 'score_comparisons') }}
),

models as (
    select dataset, cluster, sample_id, string_agg(distinct model, ', ' order by model) as model
    from compared
    group by all
)

select
    scores.dataset,
    scores.cluster,
    scores.sample_id,
    scores.comparisons,
    models.model
from {{ source('lake', 'contrastive_scores') }} as scores
left join models using (dataset, cluster, sample_id)
