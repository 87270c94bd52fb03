-- Every sample of the dataset that a subset does not have, and why.
select
    unselected.dataset, unselected.selector, unselected.sample_id, trace.row, trace.instruction,
    trace.response,
    coalesce(trace.tags, []::varchar[]) as tags,
    unselected.cluster,
    cluster.name as cluster_name,
    unselected.score, unselected.place, unselected.places, unselected.cut, unselected.reason,
    trace.response_chars, trace.tag_lineage, trace.clusters, trace.compared_with,
    trace.single_scores, trace.tagger_model,
    {{ filled_by_embedded(['trace.tagger_model']) }} as filled_by_embedded,
    {{ embedded_note(['trace.tagger_model']) }} as note
from {{ source('lake', 'unselected_samples') }} as unselected
left join {{ ref('stg_sample_traces') }} as trace using (dataset, sample_id)
left join {{ source('lake', 'clusters') }} as cluster using (dataset, cluster)
order by unselected.dataset, unselected.selector, trace.row
